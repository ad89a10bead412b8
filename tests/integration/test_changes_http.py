"""The log of changes over real HTTP and on a real S3 server, as tasks run it."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import count
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_provider_lightspeed._airflow import TaskDeferred
from airflow_provider_lightspeed.api.errors import LightspeedMalformedResponseError
from airflow_provider_lightspeed.assets import ticket_changes_asset
from airflow_provider_lightspeed.cancellation import Cancelled
from airflow_provider_lightspeed.changes import read_changes
from airflow_provider_lightspeed.changes import scan as scan_module
from airflow_provider_lightspeed.changes.compare import Known
from airflow_provider_lightspeed.changes.fingerprint import raw_fingerprints
from airflow_provider_lightspeed.changes.log import ChangeLog, LightspeedChangesLostError
from airflow_provider_lightspeed.exceptions import (
    LightspeedStaleChangesError,
    LightspeedStorageError,
    LightspeedTaskFailed,
)
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import (
    CheckTicketChangesOperator,
    LightspeedTicketChangesToS3Operator,
)
from demo.s3_server import S3Server
from tests.integration.bulk_runs import DEFERRED
from tests.integration.exporting import Instance, keys, new_task
from tests.integration.gateways import proxy
from tests.integration.test_export_stores import REFUSED, Rule, no_conditional_writes

pytestmark = pytest.mark.usefixtures("aws")


class Prefix:
    """A prefix, and runs of the operator into it."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self.server = server
        self.bucket = bucket
        self.uri = f"s3://{bucket}/lightspeed/shop_nl/"
        self.runs = count(1)

    def context(self) -> dict[str, Any]:
        return {**new_task(), "ti": Instance(f"run {next(self.runs)}")}

    def task(self, **arguments: Any) -> LightspeedTicketChangesToS3Operator:
        return LightspeedTicketChangesToS3Operator(
            task_id="sync", **{"s3_prefix": self.uri, "scan": "full", **arguments}
        )

    def run(self, context: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.task(**arguments).execute(context or self.context())  # type: ignore[arg-type]
        assert json.loads(json.dumps(result)) == result
        return result

    def read(self, name: str) -> list[dict[str, Any]]:
        key = f"lightspeed/shop_nl/{name}"
        data = self.server.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        if name.endswith(".parquet"):
            rows: list[dict[str, Any]] = pq.read_table(BytesIO(data)).to_pylist()
            return rows
        return [json.loads(line) for line in gzip.decompress(data).splitlines()]

    def current(self, suffix: str = ".parquet") -> dict[int, dict[str, Any]]:
        rows = self.read(f"current/tickets{suffix}")
        assert len({row["id"] for row in rows}) == len(rows)
        return {row["id"]: row for row in rows}


@pytest.fixture
def prefix(s3_server: S3Server, s3_bucket: str) -> Prefix:
    return Prefix(s3_server, s3_bucket)


def fail_at(call: int) -> Callable[..., None]:
    calls = count(1)

    def method(*_: Any) -> None:
        if next(calls) == call:
            raise OSError("no memory left on this worker")

    return method


@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
def test_the_lake_follows_the_shop(sandbox: Sandbox, prefix: Prefix, file_format: str) -> None:
    suffix = {"parquet": ".parquet", "jsonl": ".jsonl.gz"}[file_format]
    first = prefix.run(file_format=file_format)
    assert (first["seq"], first["inserted"], first["tickets"], first["scan"]) == (1, 600, 600, "full")
    ids = sandbox.shop.ids()
    (new,) = sandbox.add_tickets(1, subject="New")
    sandbox.update_ticket(ids[5], subject="Changed", isClosed=True)
    sandbox.delete_ticket(ids[7])
    second = prefix.run(file_format=file_format)
    assert [second[name] for name in ("seq", "inserted", "updated", "deleted", "tickets")] == [
        2,
        1,
        1,
        1,
        600,
    ]
    rows = {row["op"]: row for row in prefix.read(second["uri"].split("shop_nl/")[1])}
    assert (rows["I"]["id"], rows["U"]["id"], rows["D"]["id"]) == (new, ids[5], ids[7])
    assert (rows["U"]["subject"], rows["D"]["subject"], rows["D"]["_seq"]) == ("Changed", None, 2)
    current = prefix.current(suffix)
    assert set(current) == set(sandbox.shop.ids())
    assert (current[ids[5]]["is_closed"], current[ids[5]]["_seq"], current[ids[6]]["_seq"]) == (True, 2, 1)
    third = prefix.run(file_format=file_format)
    assert [third[name] for name in ("seq", "uri", "inserted", "updated", "deleted")] == [
        2,
        second["uri"],
        0,
        0,
        0,
    ]
    assert third["complete_as_of"] > second["complete_as_of"]
    assert len(keys(prefix.server, prefix.bucket)) == 2 + 1 + 2 + 1  # changes, current, _state, status.json


def test_recent_scans_take_few_calls(sandbox: Sandbox, prefix: Prefix) -> None:
    recent: dict[str, Any] = {"scan": "auto", "recent": datetime.now(UTC) - datetime(2026, 5, 20, tzinfo=UTC)}
    full = prefix.run(**recent)
    sandbox.update_ticket(sandbox.shop.ids()[-1], subject="Changed")
    sandbox.delete_ticket(sandbox.shop.ids()[-2])
    result = prefix.run(**recent)
    assert (result["scan"], result["updated"], result["deleted"]) == ("recent", 1, 1)
    assert result["calls"] <= 6
    assert result["complete_as_of"] == full["complete_as_of"] < result["recent_as_of"]


def test_a_killed_try_resumes(sandbox: Sandbox, prefix: Prefix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 2)
    undisturbed = prefix.run()["calls"]
    sandbox.update_ticket(sandbox.shop.ids()[-1], subject="Changed")
    context = prefix.context()
    sandbox.reset_calls()
    with monkeypatch.context() as patch:
        patch.setattr(ChangeLog, "append", fail_at(1))
        with pytest.raises(OSError, match="worker"):
            prefix.run(context)
    assert any("/_staging/" in key for key in keys(prefix.server, prefix.bucket))
    result = prefix.run(context)
    assert result["updated"] == 1
    assert len(sandbox.calls) <= undisturbed + 3
    assert not context["task_state_store"]
    assert not any("/_staging/" in key for key in keys(prefix.server, prefix.bucket))


def test_a_failed_task_that_is_cleared_reads_the_shop_as_it_is_now(
    sandbox: Sandbox, prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 1)
    prefix.run()
    (new,) = sandbox.add_tickets(1, subject="I am Jane Doe")
    failed = prefix.context()
    with monkeypatch.context() as patch:
        patch.setattr(ChangeLog, "append", fail_at(1))
        with pytest.raises(OSError, match="worker"):
            prefix.run(failed)
    sandbox.delete_ticket(new)
    later = prefix.run()
    failed["ti"] = Instance(failed["ti"].run_id, max_tries=9)
    cleared = prefix.run(failed)
    assert (cleared["inserted"], new in prefix.current()) == (0, False)
    assert cleared["complete_as_of"] > later["complete_as_of"]
    assert not any("/_staging/" in key for key in keys(prefix.server, prefix.bucket))


def test_a_task_that_is_asked_to_end_stops_at_the_next_call_and_is_resumed(
    sandbox: Sandbox, prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 1)
    context, operator, take = prefix.context(), prefix.task(), scan_module.Scan._take
    calls_then = []

    def take_and_kill(*arguments: Any) -> None:
        take(*arguments)
        operator.on_kill()
        calls_then.append(len(sandbox.calls))

    with monkeypatch.context() as patch:
        patch.setattr(scan_module.Scan, "_take", take_and_kill)
        with pytest.raises(Cancelled):
            operator.execute(context)  # type: ignore[arg-type]  # a test's context
    assert calls_then == [len(sandbox.calls)]
    assert any("/_staging/" in key for key in keys(prefix.server, prefix.bucket))
    assert prefix.run(context)["inserted"] == 600
    assert not any("/_staging/" in key for key in keys(prefix.server, prefix.bucket))


@pytest.mark.parametrize("keeps", [True, False], ids=["with task state", "without"])
def test_a_try_that_ended_after_its_commit_is_not_repeated(
    sandbox: Sandbox, prefix: Prefix, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    context = prefix.context()
    if not keeps:
        del context["task_state_store"]
    with monkeypatch.context() as patch:
        patch.setattr(ChangeLog, "write_current", fail_at(1))
        with pytest.raises(OSError, match="worker"):
            prefix.run(context)
    sandbox.reset_calls()
    result = prefix.run(context)
    assert (result["seq"], result["inserted"]) == (1, 600)
    assert not sandbox.calls
    assert len(prefix.current()) == 600
    # Clearing the task means to look again.
    context["ti"].max_tries += 1
    assert prefix.run(context)["inserted"] == 0
    assert sandbox.calls


def test_it_waits_for_quota_without_a_worker(
    prefix: Prefix, monkeypatch: pytest.MonkeyPatch, log: Callable[[], str]
) -> None:
    config = ShopConfig(
        tickets=1500, limits=(3, *NO_LIMITS[1:]), window_seconds=(10.0, 3600.0, 86400.0), burst_limit=0
    )
    with Sandbox(config) as shop:
        connection = json.loads(shop.airflow_connection())
        connection["extra"] = {**json.loads(connection.get("extra") or "{}"), "max_wait": 0}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        context, state, deferrals = prefix.context(), None, 0
        while True:
            task = prefix.task(deferrable=True)
            try:
                resumed: dict[str, Any] = state or {"state": None}
                result = task.execute_complete(context, None, **resumed)  # type: ignore[arg-type]
                break
            except TaskDeferred as deferral:
                state = json.loads(json.dumps(deferral.kwargs))
                deferrals += 1
                time.sleep(2)
        assert len(DEFERRED.findall(log())) == deferrals > 0
        assert result["inserted"] == 1500
        assert set(prefix.current()) == set(shop.shop.ids())
        # What was read before a deferral was not read again.
        assert len(shop.calls) < 30


def test_conversations_of_changed_tickets(sandbox: Sandbox, prefix: Prefix) -> None:
    first = prefix.run(include_messages="changed")
    assert first["calls"] < 20
    assert {row["messages"] for row in prefix.current().values()} == {None}
    ids = sandbox.shop.ids()
    for ticket_id in ids[:3]:
        sandbox.add_message(ticket_id, "Any news?")
        sandbox.update_ticket(ticket_id, isAnswered=True)
    second = prefix.run(include_messages="changed")
    assert second["updated"] == 3
    assert second["calls"] <= first["calls"] + 3 * 2
    sandbox.update_ticket(ids[9], memo="x")
    prefix.run(include_messages="changed")
    current = prefix.current()
    assert current[ids[0]]["messages"][-1]["message"] == "Any news?"
    assert current[ids[8]]["messages"] is None


def test_hashed_and_excluded_fields(
    sandbox: Sandbox, prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_LIGHTSPEED_HASH_SECRET", "a key of enough characters")
    options: dict[str, Any] = {"exclude_fields": ["subject", "memo"], "hash_fields": ["customer"]}
    prefix.run(**options)
    row = next(iter(prefix.current().values()))
    assert "subject" not in row
    assert len(row["customer_id"]) == 64
    assert prefix.run(**options)["updated"] == 0
    for change in ({"exclude_fields": ["memo"]}, {"hash_fields": []}, {"include_messages": "changed"}):
        with pytest.raises(LightspeedTaskFailed, match="Take another prefix"):
            prefix.run(**(options | change))
    monkeypatch.setenv("AIRFLOW_VAR_LIGHTSPEED_HASH_SECRET", "another key of enough characters")
    with pytest.raises(LightspeedTaskFailed, match="another key"):
        prefix.run(**options)


def raw_of_state(prefix: Prefix) -> dict[int, int]:
    key = "lightspeed/shop_nl/_state/known"
    body = prefix.server.client().get_object(Bucket=prefix.bucket, Key=key)["Body"].read()
    read = Known.read(BytesIO(body))
    assert read
    return dict(zip(read[0].ids, read[0].raw, strict=True))


@pytest.mark.parametrize("redaction", [{}, {"hash_fields": ["customer"]}, {"exclude_fields": ["customer"]}])
def test_what_is_left_out_cannot_be_found_by_trying(
    sandbox: Sandbox, prefix: Prefix, monkeypatch: pytest.MonkeyPatch, redaction: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_LIGHTSPEED_HASH_SECRET", "a key of enough characters")
    prefix.run(**redaction)
    known, guess = raw_of_state(prefix), raw_fingerprints()
    guessed = {ticket["id"]: guess(ticket) for ticket in LightspeedHook().iter_tickets()}
    assert known.keys() == guessed.keys()
    assert known == guessed if not redaction else set(known.values()).isdisjoint(guessed.values())
    prefix.run(**redaction)
    assert raw_of_state(prefix) == known


def test_another_secret_is_no_change_of_a_ticket(prefix: Prefix, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(secret: str) -> dict[int, int]:
        config = ShopConfig(
            tickets=30, end=datetime(2026, 6, 1, tzinfo=UTC), limits=NO_LIMITS, burst_limit=0, secret=secret
        )
        with Sandbox(config) as shop:
            monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
            result = prefix.run(exclude_fields=["memo", "extra"])
        assert (result["seq"], result["updated"], result["tickets"]) == (1, 0, 30)
        return raw_of_state(prefix)

    first, second = run("secret of yesterday"), run("secret of today")
    assert all(first[ticket_id] != second[ticket_id] for ticket_id in first)


@pytest.mark.parametrize("killed", [False, True])
def test_a_malformed_ticket_keeps_its_last_good_row(
    sandbox: Sandbox, prefix: Prefix, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 1)
    quarantine: dict[str, Any] = {"on_malformed": "quarantine"}
    assert prefix.run(**quarantine)["rejected"] == 0
    ids = sandbox.shop.ids()
    sandbox.configure(unreadable={ids[5]: "surrogate", ids[6]: "bytes"})
    sandbox.update_ticket(ids[7], subject="Changed")
    with pytest.raises(LightspeedMalformedResponseError, match=rf"ticket ({ids[5]}|{ids[6]})"):
        prefix.run()
    context = prefix.context()
    if killed:
        with monkeypatch.context() as patch:
            patch.setattr(ChangeLog, "append", fail_at(1))
            with pytest.raises(OSError, match="worker"):
                prefix.run(context, **quarantine)
    result = prefix.run(context, **quarantine)
    assert [result[name] for name in ("updated", "deleted", "rejected", "tickets")] == [1, 0, 2, 600]
    assert {ids[5], ids[6]} <= prefix.current().keys()
    body = prefix.server.client().get_object(
        Bucket=prefix.bucket, Key="lightspeed/_rejected/shop_nl/changes.jsonl"
    )["Body"]
    assert sorted(json.loads(line)["id"] for line in body.read().splitlines()) == ids[5:7]


def test_old_change_files_are_deleted(
    sandbox: Sandbox, prefix: Prefix, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=3)

    for _ in range(3):
        sandbox.update_ticket(sandbox.shop.ids()[0], subject=f"Where is my order? {prefix.runs}")
        prefix.run(compact=timedelta(days=2))
    assert sum("/changes/" in key for key in keys(prefix.server, prefix.bucket)) == 3
    monkeypatch.setattr(scan_module, "datetime", Later)
    assert prefix.run(compact=timedelta(days=2))["seq"] == 3
    (left,) = [key for key in keys(prefix.server, prefix.bucket) if "/changes/" in key]
    assert left.endswith("/00000000000000000003.parquet")
    with pytest.raises(LightspeedChangesLostError, match="starts over from current"):
        list(read_changes(prefix.uri, after=1))
    assert set(prefix.current()) == set(sandbox.shop.ids())


@pytest.mark.parametrize(
    ("rule", "arguments", "says", "remedy"),
    [
        *REFUSED,
        (no_conditional_writes, {}, "has no conditional writes", None),
    ],
)
def test_what_the_store_refuses_is_found_before_the_first_call(
    sandbox: Sandbox,
    prefix: Prefix,
    monkeypatch: pytest.MonkeyPatch,
    rule: Rule,
    arguments: dict[str, Any],
    says: str,
    remedy: dict[str, Any] | None,
) -> None:
    with proxy(prefix.server.endpoint, rule) as address:
        connection = json.loads(prefix.server.airflow_connection())
        extra = connection["extra"]
        extra = json.loads(extra) if isinstance(extra, str) else extra
        connection["extra"] = {**extra, "endpoint_url": address}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        with pytest.raises(LightspeedTaskFailed, match=f"{says}.*No ticket was fetched"):
            prefix.run(**arguments)
        assert not sandbox.calls
        if remedy is not None:
            assert prefix.run(**remedy)["inserted"] == 600


@pytest.mark.parametrize("is_done", [True, False], ids=["done", "not-done"])
@pytest.mark.parametrize("call", ["GET", "PUT", "HEAD"])
@pytest.mark.parametrize("place", ["/changes/", "/current/", "/status.json", "/_state/known", "_staging"])
def test_a_page_of_a_gateway_is_no_response_of_s3(
    sandbox: Sandbox, prefix: Prefix, monkeypatch: pytest.MonkeyPatch, place: str, call: str, *, is_done: bool
) -> None:
    """Whatever is answered so, no run says that it is done when it is not, and the next one mends all."""
    prefix.run()
    sandbox.update_ticket(sandbox.shop.ids()[3], subject="Changed")
    sandbox.delete_ticket(sandbox.shop.ids()[5])
    page = b"<html><body><h1>Sign in to the network</h1></body></html>"

    def odd(method: str, path: str, *_: Any) -> tuple[int, bytes] | None:
        return (200, page) if method == call and place in path and "list-type" not in path else None

    task = prefix.context()
    with proxy(prefix.server.endpoint, (lambda *_: None) if is_done else odd, instead=odd) as address:
        connection = json.loads(prefix.server.airflow_connection())
        connection["extra"] |= {"endpoint_url": address}
        with monkeypatch.context() as patch:
            patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
            patch.setenv("AWS_MAX_ATTEMPTS", "2")
            try:
                prefix.run(task)
            except (LightspeedStorageError, LightspeedStaleChangesError):
                prefix_is_right = False
            else:
                prefix_is_right = True
    if not prefix_is_right:
        prefix.run(task)
    assert {key: row["subject"] for key, row in prefix.current().items()} == {
        key: ticket["subject"] for key, ticket in sandbox.shop.tickets().items()
    }
    assert [row["op"] for row in read_changes(prefix.uri, after=1)] == ["U", "D"]


class Events:
    """Outlet events of a context, as far as the one alias has them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []

    def __getitem__(self, outlet: Any) -> Events:
        return self

    def add(self, asset: Any, extra: Any) -> None:
        self.sent.append((asset.uri, extra["seq"]))


def _sent(prefix: Prefix, context: dict[str, Any] | None = None) -> list[Any]:
    events = Events()
    prefix.run(
        {**(context or prefix.context()), "outlet_events": events}, outlets=[ticket_changes_asset("shop_nl")]
    )
    return events.sent


def test_an_event_only_when_something_changed(sandbox: Sandbox, prefix: Prefix) -> None:
    first = prefix.context()
    assert _sent(prefix, first) == [("lightspeed://shop_nl/tickets/changes", 1)]
    assert _sent(prefix) == []
    # One that was killed after it had noted the event, and before Airflow sent it, sends it in its next try.
    assert _sent(prefix, first) == [("lightspeed://shop_nl/tickets/changes", 1)]
    # If that try never comes, the event comes with the next change.
    assert _sent(prefix) == []
    sandbox.update_ticket(sandbox.shop.ids()[0], subject="Changed")
    prefix.run()  # without outlets, so without an event
    assert _sent(prefix) == [("lightspeed://shop_nl/tickets/changes", 2)]


def test_changes_are_read_in_order(sandbox: Sandbox, prefix: Prefix) -> None:
    prefix.run()
    for ticket_id in sandbox.shop.ids()[:3]:
        sandbox.update_ticket(ticket_id, subject="Changed")
        prefix.run()
    assert [row["_seq"] for row in read_changes(prefix.uri, after=1)] == [2, 3, 4]
    assert sum(1 for _ in read_changes(prefix.uri)) == 603
    assert list(read_changes(prefix.uri, after=4)) == []
    name = "lightspeed/shop_nl/changes/block=00000000000000000/00000000000000000003.parquet"
    prefix.server.client().delete_object(Bucket=prefix.bucket, Key=name)
    with pytest.raises(LightspeedChangesLostError, match=r"00003.parquet is missing"):
        list(read_changes(prefix.uri, after=1))


class TestCheck:
    def check(self, prefix: Prefix, **arguments: Any) -> dict[str, Any]:
        context: Any = {}
        return CheckTicketChangesOperator(task_id="check", s3_prefix=prefix.uri, **arguments).execute(context)

    def test_all_is_well(self, sandbox: Sandbox, prefix: Prefix, log: Callable[[], str]) -> None:
        prefix.run()
        assert "Full scan: reading all tickets (0 known tickets)" in log()
        sandbox.reset_calls()
        result = self.check(prefix)
        assert (result["seq"], result["tickets"], result["shop_tickets"]) == (1, 600, 600)
        assert "agree up to change file 1: 600 tickets, complete as of 20" in log()
        assert len(sandbox.calls) == 1
        sandbox.add_tickets(3)
        assert self.check(prefix)["shop_tickets"] == 603

    def test_it_is_too_old(self, sandbox: Sandbox, prefix: Prefix) -> None:
        prefix.run()
        with pytest.raises(LightspeedStaleChangesError, match=r"complete_as_of is .* ago"):
            self.check(prefix, max_age=timedelta(seconds=0))

    def test_what_does_not_belong_together(
        self, sandbox: Sandbox, prefix: Prefix, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prefix.run()
        sandbox.update_ticket(sandbox.shop.ids()[0], subject="Changed")
        with monkeypatch.context() as patch:
            patch.setattr(ChangeLog, "write_current", fail_at(1))
            with pytest.raises(OSError, match="worker"):
                prefix.run()
        with pytest.raises(
            LightspeedStaleChangesError, match="ends with change file 2, current goes up to 1"
        ):
            self.check(prefix)
        prefix.run()
        assert self.check(prefix)["seq"] == 2

    def test_there_is_nothing(self, sandbox: Sandbox, prefix: Prefix) -> None:
        with pytest.raises(LightspeedTaskFailed, match="there is no log of changes below"):
            self.check(prefix)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"s3_prefix": ""}, "s3_prefix is empty"),
        ({"s3_prefix": "s3://bucket/"}, "needs a folder in the bucket"),
        ({"s3_prefix": "folder"}, "needs s3_bucket"),
        ({"scan": "everything"}, "scan must be"),
        ({"file_format": "csv"}, "file_format must be"),
        ({"include_messages": True}, "include_messages must be"),
        ({"recent": 14}, "recent must be a timedelta"),
        ({"max_deleted": 2}, "max_deleted must be a share"),
        ({"confirm_deleted": -1}, "confirm_deleted must be"),
        ({"on_malformed": "skip"}, "on_malformed must be"),
        ({"compact": timedelta(hours=1)}, "compact must be a timedelta of at least a day"),
        ({"compact": 30}, "compact must be a timedelta of at least a day"),
        ({"accept_deleted": "many"}, "accept_deleted must be the number"),
        ({"exclude_fields": ["created_at"]}, "recent scans need createdAt"),
    ],
)
def test_wrong_arguments(sandbox: Sandbox, prefix: Prefix, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(LightspeedTaskFailed, match=words):
        prefix.run(**arguments)
    assert not sandbox.calls
