"""Real Airflow does what the retry policy says."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.airflow_home import AirflowHome

pytestmark = pytest.mark.airflow(since="3.3")

_DAGS = """
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, task

from airflow_provider_lightspeed.api.errors import LightspeedQuotaExhausted, LightspeedUnknownOutcomeError
from airflow_provider_lightspeed.retry_policy import LightspeedRetryPolicy

RULES = {"retries": 3, "retry_delay": timedelta(hours=1), "retry_policy": LightspeedRetryPolicy()}
UNTIL = datetime.now(UTC) + timedelta(seconds=5)

with DAG("quota"):

    @task(**RULES)
    def ask(ti=None):
        if ti.try_number == 1:
            raise LightspeedQuotaExhausted("the quota is used up", until=UNTIL)
        return ti.try_number

    ask()

with DAG("lost_answer"):

    @task(**RULES)
    def write():
        raise LightspeedUnknownOutcomeError("the answer was lost")

    write()
"""


def test_a_used_up_quota_is_waited_for_and_a_lost_answer_is_final(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "policy.py").write_text(_DAGS)
    airflow = AirflowHome.create(tmp_path / "home", dags=dags, connections={}, settings={})
    airflow.run("db", "migrate")
    asked = airflow.run_dag("quota")
    assert (asked.state, asked.tasks["ask"].result) == ("success", 2)
    seen: list[str] = []
    assert airflow.run_dag("lost_answer", lambda _task, state: seen.append(state)).state == "failed"
    assert "up_for_retry" not in seen
