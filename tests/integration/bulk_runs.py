"""Bulk changes executed as Airflow executes them, but for its database."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

from airflow_provider_lightspeed._airflow import TaskDeferred
from airflow_provider_lightspeed.operators.bulk import BulkTicketsOperator
from airflow_provider_lightspeed.s3.objects import S3Objects
from tests.plain_json import plain_json

#: What a task logs when it defers.
DEFERRED = re.compile(
    r"Deferred until [-0-9]{10} [:0-9]{8} UTC \(in \d+ s\): the quota of 5 minutes is used up \([^()]+\)\. "
    r"The worker slot is free until then"
)


class Store(dict[str, Any]):
    """Stands for Airflow's task state store: JSON only, and nothing comes from a worker that is dead."""

    dead = False

    def set(self, key: str, value: Any) -> None:
        if not self.dead:
            self[key] = plain_json(value)

    def delete(self, key: str) -> None:
        self.pop(key, None)


class Xcom:
    """The task instance of a context, as far as operators use it."""

    dag_id, run_id, task_id, map_index = "dag", "run", "bulk", -1

    def __init__(self, *, max_tries: int = 1, try_number: int = 1) -> None:
        self.max_tries, self.try_number = max_tries, try_number
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))


def run(operator: BulkTicketsOperator, store: Store | None = None, ti: Xcom | None = None) -> dict[str, Any]:
    """Execute one try, deferrals included: another copy of the operator goes on after each."""
    context: Any = ({} if store is None else {"task_state_store": store}) | ({} if ti is None else {"ti": ti})
    try:
        return operator.execute(context)
    except TaskDeferred as first:
        deferred = first
    while True:
        moment = deferred.trigger.moment  # type: ignore[attr-defined]
        time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))
        try:
            return operator.execute_complete(context, None, **json.loads(json.dumps(deferred.kwargs)))
        except TaskDeferred as again:
            deferred = again


def lines(uri: str) -> list[dict[str, Any]]:
    """Read a receipt."""
    return [json.loads(line) for line in S3Objects("aws_default").read(uri).splitlines()]
