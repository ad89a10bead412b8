"""What the next try of a bulk change makes of an earlier one: with other arguments, and after a success."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed._airflow import TaskDeferred
from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.bulk import refresh
from airflow_provider_lightspeed.bulk import run as bulk_run
from airflow_provider_lightspeed.bulk.job import Job
from airflow_provider_lightspeed.cancellation import Cancelled
from airflow_provider_lightspeed.exceptions import (
    LightspeedServerError,
    LightspeedTaskFailed,
    LightspeedTicketsFailed,
)
from airflow_provider_lightspeed.operators.bulk import BulkTicketsOperator
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator, UpdateTicketsOperator
from airflow_provider_lightspeed.s3.objects import S3Objects
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig
from tests.integration.bulk_runs import Store, Xcom, run

_RECEIPT = "s3://bucket/receipt.jsonl"
_EVERY: dict[str, Any] = {"where": lambda ticket: True, "max_share": 1.0}

Calls = Callable[[Callable[[int, Any], None]], None]


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    monkeypatch.setattr(S3Objects, "write", lambda _, uri, data: made.__setitem__(uri, data))
    monkeypatch.setattr(S3Objects, "check_writable", lambda *_: None)
    monkeypatch.setattr(S3Objects, "read", lambda _, uri: made[uri])
    return made


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, objects: dict[str, bytes]) -> Generator[Sandbox]:
    # One ticket after the other, each read alone.
    monkeypatch.setattr(refresh, "_FEW", 100)
    monkeypatch.setattr(refresh, "_MOST_AT_ONCE", 1)
    monkeypatch.setattr(bulk_run, "_AT_ONCE", 1)
    config = ShopConfig(tickets=0, end=datetime(2026, 6, 1, tzinfo=UTC), limits=NO_LIMITS, burst_limit=0)
    with Sandbox(config) as made:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", made.airflow_connection())
        yield made


@pytest.fixture
def at_put(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Do something before each PUT, given its number and request."""
    real = LightspeedClient.call

    def watch(action: Callable[[int, Any], None]) -> None:
        sent = 0

        def call(client: LightspeedClient, request: Any, **options: Any) -> Any:
            nonlocal sent
            if request.method == "PUT":
                sent += 1
                action(sent, request)
            return real(client, request, **options)

        monkeypatch.setattr(LightspeedClient, "call", call)

    return watch


def close(**arguments: Any) -> CloseTicketsOperator:
    return CloseTicketsOperator(task_id="close", receipt_s3_key=_RECEIPT, **arguments)


def closed(shop: Sandbox, ids: list[int]) -> list[int]:
    return [number for number in ids if shop.shop.ticket(number)["isClosed"]]


def outcomes(objects: dict[str, bytes]) -> dict[int, str]:
    lines = [json.loads(line) for line in objects[_RECEIPT].splitlines()]
    return {line["id"]: line["outcome"] for line in lines}


def run_until_stopped(operator: BulkTicketsOperator, at_put: Calls, store: Store) -> None:
    """Run a try that is asked to stop at its third PUT."""
    at_put(lambda sent, _: operator.on_kill() if sent == 3 else None)
    with pytest.raises(Cancelled):
        run(operator, store)
    at_put(lambda *_: None)


def undo() -> dict[str, Any]:
    return run(UpdateTicketsOperator(task_id="undo", ticket_ids=_RECEIPT, is_closed=False))


# Other arguments


@pytest.mark.parametrize(
    "corrected",
    [{"where": lambda ticket: ticket["id"] % 2 == 0}, {"max_tickets": 5}, {"max_share": 0.9}],
    ids=lambda corrected: next(iter(corrected)),
)
def test_corrected_criteria_choose_again(
    shop: Sandbox, at_put: Calls, objects: dict[str, bytes], corrected: dict[str, Any]
) -> None:
    ids, store = shop.add_tickets(10, isClosed=False), Store()
    run_until_stopped(close(**_EVERY), at_put, store)
    before = closed(shop, ids)
    if "where" not in corrected:
        wanted = before
        with pytest.raises(LightspeedTaskFailed, match=next(iter(corrected))):
            run(close(**_EVERY | corrected), store)
    else:
        wanted = sorted({*before, *(number for number in ids if number % 2 == 0)})
        assert run(close(**_EVERY | corrected), store)["closed"] == wanted
        assert set(outcomes(objects)) == set(wanted)
    assert closed(shop, ids) == wanted


def accepts(prefix: str) -> Callable[[Any], bool]:
    """Compile a function, as each parse of a DAG file does."""
    made: dict[str, Any] = {}
    exec(f"{prefix}accepts = lambda ticket: ticket['id'] not in {{1, 2}}", made)  # ruff: ignore[exec-builtin]
    function: Callable[[Any], bool] = made["accepts"]
    return function


def test_a_function_that_is_the_same_resumes(shop: Sandbox, at_put: Calls) -> None:
    ids, store = shop.add_tickets(6, isClosed=False), Store()
    run_until_stopped(close(where=accepts(""), max_share=1.0), at_put, store)
    shop.add_tickets(3, isClosed=False)
    again = close(where=accepts("# A comment.\n"), max_share=1.0)
    assert run(again, store)["closed"] == ids


def test_another_answer_to_changed_tickets_plans_again(
    shop: Sandbox, objects: dict[str, bytes], at_put: Calls
) -> None:
    ids, store = shop.add_tickets(3, isClosed=False), Store()
    planned = ["2020-01-01T00:00:00+00:00", None, None]
    objects["s3://b/plan"] = b"\n".join(
        json.dumps({"id": key, "updatedAt": change, "outcome": "planned"}).encode()
        for key, change in zip(ids, planned, strict=True)
    )

    def fail(_: int, request: Any) -> None:
        if str(ids[2]) in repr(request):
            raise LightspeedServerError(method="PUT", path="x", status=502, message="502")

    at_put(fail)
    with pytest.raises(LightspeedTicketsFailed):
        run(close(ticket_ids="s3://b/plan"), store)
    assert closed(shop, ids) == [ids[1]]
    at_put(lambda *_: None)
    again = run(close(ticket_ids="s3://b/plan", if_changed="overwrite"), store)
    assert sorted(again["closed"]) == closed(shop, ids) == ids


def defer_at(
    at_put: Calls, monkeypatch: pytest.MonkeyPatch, number: int, operator: BulkTicketsOperator
) -> Any:
    """Return what Airflow keeps of a task that defers at this call, without a store."""
    real, made = LightspeedClient.call, 0

    def call(client: LightspeedClient, request: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        if made == number:
            raise LightspeedQuotaExhaustedError("the quota is used up", until=datetime.now(UTC))
        return real(client, request, **options)

    with monkeypatch.context() as patched:
        patched.setattr(LightspeedClient, "call", call)
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute({})  # type: ignore[typeddict-item]
    return json.loads(json.dumps(deferred.value.kwargs))


def test_a_dry_run_that_deferred_is_no_record_of_changes(
    shop: Sandbox, at_put: Calls, monkeypatch: pytest.MonkeyPatch, objects: dict[str, bytes]
) -> None:
    ids = shop.add_tickets(6, isClosed=False)
    kept = defer_at(at_put, monkeypatch, 4, close(ticket_ids=ids, dry_run=True))
    outcome = close(ticket_ids=ids).execute_complete({}, None, **kept)  # type: ignore[typeddict-item]
    assert outcome["closed"] == closed(shop, ids) == ids
    assert outcomes(objects) == dict.fromkeys(ids, "closed")


def test_a_function_corrected_during_a_deferral(
    shop: Sandbox, at_put: Calls, monkeypatch: pytest.MonkeyPatch, objects: dict[str, bytes]
) -> None:
    ids = shop.add_tickets(6, isClosed=False)
    kept = defer_at(at_put, monkeypatch, 8, close(**_EVERY))
    before = closed(shop, ids)
    assert 0 < len(before) < 4
    none = close(where=lambda ticket: False, max_share=1.0)
    outcome = none.execute_complete({}, None, **kept)  # type: ignore[typeddict-item]
    assert outcome["closed"] == closed(shop, ids) == before
    assert outcomes(objects) == dict.fromkeys(before, "closed")


def test_a_template_that_renders_to_another_instant_after_a_deferral_goes_on(
    shop: Sandbox, at_put: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise a plan that takes longer than a window of the quota would never be complete.
    ids = shop.add_tickets(6, isClosed=False)
    kept = defer_at(at_put, monkeypatch, 8, close(created_before="2100-01-01T00:00:00Z", max_share=1.0))
    later = shop.add_tickets(1, isClosed=False)
    again = close(created_before="2100-01-02T00:00:00Z", max_share=1.0)
    assert again.execute_complete({}, None, **kept)["closed"] == ids  # type: ignore[typeddict-item]
    assert not closed(shop, later)


def test_what_may_have_been_changed_stays_in_the_receipt_of_a_new_plan(
    shop: Sandbox, at_put: Calls, objects: dict[str, bytes]
) -> None:
    ids, store = shop.add_tickets(4, isClosed=False), Store()

    def lose(sent: int, request: Any) -> None:
        if sent == 2:
            # The worker is killed after the shop got the PUT.
            shop.update_ticket(ids[1], isClosed=True)
            store.dead = True
            raise KeyboardInterrupt

    at_put(lose)
    with pytest.raises(KeyboardInterrupt):
        run(close(**_EVERY), store)
    at_put(lambda *_: None)
    store.dead = False
    outcome = run(close(where=lambda ticket: ticket["id"] == ids[3], max_share=1.0), store)
    assert outcome["closed"] == [ids[0], ids[3]]
    assert outcomes(objects) == {ids[0]: "closed", ids[3]: "closed", ids[1]: "unknown"}
    assert set(undo()["updated"]) == {ids[0], ids[1], ids[3]}
    assert not closed(shop, ids)


@pytest.mark.parametrize("deferred", [False, True])
def test_a_job_of_an_earlier_version_plans_again_and_keeps_its_record(
    shop: Sandbox, at_put: Calls, objects: dict[str, bytes], deferred: bool
) -> None:
    ids, store = shop.add_tickets(6, isClosed=False), Store()
    run_until_stopped(close(**_EVERY), at_put, store)
    before = closed(shop, ids)
    ((key, saved),) = store.items()
    job = Job.from_checkpoint(saved)
    assert job is not None
    job.request_hash, job.action_hash, job.options_hash = "of the version before", "", ""
    store[key] = job.to_checkpoint()
    later = shop.add_tickets(1, isClosed=False)
    if deferred:
        outcome = close(**_EVERY).execute_complete({}, None, store[key])  # type: ignore[typeddict-item]
    else:
        outcome = run(close(**_EVERY), store)
    assert before
    assert outcome["closed"] == [*ids, *later]
    assert outcomes(objects) == dict.fromkeys([*ids, *later], "closed")


# After a success, and after changed tickets have failed the task


@pytest.mark.parametrize("on_failure", ["fail", "warn"])
def test_a_try_after_a_success_that_airflow_did_not_note_returns_the_same(
    shop: Sandbox, at_put: Calls, objects: dict[str, bytes], on_failure: str
) -> None:
    ids, store = shop.add_tickets(5, isClosed=False), Store()
    if on_failure == "warn":
        shop.inject(Fault("500", method="PUT", path=str(ids[4]), times=0))
    task = {"ticket_ids": ids, "on_failure": on_failure}
    first = run(close(**task), store, Xcom())
    shop.reset()
    receipt = objects.pop(_RECEIPT)
    assert run(close(**task), store, Xcom(try_number=2)) == first
    assert not shop.calls
    assert objects[_RECEIPT] == receipt
    assert undo()["updated"] == first["closed"]


def test_a_try_after_a_success_with_other_arguments_does_what_remains(shop: Sandbox) -> None:
    ids, store = shop.add_tickets(5, isClosed=False), Store()
    run(close(ticket_ids=ids[:3]), store, Xcom())
    assert run(close(ticket_ids=ids), store, Xcom(try_number=2))["closed"] == ids


def test_a_success_that_is_cleared_plans_again(shop: Sandbox, objects: dict[str, bytes]) -> None:
    ids, store = shop.add_tickets(3, isClosed=False), Store()
    run(close(ticket_ids=ids), store, Xcom())
    shop.update_ticket(ids[1], isClosed=False)
    again = run(close(ticket_ids=ids), store, Xcom(max_tries=3, try_number=2))
    assert again["closed"] == [ids[1]]
    assert again["already"] == [ids[0], ids[2]]
    assert set(outcomes(objects)) == set(ids)


@pytest.mark.parametrize("corrected", [{}, {"if_changed": "skip"}])
def test_a_receipt_outlives_the_clear_after_changed_tickets_failed_the_task(
    shop: Sandbox, objects: dict[str, bytes], corrected: dict[str, str]
) -> None:
    ids, store = shop.add_tickets(5, isClosed=False), Store()
    objects["s3://b/plan"] = b"\n".join(
        json.dumps({
            "id": key,
            "updatedAt": "2020-01-01T00:00:00Z" if key == ids[2] else None,
            "outcome": "planned",
        }).encode()
        for key in ids
    )
    task = {"ticket_ids": "s3://b/plan", "if_changed": "fail"}
    for instance in (Xcom(), Xcom(try_number=2)):
        with pytest.raises(LightspeedTaskFailed, match="changed since planning"):
            run(close(**task), store, instance)
    cleared = Xcom(max_tries=3, try_number=3)
    if corrected:
        run(close(**task | corrected), store, cleared)
    else:
        with pytest.raises(LightspeedTaskFailed, match="1 of 5 tickets failed"):
            run(close(**task), store, cleared)
    assert outcomes(objects) == {key: "changed" if key == ids[2] else "closed" for key in ids}
    assert sorted(undo()["updated"]) == [key for key in ids if key != ids[2]]


@pytest.mark.parametrize(
    ("try_number", "store", "receipt", "warns"),
    [
        (2, None, _RECEIPT, True),
        (1, None, _RECEIPT, False),
        (2, Store(), _RECEIPT, False),
        (2, None, None, False),
    ],
)
def test_without_a_store_a_second_try_warns_that_it_replaces_the_receipt(
    shop: Sandbox,
    log: Callable[[], str],
    try_number: int,
    store: Store | None,
    receipt: str | None,
    warns: bool,
) -> None:
    operator = CloseTicketsOperator(task_id="close", ticket_ids=shop.add_tickets(1), receipt_s3_key=receipt)
    run(operator, store, Xcom(try_number=try_number))
    assert ("put {{ ti.try_number }} in receipt_s3_key" in log()) is warns
