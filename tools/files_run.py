"""Count the package's files whose functions run during one export and one bulk change: `python -m tools.files_run`.

A reader who follows one task has to open these files. Shop and S3 server run on this machine.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from airflow_provider_lightspeed.sandbox import Sandbox, ShopConfig
from demo.s3_server import S3Server

_PACKAGE = Path(__file__).resolve().parent.parent / "airflow_provider_lightspeed"
_BUCKET = "files-run"


class _TaskState(dict[str, Any]):
    """Stands for Airflow's task state store."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


class _TaskInstance:
    """Stands for Airflow's task instance."""

    dag_id, task_id, run_id, map_index, max_tries = "dag", "task", "run", -1, 0

    def xcom_push(self, key: str, value: Any) -> None:
        """Take a result."""


def files_run(task: Callable[[], object]) -> list[str]:
    """Run a task and return the package's files with a function that ran."""
    found: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        # Bodies of modules and classes run when they are imported, not to do the work.
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            found.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        task()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    inside = [Path(name).relative_to(_PACKAGE) for name in found if name.startswith(f"{_PACKAGE}{os.sep}")]
    return sorted(str(name) for name in inside if name.parts[0] != "sandbox")


def main() -> None:
    """Print both counts and the files."""
    with (
        tempfile.TemporaryDirectory() as directory,
        S3Server(Path(directory)) as s3,
        Sandbox(ShopConfig(tickets=600)) as shop,
    ):
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=_BUCKET)
        os.environ["AIRFLOW_HOME"] = f"{directory}/airflow"
        os.environ["AIRFLOW_CONN_LIGHTSPEED_DEFAULT"] = shop.airflow_connection()
        os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = s3.airflow_connection()
        from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator
        from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

        def context() -> Any:
            return {"task_state_store": _TaskState(), "ti": _TaskInstance()}

        export = LightspeedTicketsToS3Operator(
            task_id="export",
            s3_bucket=_BUCKET,
            s3_key="tickets.jsonl.gz",
            lightspeed_conn_id="lightspeed_default",
        )
        open_ids = [number for number, ticket in shop.shop.tickets().items() if not ticket["isClosed"]][:2]
        close = CloseTicketsOperator(task_id="close", ticket_ids=open_ids)
        for name, task in (
            ("export of 600 tickets", export),
            ("bulk close of 2 tickets", close),
        ):
            files = files_run(lambda task=task: task.execute(context()))  # type: ignore[misc]
            print(f"{name}: {len(files)} files")
            for file in files:
                print(f"  {file}")


if __name__ == "__main__":
    main()
