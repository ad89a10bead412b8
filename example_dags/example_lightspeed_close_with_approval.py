"""Close stale tickets only after a person has approved the list. Needs Airflow 3.1.

```text
plan ── summary ── approve ── close
```

`plan` changes nothing: it writes the list of tickets that it would close to S3. `summary` shows what a person needs to
decide: how many, how old, and a few ids, without customers' texts. If there is nothing to close, `approve` is skipped.
After approval, `close` closes exactly these tickets, except those that changed in between. A rejection skips `close`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag, task

from airflow_provider_lightspeed.api.errors import LightspeedNotFoundError
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator

# Settings of this deployment. From the environment, not from Airflow Variables: Airflow parses this file every
# few seconds, and a Variable would query the database each time.
S3_BUCKET = os.environ.get("LIGHTSPEED_S3_BUCKET", "my-support-data")
LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")
AWS_CONN_ID = os.environ.get("LIGHTSPEED_AWS_CONN_ID", "aws_default")

RECEIPTS = f"s3://{S3_BUCKET}/tickets/closed/{{{{ run_id }}}}"
#: So many tickets are shown, from the oldest to the newest.
SHOWN = 5


@task.short_circuit
def summary(plan: Any) -> str:
    """Describe the plan in Markdown; nothing, which skips the question, if there is nothing to close."""
    ids = sorted(plan["closed"])
    if not ids:
        return ""
    hook = LightspeedHook(LIGHTSPEED_CONN_ID)
    step = max(1, (len(ids) - 1) // (SHOWN - 1))
    lines = []
    for ticket_id in sorted({*ids[::step][: SHOWN - 1], ids[-1]}):
        try:
            ticket: Any = hook.get_ticket(ticket_id)
        except LightspeedNotFoundError:
            continue
        created = datetime.fromisoformat(ticket["createdAt"])
        changed = datetime.fromisoformat(ticket.get("updatedAt") or ticket["createdAt"])
        language = (ticket.get("language") or {}).get("code", "–")
        length = len(ticket.get("subject") or "")
        lines.append(f"| {ticket_id} | {created:%Y-%m-%d} | {changed:%Y-%m-%d} | {language} | {length} |")
    bucket, _, key = plan["receipt"].removeprefix("s3://").partition("/")
    console = f"https://console.aws.amazon.com/s3/object/{bucket}?prefix={quote(key)}"
    return "\n".join([
        f"**{len(ids)} tickets**, chosen by: {plan['criteria']}",
        "",
        "| ticket | created | last change | language | length of the subject |",
        "| --- | --- | --- | --- | --- |",
        *lines,
        "",
        f"The complete list: `{plan['receipt']}` ([AWS console]({console}))",
    ])


@dag(
    schedule="0 6 * * 1",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3},
    description="Close stale tickets after a person approved the list",
    tags=["lightspeed", "bulk"],
    doc_md=__doc__,
)
def example_lightspeed_close_with_approval() -> None:
    plan = CloseTicketsOperator(
        task_id="plan",
        # No change for two weeks, answered, and not marked as to do.
        updated_before="{{ (dag_run.start_date - macros.timedelta(days=14)).isoformat() }}",
        only_answered=True,
        # A larger plan is refused completely, before a person is asked.
        max_tickets=2000,
        max_share=0.9,
        dry_run=True,
        receipt_s3_key=f"{RECEIPTS}/plan.jsonl",
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
        aws_conn_id=AWS_CONN_ID,
    )
    shown = summary(plan.output)
    approve = ApprovalOperator(
        task_id="approve",
        subject="Close {{ ti.xcom_pull(task_ids='plan')['closed'] | length }} stale tickets?",
        body=shown,
        response_timeout=timedelta(days=3),
    )
    close = CloseTicketsOperator(
        task_id="close",
        ticket_ids=plan.output,
        max_tickets=2000,
        receipt_s3_key=f"{RECEIPTS}/closed.jsonl",
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
        aws_conn_id=AWS_CONN_ID,
    )
    shown >> approve >> close


example_lightspeed_close_with_approval()
