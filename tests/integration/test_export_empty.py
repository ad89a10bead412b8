"""A shop that answers once with an empty list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError
from airflow_provider_lightspeed.sandbox import Sandbox
from demo.s3_server import S3Server
from tests.integration.exporting import export, new_task, read
from tests.integration.gateways import proxy

pytestmark = pytest.mark.usefixtures("aws")


@pytest.mark.parametrize("empty_for", [1, 100])
def test_one_empty_answer_replaces_nothing(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, empty_for: int
) -> None:
    target = {"s3_bucket": s3_bucket, "s3_key": "a/t.jsonl"}
    export({}, **target)
    lists = 0

    def fail_over(_method: str, path: str, _: Any) -> tuple[int, bytes] | None:
        nonlocal lists
        if "/tickets.json" not in path:
            return None
        lists += 1
        return (200, b'{"tickets":[]}') if lists <= empty_for else None

    connection = json.loads(sandbox.airflow_connection())
    with proxy(sandbox.url, fail_over) as address:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps({**connection, "host": address}))
        if empty_for == 1:
            try:
                result = export(new_task(), **target, replace=True)
            except LightspeedIncompleteListError:
                result = {"tickets": 600}
            assert result["tickets"] == 600 == len(read(s3_server, s3_bucket, "a/t.jsonl"))
        else:
            assert export(new_task(), **target, replace=True)["tickets"] == 0
            assert lists >= 2
            assert read(s3_server, s3_bucket, "a/t.jsonl") == []
