"""Run DAGs of the DAGs folder to their ends: reads lines `DAG_ID<tab>FILE<tab>CONF`, and writes each outcome to its file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from airflow.configuration import conf

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # before Airflow 3.2
    from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

from demo.outcome import Outcome, TaskOutcome


def main(dag_id: str, outcome: Path, conf_of_run: dict[str, Any] | None) -> None:
    """Run the DAG."""
    bag = DagBag(dag_folder=conf.get("core", "dags_folder"))
    if dag_id not in bag.dags:
        sys.exit(f"There is no DAG {dag_id!r}. Files that failed: {bag.import_errors or 'none'}")
    run = bag.dags[dag_id].test(run_conf=conf_of_run)
    # Complete or not there: the reader looks for the file.
    part = outcome.with_suffix(".part")
    part.write_bytes(
        msgspec.json.encode(
            Outcome(
                state=run.state,
                data_interval_start=run.data_interval_start,
                data_interval_end=run.data_interval_end,
                tasks={
                    instance.task_id: TaskOutcome(
                        instance.state,
                        # Airflow 3.1 can't pull the results of all of a mapped task's instances here.
                        instance.xcom_pull(task_ids=instance.task_id, map_indexes=instance.map_index),
                    )
                    for instance in run.get_task_instances()
                },
            )
        )
    )
    sys.stdout.flush()  # what tasks have logged, for whoever reads the outcome
    part.replace(outcome)


if __name__ == "__main__":
    for line in sys.stdin:
        dag_id, file, run_conf = line.rstrip("\n").split("\t")
        main(dag_id, Path(file), json.loads(run_conf))
