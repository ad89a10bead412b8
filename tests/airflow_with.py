"""An Airflow with the DAGs of one test file."""

from __future__ import annotations

from pathlib import Path

from demo.airflow_home import AirflowHome


def airflow_with(dags: str, directory: Path, **connections: str) -> AirflowHome:
    """Make a new home.

    :param dags: what is in its only DAG file.
    :param connections: Airflow connections as JSON, by id.
    """
    folder = directory / "dags"
    folder.mkdir()
    (folder / "dags.py").write_text(dags)
    return AirflowHome.create(directory / "home", dags=folder, connections=connections, settings={})
