"""Close stale tickets only after a person has said yes to the very list. Needs Airflow 3.1.

```text
plan ── approve ── close
```

`plan` changes nothing. It writes the tickets that it would close to S3. Once they are approved, these are closed and
no others, and of these only the ones that nobody has touched meanwhile. A no skips `close`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag

from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator

# What differs between deployments, in one place. The environment rather than Airflow Variables: this file is
# parsed every few seconds, and a Variable read here would ask the database each time.
S3_BUCKET = os.environ.get("LIGHTSPEED_S3_BUCKET", "my-support-data")
LIGHTSPEED_CONN_ID = os.environ.get("LIGHTSPEED_CONN_ID", "lightspeed_default")
AWS_CONN_ID = os.environ.get("LIGHTSPEED_AWS_CONN_ID", "aws_default")

RECEIPTS = f"s3://{S3_BUCKET}/tickets/closed/{{{{ run_id }}}}"


@dag(
    schedule="0 6 * * 1",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3},
    tags=["lightspeed"],
    doc_md=__doc__,
)
def example_lightspeed_close_with_approval() -> None:
    plan = CloseTicketsOperator(
        task_id="plan",
        # Idle for two weeks, answered by us, and no to-do of ours.
        updated_before="{{ (dag_run.start_date - macros.timedelta(days=14)).isoformat() }}",
        only_answered=True,
        # More than these and the plan is refused as a whole, before anybody is asked.
        max_tickets=2000,
        max_share=0.9,
        dry_run=True,
        receipt_s3_key=f"{RECEIPTS}/plan.jsonl",
        lightspeed_conn_id=LIGHTSPEED_CONN_ID,
        aws_conn_id=AWS_CONN_ID,
    )
    approve = ApprovalOperator(
        task_id="approve",
        subject="Close {{ ti.xcom_pull(task_ids='plan')['closed'] | length }} stale tickets?",
        body="The list: `{{ ti.xcom_pull(task_ids='plan')['receipt'] }}`",
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
    plan >> approve >> close


example_lightspeed_close_with_approval()
