"""`make demo` and `make ui` as programs: what they leave behind, above all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests

from demo.airflow_api import OVER, TIMEOUT
from demo.airflow_home import PROJECT
from demo.ports import free_ports
from demo.processes import is_alive
from tests.system.whole_airflow import answered, wait_until

# The demo pins its Airflow.
pytestmark = [pytest.mark.airflow(since="3.3"), pytest.mark.timeout(1500)]

_DEMO = "import sys, pathlib; from demo.__main__ import main; sys.exit(main(pathlib.Path(sys.argv[1])))"
_UI = "import sys, pathlib; from demo.ui import main; sys.exit(main(int(sys.argv[2]), pathlib.Path(sys.argv[1])))"

_PATIENCE = 600.0


class Program:
    """A program of the demo, with what it has printed so far."""

    def __init__(self, code: str, directory: Path, *arguments: str) -> None:
        self._output = directory.with_suffix(".out")
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, directory, *arguments],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.output or self._process.poll() is not None)
        assert text in self.output, self.output

    def end(self, number: signal.Signals) -> int:
        """Send the signal, and return the exit status once all children have gone too."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        assert children
        self._process.send_signal(number)
        status = self._process.wait(_PATIENCE)
        assert [child for child in children if is_alive(child)] == []
        return status

    def wait(self) -> int:
        return self._process.wait(_PATIENCE)

    def kill(self) -> None:
        """Leave nothing behind after a failed test."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(_PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_ends_with_all_its_children_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    demo = Program(_DEMO, tmp_path / "demo")
    try:
        demo.wait_for("Airflow starts")
        assert demo.end(number) == 128 + number
    finally:
        demo.kill()


def test_the_demo_prints_its_checks_and_fails_when_one_does(tmp_path: Path) -> None:
    code = f"from demo.checks import CHECKS; CHECKS['It is dry'] = lambda day: ['it rains']; {_DEMO}"
    demo = Program(code, tmp_path / "demo")
    try:
        assert demo.wait() == 1
    finally:
        demo.kill()
    assert demo.output.count("✓") == 5, demo.output
    assert "✗ It is dry\n      it rains\n" in demo.output
    assert "\033" not in demo.output


def test_the_ui_refuses_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ui = Program(_UI, tmp_path / "ui", str(port))
        assert ui.wait() == 1
    assert f"Port {port} is taken" in ui.output


def test_a_dag_runs_in_the_ui(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    ui = Program(_UI, tmp_path / "ui", str(port))
    dag = f"http://127.0.0.1:{port}/api/v2/dags/example_lightspeed_nightly_export"
    try:
        ui.wait_for("Ctrl-C")
        wait_until(lambda: requests.get(dag, timeout=TIMEOUT).ok)
        assert answered(lambda: requests.get(dag, timeout=TIMEOUT).json()["is_paused"]) is False
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        wanted = {"dag_run_id": "by_the_test", "logical_date": now}
        # On SQLite a write may meet one of the scheduler, and fail. That the run is there already is a 409.
        runs = f"{dag}/dagRuns"
        wait_until(lambda: requests.post(runs, json=wanted, timeout=TIMEOUT).status_code in {200, 409})
        run = f"{runs}/by_the_test"
        states: list[str] = []

        def is_over() -> bool:
            states.append(requests.get(run, timeout=TIMEOUT).json()["state"])
            return states[-1] in OVER

        wait_until(is_over)
        assert states[-1] == "success"
        assert ui.end(signal.SIGINT) == 0
    finally:
        ui.kill()
