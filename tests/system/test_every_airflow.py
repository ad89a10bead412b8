"""Scheduler, worker and triggerer of every Airflow: an export and a sensor defer, come back, and end."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from airflow_provider_lightspeed.sandbox import Sandbox, ShopConfig
from demo.airflow_api import wait_until
from demo.airflow_home import AirflowHome, serving
from demo.ports import free_ports, is_free
from demo.s3_server import S3Server

# Airflow alone takes half a minute to start, and minutes on a busy machine.
pytestmark = pytest.mark.timeout(1500)

_PATIENCE = 900.0
# Airflow takes a task for a failed one if its deferral is over before the scheduler has processed the end of the process
# that deferred (apache/airflow#71580). So shorter waits are slept, polls are this far apart, and there are retries for a
# machine that is slower still.
_SHORTEST_DEFERRAL = 20
_DAGS = f"""
from airflow_provider_lightspeed._airflow import DAG

from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

with DAG("export", schedule=None, default_args={{"retries": 3}}):
    LightspeedTicketsToS3Operator(task_id="task", s3_key="s3://exports/tickets.jsonl.gz", deferrable=True)

with DAG("sensor", schedule=None, default_args={{"retries": 3}}):
    NewTicketSensor(
        task_id="task",
        lightspeed_conn_id="lightspeed_calm",
        deferrable=True,
        poke_interval={_SHORTEST_DEFERRAL},
        timeout=3_600,
    )
"""


@dataclass(frozen=True)
class Whole:
    """An Airflow that runs, asked by its own commands and its database: the API differs between versions."""

    home: AirflowHome
    small: Sandbox
    """Five calls in forty seconds."""
    calm: Sandbox
    s3: S3Server

    def start(self, dag_id: str) -> None:
        wait_until(
            lambda: self.home.query("select 1 from serialized_dag where dag_id = ?", dag_id),
            _PATIENCE,
            self.said,
        )
        self.home.run("dags", "unpause", dag_id)
        self.home.run("dags", "trigger", dag_id)

    def wait_for(self, dag_id: str, *states: str) -> str:
        """Wait until the task is in one of these states."""

        def state() -> str | None:
            found = self.home.query("select state from task_instance where dag_id = ?", dag_id)
            return found[0][0] if found and found[0][0] in {*states, "failed"} else None

        wait_until(state, _PATIENCE, self.said)
        return str(state())

    def said(self) -> str:
        """Return the end of what the tasks and Airflow itself have logged."""
        return "".join([*(log[-2_000:] for log in self.logs()), self.home.log.read_text()[-5_000:]])

    def logs(self) -> list[str]:
        """Return what each try has logged."""
        return [log.read_text() for log in sorted((self.home.directory / "logs").rglob("dag_id=*/**/*.log"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Whole]:
    directory = tmp_path_factory.mktemp("every")
    (directory / "dags").mkdir()
    (directory / "dags" / "dags.py").write_text(_DAGS)
    (port,) = free_ports(1)
    small = ShopConfig(
        tickets=3_000,
        end=datetime(2026, 6, 1, tzinfo=UTC),
        burst_limit=0,
        limits=(5, 10**6, 10**6),
        window_seconds=(40.0, 3600.0, 86400.0),
    )
    s3_server.client().create_bucket(Bucket="exports")
    with Sandbox(small) as one, Sandbox(ShopConfig(tickets=300)) as two:
        impatient = {"max_wait": _SHORTEST_DEFERRAL, "calls_per_second": 0}
        home = AirflowHome.create(
            directory / "airflow",
            dags=directory / "dags",
            connections={
                "lightspeed_default": json.dumps({
                    **json.loads(one.airflow_connection()),
                    "extra": impatient,
                }),
                "lightspeed_calm": two.airflow_connection(),
                "aws_default": s3_server.airflow_connection(),
            },
            settings={
                **serving(port),
                "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(port),  # Airflow 2
                "AIRFLOW__CORE__PARALLELISM": "2",
            },
        )
        with home.standalone():
            # Tasks of Airflow 3 start by a call to its API server, and fail while there is none.
            wait_until(lambda: not is_free(port), _PATIENCE, home.log.read_text)
            yield Whole(home, one, two, s3_server)


def test_an_export_and_a_sensor_defer_and_end(whole: Whole) -> None:
    whole.start("sensor")
    whole.start("export")
    # Both are in the triggerer at the same time, where each reads its connection.
    assert whole.wait_for("sensor", "deferred") == "deferred", whole.said()
    polled = whole.calm.count_calls()
    wait_until(lambda: whole.calm.count_calls() > polled, _PATIENCE, whole.said)
    new = whole.calm.add_tickets(2)
    assert whole.wait_for("sensor", "success") == "success", whole.said()
    assert whole.wait_for("export", "success") == "success", whole.said()
    # A retry may only follow from the scheduler's mistake.
    assert not [log for log in whole.logs() if "Task failed with exception" in log]
    assert {call.status for call in whole.small.calls} == {200}

    body = whole.s3.client().get_object(Bucket="exports", Key="tickets.jsonl.gz")["Body"].read()
    exported = [json.loads(line) for line in gzip.decompress(body).splitlines()]
    assert {ticket["id"]: ticket for ticket in exported} == whole.small.shop.tickets()
    assert len(exported) == len(whole.small.shop.ids())
    (told,) = whole.home.query("select value from xcom where dag_id = 'sensor' and key = 'return_value'")
    assert str(new[0]) in str(told[0])
