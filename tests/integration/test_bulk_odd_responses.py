"""Bulk changes at a shop that stores texts in another form, or answers a PUT with less than the ticket."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import LightspeedMalformedResponseError
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator, UpdateTicketsOperator
from airflow_provider_lightspeed.s3.objects import S3Objects
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from tests.integration.bulk_runs import Store, run

_OLD = "2026-06-01T00:00:00+00:00"


class Killed(BaseException):
    """The worker is gone."""


def stores(monkeypatch: pytest.MonkeyPatch, form: Callable[[str], str], *, dies: bool = False) -> None:
    """Let the shop store texts in another form; then the worker may die before it reads a response."""
    real_call = LightspeedClient.call

    def call(client: LightspeedClient, request: Any, **options: Any) -> Any:
        if request.method != "PUT":
            return real_call(client, request, **options)
        texts = {
            name: form(value) if isinstance(value, str) else value
            for name, value in request.body["ticket"].items()
        }
        response = real_call(client, replace(request, body={"ticket": texts}), **options)
        if dies:
            raise Killed
        return response

    monkeypatch.setattr(LightspeedClient, "call", call)


@pytest.mark.parametrize(
    "form",
    [
        str.strip,
        html.escape,
        lambda text: html.escape(text, quote=False).strip(),
        lambda text: text.strip().replace("\n", "\r\n"),
        lambda text: "\n".join(map(str.strip, text.splitlines())).strip(),
    ],
)
def test_the_same_update_is_not_repeated_every_night(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, form: Callable[[str], str]
) -> None:
    ids = sandbox.add_tickets(3, createdAt=_OLD, isClosed=False)
    stores(monkeypatch, form)

    def update() -> dict[str, Any]:
        texts = {"subject": " Jack & Jill's <order> ", "memo": "First\nsecond  \n"}
        return run(UpdateTicketsOperator(task_id="update", ticket_ids=ids, **texts))

    assert update()["updated"] == ids
    sandbox.reset()
    assert update()["already"] == ids
    assert not sandbox.count_calls(method="PUT")


def test_another_text_is_written(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(2, createdAt=_OLD, subject="Late")
    for subject in ("late", "Late!", "La te", ""):
        operator = UpdateTicketsOperator(task_id="update", ticket_ids=ids, subject=subject)
        assert run(operator)["updated"] == ids


@pytest.mark.parametrize("theirs", [{}, {"memo": "Wait!"}])
def test_a_killed_tries_own_change_is_not_somebody_elses(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, theirs: dict[str, Any]
) -> None:
    ids = sandbox.add_tickets(1, createdAt=_OLD, subject="Late")
    store = Store()
    operator = UpdateTicketsOperator(task_id="update", ticket_ids=ids, subject="A subject that is too long")
    with monkeypatch.context() as patch:
        stores(patch, lambda text: text[:11], dies=True)
        with pytest.raises(Killed):
            run(operator, store)
    assert sandbox.shop.ticket(ids[0])["subject"] == "A subject t"
    if theirs:
        sandbox.update_ticket(ids[0], **theirs)
    stores(monkeypatch, lambda text: text[:11])
    outcome = run(operator, store)
    assert (outcome["updated"], outcome["changed"]) == (([], ids) if theirs else (ids, []))


def test_a_put_answered_without_the_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    objects: dict[str, bytes] = {}
    monkeypatch.setattr(S3Objects, "write", lambda _, uri, data: objects.update({uri: data}))
    monkeypatch.setattr(S3Objects, "check_writable", lambda *_: None)
    monkeypatch.setattr(S3Objects, "read", lambda _, uri: objects[uri])
    receipt = "s3://bucket/receipt.jsonl"
    with Sandbox(ShopConfig(tickets=0, limits=NO_LIMITS, put_204=True)) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        ids = shop.add_tickets(3, createdAt=_OLD, isClosed=False, isTodo=False)
        close = CloseTicketsOperator(task_id="close", ticket_ids=ids, receipt_s3_key=receipt)
        assert run(close)["closed"] == ids
        assert shop.count_calls(method="PUT") == 3
        # The receipt knows the version after the change: so the undo does not take it for a change by another program.
        undo = UpdateTicketsOperator(task_id="undo", ticket_ids=receipt, is_closed=False)
        assert run(undo)["updated"] == ids
        assert not any(shop.shop.ticket(key)["isClosed"] for key in ids)


def test_mapped_instances_that_share_a_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    objects: dict[str, bytes] = {}
    monkeypatch.setattr(S3Objects, "write", lambda _, uri, data: objects.update({uri: data}))
    monkeypatch.setattr(S3Objects, "check_writable", lambda *_: None)
    monkeypatch.setattr(S3Objects, "read", lambda _, uri: objects[uri])
    config = ShopConfig(tickets=0, limits=NO_LIMITS)
    with Sandbox(config, ShopConfig(key="other" * 6, tickets=0, limits=NO_LIMITS)) as sandbox:
        closed: dict[str, Any] = {}
        for name, shop in zip("ab", sandbox.backends, strict=True):
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", sandbox.airflow_connection(shop))
            ids = shop.add_tickets(2, createdAt=_OLD, isClosed=False)
            shared: dict[str, Any] = {
                "lightspeed_conn_id": name,
                "receipt_s3_key": "s3://bucket/closed.jsonl",
            }
            closed[name] = run(CloseTicketsOperator(task_id="close", ticket_ids=ids, **shared))

        def undo(name: str, targets: Any) -> Any:
            operator = UpdateTicketsOperator(
                task_id="undo", ticket_ids=targets, is_closed=False, lightspeed_conn_id=name
            )
            return run(operator)["updated"]

        for targets, why in (
            (closed["a"], "is not the receipt of this result"),
            ("s3://bucket/closed.jsonl", "a receipt of another shop"),
        ):
            with pytest.raises(LightspeedTaskFailed, match=why):
                undo("a", targets)
        assert undo("b", closed["b"]) == closed["b"]["closed"]


@pytest.mark.parametrize("switches", ["text", "number", "digit"])
def test_open_tickets_are_closed_however_the_shop_writes_switches(
    monkeypatch: pytest.MonkeyPatch, switches: Any
) -> None:
    with Sandbox(ShopConfig(tickets=0, limits=NO_LIMITS, switches=switches)) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        ids = shop.add_tickets(2, createdAt=_OLD, isClosed=False, isTodo=False)
        closed = shop.add_tickets(1, createdAt=_OLD, isClosed=True)
        outcome = run(CloseTicketsOperator(task_id="close", ticket_ids=[*ids, *closed]))
        assert (outcome["closed"], outcome["already"]) == (ids, closed)
        assert shop.count_calls(method="PUT") == 2
        assert all(shop.shop.ticket(key)["isClosed"] for key in ids)


def test_a_native_template_makes_no_number_of_a_text(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(1, createdAt=_OLD)
    values: Any = {"subject": 12345, "memo": True}  # as native rendering leaves them
    assert run(UpdateTicketsOperator(task_id="update", ticket_ids=ids, **values))["updated"] == ids
    ticket = sandbox.shop.ticket(ids[0])
    assert (ticket["subject"], ticket["memo"]) == ("12345", "True")


@pytest.mark.parametrize("number", [3, 60])
def test_a_response_about_another_ticket_fails_that_ticket(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    # A few tickets are read one by one, many in pages of the list: then it is the PUT that shows the other ticket.
    asked, other = 2547, 2600
    with Sandbox(ShopConfig(tickets=100, limits=NO_LIMITS, burst_limit=0, aliases={asked: other})) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        monkeypatch.setattr("airflow_provider_lightspeed.api.retry.FIRST_BACKOFF", 0.001)
        ids = list(range(2546, 2546 + number))
        shop.update_ticket(asked, isClosed=False)
        for key in ids:
            if key != asked:
                shop.update_ticket(key, isClosed=False)
        operator = CloseTicketsOperator(task_id="close", ticket_ids=ids, on_failure="warn")
        outcome = run(operator)
        assert outcome["closed"] == [key for key in ids if key != asked]
        assert str(asked) in outcome["failed"][str(asked)]
        assert str(other) in outcome["failed"][str(asked)]
        assert not shop.shop.ticket(asked)["isClosed"]
        paths = {call.path.rpartition("/")[2] for call in shop.calls if call.method == "PUT"}
        assert paths <= {f"{key}.json" for key in ids}


@pytest.mark.parametrize("argument", ["ticket_ids", "receipt_s3_key"])
@pytest.mark.parametrize("address", [" s3://bucket/key", "s3://bucket/key\n", "s3://bucket/ key"])
def test_blanks_around_an_address_are_refused(sandbox: Sandbox, argument: str, address: str) -> None:
    operator = CloseTicketsOperator(task_id="close", **({"ticket_ids": [1]} | {argument: address}))
    with pytest.raises(LightspeedTaskFailed):
        run(operator)
    assert not sandbox.calls


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"encrypt": True}, {"ServerSideEncryption": "AES256"}),
        ({"kms_key_id": "a-key"}, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "a-key"}),
        ({"acl_policy": "bucket-owner-full-control"}, {"ACL": "bucket-owner-full-control"}),
        ({}, {}),
    ],
)
def test_a_receipt_is_written_as_the_bucket_demands(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], expected: dict[str, str]
) -> None:
    written: list[dict[str, Any]] = []

    def put_object(**options: Any) -> dict[str, str]:
        written.append(options)
        return {"ETag": '"1"'}

    client = SimpleNamespace(put_object=put_object, delete_object=lambda **_: None)
    monkeypatch.setattr("airflow_provider_lightspeed.s3.objects.connect", lambda _: client)
    ids = sandbox.add_tickets(1, createdAt=_OLD, isClosed=False)
    run(CloseTicketsOperator(task_id="close", ticket_ids=ids, receipt_s3_key="s3://bucket/key", **arguments))
    # Before the first call, with the plan, and at the end.
    assert [options["Key"] for options in written] == ["_staging/probe.jsonl", "key", "key"]
    names = {"ServerSideEncryption", "SSEKMSKeyId", "ACL", "ContentType"}
    expected |= {"ContentType": "application/x-ndjson"}
    assert [{key: options[key] for key in names & options.keys()} for options in written] == [expected] * 3


@contextmanager
def _open_shop_with(unreadable: dict[int, Any], monkeypatch: pytest.MonkeyPatch) -> Generator[Sandbox]:
    """Yield a shop with 400 open tickets."""
    config = ShopConfig(tickets=400, limits=NO_LIMITS, burst_limit=0, id_step=1, unreadable=unreadable)
    monkeypatch.setattr("airflow_provider_lightspeed.api.retry.FIRST_BACKOFF", 0.001)
    with Sandbox(config) as shop:
        connection = {**json.loads(shop.airflow_connection()), "extra": {"calls_per_second": 0}}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        for ticket_id in shop.shop.ids():
            shop.update_ticket(ticket_id, isClosed=False, isTodo=False)
        yield shop


@pytest.mark.parametrize("kind", ["surrogate", "bytes", "no-date"])
@pytest.mark.parametrize("number", [4, 10, 300])
@pytest.mark.parametrize("named", [False, True])
def test_a_malformed_ticket_fails_alone(
    monkeypatch: pytest.MonkeyPatch, kind: str, number: int, named: bool
) -> None:
    bad = 2549 if named else 2900
    with _open_shop_with({bad: kind}, monkeypatch) as shop:
        ids = shop.shop.ids()[:number]
        assert (bad in ids) is named
        outcome = run(CloseTicketsOperator(task_id="close", ticket_ids=ids, on_failure="warn"))
        # A response with one ticket is readable without its createdAt.
        failed = [bad] if named and kind != "no-date" else []
        assert [*outcome["failed"]] == [str(key) for key in failed]
        assert outcome["closed"] == [key for key in ids if key not in failed]


@pytest.mark.parametrize("max_share", [0.999, 1.0])
@pytest.mark.parametrize("killed", [False, True])
def test_criteria_leave_out_malformed_tickets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, max_share: float, killed: bool
) -> None:
    monkeypatch.setattr("airflow_provider_lightspeed.bulk.plan._CALLS_AT_RISK", 1)
    bad = {2560: "surrogate", 2570: "bytes", 2900: "no-date"}
    with _open_shop_with(bad, monkeypatch) as shop:
        ids, store = shop.shop.ids(), Store()
        # Open tickets are counted without those of which the state is not known.
        shop.update_ticket(ids[0], isTodo=True)
        state = {"dies": killed}

        def accept(ticket: dict[str, Any]) -> bool:
            if state["dies"] and ticket["id"] in ids[-100:]:
                store.dead = True
                raise Killed
            return True

        def close() -> dict[str, Any]:
            operator = CloseTicketsOperator(task_id="close", where=accept, max_share=max_share)
            return run(operator, store)

        if killed:
            with pytest.raises(Killed):
                close()
            state["dies"] = store.dead = False
        caplog.clear()
        assert close()["closed"] == [key for key in ids[1:] if key not in bad]
        warnings = [
            record.message
            for record in caplog.records
            if "malformed tickets out of the plan" in record.message
        ]
        assert len(warnings) == 1
        assert "3 malformed tickets" in warnings[0]
        assert all(str(key) in warnings[0] for key in bad)
        assert "396 of 397 open tickets" in caplog.text


def test_a_shop_that_shows_mostly_malformed_tickets_is_not_taken_for_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _open_shop_with(dict.fromkeys(range(2500, 2850), "surrogate"), monkeypatch) as shop:
        with pytest.raises(
            LightspeedMalformedResponseError, match=r"304 of 400 tickets .*2849.*No ticket was changed"
        ):
            run(CloseTicketsOperator(task_id="close", where=bool, max_share=1.0))
        assert not shop.count_calls(method="PUT")
