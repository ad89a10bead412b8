"""DAG files are parsed every few seconds: what they import must be light."""

from __future__ import annotations

import ast
import graphlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

import airflow_provider_lightspeed

_VERSION = Version(version("apache-airflow"))
_HEAVY = {
    "requests",
    "aiohttp",
    "boto3",
    "botocore",
    "pyarrow",
    "openlineage",
    "airflow.providers.amazon.aws",
}
#: What Airflow loads by itself, at the latest where a DAG file makes its first operator.
_LOADED_BY_AIRFLOW = {"2.11": {"requests"}, "3.0": {"aiohttp"}}.get(
    f"{_VERSION.major}.{_VERSION.minor}", set()
)

#: Modules (and what is below them) that no DAG file imports: where the first call is made, in the triggerer of
#: Airflow 3.3, and in tests.
_EXEMPT = ["api.transport", "api.async_transport", "triggers.stream", "sandbox", "pytest_plugin"]
if Version("3.3") > _VERSION:
    _EXEMPT.append("retry_policy")

#: What users import, or Airflow by what `provider_info` says.
_PUBLIC = (
    "assets",
    "exceptions",
    "api.errors",
    "hooks.lightspeed",
    "operators.tickets",
    "sensors.tickets",
    "transfers.tickets_to_s3",
    "triggers.assets",
    "triggers.tickets",
)
#: Modules (and what is below them) that are needed once a task runs, a trigger looks, or a connection is read.
_LATER = (
    "api.list_progress",
    "api.progress_clock",
    "api.responses",
    "api.client",
    "api.paging",
    "api.rate_limit",
    "api.settings",
    "bulk.actions",
    "bulk.change",
    "bulk.job",
    "bulk.refresh",
    "bulk.plan",
    "bulk.run",
    "bulk.targets",
    "formats",
    "hooks.connection",
    "hooks.metrics",
    "api.probe",
    "probe",
    "s3.staging",
    "s3.target",
    "transfers.attempt",
    "transfers.export",
    "transfers.lineage",
    "transfers.messages",
    "transfers.progress",
    "transfers.redaction",
)

#: One process loads more and more; it prints what is loaded after each step.
_PROGRAM = """
import importlib, json, sys

def tell():
    print("loaded", json.dumps(sorted(sys.modules)))

import airflow_provider_lightspeed.provider_info
airflow_provider_lightspeed.provider_info.get_provider_info()
tell()

for step in "public", "built", "all":
    if step == "built":
        from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator, CreateTicketOperator
        from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
        from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator
        CloseTicketsOperator(task_id="a", ticket_ids=[1])
        CreateTicketOperator(task_id="b", subject="s", customer_id=1)
        NewTicketSensor(task_id="c")
        LightspeedTicketsToS3Operator(task_id="d", s3_key="s3://b/k")
    else:
        for name in json.loads(sys.argv.pop(1)):
            importlib.import_module(name)
    tell()
"""


def _all_modules() -> set[str]:
    package = airflow_provider_lightspeed
    return {found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")}


def _below(names: Iterable[str], modules: set[str]) -> set[str]:
    ours = tuple(f"{airflow_provider_lightspeed.__name__}.{name}." for name in names)
    return {module for module in modules if f"{module}.".startswith(ours)}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """What is loaded in the end by the entry point, public modules, operators that are built, modules not exempt."""
    modules = [sorted(_public()), sorted(_not_exempt())]
    command = [sys.executable, "-c", _PROGRAM, *map(json.dumps, modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [
        line for line in done.stdout.splitlines() if line.startswith("loaded ")
    ]  # Airflow 3.0 logs there too
    return {
        step: set(json.loads(line.removeprefix("loaded ")))
        for step, line in zip(("entry point", "public", "built", "all"), lines, strict=True)
    }


def _public() -> set[str]:
    return {f"{airflow_provider_lightspeed.__name__}.{name}" for name in _PUBLIC}


def _not_exempt() -> set[str]:
    return _all_modules() - _below(_EXEMPT, _all_modules())


def test_no_module_loads_anything_heavy(loaded: dict[str, set[str]]) -> None:
    assert loaded["all"] >= _not_exempt()
    assert loaded["all"] & _HEAVY <= _LOADED_BY_AIRFLOW


def test_nothing_heavy_is_loaded_by_a_dag_file(loaded: dict[str, set[str]]) -> None:
    assert loaded["built"] & _HEAVY <= _LOADED_BY_AIRFLOW
    assert not _below(_LATER, loaded["built"])


def test_what_only_tasks_need_is_not_loaded_with_the_public_modules(loaded: dict[str, set[str]]) -> None:
    # Half of the time that importing them took (see benchmarks/import_time.py).
    assert all(_below([name], _all_modules()) for name in _LATER), "a module was renamed"
    assert loaded["public"] >= _public()
    assert not _below(_LATER, loaded["public"])


def test_the_entry_point_loads_no_airflow(loaded: dict[str, set[str]]) -> None:
    assert "airflow" not in loaded["entry point"]


def _imported(source: Path, modules: set[str]) -> Iterator[str]:
    """Yield the modules that a file imports, those within functions and for types only included."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & modules or {str(node.module)}


def test_no_module_needs_one_that_needs_it() -> None:
    root = Path(airflow_provider_lightspeed.__path__[0])
    files = {
        ".".join(file.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"): file
        for file in root.rglob("*.py")
    }
    # A module may import from itself: `_airflow` looks its names up when they are first asked for.
    needs = {name: ({*_imported(file, set(files))} & files.keys()) - {name} for name, file in files.items()}
    assert sum(map(len, needs.values())) > 100
    graphlib.TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle
