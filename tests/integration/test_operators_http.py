"""Changes of tickets, seen from the shop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from unittest.mock import ANY

import pytest

from airflow_provider_lightspeed._airflow import BaseOperator
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed, LightspeedTicketsFailed
from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    CreateTicketOperator,
    ReplyToTicketOperator,
    UpdateTicketsOperator,
)
from airflow_provider_lightspeed.sandbox import Fault, Sandbox
from tests.integration.bulk_runs import Xcom
from tests.integration.exporting import new_task


def _close(ticket_ids: Any, **arguments: Any) -> dict[str, Any]:
    result: dict[str, Any] = CloseTicketsOperator(
        task_id="close", ticket_ids=ticket_ids, **arguments
    ).execute({})
    return result


@pytest.fixture
def some(sandbox: Sandbox) -> list[int]:
    """An open ticket, a closed one, one that is deleted, and another open one."""
    ids = sandbox.add_tickets(4, isClosed=False)
    sandbox.update_ticket(ids[1], isClosed=True)
    sandbox.delete_ticket(ids[2])
    return ids


def test_close(sandbox: Sandbox, some: list[int]) -> None:
    before = sandbox.shop.tickets()
    outcome = _close({"ticket_ids": some, "count": 4})
    assert outcome == {
        "closed": [some[0], some[3]],
        "already": [some[1]],
        "missing": [some[2]],
        "changed": [],
        "failed": {},
        "dry_run": False,
        "calls": 6,
        "shop": ANY,
    }
    puts = [call for call in sandbox.calls if call.method == "PUT"]
    assert [json.loads(call.body) for call in puts] == [{"ticket": {"isClosed": True}}] * 2
    after = sandbox.shop.tickets()
    changed = {ticket_id for ticket_id, ticket in after.items() if ticket != before[ticket_id]}
    assert changed == {some[0], some[3]}
    assert _close(some)["already"] == [some[0], some[1], some[3]]


def test_dry_run(sandbox: Sandbox, some: list[int]) -> None:
    outcome = _close(some, dry_run=True)
    assert (outcome["closed"], outcome["dry_run"]) == ([some[0], some[3]], True)
    assert {call.method for call in sandbox.calls} == {"GET"}


def test_nothing_to_do(sandbox: Sandbox) -> None:
    assert _close([])["closed"] == []
    assert not sandbox.calls


@pytest.mark.parametrize(
    "ticket_ids", [None, "", [None], ["12a"], [2546, "x"], {"ids": []}, list(range(1, 1002))]
)
def test_bad_ids_touch_nothing(sandbox: Sandbox, ticket_ids: Any) -> None:
    with pytest.raises(LightspeedTaskFailed):
        _close(ticket_ids)
    assert not sandbox.calls


def test_one_failure_does_not_stop_the_others(sandbox: Sandbox, some: list[int]) -> None:
    sandbox.inject(Fault("500", method="PUT", path=str(some[0]), times=0))
    ti = Xcom()
    operator = CloseTicketsOperator(task_id="close", ticket_ids=some)
    with pytest.raises(LightspeedTicketsFailed, match="1 of 4 tickets failed") as caught:
        operator.execute({"ti": ti})  # type: ignore[typeddict-item]
    assert list(caught.value.failed) == [str(some[0])]
    assert ti.pushed["return_value"]["closed"] == [some[3]]
    assert list(ti.pushed["return_value"]["failed"]) == [str(some[0])]
    sandbox.reset()
    assert _close(some)["closed"] == [some[0]]


def test_wrong_secret_stops_at_once(
    sandbox: Sandbox, some: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {**json.loads(sandbox.airflow_connection()), "password": "wrong-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(wrong))
    with pytest.raises(LightspeedTaskFailed, match="401"):
        _close(some)
    assert len(sandbox.calls) == 1


def test_an_unknown_language_is_not_a_missing_ticket(
    sandbox: Sandbox, some: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    french = {**json.loads(sandbox.airflow_connection()), "extra": {"language": "fr"}}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(french))
    with pytest.raises(LightspeedTaskFailed, match="language"):
        _close(some)
    assert len(sandbox.calls) == 1


def test_update_writes_only_what_differs(sandbox: Sandbox) -> None:
    (ticket_id,) = sandbox.add_tickets(1, isTodo=False, memo="")
    operator = UpdateTicketsOperator(task_id="u", ticket_ids=[ticket_id], is_todo=True, memo="")
    assert operator.execute({})["updated"] == [ticket_id]
    (put,) = [call for call in sandbox.calls if call.method == "PUT"]
    assert json.loads(put.body) == {"ticket": {"isTodo": True}}


def test_update_of_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(LightspeedTaskFailed, match="nothing to change"):
        UpdateTicketsOperator(task_id="u", ticket_ids=[2546]).execute({})
    assert not sandbox.calls


@pytest.mark.parametrize("text", ["None", " None ", "", "  ", None])
def test_what_a_template_makes_of_nothing_is_not_sent_to_a_customer(sandbox: Sandbox, text: Any) -> None:
    (ticket_id,) = sandbox.add_tickets(1)
    with pytest.raises(LightspeedTaskFailed, match="message is empty after rendering"):
        ReplyToTicketOperator(task_id="r", ticket_id=ticket_id, message=text).execute({})
    with pytest.raises(LightspeedTaskFailed, match="subject is empty after rendering"):
        CreateTicketOperator(task_id="c", subject=text, customer_id=7).execute({})
    if text is None or text.strip():  # a ticket without a memo is none of a mistake
        with pytest.raises(LightspeedTaskFailed, match="memo is empty after rendering"):
            CreateTicketOperator(task_id="c", subject="Late", customer_id=7, memo=text).execute({})
    assert not sandbox.calls


class LazyXComSequence(Sequence[str]):
    """What a task gets that takes the results of a mapped task."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, _: Any) -> Any:
        return "Dear Ada"

    def __repr__(self) -> str:
        return "LazyXComSequence(<unevaluated length>)"


@pytest.mark.parametrize("text", [LazyXComSequence(), ["Dear Ada"], b"Dear Ada", float("nan")], ids=repr)
def test_what_is_no_text_is_not_sent(sandbox: Sandbox, text: Any) -> None:
    (ticket_id,) = sandbox.add_tickets(1)
    operators: dict[str, list[BaseOperator]] = {
        "message": [ReplyToTicketOperator(task_id="r", ticket_id=ticket_id, message=text)],
        "subject": [
            CreateTicketOperator(task_id="c", subject=text, customer_id=7),
            UpdateTicketsOperator(task_id="u", ticket_ids=[ticket_id], subject=text),
        ],
        "memo": [
            CreateTicketOperator(task_id="c", subject="Late", customer_id=7, memo=text),
            UpdateTicketsOperator(task_id="u", ticket_ids=[ticket_id], memo=text),
        ],
    }
    for name, wrong in operators.items():
        for operator in wrong:
            context = new_task()
            for _ in range(2):
                with pytest.raises(
                    LightspeedTaskFailed, match=f"^{name} must be a text, got {type(text).__name__}"
                ):
                    operator.execute(context)
    assert not sandbox.calls


def test_a_native_template_makes_numbers_of_texts(sandbox: Sandbox) -> None:
    subject: Any = 1001
    ticket = CreateTicketOperator(task_id="c", subject=subject, customer_id=7, memo=subject).execute({})
    assert (ticket["subject"], ticket["memo"]) == ("1001", "1001")
    ReplyToTicketOperator(task_id="r", ticket_id=ticket["id"], message=subject).execute({})
    assert sandbox.shop.messages(ticket["id"])[-1].text == "1001"


def test_create(sandbox: Sandbox) -> None:
    customer = next(t["customer"]["resource"]["id"] for t in sandbox.shop.tickets().values() if t["customer"])
    ticket = CreateTicketOperator(
        task_id="c", subject="Late", customer_id=str(customer), memo="m"
    ).execute({})
    assert sandbox.shop.ticket(ticket["id"])["subject"] == "Late"
    for wrong in ("no number", "", 0, -1, True, "9" * 30, None, [7]):
        with pytest.raises(LightspeedTaskFailed, match="customer_id"):
            CreateTicketOperator(task_id="c", subject="Late", customer_id=wrong).execute({})  # type: ignore[arg-type]
