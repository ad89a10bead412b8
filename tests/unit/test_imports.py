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

_IMPORT = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
_BUILD = """
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator, CreateTicketOperator
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator
CloseTicketsOperator(task_id="a", ticket_ids=[1])
CreateTicketOperator(task_id="b", subject="s", customer_id=1)
NewTicketSensor(task_id="c")
LightspeedTicketsToS3Operator(task_id="d", s3_key="s3://b/k")
"""
_TELL = "\nprint(json.dumps(sorted(sys.modules)))"


def _loaded(program: str, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", program + _TELL, *arguments], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))  # Airflow 3.0 logs to the standard output


def _all_modules() -> set[str]:
    package = airflow_provider_lightspeed
    return {found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")}


def _below(names: Iterable[str], modules: set[str]) -> set[str]:
    ours = tuple(f"{airflow_provider_lightspeed.__name__}.{name}." for name in names)
    return {module for module in modules if f"{module}.".startswith(ours)}


def test_no_module_loads_anything_heavy() -> None:
    modules = _all_modules() - _below(_EXEMPT, _all_modules())
    loaded = _loaded(_IMPORT, *sorted(modules))
    assert loaded >= modules
    assert loaded & _HEAVY <= _LOADED_BY_AIRFLOW


def test_nothing_heavy_is_loaded_by_a_dag_file() -> None:
    loaded = _loaded(_IMPORT + _BUILD)
    assert loaded & _HEAVY <= _LOADED_BY_AIRFLOW
    assert not _below(_LATER, loaded)


def test_what_only_tasks_need_is_not_loaded_with_the_public_modules() -> None:
    # Half of the time that importing them took (see benchmarks/import_time.py).
    assert all(_below([name], _all_modules()) for name in _LATER), "a module was renamed"
    public = {f"{airflow_provider_lightspeed.__name__}.{name}" for name in _PUBLIC}
    loaded = _loaded(_IMPORT, *sorted(public))
    assert loaded >= public
    assert not _below(_LATER, loaded)


def test_the_entry_point_loads_no_airflow() -> None:
    program = "import json, sys, airflow_provider_lightspeed.provider_info as p; p.get_provider_info()"
    assert "airflow" not in _loaded(program)


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
