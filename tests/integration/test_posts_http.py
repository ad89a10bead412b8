"""A ticket or a message is sent once, whatever becomes of the call, the worker and the search for it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import (
    CreateTicketOperator,
    ReplyToTicketOperator,
    UpdateTicketsOperator,
)
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig
from tests.integration.exporting import Store, new_task


class Killed(BaseException):
    """As by kill -9, or Airflow's execution_timeout."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_lightspeed.operators.tickets._SEARCHES", (0.0, 0.01))


def create(context: Any, unknown: Any = "fail") -> dict[str, Any]:
    operator = CreateTicketOperator(task_id="c", subject="Late", customer_id=7, on_unknown_outcome=unknown)
    return operator.execute(context)


def reply(context: Any, ticket_id: int) -> dict[str, Any]:
    return ReplyToTicketOperator(task_id="r", ticket_id=ticket_id, message="On its way").execute(context)


def late(sandbox: Sandbox) -> list[int]:
    """Ids of the tickets that were created here."""
    return [number for number, ticket in sandbox.shop.tickets().items() if ticket["subject"] == "Late"]


def kill(monkeypatch: pytest.MonkeyPatch, *, sent: bool = True) -> None:
    """Kill the worker when the answer to a POST is there, or just before it is sent."""
    call = LightspeedClient.call

    def killed(client: LightspeedClient, request: Any) -> Any:
        if request.method != "POST":
            return call(client, request)
        if sent:
            call(client, request)
        raise Killed

    monkeypatch.setattr(LightspeedClient, "call", killed)


@pytest.mark.parametrize("trouble", ["500", "html-200"])
def test_a_search_that_fails_is_no_reason_to_post_again(sandbox: Sandbox, trouble: Any) -> None:
    sandbox.inject(Fault("502", method="POST", applied=True))
    newest = LightspeedHook().newest_ticket_id()
    # The calls beforehand pass; those of the search do not.
    sandbox.inject(Fault(trouble, method="GET", after=len(sandbox.calls), times=0))
    sandbox.reset_calls()
    with pytest.raises(
        LightspeedTaskFailed, match=r"may or may not exist.*Looking for it failed too: "
    ) as raised:
        create({}, "search")
    assert late(sandbox) == [newest + 1]
    # One traceback: the message has what the others would repeat.
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None


def test_a_search_that_fails_by_a_mistake_keeps_its_traceback(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.inject(Fault("502", method="POST", applied=True))
    mistake = KeyError("subject")

    def fail(*_: Any, **__: Any) -> None:
        raise mistake

    monkeypatch.setattr(LightspeedHook, "iter_tickets", fail)
    with pytest.raises(LightspeedTaskFailed, match="Looking for it failed too: 'subject'") as raised:
        create({}, "search")
    assert raised.value.__cause__ is mistake


@pytest.mark.parametrize(
    ("texts", "subject"),
    [
        ("kept", "Late"),
        ("trimmed", " Late delivery "),
        ("escaped", "Tom & Jerry's order"),
        ("kept", "Cafe\u0301"),
    ],
)
def test_a_search_finds_a_subject_that_the_shop_stores_in_another_form(
    monkeypatch: pytest.MonkeyPatch, texts: Any, subject: str
) -> None:
    with Sandbox(ShopConfig(tickets=60, limits=NO_LIMITS, burst_limit=0, texts=texts)) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        before = set(shop.shop.ids())
        shop.inject(Fault("502", method="POST", applied=True))
        operator = CreateTicketOperator(
            task_id="c", subject=subject, customer_id="7 ", on_unknown_outcome="search"
        )
        assert {operator.execute(new_task())["id"]} == set(shop.shop.ids()) - before


def test_a_search_reads_ids_of_customers_that_are_texts(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    iter_tickets = LightspeedHook.iter_tickets

    def as_texts(hook: LightspeedHook, **arguments: Any) -> Any:
        for ticket in iter_tickets(hook, **arguments):
            resource: Any = {"id": str(ticket["customer"]["resource"]["id"])}
            yield {**ticket, "customer": {"resource": resource}}

    monkeypatch.setattr(LightspeedHook, "iter_tickets", as_texts)
    sandbox.inject(Fault("502", method="POST", applied=True))
    assert [create({}, "search")["id"]] == late(sandbox)


@pytest.mark.parametrize("customer", [{"id": 1}, {"resource": True}, {"resource": {}}, True, "text", False])
def test_other_tickets_may_have_any_customer(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, customer: Any
) -> None:
    iter_tickets = LightspeedHook.iter_tickets

    def with_another(hook: LightspeedHook, **arguments: Any) -> Any:
        yield {"id": 10**9, "subject": "Late", "customer": customer}
        yield from iter_tickets(hook, **arguments)

    monkeypatch.setattr(LightspeedHook, "iter_tickets", with_another)
    sandbox.inject(Fault("502", method="POST", applied=True))
    assert [create({}, "search")["id"]] == late(sandbox)


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("unknown", ["fail", "search"])
def test_a_killed_create_is_not_sent_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, unknown: str, sent: bool
) -> None:
    context = new_task()
    with monkeypatch.context() as patch:
        kill(patch, sent=sent)
        with pytest.raises(Killed):
            create(context, unknown)
    if sent and unknown == "search":
        assert [create(context, unknown)["id"]] == late(sandbox)
    else:
        for _ in range(2):
            with pytest.raises(LightspeedTaskFailed, match="clear the task"):
                create(context, unknown)
    assert len(late(sandbox)) == sent
    context["ti"].max_tries += 1  # a person has looked, and clears the task
    create(context, unknown)
    assert len(late(sandbox)) == sent + 1


def test_a_killed_reply_is_not_sent_again(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    (ticket_id,) = sandbox.add_tickets(1)
    before = len(sandbox.shop.messages(ticket_id))
    context = new_task()
    with monkeypatch.context() as patch:
        kill(patch)
        with pytest.raises(Killed):
            reply(context, ticket_id)
    with pytest.raises(LightspeedTaskFailed, match=f"ticket {ticket_id}.*clear the task"):
        reply(context, ticket_id)
    assert len(sandbox.shop.messages(ticket_id)) == before + 1
    context["ti"].max_tries += 1
    reply(context, ticket_id)
    assert len(sandbox.shop.messages(ticket_id)) == before + 2


def test_a_try_killed_before_airflow_has_its_success_is_not_repeated(sandbox: Sandbox) -> None:
    context = new_task()
    create(context)
    with pytest.raises(LightspeedTaskFailed, match="clear the task"):
        create(context)
    assert len(late(sandbox)) == 1


def test_what_was_surely_not_sent_is_sent_by_the_retry(sandbox: Sandbox) -> None:
    context = new_task()
    sandbox.inject(Fault("429", method="POST", times=1, retry_after="3600"))
    with pytest.raises(LightspeedQuotaExhaustedError):
        create(context)
    create(context)
    assert len(late(sandbox)) == 1


def test_a_record_that_cannot_be_deleted_hides_no_error(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(_: object, __: str) -> None:
        raise RuntimeError("the API server is down")

    (ticket_id,) = sandbox.add_tickets(1)
    monkeypatch.setattr(Store, "delete", unreachable)
    wrong = sandbox.airflow_connection().replace(sandbox.secret, "wrong-secret")
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", wrong)
    with pytest.raises(LightspeedTaskFailed, match="401"):
        reply(new_task(), ticket_id)
    assert "lightspeed_sent" in caplog.text
    assert "the API server is down" in caplog.text


def test_half_a_character_is_not_sent(sandbox: Sandbox) -> None:
    (ticket_id,) = sandbox.add_tickets(1)
    text = "Dear Ada \ud83d"
    for operator in (
        ReplyToTicketOperator(task_id="r", ticket_id=ticket_id, message=text),
        CreateTicketOperator(task_id="c", subject=text, customer_id=7),
        UpdateTicketsOperator(task_id="u", ticket_ids=[ticket_id], subject=text),
    ):
        context = new_task()
        for _ in range(2):
            with pytest.raises(LightspeedTaskFailed, match=r"half a character") as caught:
                operator.execute(context)
            assert "Ada" not in str(caught.value)
    assert {call.method for call in sandbox.calls} == {"GET"}


def test_a_connection_that_is_missing_is_no_call(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    (ticket_id,) = sandbox.add_tickets(1)
    before, after = new_task(), new_task()
    with monkeypatch.context() as patch:
        patch.delenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT")
        with pytest.raises(Exception, match="lightspeed_default"):
            create(before)
        with pytest.raises(Exception, match="lightspeed_default"):
            reply(after, ticket_id)
    create(before)
    reply(after, ticket_id)
    assert len(late(sandbox)) == 1
