"""What only real Airflow can show of the tasks: state over runs, retries, results of failed tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from packaging.version import Version

from airflow_provider_lightspeed.sandbox import Fault, Sandbox, ShopConfig
from demo.airflow_home import AirflowHome
from tests.airflow_with import airflow_with

AIRFLOW = Version(version("apache-airflow"))

_DAGS = """
from datetime import timedelta

from airflow_provider_lightspeed._airflow import DAG

from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor

with DAG("wait"):
    NewTicketSensor(task_id="wait", mode="reschedule", poke_interval=0.5, timeout=15)

with DAG("wait_in_vain"):
    NewTicketSensor(task_id="wait", mode="poke", poke_interval=0.2, timeout=0.5)

with DAG("close"):
    CloseTicketsOperator(task_id="close", ticket_ids="[2546, 2547]")

with DAG("wrong_secret"):
    CloseTicketsOperator(
        task_id="close", ticket_ids=[2546], lightspeed_conn_id="wrong", retries=3, retry_delay=timedelta(seconds=0.1)
    )
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Sandbox]:
    with Sandbox(ShopConfig(tickets=300)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, shop: Sandbox) -> Iterator[AirflowHome]:
    wrong = {**json.loads(shop.airflow_connection()), "password": "wrong-secret"}
    connections = {"lightspeed_default": shop.airflow_connection(), "wrong": json.dumps(wrong)}
    home = airflow_with(_DAGS, tmp_path_factory.mktemp("tasks"), **connections)
    with home.dags_in_one_process():
        yield home


def test_the_sensor_hands_each_ticket_over_once(airflow: AirflowHome, shop: Sandbox) -> None:
    last = max(shop.shop.ids())
    first: list[int] = []

    def customers_write(_task_id: str, state: str) -> None:
        if not first and state == "up_for_reschedule":
            first.extend(shop.add_tickets(2))

    outcome = airflow.run_dag("wait", customers_write)
    assert outcome.tasks["wait"].result == {
        "ticket_ids": first,
        "count": 2,
        "since_id": last,
        "max_id": first[-1],
    }
    second = shop.add_tickets(3)
    assert airflow.run_dag("wait").tasks["wait"].result["ticket_ids"] == second
    third = shop.add_tickets(1)
    assert airflow.run_dag("wait").tasks["wait"].result["ticket_ids"] == third
    assert "lightspeed_new_tickets.wait.wait" in airflow.run("variables", "list")


def test_a_run_in_vain_loses_nothing(airflow: AirflowHome, shop: Sandbox) -> None:
    assert airflow.run_dag("wait_in_vain").state == "failed"
    new = shop.add_tickets(2)
    assert airflow.run_dag("wait_in_vain").tasks["wait"].result["ticket_ids"] == new


def test_a_failed_task_leaves_its_outcome(airflow: AirflowHome, shop: Sandbox) -> None:
    for ticket_id in (2546, 2547):
        shop.update_ticket(ticket_id, isClosed=False)
    shop.inject(Fault("500", method="PUT", path="2546", times=0))
    outcome = airflow.run_dag("close")
    shop.reset()
    assert outcome.state == "failed"
    result = outcome.tasks["close"].result
    assert result["closed"] == [2547]
    assert list(result["failed"]) == ["2546"]


def test_wrong_credentials_are_not_retried(airflow: AirflowHome, shop: Sandbox) -> None:
    shop.reset_calls()
    assert airflow.run_dag("wrong_secret").tasks["close"].state == "failed"
    assert len(shop.calls) == 1
    log = airflow.log.read_text().splitlines()
    if Version("3.1") > AIRFLOW:
        # dag.test() of Airflow 3.0, and nothing else of it, prints what tasks ask to be masked.
        log = [line for line in log if "msg=MaskSecret(" not in line]
    assert not [line for line in log if "wrong-secret" in line]
