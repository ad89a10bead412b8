"""Airflow with scheduler, triggerer and API, and what happens to its tasks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests

from airflow_provider_lightspeed.sandbox import Sandbox
from demo import airflow_api
from demo.airflow_api import TIMEOUT, AirflowApi
from demo.airflow_home import AirflowHome, serving
from demo.ports import free_ports
from demo.processes import kill_whoever_calls, whoever_calls

_PATIENCE = 1200.0
_ANSWERED_WITHIN = 600.0

T = TypeVar("T")


def wait_until(is_so: Callable[[], object], within: float = _PATIENCE) -> None:
    """Wait, whatever Airflow's own server answers meanwhile: on a busy machine it is late, or not quite there."""
    wrong: list[Exception] = []

    def is_told_so() -> bool:
        try:
            return bool(is_so())
        except (requests.RequestException, KeyError) as error:
            wrong[:] = [error]
            return False

    airflow_api.wait_until(is_told_so, within, lambda: f"the last wrong answer: {wrong}")


def answered(ask: Callable[[], T]) -> T:
    """Ask Airflow's own server until it answers."""
    answers: list[T] = []
    wait_until(lambda: answers.append(ask()) or True, _ANSWERED_WITHIN)
    return answers[0]


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
            answer = requests.post(f"{self.url}/backfills", json=wanted, timeout=TIMEOUT)
            if answer.status_code != requests.codes.service_unavailable:
                answer.raise_for_status()
            return answer.ok

        wait_until(is_accepted)

    def update_asset(self, name: str) -> None:
        """Start what it schedules, as the button in the web interface does."""
        assets = requests.get(f"{self.url}/assets", params={"name_pattern": name}, timeout=TIMEOUT)
        assets.raise_for_status()
        (asset,) = assets.json()["assets"]
        event = requests.post(f"{self.url}/assets/events", json={"asset_id": asset["id"]}, timeout=TIMEOUT)
        event.raise_for_status()

    def scheduled(self, dag_id: str) -> str:
        """Let the schedule start its latest run."""
        self.unpause(dag_id)
        wait_until(lambda: self.api.runs(dag_id))
        return self.run(dag_id, answered(lambda: self.api.runs(dag_id))[0]["dag_run_id"])

    def state(self, run: str, task_id: str = "") -> str | None:
        path = f"{run}/taskInstances/{task_id}" if task_id else run
        state: str | None = answered(lambda: requests.get(path, timeout=TIMEOUT).json()["state"])
        return state

    def result(self, run: str, task_id: str) -> dict[str, Any]:
        dag_id, _, run_id = run.removeprefix(f"{self.url}/dags/").partition("/dagRuns/")
        return answered(lambda: self.api.result(dag_id, run_id, task_id))

    def log(self, task_id: str) -> str:
        """Return what all tries of a task have logged so far."""
        files = (self.home.directory / "logs").rglob(f"task_id={task_id}/*.log")
        return "".join(file.read_text() for file in files)

    def kill_whoever_calls(self, shop: Sandbox) -> bool:
        """Send SIGKILL to the task that has a connection to the shop."""
        return kill_whoever_calls(_port_of(shop), self.process)

    def whoever_calls(self, shop: Sandbox) -> list[psutil.Process]:
        """Return the tasks that have a connection to the shop."""
        return whoever_calls(_port_of(shop), self.process)

    def clear(self, run: str, task_id: str) -> None:
        """Have a task run again, as the button in the web interface does."""
        dag, _, run_id = run.partition("/dagRuns/")
        wanted = {"dag_run_id": run_id, "task_ids": [task_id], "only_failed": False, "reset_dag_runs": True}
        answer = requests.post(
            f"{dag}/clearTaskInstances", json={"dry_run": False, **wanted}, timeout=TIMEOUT
        )
        answer.raise_for_status()


def _port_of(shop: Sandbox) -> int:
    return int(shop.url.rpartition(":")[2])


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
