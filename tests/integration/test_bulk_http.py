"""Bulk changes against a shop over HTTP: what its histories say we did, against what we say we did."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from airflow_provider_lightspeed._airflow import TaskDeferred
from airflow_provider_lightspeed.api import retry
from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.tickets import Request
from airflow_provider_lightspeed.cancellation import CancelToken
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed, LightspeedTicketsFailed
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    CreateTicketOperator,
    DeleteTicketsOperator,
    ReplyToTicketOperator,
    UpdateTicketsOperator,
)
from airflow_provider_lightspeed.s3.objects import S3Objects
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig, email_of
from demo.s3_server import S3Server
from tests.integration.bulk_runs import DEFERRED, Store, lines, run
from tests.integration.gateways import NO_LANGUAGE, PAGE, gateway

END = datetime(2026, 6, 1, tzinfo=UTC)


def close(**arguments: Any) -> dict[str, Any]:
    return run(CloseTicketsOperator(task_id="close", **arguments))


def ours(sandbox: Sandbox, ticket_id: int) -> list[Any]:
    return [change for change in sandbox.shop.history(ticket_id) if change.by == sandbox.key]


def behind(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, url: str) -> None:
    connection = {**json.loads(sandbox.airflow_connection()), "host": url}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))


def puts(sandbox: Sandbox) -> list[str]:
    return [call.path for call in sandbox.calls if call.method == "PUT"]


def at_put(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], None]) -> None:
    """Do something just before the client sends its PUT of this number."""
    call, count = LightspeedClient.call, itertools.count(1)

    def counted(client: LightspeedClient, request: Request[Any], **options: Any) -> Any:
        if request.method == "PUT" and next(count) == number:
            action()
        return call(client, request, **options)

    monkeypatch.setattr(LightspeedClient, "call", counted)


# Criteria and caps


def test_criteria(sandbox: Sandbox) -> None:
    before = sandbox.shop.tickets()
    cutoff = "2026-05-20T00:00:00+00:00"
    outcome = close(updated_before=cutoff, only_answered=True, max_share=1.0)
    assert outcome["criteria"] == f"updated_before={cutoff}, only_answered"
    expected = [
        number
        for number, ticket in sorted(before.items())
        if not ticket["isClosed"]
        and not ticket["isTodo"]
        and ticket["isAnswered"]
        and ticket["updatedAt"] < cutoff
    ]
    assert outcome["closed"] == expected != []
    after = sandbox.shop.tickets()
    assert {n for n in after if after[n] != before[n]} == set(expected)


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ({"created_before": "2026-05-01T00:00:00+02:00"}, lambda t: t["createdAt"] < "2026-04-30T22:00"),
        ({"where": lambda t: t["id"] % 7 == 0}, lambda t: t["id"] % 7 == 0),
        ({"language": "nl"}, lambda t: t["language"] and t["language"]["code"] == "nl"),
        ({"only_answered": True, "include_todo": True}, lambda t: t["isAnswered"]),
    ],
)
def test_each_criterion(
    sandbox: Sandbox, arguments: dict[str, Any], chosen: Callable[[dict[str, Any]], bool]
) -> None:
    outcome = close(**arguments, max_share=1.0, dry_run=True)
    assert outcome["closed"] == [
        number
        for number, ticket in sorted(sandbox.shop.tickets().items())
        if chosen(ticket)
        and not ticket["isClosed"]
        and (arguments.get("include_todo") or not ticket["isTodo"])
    ]
    assert {call.method for call in sandbox.calls} <= {"GET"}


def test_of_a_customer(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(3, customer=77, isClosed=False, isTodo=False)
    # Their share of all open tickets is not known: so say how many at most.
    with pytest.raises(LightspeedTaskFailed, match=r"customer_email.*max_tickets"):
        close(customer_email=email_of(77))
    assert close(customer_email=email_of(77), max_tickets=9)["closed"] == ids


def test_a_plan_too_large_touches_nothing(sandbox: Sandbox) -> None:
    before = sandbox.shop.tickets()
    is_open = sum(not ticket["isClosed"] for ticket in before.values())
    with pytest.raises(
        LightspeedTaskFailed, match=rf"choose {is_open} of {is_open} open tickets .*max_share=1.0"
    ):
        close(where=lambda ticket: True, include_todo=True)
    with pytest.raises(
        LightspeedTaskFailed, match=f"{is_open} tickets are more than max_tickets=9; .*={is_open}"
    ):
        close(where=lambda ticket: True, include_todo=True, max_tickets=9)
    # Neither does the same task when it is cleared.
    store = Store()
    for arguments in ({"only_answered": True}, {"ticket_ids": list(before)}):
        operator = CloseTicketsOperator(task_id="close", max_tickets=9, **arguments)  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(LightspeedTaskFailed, match="more than max_tickets=9"):
                run(operator, store)
    assert sandbox.shop.tickets() == before
    assert not puts(sandbox)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"include_todo": True},
        {"ticket_ids": [1], "only_answered": True},
        {"created_before": "2026-01-01"},
        {"created_before": ""},
        {"ticket_ids": [1], "if_changed": "maybe"},
        {"ticket_ids": [1], "if_changed": "close"},
        {"ticket_ids": [1], "on_failure": "cry"},
        {"only_answered": True, "max_share": 0},
        {"ticket_ids": [1], "receipt_s3_key": "no/address"},
        {"ticket_ids": [1], "receipt_s3_key": ""},
        {"language": ""},
        {"customer_email": "None"},
        {"updated_before": "2026-01-01T00:00:00"},
    ],
)
def test_wrong_arguments_make_no_call(sandbox: Sandbox, arguments: dict[str, Any]) -> None:
    with pytest.raises(LightspeedTaskFailed):
        close(**arguments)
    assert not sandbox.calls


def test_a_criterion_that_renders_to_nothing(sandbox: Sandbox) -> None:
    operator = CloseTicketsOperator(task_id="c", created_before="{{ x }}", only_answered=True)
    operator.created_before = None  # as a native template may
    with pytest.raises(LightspeedTaskFailed, match="created_before is empty"):
        run(operator)


@pytest.mark.parametrize(
    "properties",
    [{}, {"is_closed": "false"}, {"is_todo": 2}, {"subject": "None", "is_todo": True}],
)
def test_wrong_properties_make_no_call(sandbox: Sandbox, properties: dict[str, Any]) -> None:
    with pytest.raises(LightspeedTaskFailed):
        run(UpdateTicketsOperator(task_id="update", ticket_ids=[2546], **properties))
    assert not sandbox.calls


# Touch once


def test_many_ids_take_one_put_each_and_a_few_pages(sandbox: Sandbox) -> None:
    ids = [n for n, ticket in sandbox.shop.tickets().items() if not ticket["isClosed"]][:150]
    assert close(ticket_ids=[str(number) for number in ids * 2])["closed"] == ids
    assert len(puts(sandbox)) == 150
    assert len(sandbox.calls) <= 150 + 8


@pytest.mark.parametrize(("ids", "dry_run"), [(3, False), (86, False), (86, True)])
def test_the_estimate_of_a_change_counts_its_reads(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, ids: int, dry_run: bool
) -> None:
    caplog.set_level("INFO")
    close(ticket_ids=sandbox.add_tickets(ids, isClosed=False), dry_run=dry_run)
    job = "Reading them" if dry_run else f"Changing {ids} tickets"
    (announced,) = re.findall(rf"{job} takes about (\d+) API calls, ", caplog.text)
    # One more counts the list.
    assert len(sandbox.calls) - 1 <= int(announced) <= len(sandbox.calls) + 1


def test_changed_after_the_plan_is_left_alone(sandbox: Sandbox, s3_bucket: str, aws: None) -> None:
    ids = sandbox.add_tickets(6, isClosed=False, isTodo=False, createdAt="2026-06-01T00:00:00+00:00")
    receipt = f"s3://{s3_bucket}/plan.jsonl"
    plan = close(ticket_ids=ids, dry_run=True, receipt_s3_key=receipt)
    assert plan["closed"] == ids
    time.sleep(1.1)  # the shop's clock has seconds
    sandbox.add_message(ids[2], "One more thing")
    sandbox.delete_ticket(ids[3])
    outcome = close(ticket_ids=plan)
    assert (outcome["changed"], outcome["missing"]) == ([ids[2]], [ids[3]])
    assert outcome["closed"] == [ids[0], ids[1], ids[4], ids[5]]
    assert not ours(sandbox, ids[2])
    # Another try would find the same.
    with pytest.raises(LightspeedTaskFailed, match="changed since planning"):
        close(ticket_ids=receipt, if_changed="fail")
    assert close(ticket_ids=receipt, if_changed="overwrite")["closed"] == [ids[2]]


def test_changed_while_a_long_list_of_ids_waits(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [n for n, ticket in sandbox.shop.tickets().items() if not ticket["isClosed"]]
    ids += sandbox.add_tickets(150, isClosed=False)
    wrote: list[int] = []

    def customers_write() -> None:
        # The list is newest first, and these have a while to wait.
        wrote.extend(ids[:5])
        for number in wrote:
            sandbox.add_message(number, "I found it")

    at_put(monkeypatch, 1, customers_write)
    outcome = close(ticket_ids=ids)
    assert outcome["changed"] == wrote
    assert outcome["closed"] == ids[5:]
    assert outcome["calls"] <= len(ids) - 5 + 15


def test_no_call_is_sent_that_has_waited_for_long(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_lightspeed.bulk.run._MAX_AGE", 1.0)
    ids = sandbox.add_tickets(3, isClosed=False, createdAt="2026-06-01T00:00:00+00:00")
    # The shop is busy for a while, in which a customer writes. Bare ids are planned as they are seen first.
    sandbox.inject(Fault("429", method="PUT", path=str(ids[1]), retry_after="3"))

    sleep, wrote = CancelToken.sleep, []

    def customer_writes(token: CancelToken, seconds: float) -> None:
        if not wrote and any(call.fault == "429" for call in sandbox.calls):
            wrote.append(sandbox.add_message(ids[1], "I found it"))
        sleep(token, seconds)

    monkeypatch.setattr(CancelToken, "sleep", customer_writes)
    outcome = close(ticket_ids=ids)
    assert wrote
    assert (outcome["changed"], outcome["closed"]) == ([ids[1]], [ids[0], ids[2]])


def test_what_others_do_while_it_is_deferred_is_not_counted_as_ours(
    monkeypatch: pytest.MonkeyPatch, log: Callable[[], str]
) -> None:
    quota: dict[str, Any] = {"limits": (12, 10**6, 10**6), "window_seconds": (3600.0, 36000.0, 86400.0)}
    with Sandbox(ShopConfig(tickets=0, end=END, burst_limit=0, **quota)) as sandbox:
        connection = {**json.loads(sandbox.airflow_connection()), "extra": {"max_wait": 0}}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        ids = sandbox.add_tickets(30, isClosed=False)
        operator = CloseTicketsOperator(task_id="close", ticket_ids=ids)
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute({})
        assert DEFERRED.search(log())
        theirs = [number for number in ids if not sandbox.shop.ticket(number)["isClosed"]]
        assert 0 < len(theirs) < 30
        for number in theirs:
            sandbox.update_ticket(number, isClosed=True)
        sandbox.backend.reset_quota()
        outcome = operator.execute_complete({}, None, **json.loads(json.dumps(deferred.value.kwargs)))
        assert set(outcome["already"]) == set(theirs)
        assert set(outcome["closed"]) == set(ids) - set(theirs)


def test_whether_a_receipt_can_be_written_is_found_out_once_a_try(
    s3_bucket: str, aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[int] = []
    check = S3Objects.check_writable

    def counted(files: S3Objects, uri: str) -> None:
        checks.append(sandbox.count_calls())
        check(files, uri)

    monkeypatch.setattr(S3Objects, "check_writable", counted)
    quota: dict[str, Any] = {"limits": (12, 10**6, 10**6), "window_seconds": (3600.0, 36000.0, 86400.0)}
    with Sandbox(ShopConfig(tickets=0, end=END, burst_limit=0, **quota)) as sandbox:
        connection = {**json.loads(sandbox.airflow_connection()), "extra": {"max_wait": 0}}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        ids = sandbox.add_tickets(30, isClosed=False)
        operator = CloseTicketsOperator(
            task_id="close", ticket_ids=ids, receipt_s3_key=f"s3://{s3_bucket}/r/r.jsonl"
        )
        go_on: Callable[[Any], dict[str, Any]] = operator.execute
        windows = 0
        while True:
            windows += 1
            try:
                assert go_on({})["closed"] == ids
                break
            except TaskDeferred as deferred:
                go_on = partial(operator.execute_complete, event=None, **deferred.kwargs or {})
                sandbox.backend.reset_quota()
        assert windows > 2
        assert checks == [0]
        assert len(lines(f"s3://{s3_bucket}/r/r.jsonl")) == 30


def test_warn(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(3, isClosed=False)
    sandbox.inject(Fault("500", method="PUT", path=str(ids[1]), times=0))
    outcome = close(ticket_ids=ids, on_failure="warn")
    assert outcome["closed"] == [ids[0], ids[2]]
    assert list(outcome["failed"]) == [str(ids[1])]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_page_of_a_gateway_says_nothing_of_a_ticket(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.002)
    ids = sandbox.add_tickets(3, isClosed=False)
    spoilt = f"/tickets/{ids[1]}.json"
    with gateway(
        sandbox, lambda verb, path: PAGE if verb == method and path.endswith(spoilt) else None
    ) as url:
        behind(monkeypatch, sandbox, url)
        kind = DeleteTicketsOperator if method == "DELETE" else CloseTicketsOperator
        outcome = run(kind(task_id="change", ticket_ids=ids, on_failure="warn"))
    assert outcome["deleted" if method == "DELETE" else "closed"] == [ids[0], ids[2]]
    assert outcome["missing"] == []
    assert list(outcome["failed"]) == [str(ids[1])]
    assert not sandbox.shop.ticket(ids[1])["isClosed"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_language_that_the_shop_lacks_ends_the_whole_change(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    ids = sandbox.add_tickets(3, isClosed=False)
    with gateway(sandbox, lambda verb, _: NO_LANGUAGE if verb == method else None) as url:
        behind(monkeypatch, sandbox, url)
        kind = DeleteTicketsOperator if method == "DELETE" else CloseTicketsOperator
        with pytest.raises(LightspeedTaskFailed, match="inactive language"):
            run(kind(task_id="change", ticket_ids=ids, on_failure="warn"))
    assert all(not sandbox.shop.ticket(number)["isClosed"] for number in ids)


def test_a_put_that_was_done_behind_errors_is_ours(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(2, isClosed=False)
    sandbox.inject(Fault("500", method="PUT", path=str(ids[1]), times=0, applied=True))
    store = Store()
    operator = CloseTicketsOperator(task_id="close", ticket_ids=ids)
    with pytest.raises(LightspeedTicketsFailed):
        run(operator, store)
    sandbox.reset()
    assert run(operator, store)["closed"] == ids
    assert not puts(sandbox)


def test_a_retry_takes_only_what_is_left(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(6, isClosed=False)
    sandbox.inject(Fault("500", method="PUT", path=str(ids[1]), times=0))
    store = Store()
    operator = CloseTicketsOperator(task_id="close", ticket_ids=ids)
    with pytest.raises(LightspeedTicketsFailed):
        run(operator, store)
    sandbox.reset()
    assert run(operator, store)["closed"] == ids
    assert [call.method for call in sandbox.calls] == ["GET", "PUT"]


def test_stopped_in_the_middle_with_the_receipt(
    sandbox: Sandbox, s3_bucket: str, aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [n for n, ticket in sandbox.shop.tickets().items() if not ticket["isClosed"]][:200]
    receipt = f"s3://{s3_bucket}/stopped.jsonl"
    operator = CloseTicketsOperator(task_id="close", ticket_ids=ids, receipt_s3_key=receipt)

    at_put(monkeypatch, 10, operator.on_kill)
    with pytest.raises(Exception, match="asked to stop"):
        run(operator)
    told = lines(receipt)
    closed = {line["id"] for line in told if line["outcome"] == "closed"}
    assert 0 < len(closed) < 200
    assert {line["id"] for line in told} == set(ids)
    assert closed == {number for number in ids if sandbox.shop.ticket(number)["isClosed"]}


# Receipts


def test_close_and_reopen_by_receipt(sandbox: Sandbox, s3_bucket: str, aws: None) -> None:
    ids = sandbox.add_tickets(5, isClosed=False)
    sandbox.update_ticket(ids[0], isClosed=True)
    receipt = f"s3://{s3_bucket}/closed.jsonl"
    closed = close(ticket_ids=ids, receipt_s3_key=receipt)
    assert [line["outcome"] for line in lines(receipt)] == ["already", *["closed"] * 4]
    reopened = run(UpdateTicketsOperator(task_id="reopen", ticket_ids=closed, is_closed=False))
    assert reopened["updated"] == ids[1:]
    assert [sandbox.shop.ticket(number)["isClosed"] for number in ids] == [True, False, False, False, False]


@pytest.mark.parametrize("deferred", [False, True])
def test_what_was_done_in_one_shop_is_nothing_to_another(
    monkeypatch: pytest.MonkeyPatch, deferred: bool
) -> None:
    other = ShopConfig(key="other" * 6, tickets=9, end=END, limits=NO_LIMITS)
    with Sandbox(ShopConfig(tickets=9, end=END, limits=NO_LIMITS), other) as sandbox:
        first, second = sandbox.backends
        ids = first.shop.ids()
        assert ids == second.shop.ids()
        for backend in (first, second):
            for ticket_id in ids:
                backend.update_ticket(ticket_id, isClosed=False)
        sandbox.inject(Fault("500", method="PUT", path=str(ids[-1]), times=0))
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection(first))
        operator, store = CloseTicketsOperator(task_id="close", ticket_ids=ids), Store()
        with pytest.raises(LightspeedTicketsFailed):
            run(operator, store)
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection(second))
        if deferred:  # before Airflow 3.3, where the state travels with the deferral
            (state,) = store.values()
            outcome = operator.execute_complete({}, None, state)  # type: ignore[typeddict-item]
        else:
            outcome = run(operator, store)
        assert outcome["closed"] == ids
        assert all(second.shop.ticket(ticket_id)["isClosed"] for ticket_id in ids)


def test_a_receipt_that_cannot_be_written_touches_nothing(
    sandbox: Sandbox, s3_server: S3Server, aws: None
) -> None:
    ids = sandbox.add_tickets(2, isClosed=False)
    with pytest.raises(LightspeedTaskFailed, match="refuses to write"):
        close(ticket_ids=ids, receipt_s3_key="s3://there-is-no-such-bucket/r.jsonl")
    with pytest.raises(LightspeedTaskFailed, match="refuses to read"):
        close(ticket_ids="s3://there-is-no-such-bucket/r.jsonl")
    assert not puts(sandbox)


# The other operators


def test_delete(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(4)
    with pytest.raises(LightspeedTaskFailed, match="max_tickets"):
        run(DeleteTicketsOperator(task_id="d", only_answered=True))
    assert not sandbox.calls
    outcome = run(DeleteTicketsOperator(task_id="d", ticket_ids=[*ids, 1]))
    assert (outcome["deleted"], outcome["missing"]) == (ids, [1])
    assert set(sandbox.shop.deleted()) == set(ids)


def test_reply(sandbox: Sandbox) -> None:
    (ticket_id,) = sandbox.add_tickets(1)
    posted = ReplyToTicketOperator(task_id="r", ticket_id=str(ticket_id), message="On its way").execute({})
    assert sandbox.shop.messages(ticket_id)[-1].text == "On its way"
    assert "message" not in posted
    sandbox.inject(Fault("drop", method="POST", applied=True))
    with pytest.raises(LightspeedTaskFailed, match="may or may not exist"):
        ReplyToTicketOperator(task_id="r", ticket_id=ticket_id, message="Really").execute({})
    assert [message.text for message in sandbox.shop.messages(ticket_id)].count("Really") == 1


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("search", ["search", "fail"])
def test_create_whose_answer_is_lost(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, search: str, applied: bool
) -> None:
    monkeypatch.setattr("airflow_provider_lightspeed.operators.tickets._SEARCHES", (0.0, 0.01))
    sandbox.add_tickets(1, subject="Late", customer=7)
    before = set(sandbox.shop.ids())
    sandbox.inject(Fault("502", method="POST", applied=applied))
    create = CreateTicketOperator(
        task_id="c",
        subject="Late",
        customer_id=7,
        on_unknown_outcome=search,  # type: ignore[arg-type]
    )
    if search == "search" and applied:
        assert {create.execute({})["id"]} == set(sandbox.shop.ids()) - before
    else:
        with pytest.raises(LightspeedTaskFailed, match="may or may not exist"):
            create.execute({})
    assert len(set(sandbox.shop.ids()) - before) == applied


# Scale


def test_twelve_thousand_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(ShopConfig(tickets=13_000, end=END, limits=NO_LIMITS, burst_limit=0)) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection())
        ids = sandbox.shop.ids()[:12_000]
        with pytest.raises(LightspeedTaskFailed, match="12,000 tickets are more than max_tickets=1000"):
            close(ticket_ids=ids)
        assert not sandbox.calls
        outcome = close(ticket_ids=str(ids), max_tickets=12_000, dry_run=True)
        assert len(outcome["closed"]) + len(outcome["already"]) == 12_000
        assert outcome["calls"] < 12_000 / 250 + 12


def test_a_hook_argument_is_not_needed(sandbox: Sandbox) -> None:
    """One client serves plan and changes: its count of calls is the outcome's."""
    assert close(only_answered=True, max_share=1.0, dry_run=True)["calls"] == len(sandbox.calls)
    assert LightspeedHook().count_tickets() == 600


def test_ids_of_another_shop_are_a_warning(sandbox: Sandbox, log: Callable[[], str]) -> None:
    close(ticket_ids=[1, 2])
    assert "None of 2 tickets is in this shop: check ticket_ids and lightspeed_conn_id" in log()
    close(ticket_ids=[1, sandbox.shop.ids()[0]])
    assert "None of" not in log()
    with pytest.raises(LightspeedTaskFailed, match="leading zeros, got '001'"):
        close(ticket_ids="2,001")
