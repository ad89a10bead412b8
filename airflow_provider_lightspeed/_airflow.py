"""Names that Airflow moved between 2.11 and 3.x, imported from where the installed version has them.

A name is looked up when it is first imported, so a DAG file loads no more than it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # isort: off
    from airflow.sdk import (
        DAG as DAG,
        Asset as Asset,
        AssetAlias as AssetAlias,
        BaseHook as BaseHook,
        BaseOperator as BaseOperator,
        BaseOperatorLink as BaseOperatorLink,
        BaseSensorOperator as BaseSensorOperator,
        Connection as Connection,
        Context as Context,
        PokeReturnValue as PokeReturnValue,
        Variable as Variable,
        dag as dag,
        task as task,
    )
    from airflow.sdk.configuration import conf as conf
    from airflow.sdk.exceptions import (
        AirflowException as AirflowException,
        AirflowFailException as AirflowFailException,
        AirflowNotFoundException as AirflowNotFoundException,
        AirflowSensorTimeout as AirflowSensorTimeout,
        AirflowSkipException as AirflowSkipException,
        TaskDeferred as TaskDeferred,
    )
    from airflow.sdk.execution_time.xcom import XCom as XCom
    from airflow.sdk.log import mask_secret as mask_secret
    from airflow.sdk.observability.stats import Stats as Stats
    from airflow.triggers.base import BaseEventTrigger as BaseEventTrigger
    # isort: on
else:
    _EXCEPTIONS = ("airflow.sdk.exceptions", "airflow.exceptions")
    _MASKER = (
        "airflow.sdk.log",
        "airflow.sdk._shared.secrets_masker",
        "airflow.sdk.execution_time.secrets_masker",
        "airflow.utils.log.secrets_masker",
    )
    # Newest first: older places warn, or are a different object, in newer versions.
    _PLACES = {
        "Asset": ("airflow.sdk", "airflow.datasets:Dataset"),
        "AssetAlias": ("airflow.sdk", "airflow.datasets:DatasetAlias"),
        "AirflowException": _EXCEPTIONS,
        "AirflowFailException": _EXCEPTIONS,
        "AirflowNotFoundException": _EXCEPTIONS,
        "AirflowSensorTimeout": _EXCEPTIONS,
        "AirflowSkipException": _EXCEPTIONS,
        "BaseEventTrigger": ("airflow.triggers.base", "airflow.triggers.base:BaseTrigger"),
        "BaseHook": ("airflow.sdk", "airflow.hooks.base"),
        "BaseOperator": ("airflow.sdk", "airflow.models.baseoperator"),
        "BaseOperatorLink": ("airflow.sdk", "airflow.models.baseoperatorlink"),
        "BaseSensorOperator": ("airflow.sdk", "airflow.sensors.base"),
        "Connection": ("airflow.sdk", "airflow.models.connection"),
        "Context": ("airflow.sdk", "airflow.utils.context"),
        "PokeReturnValue": ("airflow.sdk", "airflow.sensors.base"),
        "Stats": ("airflow.sdk.observability.stats", "airflow.observability.stats", "airflow.stats"),
        "Variable": ("airflow.sdk", "airflow.models.variable"),
        "XCom": ("airflow.sdk.execution_time.xcom", "airflow.models.xcom"),
        "conf": ("airflow.sdk.configuration", "airflow.configuration"),
        "mask_secret": _MASKER,
        # Used by the tests, which run on all versions.
        "DAG": ("airflow.sdk", "airflow.models.dag"),
        "TaskDeferred": _EXCEPTIONS,
        "dag": ("airflow.sdk", "airflow.decorators"),
        "redact": _MASKER,
        "task": ("airflow.sdk", "airflow.decorators"),
    }

    def __getattr__(name: str) -> Any:
        for place in _PLACES.get(name, ()):
            module, _, renamed = place.partition(":")
            try:
                value = getattr(import_module(module), renamed or name)
            except (ImportError, AttributeError):
                continue
            globals()[name] = value
            return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


async def get_async_connection(conn_id: str) -> tuple[Connection, dict[str, Any]]:
    """Return a connection and its decoded extra, without blocking the event loop.

    :param conn_id: id of the connection.
    """
    # Imports: names of this module exist once they are asked for.
    from asgiref.sync import sync_to_async

    from airflow_provider_lightspeed._airflow import BaseHook, Connection

    # Airflow 3.1 to 3.3.1 have an async look-up that masks secrets with a blocking call: it raises
    # DeadlockImminentError when another trigger talks to Airflow at the same time. Older versions have none.
    masks_async = hasattr(Connection, "aextra_dejson")
    look_up = BaseHook.aget_connection if masks_async else sync_to_async(BaseHook.get_connection)
    connection = await look_up(conn_id)
    # A secrets backend may return a connection of Airflow's database model, which masks with a blocking call too.
    if hasattr(connection, "aextra_dejson"):
        return connection, await connection.aextra_dejson()
    return connection, await sync_to_async(lambda: connection.extra_dejson)()
