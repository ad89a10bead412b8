"""Names that Airflow moved come from one module, which finds all of them."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_lightspeed
from airflow_provider_lightspeed import _airflow

PACKAGE = Path(airflow_provider_lightspeed.__file__).parent
OTHER_HOMES = (
    "airflow.providers.common.compat.sdk",
    "airflow.providers.common.compat.triggers",
    "airflow.providers.common.compat.connection",
    *(place.partition(":")[0] for places in _airflow._PLACES.values() for place in places),
)
#: Names that only Airflow 3 has. What uses them says that it needs it.
ONLY_AIRFLOW_3 = {"Asset", "AssetWatcher", "RetryDecision", "RetryPolicy"}


def imported(file: Path) -> set[tuple[str, str]]:
    return {
        (node.module or "", alias.name)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_no_other_module_imports_a_name_that_moved() -> None:
    moved = {
        (str(file.relative_to(PACKAGE)), module, name)
        for file in PACKAGE.rglob("*.py")
        if file.name != "_airflow.py"
        for module, name in imported(file)
        if module in OTHER_HOMES and name not in {"BaseTrigger", "TriggerEvent", *ONLY_AIRFLOW_3}
    }
    assert moved == set()


@pytest.mark.parametrize("name", _airflow._PLACES)
def test_each_name_is_found_on_this_airflow(name: str) -> None:
    assert getattr(_airflow, name) is not None


def test_a_name_that_is_not_there_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="Bananas"):
        from airflow_provider_lightspeed._airflow import Bananas  # type: ignore[attr-defined]  # ruff: ignore[unused-import]


class _Older:
    """A connection of Airflow before 3.3.2: it has no async way to mask its extra."""

    conn_id = "lightspeed_default"

    @property
    def extra_dejson(self) -> dict[str, Any]:
        _must_not_run_in_a_loop()
        return {"cluster": "eu1"}


class _Newer:
    conn_id = "lightspeed_default"

    async def aextra_dejson(self) -> dict[str, Any]:
        return {"cluster": "eu1"}


def _must_not_run_in_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


class _OlderHook:
    @staticmethod
    def get_connection(conn_id: str) -> _Older:
        _must_not_run_in_a_loop()
        return _Older()

    @staticmethod
    async def aget_connection(conn_id: str) -> _Older:
        raise AssertionError("masks secrets with a blocking call, which deadlocks")


class _NewerHook:
    @staticmethod
    async def aget_connection(conn_id: str) -> _Newer:
        return _Newer()


class _BackendHook:
    """A secrets backend may return a connection of the database model, on every Airflow."""

    @staticmethod
    async def aget_connection(conn_id: str) -> _Older:
        return _Older()


@pytest.mark.parametrize(
    ("connection", "hook"), [(_Older, _OlderHook), (_Newer, _NewerHook), (_Newer, _BackendHook)]
)
def test_a_connection_is_looked_up_without_blocking_the_loop(
    connection: type[Any], hook: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_airflow, "Connection", connection, raising=False)
    monkeypatch.setattr(_airflow, "BaseHook", hook, raising=False)
    found, extra = asyncio.run(_airflow.get_async_connection("lightspeed_default"))
    assert (found.conn_id, extra) == ("lightspeed_default", {"cluster": "eu1"})
