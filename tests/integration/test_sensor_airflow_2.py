"""The sensor in whole runs of Airflow 2: its database keeps the state, its triggers and reschedules are real."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_lightspeed.sandbox import Sandbox
from tests.airflow_with import airflow_with

_RUNS = 12

_DAGS = """
from datetime import datetime, timezone
from airflow import DAG
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor

for mode, options in {"poke": {}, "reschedule": {"mode": "reschedule"}, "deferrable": {"deferrable": True}}.items():
    with DAG(mode, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), schedule="@daily"):
        NewTicketSensor(task_id="wait", poke_interval=0.3, timeout=2, soft_fail=True, **options)
"""

# Runs of one sensor after the other, in no order of their dates, as backfills are. It prints what each delivered.
_DRIVER = """
import json, sys
from datetime import datetime, timedelta, timezone
from airflow.models import DagBag

dags = DagBag(read_dags_from_db=False).dags
runs = int(sys.argv[1])
for number in range(runs):
    if number == runs - 1:
        input()  # until no more tickets arrive
    for mode in ("poke", "reschedule", "deferrable"):
        date = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(days=number * 7 % 30)
        (task,) = dags[mode].test(execution_date=date).get_task_instances()
        print(json.dumps(["result", mode, task.state, task.xcom_pull(task_ids="wait")]), flush=True)
"""


@pytest.mark.airflow(before="3.0")
@pytest.mark.timeout(900)
def test_each_ticket_once_in_every_mode(sandbox: Sandbox, tmp_path: Path) -> None:
    home = airflow_with(_DAGS, tmp_path, lightspeed_default=sandbox.airflow_connection())
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(_RUNS)],
        env=home.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdin
    assert driver.stdout
    arrived: list[int] = []
    has_begun, has_ended = threading.Event(), threading.Event()

    def arrive() -> None:
        chance = random.Random()
        has_begun.wait()
        while not has_ended.wait(chance.uniform(0, 2)):
            arrived.extend(sandbox.add_tickets(chance.choice([1, 1, 2, 5])))

    arriving = threading.Thread(target=arrive)
    arriving.start()
    results: list[Any] = []
    try:
        for line in driver.stdout:
            if line.startswith('["result"'):
                results.append(json.loads(line)[1:])
            if len(results) == 3:  # the first run of each has said from where on tickets are new
                has_begun.set()
            if len(results) == 3 * (_RUNS - 1):  # the last run of each sees all
                has_ended.set()
                arriving.join()
                driver.stdin.write("\n")
                driver.stdin.flush()
    finally:
        has_begun.set()
        has_ended.set()
        driver.kill()
        driver.wait()
    assert len(results) == 3 * _RUNS
    assert arrived
    for mode in ("poke", "reschedule", "deferrable"):
        runs = [result for name, state, result in results if name == mode and state == "success"]
        assert [ticket_id for result in runs for ticket_id in result["ticket_ids"]] == arrived, mode
