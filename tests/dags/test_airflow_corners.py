"""What Airflow's users run into: a time limit in mid-job, a secrets backend, no XCom, no ids."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from demo.airflow_home import AirflowHome
from demo.s3_server import S3Server
from tests.dags.conftest import Adding

pytestmark = pytest.mark.in_all

BUCKET = "corners"
_DAGS = """
from datetime import timedelta

from airflow_provider_lightspeed._airflow import DAG

from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator, UpdateTicketsOperator
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

IDS = list(range(2546, 2586))
RECEIPT = "s3://corners/receipts/{{ dag.dag_id }}.jsonl"

with DAG("bulk_out_of_time"):
    CloseTicketsOperator(
        task_id="close", ticket_ids=IDS, receipt_s3_key=RECEIPT, max_share=1.0, lightspeed_conn_id="slow",
        execution_timeout=timedelta(seconds=30),
    )

with DAG("undo"):
    UpdateTicketsOperator(
        task_id="undo", ticket_ids="s3://corners/receipts/bulk_out_of_time.jsonl", is_closed=False, max_share=1.0
    )

with DAG("no_xcom"):
    CloseTicketsOperator(
        task_id="close", ticket_ids=[2546], do_xcom_push=False, receipt_s3_key=RECEIPT, dry_run=True
    )
    LightspeedTicketsToS3Operator(task_id="export", s3_bucket="corners", s3_key="no-xcom.jsonl", do_xcom_push=False)
    NewTicketSensor(task_id="wait", since_id=0, do_xcom_push=False)

with DAG("no_ids"):
    CloseTicketsOperator(task_id="close", ticket_ids=[], dry_run=True)

with DAG("secrets_backend"):
    wait = NewTicketSensor(
        task_id="wait", since_id=2645, min_tickets=3, poke_interval=1, timeout=300, deferrable=True,
        lightspeed_conn_id="secret",
    )
    export = LightspeedTicketsToS3Operator(
        task_id="export", s3_bucket="corners", s3_key="secret.jsonl", lightspeed_conn_id="secret"
    )
    wait >> export
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Sandbox]:
    config = ShopConfig(tickets=100, limits=NO_LIMITS, burst_limit=0, secret="p%2F/+@ss:word?&#=")
    with Sandbox(config) as sandbox:
        for number in sandbox.shop.ids():
            sandbox.update_ticket(number, isClosed=False)
        yield sandbox


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, shop: Sandbox, s3: S3Server) -> Iterator[AirflowHome]:
    directory = tmp_path_factory.mktemp("corners")
    connection = json.loads(shop.airflow_connection())
    kept = directory / "connections.json"
    # As secrets managers keep it: the extra is a text in the text.
    kept.write_text(json.dumps({"secret": {**connection, "extra": json.dumps({"max_wait": 60})}}))
    (directory / "dags").mkdir()
    (directory / "dags" / "dags.py").write_text(_DAGS)
    home = AirflowHome.create(
        directory / "home",
        dags=directory / "dags",
        connections={
            "lightspeed_default": json.dumps(connection),
            "slow": json.dumps({**connection, "extra": {"calls_per_second": 1}}),
            "aws_default": s3.airflow_connection(),
        },
        settings={
            "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(kept)}),
        },
    )
    with home.dags_in_one_process():
        yield home


def _closed(shop: Sandbox) -> set[int]:
    return {number for number, ticket in shop.shop.tickets().items() if ticket["isClosed"]}


# `dag.test()` of Airflow 2 ends with a task that runs out of time; its workers do not.
@pytest.mark.airflow(since="3.0")
def test_a_change_that_runs_out_of_time_can_be_undone_by_its_receipt(
    airflow: AirflowHome, shop: Sandbox, s3: S3Server
) -> None:
    assert airflow.run_dag("bulk_out_of_time").tasks["close"].state == "failed"
    changed = _closed(shop)
    receipt = s3.client().get_object(Bucket=BUCKET, Key="receipts/bulk_out_of_time.jsonl")["Body"].read()
    rows = [json.loads(row) for row in receipt.splitlines()]
    assert [row["id"] for row in rows] == list(range(2546, 2586))
    assert changed <= {row["id"] for row in rows if row["outcome"] == "closed" or row.get("maybe_changed")}
    assert len(changed) < len(rows)

    assert airflow.run_dag("undo").state == "success", airflow.log.read_text()[-5_000:]
    assert not _closed(shop)


def test_without_xcom(airflow: AirflowHome) -> None:
    outcome = airflow.run_dag("no_xcom")
    assert outcome.state == "success", airflow.log.read_text()[-5_000:]
    assert [task.result for task in outcome.tasks.values()] == [None] * 3


def test_no_ids_are_no_tickets(airflow: AirflowHome, shop: Sandbox) -> None:
    before = len(shop.calls)
    outcome = airflow.run_dag("no_ids")
    assert (outcome.state, outcome.tasks["close"].result["closed"]) == ("success", [])
    assert len(shop.calls) == before


def test_a_connection_of_a_secrets_backend_serves_worker_and_triggerer(
    airflow: AirflowHome, shop: Sandbox, adding_once_polled: Adding
) -> None:
    with adding_once_polled(shop, 3) as new:
        outcome = airflow.run_dag("secrets_backend")
    assert outcome.state == "success", airflow.log.read_text()[-5_000:]
    assert outcome.tasks["wait"].result["ticket_ids"] == new
    assert outcome.tasks["export"].result["tickets"] >= 100
    log = airflow.log.read_text()
    assert "the poll failed" not in log
    # `dag.test()` of Airflow 3.0 prints what a task asks to be masked; docs/versions.md says so.
    assert not [line for line in log.splitlines() if shop.secret in line and "MaskSecret(" not in line]
    assert "Pausing task as DEFERRED" in log or "[DAG TEST] running trigger" in log
