"""The hook against a shop over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn

import pytest

from airflow_provider_lightspeed._airflow import AirflowNotFoundException
from airflow_provider_lightspeed.api.errors import (
    LightspeedAuthenticationError,
    LightspeedConfigurationError,
    LightspeedIncompleteListError,
    LightspeedNotFoundError,
)
from airflow_provider_lightspeed.api.responses import Response
from airflow_provider_lightspeed.api.sansio import Send
from airflow_provider_lightspeed.api.transport import Transport
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Order, Sandbox, ShopConfig
from tests.integration.gateways import NOT_FOUND, gateway


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


#: More than any conversation here has.
ALL = 10_000


@contextmanager
def _conversation(
    monkeypatch: pytest.MonkeyPatch, messages: int, page_size: int | None, *, ignore_page: bool = False
) -> Generator[tuple[Sandbox, int]]:
    """Serve a shop with one ticket that has so many messages."""
    config = ShopConfig(
        tickets=0,
        limits=NO_LIMITS,
        burst_limit=0,
        message_page_size=page_size,
        messages_ignore_page=ignore_page,
    )
    with Sandbox(config) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection())
        (ticket_id,) = sandbox.add_tickets(1)
        while len(sandbox.shop.messages(ticket_id)) < messages:
            sandbox.add_message(ticket_id, "I live in Elm Street")
        sandbox.reset_calls()
        yield sandbox, ticket_id


@pytest.mark.parametrize("ignore_page", [False, True])
@pytest.mark.parametrize(
    ("page_size", "messages", "calls"),
    [
        # limit is heeded: a second call from 50 on, since such a page may be cut, and a third where it is of the size
        # of a page; two for each page where there are more.
        (None, 49, 1),
        (None, 50, 3),
        (None, 120, 2),
        (None, 250, 3),
        (None, 300, 4),
        # limit is ignored
        (50, 49, 1),
        (50, 50, 3),
        (50, 120, 6),
        (100, 120, 4),
        (250, 260, 4),
        # all comes in one answer
        (ALL, 49, 1),
        (ALL, 333, 2),
    ],
)
def test_all_messages_or_an_error_whether_their_list_heeds_limit_and_page_or_not(
    monkeypatch: pytest.MonkeyPatch, page_size: int | None, messages: int, calls: int, ignore_page: bool
) -> None:
    with _conversation(monkeypatch, messages, page_size, ignore_page=ignore_page) as (sandbox, ticket_id):
        found = LightspeedHook().iter_ticket_messages(ticket_id)
        if ignore_page and messages > (page_size or 250):
            with pytest.raises(LightspeedIncompleteListError) as caught:
                list(found)
            assert (caught.value.seen, caught.value.expected) == (page_size or 250, messages)
            assert f"ticket {ticket_id}" in str(caught.value)
            assert "Elm" not in str(caught.value)
            return
        expected = [message.id for message in sandbox.shop.messages(ticket_id)]
        assert [message["id"] for message in found] == expected
        assert sandbox.count_calls() == calls


@pytest.mark.parametrize("gone", [True, False])
def test_a_ticket_deleted_before_its_messages_are_counted_is_gone_and_a_missing_count_an_error(
    monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    def reply(_: str, path: str) -> bytes | None:
        if not path.partition("?")[0].endswith("/messages/count.json"):
            return None
        if gone:
            sandbox.delete_ticket(ticket_id)
            return None
        return NOT_FOUND

    with (
        _conversation(monkeypatch, 60, None) as (sandbox, ticket_id),
        gateway(sandbox, reply) as url,
    ):
        connection = json.loads(sandbox.airflow_connection()) | {"host": url}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        expected = LightspeedNotFoundError if gone else LightspeedIncompleteListError
        with pytest.raises(expected) as caught:
            list(LightspeedHook().iter_ticket_messages(ticket_id))
        if isinstance(caught.value, LightspeedNotFoundError):
            assert caught.value.gone


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


def test_a_connection_test_without_quota_says_when_to_test_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(ShopConfig(tickets=10, limits=(1000, 1000, 3))) as sandbox:
        # The day may be almost over.
        impatient = {**json.loads(sandbox.airflow_connection()), "extra": {"max_wait": 0}}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(impatient))
        tests = [LightspeedHook().test_connection() for _ in range(4)]
    assert [works for works, _ in tests] == [True, True, True, False]
    assert re.fullmatch(
        r"Not tested: the quota of 1 day is used up .*\. Test again at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC",
        tests[-1][1],
    )


def test_a_connection_that_is_not_visible_is_said_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(_: LightspeedHook, conn_id: str) -> NoReturn:
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(LightspeedHook, "get_connection", not_found)
    works, why = LightspeedHook("my_shop").test_connection()
    assert not works
    assert why.startswith("there is no connection 'my_shop', or it is not visible here")
    assert "`airflow connections test my_shop`" in why
    assert why.endswith("set AIRFLOW_CONN_MY_SHOP")


def test_a_change_that_the_shop_confirms_without_the_ticket_is_read(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ticket_id,) = sandbox.add_tickets(1)
    send = Transport.send

    def without_content(self: Transport, effect: Send) -> Response:
        response = send(self, effect)
        return replace(response, status=204, body=b"") if effect.method == "PUT" else response

    monkeypatch.setattr(Transport, "send", without_content)
    assert LightspeedHook().close_ticket(ticket_id)["isClosed"] is True
    assert [call.method for call in sandbox.calls] == ["PUT", "GET"]


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
