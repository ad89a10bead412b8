"""What only real Airflow can show of the tasks: each operator and sensor, state over runs, retries, failed tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from unittest.mock import ANY

import pytest
from packaging.version import Version

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig
from demo.airflow_home import AirflowHome
from demo.s3_server import S3Server
from tests.airflow_with import airflow_with
from tests.dags.conftest import Adding
from tests.integration.exporting import read

AIRFLOW = Version(version("apache-airflow"))

_DAGS = """
from datetime import timedelta

from airflow_provider_lightspeed._airflow import DAG

from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    CreateTicketOperator,
    DeleteTicketsOperator,
    ReplyToTicketOperator,
    UpdateTicketsOperator,
)
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import (
    CheckTicketChangesOperator,
    LightspeedTicketChangesToS3Operator,
)
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

with DAG("wait"):
    NewTicketSensor(task_id="wait", mode="reschedule", poke_interval=0.5, timeout=3_600)

with DAG("wait_in_vain"):
    NewTicketSensor(task_id="wait", mode="poke", poke_interval=0.2, timeout=0.5)

with DAG("close"):
    CloseTicketsOperator(task_id="close", ticket_ids="[2546, 2547]")

with DAG("wrong_secret"):
    CloseTicketsOperator(
        task_id="close", ticket_ids=[2546], lightspeed_conn_id="wrong", retries=3, retry_delay=timedelta(seconds=0.1)
    )

with DAG("deferred"):
    NewTicketSensor(
        task_id="wait", since_id=2555, min_tickets=2, lightspeed_conn_id="few", deferrable=True, poke_interval=0.3,
        timeout=3_600, allow_nested_operators=False,
    )

with DAG("mapped", default_args={"lightspeed_conn_id": "many"}):
    close = CloseTicketsOperator.partial(task_id="close").expand(ticket_ids=[[2546, 2547], "2548", ["2549"]])
    reopen = UpdateTicketsOperator(task_id="reopen", ticket_ids=close.output, is_closed=False)
    one_by_one = UpdateTicketsOperator.partial(task_id="one_by_one", is_todo=True).expand(ticket_ids=close.output)
    reply = ReplyToTicketOperator.partial(task_id="reply").expand_kwargs(
        [{"ticket_id": 2546, "message": "First"}, {"ticket_id": "2547", "message": "Second"}]
    )
    create = CreateTicketOperator.partial(task_id="create", subject="Recall").expand(customer_id=[5, "6"])
    delete = DeleteTicketsOperator.partial(task_id="delete").expand(ticket_ids=[[2550], [2551]])
    close >> reopen >> one_by_one

with DAG("to_s3", default_args={"lightspeed_conn_id": "many"}):
    export = LightspeedTicketsToS3Operator(
        task_id="export", s3_bucket="{{ dag_run.conf.bucket }}", s3_key="tickets.jsonl"
    )
    prefix = "s3://{{ dag_run.conf.bucket }}/lightspeed/"
    sync = LightspeedTicketChangesToS3Operator(task_id="sync", s3_prefix=prefix, file_format="jsonl")
    check = CheckTicketChangesOperator(task_id="check", s3_prefix=prefix)
    export >> sync >> check
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Sandbox]:
    with Sandbox(ShopConfig(tickets=300)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def few() -> Iterator[Sandbox]:
    with Sandbox(ShopConfig(tickets=10)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def many() -> Iterator[Sandbox]:
    with Sandbox(ShopConfig(tickets=3_000, limits=NO_LIMITS, burst_limit=0)) as sandbox:
        for number in range(2546, 2552):
            sandbox.update_ticket(number, isClosed=False, isTodo=False)
        yield sandbox


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server, shop: Sandbox, few: Sandbox, many: Sandbox
) -> Iterator[AirflowHome]:
    wrong = {**json.loads(shop.airflow_connection()), "password": "wrong-secret"}
    connections = {
        "lightspeed_default": shop.airflow_connection(),
        "wrong": json.dumps(wrong),
        "few": few.airflow_connection(),
        "many": many.airflow_connection(),
        "aws_default": s3_server.airflow_connection(),
    }
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
        "shop": ANY,
    }
    second = shop.add_tickets(3)
    assert airflow.run_dag("wait").tasks["wait"].result["ticket_ids"] == second
    third = shop.add_tickets(1)
    assert airflow.run_dag("wait").tasks["wait"].result["ticket_ids"] == third
    assert any(
        "lightspeed_new_tickets.wait.wait" in key for (key,) in airflow.query("select key from variable")
    )


def test_a_sensor_defers(airflow: AirflowHome, few: Sandbox, adding_once_polled: Adding) -> None:
    with adding_once_polled(few, 2) as new:
        outcome = airflow.run_dag("deferred")
    assert outcome.state == "success", airflow.log.read_text()[-5_000:]
    assert outcome.tasks["wait"].result["ticket_ids"] == new
    assert "cannot be called outside" not in airflow.log.read_text()


def test_every_operator_can_be_mapped(airflow: AirflowHome, many: Sandbox) -> None:
    before = len(many.shop)
    assert airflow.run_dag("mapped").state == "success", airflow.log.read_text()[-5_000:]
    tickets = many.shop.tickets()
    assert [tickets[number]["isClosed"] for number in range(2546, 2550)] == [False] * 4
    assert all(tickets[number]["isTodo"] for number in range(2546, 2550))
    by_us = {n: [c.after for c in many.shop.history(n) if c.by == many.key] for n in (2548, 2549)}
    assert by_us == {n: [{"isClosed": True}, {"isClosed": False}, {"isTodo": True}] for n in (2548, 2549)}
    assert [many.shop.messages(number)[-1].text for number in (2546, 2547)] == ["First", "Second"]
    assert set(many.shop.deleted()) == {2550, 2551}
    new = [ticket for number, ticket in tickets.items() if number >= 5546]
    assert sorted((t["subject"], t["customer"]["resource"]["id"]) for t in new) == [
        ("Recall", 5),
        ("Recall", 6),
    ]
    assert len(many.shop) == before + 2 - 2


def test_exports_and_changes_reach_s3(
    airflow: AirflowHome, many: Sandbox, s3_server: S3Server, s3_bucket: str
) -> None:
    outcome = airflow.run_dag("to_s3", conf={"bucket": s3_bucket})
    assert outcome.state == "success", airflow.log.read_text()[-5_000:]
    truth = many.shop.tickets()
    assert {row["id"]: row for row in read(s3_server, s3_bucket, "tickets.jsonl")} == truth
    assert outcome.tasks["sync"].result["inserted"] == len(truth)
    current = read(s3_server, s3_bucket, "lightspeed/current/tickets.jsonl.gz")
    assert {row["id"]: row["subject"] for row in current} == {
        number: ticket["subject"] for number, ticket in truth.items()
    }
    assert outcome.tasks["check"].result["tickets"] == len(truth)


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
