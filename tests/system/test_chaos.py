"""One scenario of `make chaos`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demo.airflow_home import PROJECT

#: Quota, faults and churn; a task and the triggerer are killed, the shop goes away.
SEED = 16


@pytest.mark.airflow(since="3.3")  # after a kill, a task resumes from the task state store
@pytest.mark.timeout(600)
def test_a_scenario_where_things_break(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chaos", "--scenarios", "1", "--seed", str(SEED)]
    done = subprocess.run(
        [*command, "--directory", tmp_path / "chaos"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 tasks green, 0 red" in done.stdout
    assert "all invariants hold" in done.stdout
