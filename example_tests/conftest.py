"""An Airflow for the tests alone, with a database of its own, and a way to run a DAG in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).parent.parent / "example_dags"

# Before anything imports Airflow, which reads these once: no test may touch the Airflow of whoever runs it.
for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "_AIRFLOW"))]:
    del os.environ[_name]
_HOME = tempfile.TemporaryDirectory(prefix="airflow-")
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(DAGS)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


@pytest.fixture(scope="session")
def run_dag() -> Callable[[str], Any]:
    """Run a DAG to its end in this process, and return its run."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models import DagBag
    bag = DagBag(DAGS)

    def run(dag_id: str) -> Any:
        assert dag_id in bag.dags, bag.import_errors
        return bag.dags[dag_id].test()

    return run
