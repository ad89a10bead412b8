"""Airflow with scheduler, triggerer and API, and what happens to its tasks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from airflow_provider_lightspeed.sandbox import Sandbox
from demo.airflow_api import AirflowApi
from demo.airflow_home import AirflowHome, serving
from demo.ports import free_ports

_PATIENCE = 600.0


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.1)


@dataclass(frozen=True)
class WholeAirflow:
    """One that runs."""

    api: AirflowApi
    process: psutil.Process
    home: AirflowHome

    @property
    def url(self) -> str:
        return self.api.url

    def unpause(self, dag_id: str) -> None:
        wait_until(lambda: self.api.knows(dag_id))
        self.api.unpause(dag_id)

    def start(self, dag_id: str, **conf: Any) -> str:
        """Start a run, and return its address."""
        self.unpause(dag_id)
        return self.run(dag_id, self.api.start(dag_id, **conf))

    def run(self, dag_id: str, run_id: str) -> str:
        return f"{self.url}/dags/{dag_id}/dagRuns/{run_id}"

    def backfill(self, dag_id: str, first: str, last: str) -> None:
        """Start runs of days in the past, of few: on SQLite, each may meet a write of the scheduler, and fails at once."""
        wanted = {"dag_id": dag_id, "from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z"}

        def is_accepted() -> bool:
            answer = requests.post(f"{self.url}/backfills", json=wanted, timeout=120)
            if answer.status_code != requests.codes.service_unavailable:
                answer.raise_for_status()
            return answer.ok

        wait_until(is_accepted)

    def update_asset(self, name: str) -> None:
        """Start what it schedules, as the button in the web interface does."""
        assets = requests.get(f"{self.url}/assets", params={"name_pattern": name}, timeout=30)
        assets.raise_for_status()
        (asset,) = assets.json()["assets"]
        event = requests.post(f"{self.url}/assets/events", json={"asset_id": asset["id"]}, timeout=30)
        event.raise_for_status()

    def scheduled(self, dag_id: str) -> str:
        """Let the schedule start its latest run."""
        self.unpause(dag_id)
        runs = f"{self.url}/dags/{dag_id}/dagRuns"
        wait_until(lambda: requests.get(runs, timeout=30).json()["dag_runs"])
        return f"{runs}/{requests.get(runs, timeout=30).json()['dag_runs'][0]['dag_run_id']}"

    def state(self, run: str, task_id: str = "") -> str | None:
        path = f"{run}/taskInstances/{task_id}" if task_id else run
        state: str | None = requests.get(path, timeout=30).json()["state"]
        return state

    def result(self, run: str, task_id: str) -> dict[str, Any]:
        answer = requests.get(f"{run}/taskInstances/{task_id}/xcomEntries/return_value", timeout=30)
        answer.raise_for_status()
        value = answer.json()["value"]
        result: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return result

    def log(self, task_id: str) -> str:
        """Return what all tries of a task have logged so far."""
        files = (self.home.directory / "logs").rglob(f"task_id={task_id}/*.log")
        return "".join(file.read_text() for file in files)

    def kill_whoever_calls(self, shop: Sandbox) -> bool:
        """Send SIGKILL to the task that has a connection to the shop."""
        port = int(shop.url.rpartition(":")[2])
        for process in self.process.children(recursive=True):
            with suppress(psutil.Error):
                if any(c.raddr and c.raddr.port == port for c in process.net_connections("tcp")):
                    process.kill()
                    return True
        return False

    def clear(self, run: str, task_id: str) -> None:
        """Have a task run again, as the button in the web interface does."""
        dag, _, run_id = run.partition("/dagRuns/")
        wanted = {"dag_run_id": run_id, "task_ids": [task_id], "only_failed": False, "reset_dag_runs": True}
        answer = requests.post(f"{dag}/clearTaskInstances", json={"dry_run": False, **wanted}, timeout=30)
        answer.raise_for_status()


@contextmanager
def whole_airflow(
    directory: Path, *, dags: Path, connections: Mapping[str, str], settings: Mapping[str, str]
) -> Generator[WholeAirflow]:
    """Start it, which takes half a minute, and end it."""
    (port,) = free_ports(1)
    home = AirflowHome.create(
        directory,
        dags=dags,
        connections=connections,
        settings={**serving(port), "AIRFLOW__CORE__PARALLELISM": "4", **settings},
    )
    with home.standalone() as process:
        api = AirflowApi(port)
        wait_until(api.is_up)
        yield WholeAirflow(api, psutil.Process(process.pid), home)
