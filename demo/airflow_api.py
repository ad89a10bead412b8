"""Airflow's REST API, as far as a run in parts needs it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import requests

#: Seconds in which the API server has to answer. It takes minutes on a busy machine.
TIMEOUT = 300.0
_PAGE = 100
_ATTEMPTS = 5
_PARTS = {"scheduler": "scheduler", "dag_processor": "DAG processor", "triggerer": "triggerer"}
OVER = frozenset({"success", "failed"})


def wait_until(is_so: Callable[[], Any], within: float, why: Callable[[], object]) -> None:
    """Wait until a condition holds.

    :param why: returns what is there instead, for the error.
    :raises TimeoutError: it does not hold in time.
    """
    give_up = time.monotonic() + within
    while not is_so():
        if time.monotonic() > give_up:
            raise TimeoutError(f"not within {within:.0f} s: {why()}")
        time.sleep(0.2)


class AirflowApi:
    """An API server that asks for no password.

    :param port: of this machine.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v2"

    def is_up(self) -> bool:
        """Return whether all parts of Airflow are up."""
        return not self.parts_not_up()

    def parts_not_up(self) -> list[str]:
        """Return the parts of Airflow that do not answer yet. The API server knows of the others."""
        with suppress(requests.RequestException):
            health = requests.get(f"{self.url}/monitor/health", timeout=60).json()
            return [words for part, words in _PARTS.items() if health[part]["status"] != "healthy"]
        return ["API server"]

    def dag_ids(self) -> list[str]:
        """Return the ids of the DAGs that have been read."""
        return [dag["dag_id"] for dag in self._get("dags", "dags")]

    def knows(self, dag_id: str) -> bool:
        """Return whether the DAG has been read."""
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/dags/{dag_id}", timeout=TIMEOUT).ok
        return False

    def unpause(self, dag_id: str) -> None:
        """Let the DAG run."""
        self._send("PATCH", f"dags/{dag_id}", {"is_paused": False}).raise_for_status()

    def start(self, dag_id: str, **conf: Any) -> str:
        """Start a run, and return its id."""
        run_id = f"manual__{datetime.now(UTC).isoformat()}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        answer = self._send("POST", f"dags/{dag_id}/dagRuns", body)
        if answer.status_code != requests.codes.conflict:  # else an attempt that failed has started it
            answer.raise_for_status()
        return run_id

    def _send(self, method: str, path: str, body: dict[str, Any]) -> requests.Response:
        for _ in range(_ATTEMPTS):
            answer = requests.request(method, f"{self.url}/{path}", json=body, timeout=TIMEOUT)
            if answer.status_code < requests.codes.server_error:
                break
            time.sleep(1)  # on SQLite, a write may meet one of the scheduler
        return answer

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG."""
        return self._get(f"dags/{dag_id}/dagRuns", "dag_runs")

    def tasks(self, dag_id: str, run_id: str = "~") -> list[dict[str, Any]]:
        """Return the tasks of a run, or of all."""
        return self._get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100", "task_instances")

    def result(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return the result of a task."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        answer = requests.get(f"{self.url}/{path}", timeout=TIMEOUT)
        answer.raise_for_status()
        value = answer.json()["value"]
        result: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return result

    def asset_events(self) -> list[dict[str, Any]]:
        """Return the events of all assets."""
        events: list[dict[str, Any]] = []
        while page := self._get(f"assets/events?limit={_PAGE}&offset={len(events)}", "asset_events"):
            events += page
        return events

    def _get(self, path: str, what: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.url}/{path}", timeout=TIMEOUT)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()[what]
        return found
