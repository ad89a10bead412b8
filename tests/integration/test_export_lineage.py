"""What an export reports: the task's result, asset events, the object's metadata, OpenLineage."""

from __future__ import annotations

import io
import sys
from typing import Any

import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.lineage.entities import File
from airflow.providers.openlineage.extractors.base import DefaultExtractor

from airflow_provider_lightspeed.sandbox import Sandbox
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator
from demo.s3_server import S3Server

pytestmark = pytest.mark.usefixtures("aws")


class Event:
    """An outlet's event, as Airflow passes it on."""

    def __init__(self) -> None:
        self.extra: dict[str, Any] = {}


def _operator(bucket: str, key: str, **arguments: Any) -> LightspeedTicketsToS3Operator:
    return LightspeedTicketsToS3Operator(task_id="export", s3_bucket=bucket, s3_key=key, **arguments)


def _facets(operator: LightspeedTicketsToS3Operator) -> Any:
    """Ask as the OpenLineage provider does when a task ends."""
    return DefaultExtractor(operator).extract_on_complete(None)


def test_all_are_told_the_same(sandbox: Sandbox, s3_server: S3Server, s3_bucket: str) -> None:
    operator = _operator(s3_bucket, "a/tickets.parquet")
    asset, event = object(), Event()
    operator.outlets = [asset]
    result = operator.execute({"outlet_events": {asset: event}})  # type: ignore[typeddict-item]
    assert event.extra == result
    head = s3_server.client().head_object(Bucket=s3_bucket, Key="a/tickets.parquet")
    told = head["Metadata"]
    assert {name: int(told[name]) for name in ("tickets", "min-id", "max-id", "calls")} == {
        "tickets": result["tickets"],
        "min-id": result["min_id"],
        "max-id": result["max_id"],
        "calls": result["calls"],
    }
    assert head["ContentLength"] == result["bytes"]
    facets = _facets(operator)
    (shop,), (output,) = facets.inputs, facets.outputs
    assert (
        f"{shop.namespace}/{shop.name}"
        == f"{sandbox.url.replace('http', 'lightspeed')}/lightspeed_default/tickets"
    )
    assert f"{output.namespace}/{output.name}" == result["uri"]
    statistics = output.outputFacets["outputStatistics"]
    assert (statistics.rowCount, statistics.size, statistics.fileCount) == (600, result["bytes"], 1)
    data = s3_server.client().get_object(Bucket=s3_bucket, Key="a/tickets.parquet")["Body"].read()
    assert [field.name for field in output.facets["schema"].fields] == pq.read_schema(io.BytesIO(data)).names


def test_the_schema_is_that_of_the_rows(sandbox: Sandbox, s3_bucket: str) -> None:
    schemas = {}
    for key in ("tickets.jsonl", "tickets.csv", "tickets.parquet"):
        operator = _operator(s3_bucket, key, exclude_fields=["memo"])
        operator.execute({})
        fields = _facets(operator).outputs[0].facets["schema"].fields
        schemas[key] = {field.name: field.type for field in fields}
    assert schemas["tickets.jsonl"]["createdAt"] == "string"
    assert schemas["tickets.parquet"] == schemas["tickets.csv"]
    assert schemas["tickets.csv"]["created_at"] == "timestamp"
    assert not any("memo" in schema for schema in schemas.values())


def test_without_the_openlineage_provider(
    sandbox: Sandbox, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        if "openlineage" in name:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError):
        import openlineage.client  # ruff: ignore[unused-import]
    assert _operator(s3_bucket, "t.jsonl").execute({})["tickets"] == 600


def test_a_task_that_has_exported_nothing_tells_nothing(s3_bucket: str) -> None:
    facets = _facets(_operator(s3_bucket, "k"))
    assert facets is None or not facets.outputs


@pytest.mark.airflow(since="3.0")
def test_outlets_that_have_no_events_are_passed_over(
    sandbox: Sandbox, s3_server: S3Server, s3_bucket: str
) -> None:
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import OutletEventAccessors

    operator = _operator(s3_bucket, "a/tickets.jsonl")
    asset = Asset("s3://warehouse/tickets")
    operator.outlets = [File(url="s3://warehouse/file"), asset]
    events = OutletEventAccessors()
    result = operator.execute({"outlet_events": events})  # type: ignore[typeddict-item]
    assert events[asset].extra == result
