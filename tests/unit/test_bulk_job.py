"""What a job tells, keeps, and reads back."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.paging import Cursor
from airflow_provider_lightspeed.api.paging.cursors import (
    NewestFirstCursor,
    OldestFirstCursor,
    ReaderState,
    SampleCursor,
    SliceCursor,
)
from airflow_provider_lightspeed.api.paging.timezone import FilterZone
from airflow_provider_lightspeed.bulk.job import Job, Result, Status
from airflow_provider_lightspeed.bulk.targets import parse_lines, read_targets
from airflow_provider_lightspeed.cancellation import Cancelled, CancelToken
from airflow_provider_lightspeed.transfers.progress import Progress

_SHOP = "0123456789abcdef"
_IDS = st.integers(1, 10**9)
_CHANGES = st.none() | st.just("") | st.just("2026-01-02T03:04:05+00:00")
_RESULTS = st.builds(Result, st.sampled_from(Status), _CHANGES, st.text(max_size=5))
_READER = ReaderState(FilterZone(timedelta(hours=2), "Europe/Amsterdam"), seen=7, longest=250, boundary=7)
_CURSORS: list[Cursor] = [
    OldestFirstCursor(_READER, last=7, inclusive=False),
    NewestFirstCursor(_READER, top=None, bottom=7, depth=3, drift=0.5),
    SampleCursor(_READER, 3, {"id": 7, "createdAt": "2026-01-02T03:04:05+00:00"}, [5, 9], True),
    SliceCursor(_READER, True, [9, None], 5, 7200, [[7, 5]], [7]),
]


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Jobs at any point of their way."""
    plan = draw(st.dictionaries(_IDS, _CHANGES, min_size=1, max_size=20))
    ids = st.sampled_from(sorted(plan))
    results = draw(st.dictionaries(ids, _RESULTS, max_size=20))
    in_flight = dict.fromkeys(draw(st.sets(ids)) - results.keys(), "a b")
    cursor = draw(st.none() | st.sampled_from(_CURSORS))
    return Job(
        request_hash="x",
        shop=_SHOP,
        plan=plan,
        planned=draw(st.booleans()),
        open_tickets=30,
        results=results,
        in_flight=in_flight,
        cursor=cursor,
        stalls=draw(st.integers(0, 3)),
        calls=12,
    )


@given(jobs())
def test_a_checkpoint_holds_all_of_a_job(job: Job) -> None:
    assert Job.from_checkpoint(json.loads(json.dumps(job.to_checkpoint()))) == job


@pytest.mark.parametrize("cursor", _CURSORS, ids=lambda cursor: type(cursor).__name__)
def test_progress_whose_cursor_cannot_be_read_starts_over(cursor: Cursor) -> None:
    """In exports and bulk changes."""
    job, export = (
        Job(request_hash="x", cursor=cursor),
        msgspec.structs.replace(Progress.start("x"), cursor=cursor),
    )
    assert Progress.from_json(export.to_json()) == export
    whole = msgspec.to_builtins(cursor)
    for broken in (
        *({name: value for name, value in whole.items() if name != lost} for lost in whole),
        *({**whole, name: {"x": "y"}} for name in whole),
        {**whole, "reader": {}},
        "7",
    ):
        assert Progress.from_json({**export.to_json(), "cursor": broken}) is None
        packed = json.dumps(msgspec.to_builtins(job) | {"cursor": broken}).encode()
        assert Job.from_checkpoint({"zlib": base64.b64encode(zlib.compress(packed)).decode()}) is None


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"{}}",
        b'{"plan": {"x": null}}',
        b'{"request_hash": "\xff"}',
        b'{"request_hash":' + b"[" * 10_000,
        b'{"results": 3}',
    ],
)
def test_a_checkpoint_of_another_version_is_as_none(packed: bytes) -> None:
    assert Job.from_checkpoint({"zlib": base64.b64encode(zlib.compress(packed)).decode()}) is None


@pytest.mark.parametrize(
    "saved",
    [{}, {"plan": []}, {"zlib": 3}, {"zlib": None}, {"zlib": "\u00ff"}, {"zlib": "x"}, {"zlib": "eJxL"}],
)
def test_a_checkpoint_that_is_none(saved: Any) -> None:
    assert Job.from_checkpoint(saved) is None


@given(jobs())
def test_each_ticket_is_told_once(job: Job) -> None:
    outcome = job.result("closed", dry_run=False)
    told = [number for key in ("closed", "already", "missing", "changed") for number in outcome[key]]
    told += [int(number) for number in outcome["failed"]]
    assert sorted([*told, *job.remaining]) == sorted(job.plan)
    lines = list(job.receipt("closed", dry_run=False))
    assert [line["id"] for line in lines] == list(job.plan)
    for line in lines:
        word = line["outcome"]
        assert word in {"pending", "unknown"} or line["id"] in map(int, outcome[word])


@given(jobs())
def test_a_receipt_stands_for_what_was_changed_or_may_be_or_is_to_be(job: Job) -> None:
    data = b"".join(json.dumps(line).encode() + b"\n" for line in job.receipt("closed", dry_run=False))
    read = parse_lines(data, "receipt", _SHOP)
    assert list(read) == [
        number
        for number in job.plan
        if number in job.in_flight or (number in job.results and job.results[number].status is Status.DONE)
    ]
    for number, change in read.items():
        result = job.results.get(number)
        if number in job.in_flight:
            assert change is None  # to be undone whenever it was changed
        else:
            assert change == (result.change if result and result.change is not None else job.plan[number])


@given(jobs())
def test_a_retry_takes_up_what_failed_and_what_is_left(job: Job) -> None:
    before, failed = job.remaining, job.ids_with(Status.FAILED)
    job.begin_try()
    assert sorted(job.remaining) == sorted([*before, *failed])


@pytest.mark.parametrize(
    "value",
    [
        [3, 1, 2, 1],
        ["3", "1", 2],
        "3,1,2",
        "[3, 1, 2]",
        {"ticket_ids": [3, 1, 2], "count": 3, "max_id": 3},
        "{'ticket_ids': [3, 1, 2]}",
        {"closed": [3, 1, 2], "already": [9], "failed": {}},
        {"updated": [3, 1, 2], "receipt": None},
        [{"closed": [3, 1]}, {"closed": [1, 2]}],
        iter((3, 1, 2)),
    ],
)
def test_ids_in_any_form(value: Any) -> None:
    assert list(read_targets(value, _no_file, _SHOP)) == [3, 1, 2]


@pytest.mark.parametrize(
    "data",
    [
        b"[3, 1, 2]",
        b"3\n1\n2\n",
        b'{"id": 3, "outcome": "planned", "updatedAt": null}\n{"id": 4, "outcome": "missing", "updatedAt": null}\n1\n2',
        gzip.compress(b'{"id": 3, "subject": "x"}\n{"id": 1}\n\n{"id": 2}\n', mtime=0),
    ],
)
@pytest.mark.parametrize(
    "value",
    ["s3://b/k", "S3://b/k", {"uri": "s3://b/k", "tickets": 3}, {"receipt": "s3://b/k", "closed": [1]}],
)
def test_files_in_any_form(value: Any, data: bytes) -> None:
    fetch = {"s3://b/k": data, "S3://b/k": data}.__getitem__
    assert read_targets(value, fetch, _SHOP) == dict.fromkeys([3, 1, 2])


def test_the_result_of_a_sensor_is_of_its_own_shop() -> None:
    result = {"ticket_ids": [3, 1], "count": 2, "since_id": 0, "max_id": 3, "shop": _SHOP}
    assert read_targets(result, _no_file, _SHOP) == dict.fromkeys([3, 1])
    assert read_targets(str(result), _no_file, _SHOP) == dict.fromkeys([3, 1])
    # Of a bulk change and of an export, which would be read otherwise:
    assert read_targets({"closed": [3], "dry_run": False, "shop": _SHOP}, _no_file, _SHOP) == {3: None}
    for other in (
        {"closed": [3], "dry_run": False, "shop": _SHOP},
        {"uri": "s3://b/k", "tickets": 3, "shop": _SHOP},
    ):
        with pytest.raises(LightspeedConfigurationError, match="result of another shop"):
            read_targets(other, _no_file, "another")
    for value in (result, str(result), [{**result, "shop": "another"}, result]):
        with pytest.raises(
            LightspeedConfigurationError, match=r"result of another shop.*No ticket.*mapped task group"
        ):
            read_targets(value, _no_file, "another" if value is not result else "a third")


def test_an_export_by_another_key_of_the_shop_is_read_by_its_uri() -> None:
    export = {"uri": "s3://b/k", "tickets": 2, "shop": _SHOP}
    with pytest.raises(
        LightspeedConfigurationError, match=r"different API keys .* or the uri of the export$"
    ):
        read_targets(export, _no_file, "f" * 16)
    assert read_targets(export["uri"], lambda _: b'{"id": 3}\n{"id": 1}', "f" * 16) == dict.fromkeys([3, 1])


@pytest.mark.parametrize("shop", ["nl", "shop_nl", "", None, 7])
def test_a_dict_of_your_own_may_name_its_shop_as_you_do(shop: Any) -> None:
    own = {"shop": shop, "ticket_ids": [3, 1]}
    for value in (own, str(own), [own]):
        assert read_targets(value, _no_file, _SHOP) == dict.fromkeys([3, 1])


@pytest.mark.parametrize("value", [b"123", bytearray(b"123"), memoryview(b"123"), {"closed": b"123"}])
def test_bytes_are_no_ids(value: Any) -> None:
    with pytest.raises(LightspeedConfigurationError, match="must be a list of ticket ids"):
        read_targets(value, _no_file, _SHOP)


def test_an_export_says_when_each_ticket_was_changed_last() -> None:
    line = b'{"id": 3, "updatedAt": "2026-01-01T01:00:00+01:00"}\n{"id": 4, "updatedAt": false, "shop": 7}'
    assert parse_lines(line, "x", _SHOP) == {3: "2026-01-01T00:00:00+00:00", 4: ""}


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"{}",
        b"[{}]",
        b'"x"',
        b"-1",
        b'{"id": 0}',
        b'{"id": 1, "subject": "caf\xe9"}',
        b'["\xff"]',
        "1\n2".encode("utf-16"),
        b"[" * 100_000,
        b"\x1f\x8bnot gzip",
        gzip.compress(b"1\n" * 99, mtime=0)[:-12],
        gzip.compress(b"1", mtime=0)[:10] + b"\x07" * 20,
    ],
)
def test_a_file_that_is_no_list_of_tickets(data: bytes) -> None:
    with pytest.raises(LightspeedConfigurationError):
        parse_lines(data, "s3://b/k", _SHOP)


_RECEIPT = b'{"id": 3, "shop": "%s", "updatedAt": null, "outcome": "%s"}\n'


@pytest.mark.parametrize("outcome", [b"closed", b"planned", b"missing"])
@pytest.mark.parametrize("value", ["s3://b/k", {"receipt": "s3://b/k", "closed": []}])
def test_a_receipt_of_another_shop_is_refused(value: Any, outcome: bytes) -> None:
    fetch = {"s3://b/k": _RECEIPT % (b"another", outcome)}.__getitem__
    with pytest.raises(
        LightspeedConfigurationError, match=r"^s3://b/k is a receipt of another shop.*map_index"
    ):
        read_targets(value, fetch, _SHOP)


@pytest.mark.parametrize("key", ["closed", "updated"])
def test_a_receipt_that_another_task_has_replaced_is_refused(key: str) -> None:
    # Also in the same shop, such as one mapped instance for each customer.
    fetch = {"s3://b/k": _RECEIPT % (_SHOP.encode(), b"closed")}.__getitem__
    with pytest.raises(LightspeedConfigurationError, match=r"^s3://b/k lacks 2 of the 3 tickets.*map_index"):
        read_targets({"receipt": "s3://b/k", key: [3, 4, "5"]}, fetch, _SHOP)
    assert read_targets({"receipt": "s3://b/k", key: []}, fetch, _SHOP) == {3: None}


def test_stop() -> None:
    stop = CancelToken()
    stop.sleep(0.01)
    stop.request()
    with pytest.raises(Cancelled):
        stop.sleep(100)


def _no_file(uri: str) -> bytes:
    raise AssertionError(uri)
