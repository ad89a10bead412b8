"""Random bulk changes of random shops: what the shop's histories say we did, against what we say we did.

Each seed is a shop with faults, other people's changes, a quota of one to three windows, and a task that may be
killed, stopped and deferred on its way. ``RANDOM_RUNS=3000`` makes so many runs, ``RANDOM_RUNS=500-1000`` these.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import LightspeedError
from airflow_provider_lightspeed.api.tickets import Request
from airflow_provider_lightspeed.cancellation import Cancelled
from airflow_provider_lightspeed.exceptions import LightspeedTicketsFailed
from airflow_provider_lightspeed.operators.bulk import BulkTicketsOperator
from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    DeleteTicketsOperator,
    UpdateTicketsOperator,
)
from airflow_provider_lightspeed.s3.objects import S3Objects
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Change, Churn, Fault, Sandbox, ShopConfig, email_of
from chaos.calls import repeated_writes
from tests.drawing import drawn
from tests.integration.bulk_runs import Store, lines, run

END = datetime(2026, 6, 1, tzinfo=UTC)

_FAULTS = (
    "500",
    "503",
    "drop",
    "cut-off",
    "error-200",
    "broken-json",
    "html-200",
    "empty-200",
    "no-key",
    "429",
)
_TRIES = 12
#: So many calls are on their way when a worker is killed.
_AT_ONCE = 8
#: Seconds for which a ticket that was seen is believed to be as it was; 30 in earnest, longer than these runs.
_MAX_AGE = 0.5
#: A call may take so long, and the shop's clock tells whole seconds only.
_SLACK = 3.0


def _seeds() -> range:
    first, _, last = os.environ.get("RANDOM_RUNS", str(drawn(12, 24))).rpartition("-")
    return range(int(first or 0), int(last))


class Killed(BaseException):
    """An error that no code catches."""


@dataclass
class Scenario:
    """What happens in one run, drawn from its seed."""

    seed: int
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def shop(self) -> ShopConfig:
        chance = self.chance
        faults = tuple(
            # What is refused with 429 was surely not executed.
            Fault(kind, times=0, probability=0.02, applied=kind != "429" and chance.random() < 0.5)  # type: ignore[arg-type]
            for kind in chance.sample(_FAULTS, 3)
        )
        tickets, limits, seconds = chance.choice([
            (chance.choice([10, 30, 80, 300, 600]), NO_LIMITS, (300.0, 3600.0, 86400.0)),
            (chance.choice([30, 80, 300]), (40, 100_000, 100_000), (0.7, 3600.0, 86400.0)),
            (chance.choice([30, 80, 300]), (40, 70, 110), (1.0, 2.0, 4.0)),
        ])
        return ShopConfig(
            seed=self.seed,
            tickets=tickets,
            end=END,
            days=60,
            order=chance.choice(["newest", "oldest", "unordered", "last_change", "last_change_asc"]),
            since_id_inclusive=chance.random() < 0.2,
            limits=limits,
            window_seconds=seconds,
            burst_limit=0,
            negative_remaining=chance.random() < 0.5,
            retry_after="seconds" if chance.random() < 0.3 else "none",
            faults=faults,
            churn=Churn(inserts=0.1, changes=0.2, deletes=0.05),
        )

    def choice(self, tickets: dict[int, Any]) -> tuple[dict[str, Any], Callable[[Any], bool]]:
        """Return arguments, and what they mean."""
        chance = self.chance
        if chance.random() < 0.5:
            ids = chance.sample(sorted(tickets), len(tickets) // chance.choice([1, 3, 10]))
            return {"ticket_ids": ids}, lambda ticket: ticket["id"] in ids
        bound = chance.choice([ticket["createdAt"] for ticket in tickets.values()])
        customer = next(t["customer"]["resource"]["id"] for t in tickets.values() if t["customer"])
        arguments, means = chance.choice([
            ({"only_answered": True}, lambda t: t["isAnswered"] and not t["isTodo"]),
            ({"created_before": bound, "include_todo": True}, lambda t: t["createdAt"] < bound),
            ({"updated_before": bound}, lambda t: t["updatedAt"] < bound and not t["isTodo"]),
            ({"where": _by_three}, lambda t: t["id"] % 3 == 0 and not t["isTodo"]),
            (
                {"customer_email": email_of(customer), "include_todo": True, "max_tickets": 1_000},
                lambda t: t["customer"] and t["customer"]["resource"]["id"] == customer,
            ),
        ])
        return {**arguments, "max_share": 1.0}, lambda ticket: not ticket["isClosed"] and means(ticket)


def _by_three(ticket: dict[str, Any]) -> bool:
    return bool(ticket["id"] % 3 == 0)


@dataclass(frozen=True)
class Kind:
    """A kind of bulk change, and what the shop's history says of it."""

    operator: type[BulkTicketsOperator]
    arguments: dict[str, Any]
    key: str
    after: dict[str, Any]

    def is_one(self, change: Change) -> bool:
        if self.operator is DeleteTicketsOperator:
            return change.method == "DELETE"
        return change.method == "PUT" and bool(change.after) and change.after.items() <= self.after.items()


_KINDS = (
    Kind(CloseTicketsOperator, {}, "closed", {"isClosed": True}),
    Kind(
        UpdateTicketsOperator,
        {"is_answered": True, "memo": "seen"},
        "updated",
        {"isAnswered": True, "memo": "seen"},
    ),
    Kind(DeleteTicketsOperator, {"max_tickets": 1000}, "deleted", {}),
)


@pytest.mark.parametrize("seed", _seeds())
def test_random_runs(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, seed: int) -> None:
    monkeypatch.setattr("airflow_provider_lightspeed.api.retry.FIRST_BACKOFF", 0.01)
    monkeypatch.setattr("airflow_provider_lightspeed.bulk.run._MAX_AGE", _MAX_AGE)
    scenario = Scenario(seed)
    chance = scenario.chance
    with Sandbox(scenario.shop()) as sandbox:
        extra = {"calls_per_second": 0, "max_wait": chance.choice([0, 60])}
        connection = {**json.loads(sandbox.airflow_connection()), "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))
        before = sandbox.shop.tickets()
        kind = chance.choice(_KINDS)
        choice, means = scenario.choice(before)
        store = Store() if chance.random() < 0.7 else None
        receipt = None
        if chance.random() < 0.2:
            request.getfixturevalue("aws")
            receipt = f"s3://{request.getfixturevalue('s3_bucket')}/{seed}.jsonl"
        arguments: dict[str, Any] = {**kind.arguments, **choice, "receipt_s3_key": receipt}
        broken = chance.sample(sorted(before), 3) if chance.random() < 0.3 else []
        for number in broken:
            path, applied = f"/{number}.json", chance.random() < 0.5
            sandbox.inject(Fault("500", path=path, method="PUT", times=0, applied=applied))
            sandbox.inject(Fault("500", path=path, method="DELETE", times=0, applied=applied))
        # With no store, a next try cannot know what the last one did.
        arguments["on_failure"] = "warn" if store is None else chance.choice(["warn", "fail"])
        ends = (
            [chance.choice(["kill", "stop"]) for _ in range(chance.choice([0, 0, 1, 3]))]
            if store is not None
            else []
        )

        def one_try() -> dict[str, Any] | None:
            operator = kind.operator(task_id="change", **arguments)
            how, after = ends.pop() if ends else "", chance.randrange(1, 2 + len(before) // 3)
            with _ended(monkeypatch, operator, store, how, after):
                return run(operator, store)
            return None

        cuts = len(ends)
        for _ in range(_TRIES):
            try:
                outcome = one_try()
            except LightspeedTicketsFailed:
                sandbox.backend.clear_faults()
                outcome = None
            except LightspeedError:
                # A list that moves too fast; answers that break again and again. Airflow tries again.
                sandbox.backend.clear_faults()
                outcome = None
            if outcome is not None:
                break
        assert outcome is not None
        _outcome_is_the_truth(sandbox, before, kind, choice, means, outcome, cuts=cuts)
        if receipt is not None:
            _receipt_is_the_outcome(kind, outcome, receipt)


@contextmanager
def _ended(
    monkeypatch: pytest.MonkeyPatch, operator: BulkTicketsOperator, store: Store | None, how: str, calls: int
) -> Generator[None]:
    """End a try at one of its calls: others are in flight then.

    ``kill``: and all that it had not saved is lost. ``stop``: it is asked to.
    """
    if not how or store is None:
        yield
        return
    numbers = itertools.count(1)
    real_call, real_write = LightspeedClient.call, S3Objects.write
    dead, mortal = threading.Event(), set[LightspeedClient]()

    def call(client: LightspeedClient, request: Request, **options: Any) -> Any:
        if client not in mortal:
            mortal.add(client)
            client._transport.send = _until(dead, client._transport.send)  # type: ignore[method-assign]
        if next(numbers) >= calls:
            if how == "stop":
                threading.Thread(target=operator.on_kill).start()
                return real_call(client, request, **options)
            dead.set()
            store.dead = True
            raise Killed
        return real_call(client, request, **options)

    def write(files: S3Objects, uri: str, data: bytes) -> None:
        if not store.dead:
            real_write(files, uri, data)

    with monkeypatch.context() as patched:
        patched.setattr(LightspeedClient, "call", call)
        patched.setattr(S3Objects, "write", write)
        try:
            yield
        except (Killed, Cancelled):
            store.dead = False


def _until(dead: threading.Event, send: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let no thread of a dead worker send what it was waiting to send."""

    def send_if_alive(wish: Any) -> Any:
        if dead.is_set():
            raise Killed
        return send(wish)

    return send_if_alive


def _outcome_is_the_truth(
    sandbox: Sandbox,
    before: dict[int, Any],
    kind: Kind,
    choice: dict[str, Any],
    means: Callable[[Any], bool],
    outcome: dict[str, Any],
    *,
    cuts: int,
) -> None:
    done, gone, failed = set(outcome[kind.key]), set(outcome["missing"]), set(map(int, outcome["failed"]))
    told = [*outcome[kind.key], *outcome["already"], *outcome["missing"], *outcome["changed"], *failed]
    assert len(told) == len(set(told))
    histories = {number: sandbox.shop.history(number) for number in {*before, *sandbox.shop.ids()}}
    by_us = {n: [change for change in h if change.by == sandbox.key] for n, h in histories.items()}
    for changes in by_us.values():
        assert len(changes) <= 1
        # Only what we meant: nothing of what a customer or the staff changed is overwritten.
        assert all(kind.is_one(change) for change in changes)
    touched = {number for number, changes in by_us.items() if changes}
    # Nor was anything sent again that had been answered.
    assert repeated_writes(sandbox.calls) <= _AT_ONCE * cuts

    # A lost answer to a call whose next try finds the ticket gone says "missing", and so it is.
    # Nor can anybody say who has deleted a ticket that is gone after a DELETE that seemed to fail, or when the next
    # try of a killed one comes by that had it in hand.
    sent = {call.path.rpartition("/")[2] for call in sandbox.calls if call.method == "DELETE"}
    disputed = {n for n in sandbox.shop.deleted().keys() - touched if cuts or f"{n}.json" in sent}
    assert touched - failed - gone == done - disputed
    assert touched.isdisjoint([*outcome["already"], *outcome["changed"]])
    assert gone <= set(sandbox.shop.deleted())

    # Each ticket that no other program has touched was planned if and only if it was meant.
    by_others = {n for n, h in histories.items() if any(change.by != sandbox.key for change in h)}
    alone = before.keys() - by_others
    if "ticket_ids" in choice:
        assert set(told) == set(choice["ticket_ids"])
    else:
        expected = {n for n in alone if means(before[n])}
        if kind.after:
            expected = {n for n in expected if any(before[n][k] != v for k, v in kind.after.items())}
        assert set(told) & alone == expected
    after = sandbox.shop.tickets()
    for number in alone - touched:
        assert after[number] == before[number]

    # Nor was a ticket changed that another program had changed between the plan and our last read of it.
    writes = [call.at for call in sandbox.calls if call.method in {"PUT", "DELETE"}]
    planned = choice.keys() != {"ticket_ids"} or len(choice["ticket_ids"]) > 250
    for number in touched if planned else ():
        ours = datetime.fromisoformat(by_us[number][0].at).timestamp()
        others = [datetime.fromisoformat(c.at).timestamp() for c in histories[number] if c.by != sandbox.key]
        assert not [at for at in others if writes[0] + 1 < at < ours - _MAX_AGE - _SLACK], number


def _receipt_is_the_outcome(kind: Kind, outcome: dict[str, Any], receipt: str) -> None:
    told: dict[str, set[int]] = {}
    for line in lines(receipt):
        told.setdefault(line["outcome"], set()).add(line["id"])
    expected = {name: set(outcome[name]) for name in (kind.key, "already", "missing", "changed")}
    expected["failed"] = set(map(int, outcome["failed"]))
    assert told == {name: ids for name, ids in expected.items() if ids}
