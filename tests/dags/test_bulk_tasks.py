"""Bulk changes as tasks of real Airflow: many ids through XCom, missing values, a deferral, native templates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from packaging.version import Version

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig
from demo.airflow_home import AirflowHome
from tests.airflow_with import airflow_with

pytestmark = pytest.mark.in_all

_DAGS = """
from airflow_provider_lightspeed._airflow import DAG, task

from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    CreateTicketOperator,
    DeleteTicketsOperator,
    ReplyToTicketOperator,
    UpdateTicketsOperator,
)

with DAG("many"):
    ids = task(lambda: [str(number) for number in range(2546, 14546)], task_id="ids")()
    plan = CloseTicketsOperator(task_id="plan", ticket_ids=ids, max_tickets=12_000, dry_run=True)
    CloseTicketsOperator(task_id="again", ticket_ids=plan.output, max_tickets=12_000, dry_run=True)
    CloseTicketsOperator(task_id="text", ticket_ids="{{ ti.xcom_pull(task_ids='ids') }}", max_tickets=9) << plan

with DAG("missing"):
    emails = task(lambda: [None], task_id="emails")()
    bound = {"created_before": "2100-01-01T00:00:00+00:00", "max_tickets": 12_000, "max_share": 1.0}
    DeleteTicketsOperator.partial(task_id="expand", **bound).expand(customer_email=emails)
    DeleteTicketsOperator.partial(task_id="expand_kwargs", **bound).expand_kwargs([{"customer_email": None}])
    DeleteTicketsOperator(task_id="template", customer_email="{{ params.email }}", params={"email": None}, **bound)

with DAG("deferred"):
    CloseTicketsOperator(task_id="close", ticket_ids=list(range(2546, 2566)), lightspeed_conn_id="lightspeed_small")

with DAG("native", render_template_as_native_obj=True):
    update = UpdateTicketsOperator(
        task_id="update",
        ticket_ids="{{ params.ids }}",
        subject="{{ 12345 }}",
        memo="{{ true }}",
        params={"ids": [2560, 2561]},
    )
    reply = ReplyToTicketOperator(task_id="reply", ticket_id="{{ 2560 }}", message="{{ 678 }}")
    create = CreateTicketOperator(task_id="create", subject="{{ 9 }}", customer_id="{{ 7 }}", memo="{{ 1.5 }}")
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Sandbox]:
    with Sandbox(ShopConfig(tickets=12_000, limits=NO_LIMITS, burst_limit=0)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def small() -> Iterator[Sandbox]:
    """A shop that tells a task to wait once, amid its writes."""
    with Sandbox(ShopConfig(tickets=20, limits=NO_LIMITS, burst_limit=0)) as sandbox:
        for number in sandbox.shop.ids():
            sandbox.update_ticket(number, isClosed=False)
        sandbox.inject(Fault("429", method="PUT", path="2556", retry_after="3"))
        yield sandbox


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, shop: Sandbox, small: Sandbox) -> Iterator[AirflowHome]:
    home = airflow_with(
        _DAGS,
        tmp_path_factory.mktemp("bulk"),
        lightspeed_default=shop.airflow_connection(),
        lightspeed_small=json.dumps({**json.loads(small.airflow_connection()), "extra": {"max_wait": 0}}),
    )
    with home.dags_in_one_process():
        yield home


def test_twelve_thousand_ids_go_through_xcom(airflow: AirflowHome, shop: Sandbox) -> None:
    is_open = [number for number, ticket in shop.shop.tickets().items() if not ticket["isClosed"]]
    outcome = airflow.run_dag("many")
    plan, again = (outcome.tasks[name].result for name in ("plan", "again"))
    assert plan["closed"] == is_open
    assert len(plan["closed"]) + len(plan["already"]) == 12_000
    # Given on, the outcome stands for what would be closed.
    assert (again["closed"], again["already"]) == (is_open, [])
    # As text it is read too, and its cap holds; a refused plan leaves an outcome.
    assert outcome.tasks["text"].state == "failed"
    assert outcome.tasks["text"].result["closed"] == []
    assert "12,000 tickets are more than max_tickets=9" in airflow.log.read_text()
    assert not shop.count_calls(method="PUT")


def test_a_missing_value_deletes_nothing(airflow: AirflowHome, shop: Sandbox) -> None:
    before = len(shop.shop.tickets())
    outcome = airflow.run_dag("missing")
    assert {name: outcome.tasks[name].state for name in ("expand", "expand_kwargs", "template")} == {
        "expand": "failed",
        "expand_kwargs": "failed",
        "template": "failed",
    }
    assert len(shop.shop.tickets()) == before


# dag.test() drops what travels with a deferral. Before Airflow 3.3 no store keeps it, and the task plans again.
@pytest.mark.airflow(since="3.3")
def test_a_deferral_in_a_dag_test_resumes(airflow: AirflowHome, small: Sandbox) -> None:
    outcome = airflow.run_dag("deferred")
    assert outcome.state == "success", airflow.log.read_text()[-5_000:]
    result = outcome.tasks["close"].result
    assert sorted(result["closed"] + result["already"]) == small.shop.ids()
    # `dag.test()` loses what a deferral carries. Before Airflow 3.3 nothing else keeps the plan, which is made again.
    if Version(version("apache-airflow")) >= Version("3.3"):
        assert result["closed"] == small.shop.ids()
    assert [call.status for call in small.calls if call.method == "PUT"].count(200) == 20
    assert "Deferred until " in airflow.log.read_text()


def test_native_rendering(airflow: AirflowHome, shop: Sandbox) -> None:
    outcome = airflow.run_dag("native")
    assert outcome.state == "success", airflow.log.read_text()[-5_000:]
    texts = [
        (shop.shop.ticket(number)["subject"], shop.shop.ticket(number)["memo"]) for number in (2560, 2561)
    ]
    assert texts == [("12345", "True")] * 2
    assert shop.shop.messages(2560)[-1].text == "678"
    created = shop.shop.ticket(outcome.tasks["create"].result["id"])
    assert (created["subject"], created["memo"]) == ("9", "1.5")
