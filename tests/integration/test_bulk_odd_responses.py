"""Bulk changes at a shop that stores texts in another form, or answers a PUT with less than the ticket."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator, UpdateTicketsOperator
from airflow_provider_lightspeed.s3.client import S3Objects
from airflow_provider_lightspeed.sandbox import Sandbox
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


def test_a_put_answered_without_the_ticket(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = sandbox.add_tickets(3, createdAt=_OLD, isClosed=False, isTodo=False)
    objects: dict[str, bytes] = {}
    monkeypatch.setattr(S3Objects, "write", lambda _, uri, data: objects.update({uri: data}))
    monkeypatch.setattr(S3Objects, "read", lambda _, uri: objects[uri])
    real_call = LightspeedClient.call

    def call(client: LightspeedClient, request: Any, **options: Any) -> Any:
        response = real_call(client, request, **options)
        return None if request.method == "PUT" else response  # as for a 204

    monkeypatch.setattr(LightspeedClient, "call", call)
    receipt = "s3://bucket/receipt.jsonl"
    assert run(CloseTicketsOperator(task_id="close", ticket_ids=ids, receipt_s3_key=receipt))["closed"] == ids
    assert sandbox.count_calls(method="PUT") == 3
    # The receipt knows the version after the change: so the undo does not take it for somebody else's.
    assert run(UpdateTicketsOperator(task_id="undo", ticket_ids=receipt, is_closed=False))["updated"] == ids
    assert not any(sandbox.shop.ticket(key)["isClosed"] for key in ids)


def test_a_native_template_makes_no_number_of_a_text(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(1, createdAt=_OLD)
    values: Any = {"subject": 12345, "memo": True}  # as native rendering leaves them
    assert run(UpdateTicketsOperator(task_id="update", ticket_ids=ids, **values))["updated"] == ids
    ticket = sandbox.shop.ticket(ids[0])
    assert (ticket["subject"], ticket["memo"]) == ("12345", "True")
