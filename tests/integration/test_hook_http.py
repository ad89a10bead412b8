"""The hook against a shop over HTTP."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lightspeed.api.errors import (
    LightspeedAuthenticationError,
    LightspeedConfigurationError,
    LightspeedNotFoundError,
)
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Order, Sandbox, ShopConfig


def _ids(sandbox: Sandbox) -> list[int]:
    return sorted(sandbox.shop.ids())


def test_all_tickets(sandbox: Sandbox) -> None:
    tickets = list(LightspeedHook().iter_tickets())
    assert sorted(ticket["id"] for ticket in tickets) == _ids(sandbox)


def test_filters(sandbox: Sandbox) -> None:
    hook = LightspeedHook()
    middle = _ids(sandbox)[300]
    assert {ticket["id"] for ticket in hook.iter_tickets(since_id=str(middle))} == set(_ids(sandbox)[301:])
    window = {"created_from": "2026-05-01T00:00:00+02:00", "created_to": "2026-05-03T00:00:00Z"}
    expected = {
        t["id"] for t in hook.iter_tickets() if "2026-04-30T22:00" <= t["createdAt"] < "2026-05-03T00:00"
    }
    assert {ticket["id"] for ticket in hook.iter_tickets(**window)} == expected
    assert hook.count_tickets(**window) == len(expected) > 0


def test_bad_filters_make_no_call(sandbox: Sandbox) -> None:
    with pytest.raises(LightspeedConfigurationError):
        LightspeedHook().iter_tickets(created_from="2026-05-01")
    assert not sandbox.calls


def test_count_is_one_call(sandbox: Sandbox) -> None:
    assert LightspeedHook().count_tickets() == 600
    assert len(sandbox.calls) == 1


def test_the_life_of_a_ticket(sandbox: Sandbox) -> None:
    hook = LightspeedHook()
    ticket = hook.create_ticket({"subject": "Where is my order?", "customer": 1118417, "memo": "å"})
    assert hook.get_ticket(ticket["id"])["subject"] == "Where is my order?"
    assert hook.update_ticket(str(ticket["id"]), {"isTodo": True})["isTodo"] is True
    assert hook.close_ticket(ticket["id"])["isClosed"] is True
    hook.delete_ticket(ticket["id"])
    with pytest.raises(LightspeedNotFoundError):
        hook.get_ticket(ticket["id"])


def test_messages(sandbox: Sandbox) -> None:
    hook = LightspeedHook()
    (ticket_id,) = sandbox.add_tickets(1)
    before = [message["id"] for message in hook.iter_ticket_messages(ticket_id)]
    sent = hook.create_ticket_message(ticket_id, "On its way.")
    assert (sent["from"], sent["message"]) == ("shop", "On its way.")
    for number in range(300):
        sandbox.add_message(ticket_id, f"And now? {number}")
    ids = [message["id"] for message in hook.iter_ticket_messages(ticket_id)]
    assert len(ids) == len(set(ids)) == len(before) + 301


@pytest.mark.parametrize(
    ("page_size", "messages", "calls"),
    [
        # limit is heeded: a second call from 50 on, since such a page may be full.
        (None, 49, 1),
        (None, 50, 2),
        (None, 120, 2),
        (None, 250, 2),
        (None, 299, 2),
        (None, 300, 3),
        # limit is ignored
        (50, 49, 1),
        (50, 50, 2),
        (50, 120, 3),
        (100, 120, 2),
        (250, 260, 2),
    ],
)
def test_all_messages_whether_their_list_heeds_limit_or_not(
    monkeypatch: pytest.MonkeyPatch, page_size: int | None, messages: int, calls: int
) -> None:
    config = ShopConfig(tickets=0, limits=NO_LIMITS, burst_limit=0, message_page_size=page_size)
    with Sandbox(config) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection())
        (ticket_id,) = sandbox.add_tickets(1)
        while len(sandbox.shop.messages(ticket_id)) < messages:
            sandbox.add_message(ticket_id, "And now?")
        expected = [message.id for message in sandbox.shop.messages(ticket_id)]
        sandbox.reset_calls()
        assert [message["id"] for message in LightspeedHook().iter_ticket_messages(ticket_id)] == expected
        assert sandbox.count_calls() == calls


@pytest.mark.parametrize("ticket_id", ["abc", "1/messages", 0, -5, True])
def test_a_ticket_id_that_is_none(sandbox: Sandbox, ticket_id: int | str) -> None:
    with pytest.raises(LightspeedConfigurationError):
        LightspeedHook().get_ticket(ticket_id)
    assert not sandbox.calls


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize(
    ("order", "calls"), [("newest", 2), ("oldest", 4), ("unordered", 9), ("last_change", 9)]
)
def test_the_newest_ticket(
    monkeypatch: pytest.MonkeyPatch, order: Order, calls: int, inclusive: bool
) -> None:
    config = ShopConfig(
        tickets=3000, order=order, since_id_inclusive=inclusive, limits=NO_LIMITS, burst_limit=0
    )
    with Sandbox(config) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection())
        assert LightspeedHook().newest_ticket_id() == _ids(sandbox)[-1]
        assert len(sandbox.calls) <= calls + (1 if inclusive else 0)


def test_no_newest_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(ShopConfig(tickets=0)) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection())
        assert LightspeedHook().newest_ticket_id() == 0


def test_connection_test(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    works, told = LightspeedHook().test_connection()
    assert works
    assert "600 tickets" in told
    assert "'en'" in told
    assert "calls left" in told
    assert len(sandbox.calls) == 1
    wrong = {**json.loads(sandbox.airflow_connection()), "password": "wrong-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", json.dumps(wrong))
    works, told = LightspeedHook("wrong").test_connection()
    assert not works
    assert "401" in told
    assert "wrong-secret" not in told


def test_wrong_secret_is_tried_once(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {**json.loads(sandbox.airflow_connection()), "password": "wrong-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(wrong))
    with pytest.raises(LightspeedAuthenticationError):
        list(LightspeedHook().iter_tickets())
    assert len(sandbox.calls) == 1


def test_quota(sandbox: Sandbox) -> None:
    hook = LightspeedHook()
    assert hook.quota() is not None
    assert len(sandbox.calls) == 1
