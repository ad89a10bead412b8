"""From an Airflow connection to the client's settings, for the hook and for the triggerer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_provider_lightspeed._airflow import get_async_connection, mask_secret
from airflow_provider_lightspeed.api.client import AsyncLightspeedClient
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.settings import CLUSTERS, ClientSettings
from airflow_provider_lightspeed.hooks.metrics import AirflowMetrics
from airflow_provider_lightspeed.provider_info import CONNECTION_FIELDS, CONNECTION_TYPE

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Connection

_TEXTS = ("cluster", "language", "filter_timezone", "app_token")
_NUMBERS = ("quota_reserve", "timeout", "max_wait", "calls_per_second")
# How the test button of Airflow 2 sends the form, unlike its save button.
_PREFIX = f"extra__{CONNECTION_TYPE}__"
_TRUE = {"true", "y"}


def read_settings(
    connection: Connection, extra: Any, arguments: Mapping[str, str | float | None] = MappingProxyType({})
) -> ClientSettings:
    """Read the client's settings from a connection.

    :param extra: the connection's extra as JSON data: on an event loop Airflow returns it from another call.
    :param arguments: options that override those of the extra.
    :raises LightspeedConfigurationError: if one of them cannot be right. It names the connection.
    """
    try:
        return _read(connection, extra, arguments)
    except LightspeedConfigurationError as error:
        raise LightspeedConfigurationError(f"connection {connection.conn_id!r}: {error}") from None


def _read(connection: Connection, extra: Any, arguments: Mapping[str, str | float | None]) -> ClientSettings:
    given = {**_read_extra(connection, extra), **_present(arguments)}
    given.pop("hash_secret", None)  # calls do not use it
    if not connection.login or not connection.password:
        missing = "login (the API key)" if not connection.login else "password (the API secret)"
        raise LightspeedConfigurationError(f"the {missing} is missing")
    for name in _TEXTS:
        if name in given:
            given[name] = _text(name, given[name])
    cluster = given.pop("cluster", "us1")
    if cluster not in CLUSTERS:
        raise LightspeedConfigurationError(f"unknown cluster {cluster!r}: use {' or '.join(CLUSTERS)}")
    for name in _NUMBERS:
        if name in given:
            given[name] = _number(name, given[name])
    if "allow_http" in given:
        given["allow_http"] = str(given["allow_http"]).strip().lower() in _TRUE
    host, base_url = connection.host or "", _base_url(connection)
    return ClientSettings(
        base_url=base_url or CLUSTERS[cluster],
        address_as_given=host if base_url == f"https://{host.strip()}" else "",
        key=connection.login,
        secret=connection.password,
        **given,
    )


def _read_extra(connection: Connection, extra: Any) -> dict[str, Any]:
    # Airflow reads what is not JSON as if it were empty, which would send the key to the wrong shop.
    if not isinstance(extra, dict) or (
        not extra and (connection.extra or "").strip() not in {"", "{}", "null"}
    ):
        raise LightspeedConfigurationError("the extra is not a JSON object")
    extra = {name.removeprefix(_PREFIX): value for name, value in extra.items()}
    unknown = sorted(extra.keys() - CONNECTION_FIELDS.keys())
    if unknown:
        raise LightspeedConfigurationError(
            f"unknown extra {', '.join(unknown)}: known are {', '.join(CONNECTION_FIELDS)}"
        )
    return _present(extra)


def _present(options: Mapping[str, Any]) -> dict[str, Any]:
    # The connection form saves a field that was left empty as an empty text.
    return {name: value for name, value in options.items() if value is not None and value != ""}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        # The error does not show the value: one of these is a secret.
        raise LightspeedConfigurationError(f"{name} must be a text, got {type(value).__name__}")
    return value


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise LightspeedConfigurationError(f"{name} must be a number, got {value!r}") from None


def _base_url(connection: Connection) -> str:
    host = (connection.host or "").strip()
    if not host:
        return ""
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    scheme, _, rest = host.partition("://")
    authority, slash, path = rest.partition("/")
    if connection.port and ":" not in authority.rpartition("]")[2]:
        authority = f"{authority}:{connection.port}"
    return f"{scheme}://{authority}{slash}{path}"


def mask_credentials(settings: ClientSettings) -> None:
    """Mask all credentials in the logs, also in the form in which they are sent."""
    for secret in (
        settings.key,
        settings.secret,
        settings.app_token,
        settings.password,
        settings.authorization.removeprefix("Basic "),
    ):
        if secret:
            mask_secret(secret)


async def open_client(conn_id: str) -> AsyncLightspeedClient:
    """Return a client that is to be used as an async context manager.

    :raises LightspeedConfigurationError: if the connection cannot be right.
    """
    return AsyncLightspeedClient(await read_connection(conn_id), metrics=AirflowMetrics(conn_id))


async def read_connection(conn_id: str) -> ClientSettings:
    """Look a connection up and read it."""
    from asgiref.sync import sync_to_async

    settings = read_settings(*await get_async_connection(conn_id))
    # Masking sends the secret to the supervisor process, and waits for it.
    await sync_to_async(mask_credentials)(settings)
    return settings
