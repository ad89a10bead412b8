"""Bulk changes at a shop that stores texts in another form, or answers a PUT with less than the ticket."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_lightspeed.api.client import LightspeedClient
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
        # The receipt knows the version after the change: so the undo does not take it for somebody else's.
        undo = UpdateTicketsOperator(task_id="undo", ticket_ids=receipt, is_closed=False)
        assert run(undo)["updated"] == ids
        assert not any(shop.shop.ticket(key)["isClosed"] for key in ids)


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
