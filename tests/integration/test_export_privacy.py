"""Personal fields leave the shop dropped or hashed: in the object, and in what is staged before."""

from __future__ import annotations

import hashlib
import hmac
import json
import zlib
from typing import Any

import pyarrow as pa
import pytest

from airflow_provider_lightspeed.api.errors import LightspeedServerError
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.sandbox import Fault, Sandbox
from airflow_provider_lightspeed.transfers import export as export_module
from demo.s3_server import S3Server
from tests.integration.exporting import export, keys, new_task, read

pytestmark = pytest.mark.usefixtures("aws")

KEY = "the key of the connection"


@pytest.fixture
def keyed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The shop, with a key in the connection."""
    connection = json.loads(sandbox.airflow_connection())
    connection["extra"] = {**connection.get("extra", {}), "hash_secret": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
    return sandbox


def _hashed(key: str, value: object) -> str:
    return hmac.new(key.encode(), str(value).encode(), hashlib.sha256).hexdigest()


def test_the_key_is_the_connections_or_the_named_variables(
    keyed: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_LIGHTSPEED_HASH_SECRET", "the key of the default variable")
    monkeypatch.setenv("AIRFLOW_VAR_OTHER", "the key of the other variable")
    customers = {
        number: ticket["customer"]["resource"]["id"]
        for number, ticket in keyed.shop.tickets().items()
        if ticket["customer"]
    }
    assert customers
    wanted: dict[str, Any] = {"s3_bucket": s3_bucket, "hash_fields": ["customer"]}
    for key, arguments in ((KEY, {}), ("the key of the other variable", {"hash_secret_variable": "other"})):
        export(new_task(), s3_key="k.jsonl.gz", replace=True, **wanted, **arguments)
        rows = {row["id"]: row["customer"] for row in read(s3_server, s3_bucket, "k.jsonl.gz")}
        assert {number: rows[number]["resource"]["id"] for number in customers} == {
            number: _hashed(key, customer) for number, customer in customers.items()
        }
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", keyed.airflow_connection())
    export(new_task(), s3_key="k.csv", **wanted)
    text = s3_server.client().get_object(Bucket=s3_bucket, Key="k.csv")["Body"].read().decode()
    assert _hashed("the key of the default variable", next(iter(customers.values()))) in text


@pytest.mark.parametrize("ending", ["jsonl.gz", "parquet"])
def test_nothing_personal_is_staged(
    keyed: Sandbox, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(export_module, "_CALLS_AT_RISK", 1)
    # All tickets are marked, so that those are which are read first.
    for number in keyed.shop.ids():
        keyed.update_ticket(number, subject="of Anna Jansen", memo="of Anna Jansen")
        keyed.add_message(number, "of Anna Jansen")
    keyed.inject(Fault("500", path="tickets.json", after=2, times=0))
    with pytest.raises(LightspeedServerError):
        export(
            new_task(),
            s3_bucket=s3_bucket,
            s3_key=f"k.{ending}",
            hash_fields=["subject", "memo", "customer"],
            exclude_fields=["extra", "messages"],
        )
    customer = next(row["customer"] for row in keyed.shop.tickets().values() if row["customer"])
    unwanted = ["of Anna Jansen", f"customers/{customer['resource']['id']}"]
    staged = keys(s3_server, s3_bucket)
    assert staged
    for key in staged:
        data = s3_server.client().get_object(Bucket=s3_bucket, Key=key)["Body"].read()
        text = _rows_of_arrow(data) if ending == "parquet" else _lines(data)
        assert _hashed(KEY, "of Anna Jansen") in text
        assert not any(personal in text for personal in unwanted)


def _lines(data: bytes) -> str:
    # Each part begins a deflate stream, without the header that the file gets.
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data).decode()


def _rows_of_arrow(data: bytes) -> str:
    source = pa.BufferReader(data)
    rows = []
    while source.tell() < source.size():
        rows += pa.ipc.open_stream(source).read_all().to_pylist()
    return str(rows)


@pytest.mark.parametrize("name", ["messages", "extra.messages"])
def test_messages_asked_for_and_left_out(keyed: Sandbox, s3_bucket: str, name: str) -> None:
    with pytest.raises(
        LightspeedTaskFailed, match="include_messages asks for what exclude_fields leaves out"
    ):
        export(new_task(), s3_bucket=s3_bucket, s3_key="k", include_messages=True, exclude_fields=[name])
    assert not keyed.calls
