"""All ticket operators in a DAG file: mapped, with default arguments, fed by each other."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_lightspeed._airflow import DAG
from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    CreateTicketOperator,
    DeleteTicketsOperator,
    ReplyToTicketOperator,
    UpdateTicketsOperator,
)


def test_all_operators_can_be_mapped() -> None:
    with DAG("bulk", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        close = CloseTicketsOperator.partial(task_id="close", max_tickets=5).expand(ticket_ids=[[1], [2]])
        UpdateTicketsOperator.partial(task_id="reopen", is_closed=False).expand(ticket_ids=close.output)
        DeleteTicketsOperator.partial(task_id="delete").expand(ticket_ids=close.output)
        CreateTicketOperator.partial(task_id="create", subject="Recall").expand(customer_id=[1, 2])
        ReplyToTicketOperator.partial(task_id="reply").expand_kwargs([{"ticket_id": 1, "message": "Hello"}])
    assert len(dag.tasks) == 5
    assert dag.get_task("reopen").upstream_task_ids == {"close"}


def test_default_arguments_reach_what_is_inherited() -> None:
    receipt = "s3://bucket/{{ run_id }}/{{ task.task_id }}"
    defaults = {"max_tickets": 7, "receipt_s3_key": receipt}
    with DAG("bulk", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), default_args=defaults):
        close = CloseTicketsOperator(task_id="close", only_answered=True)
    assert (close.max_tickets, close.receipt_s3_key) == (7, receipt)
    assert {"ticket_ids", "created_before", "receipt_s3_key", "memo"} <= set(close.template_fields)
