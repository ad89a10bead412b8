"""A sensor and an asset over many runs: each new ticket once for each cursor, whatever happens in between.

The sensor, its state, its trigger and the asset's watcher are the real ones; shop, clock, Variables and the asset's store
are values in memory. What a list of the shop may look like meanwhile is in `test_new_tickets_complete.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lightspeed._airflow import TaskDeferred
from airflow_provider_lightspeed.api.errors import LightspeedConnectionError
from airflow_provider_lightspeed.api.responses import Response, parse_response
from airflow_provider_lightspeed.api.tickets import TicketFilter
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.new_tickets import Cursor
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.triggers.batches import new_batches
from tests.drawing import drawn
from tests.integration.sensor_runs import Variables
from tests.unit.paging_world import Row, World

_MINUTE = 60
_START = 1_700_000_000
# A ticket may appear late by so much, and after so many tickets with greater ids.
_LATEST, _OVERTAKEN = 10 * _MINUTE, 5
_EMAILS = ("a@example.com", "b@example.com")
_CONN = "shop"
_NOT_FOUND = json.dumps({"error": {"code": 404, "method": "GET", "request": "", "message": "No."}}).encode()


@dataclass
class _Shop:
    """Tickets with rising ids. The shops have the same ids, and other tickets under them.

    :param shift: seconds that its tickets were created earlier than those of another shop.
    """

    key: str
    shift: int
    rows: dict[int, Row] = field(default_factory=dict)
    visible_at: dict[int, int] = field(default_factory=dict)

    def arrive(self, now: int, delay: int, email: str) -> None:
        ticket_id = max(self.visible_at, default=100) + 1
        created = now - self.shift
        self.rows[ticket_id] = Row(ticket_id, created, created, email, ticket_id * 7919 % 101)
        self.visible_at[ticket_id] = now + delay
        # One that was overtaken so often is late no longer.
        overtaken = ticket_id - _OVERTAKEN
        if overtaken in self.visible_at:
            self.visible_at[overtaken] = min(self.visible_at[overtaken], now)

    def at(self, now: int) -> dict[int, Row]:
        return {i: row for i, row in self.rows.items() if self.visible_at[i] <= now}


class _Worlds:
    """Both shops, where the connection leads, and the clock."""

    def __init__(self, order: str, page_size: int) -> None:
        self.now = _START
        self.shops = [_Shop("key", 0), _Shop("another key", 7)]
        self.shop = self.shops[0]
        self.is_away = False
        self._order, self._page_size = order, page_size

    def time(self) -> float:
        return float(self.now)

    def ask(self, question: Generator[Any, Any, Any]) -> Any:
        """Answer the calls of a question, as a client would."""
        if self.is_away:
            raise LightspeedConnectionError("dropped")
        world = World(order=self._order, page_cap=self._page_size, rows=self.shop.at(self.now))
        reply: Any = None
        while True:
            try:
                request = question.throw(reply) if isinstance(reply, Exception) else question.send(reply)
            except StopIteration as end:
                return end.value
            is_there = request.expected_id is None or request.expected_id in world.rows
            reply = world.answer(request) if is_there else _error(request)


def _error(request: Any) -> Exception:
    try:
        parse_response(request, Response(404, {}, _NOT_FOUND))
    except Exception as error:  # ruff: ignore[blind-except] - it is returned
        return error
    raise AssertionError


class _Hook:
    """The sensor's hook, and its client."""

    def __init__(self, worlds: _Worlds) -> None:
        self._worlds = worlds
        self.quota = "quota"

    def get_conn(self) -> _Hook:
        return self

    @property
    def settings(self) -> Any:
        return SimpleNamespace(shop=self._worlds.shop.key)

    def estimate(self, _: int) -> timedelta:
        return timedelta(0)

    def run(self, question: Any) -> Any:
        return self._worlds.ask(question)

    def iter_pages(self, tickets: TicketFilter, *, keep_malformed: bool) -> Any:
        rows = self._worlds.shop.at(self._worlds.now).values()
        shown = [row.id for row in rows if row.id > tickets.since_id and tickets.email in {None, row.email}]
        yield SimpleNamespace(tickets=[{"id": number} for number in shown], rejected=[])


class _AsyncClient(_Hook):
    """The triggerer's client. It makes one poll; the next one waits without end."""

    def __init__(self, worlds: _Worlds) -> None:
        super().__init__(worlds)
        self.asks_again = asyncio.Event()
        self._has_polled = False

    async def __aenter__(self) -> _AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def run(self, question: Any) -> Any:
        if self._has_polled:
            self.asks_again.set()
            await asyncio.Event().wait()
        self._has_polled = self._worlds.is_away or question.gi_code.co_name == "new_tickets"
        return self._worlds.ask(question)


class _Variables(Variables):
    """Airflow's Variables, on a server that may be down."""

    down_after: int | None = None

    def set(self, name: str, value: str) -> None:
        if self.down_after is not None:
            self.down_after -= 1
            if self.down_after < 0:
                raise ConnectionError("Airflow's API server is down")
        super().set(name, value)


@dataclass
class _Epoch:
    """What a cursor should know of one shop.

    :param newest: tickets up to this id were there before.
    :param witnesses: tickets by which the shop is recognised.
    """

    shop: _Shop
    newest: int
    email: str | None
    witnesses: list[int]
    delivered: list[int] = field(default_factory=list)
    runs: dict[str, list[int]] = field(default_factory=dict)

    def new(self, now: int | None = None) -> list[int]:
        """Return the tickets that are not delivered; those that can be seen, or all that exist or will appear."""
        rows = self.shop.rows if now is None else self.shop.at(now)
        return [
            i
            for i, row in sorted(rows.items())
            if i > self.newest and i not in self.delivered and self.email in {None, row.email}
        ]

    def is_recognised(self, now: int) -> bool:
        return any(i in self.shop.at(now) for i in self.witnesses)

    def deliver(self, run: str, ids: list[int]) -> None:
        self.delivered += ids
        self.witnesses = sorted({*self.witnesses, *ids})[-5:]
        if ids:
            self.runs[run] = ids


class _Consumer:
    """A sensor or an asset, and what it should know, for each e-mail address."""

    def __init__(self, worlds: _Worlds, start: str, limit: int) -> None:
        self.worlds, self.start, self.limit = worlds, start, limit
        self.email: str | None = None
        self.epochs: dict[str | None, _Epoch | None] = {}
        self.is_old = False

    def cursor(self) -> Cursor | None:
        raise NotImplementedError

    def deliver(self, run: str, cut: int) -> list[int]:
        """Poll, and return what is delivered.

        :param cut: at which save it dies; 0: it does not.
        """
        raise NotImplementedError

    def poll(self, run: str, cut: int = 0) -> None:
        worlds, before = self.worlds, self.cursor()
        epoch = self.epochs.get(self.email)
        newest = max(worlds.shop.at(worlds.now), default=0)
        ids = self.deliver(run, cut)
        after = self.cursor()
        if self.is_old:
            if after is None or after.shop is None:
                assert not ids
                return
            # An early version did not say of which shop its cursor is.
            assert epoch
            self.is_old = False
            last = max([epoch.newest, *epoch.delivered])
            runs = epoch.runs if epoch.shop is worlds.shop else {}
            witnesses = [last] if last in worlds.shop.at(worlds.now) else []
            epoch = _Epoch(worlds.shop, last, self.email, witnesses, runs=runs)
            self.epochs[self.email], before = epoch, None
        if after is None:
            assert before is None or (epoch and not self._continues(epoch))
            assert not ids
            self.epochs[self.email] = None
            return
        has_moved = before is not None and after.shop != before.shop
        if epoch is None or (has_moved and not self._continues(epoch)):
            first = 0 if self.start == "earliest" else newest
            epoch = self.epochs[self.email] = _Epoch(worlds.shop, first, self.email, [first])
        elif before is not None:
            # Whatever happens, a cursor does not move backwards.
            assert after.max_id >= before.max_id
            assert after.since_id >= before.since_id
        expected = [] if worlds.is_away else epoch.new(worlds.now)[: self.limit]
        assert ids == expected or (cut and ids == expected[: len(ids)])
        epoch.deliver(run, ids)
        # Nor over a ticket that is not delivered, be it one that will appear late.
        assert all(after.is_new(i) for i in epoch.new())

    def come_to_rest(self) -> None:
        """Poll until all is delivered, and once more, which closes the look-back."""
        number, is_over = 0, False
        while not is_over:
            self.worlds.now += 2 * 3_600
            epoch = self.epochs.get(self.email)
            is_over = number > 0 and epoch is not None and not self.is_old and not epoch.new()
            self.poll(f"quiet run {number}")
            number += 1
            assert number <= len(self.worlds.shop.rows) + 3
        cursor = self.cursor()
        assert cursor
        # A list that shows none of the known tickets closes no look-back.
        assert not any(i in self.worlds.shop.rows for i in cursor.known)
        assert cursor.shop == self.worlds.shop.key

    def _continues(self, epoch: _Epoch) -> bool:
        return epoch.shop is self.worlds.shop and epoch.is_recognised(self.worlds.now)


class _Sensor(_Consumer):
    """A sensor in poke mode or deferred, perhaps a mapped instance."""

    def __init__(
        self,
        name: str,
        variables: _Variables,
        *arguments: Any,
        state_name: str | None = None,
        deferrable: bool = False,
    ) -> None:
        super().__init__(*arguments)
        self._name, self._variables = name, variables
        self._state_name, self._deferrable = state_name, deferrable
        self._map_index = -1
        self._map_indexes: dict[str, int] = {}
        self._waits: Any = None

    def turn_to(self, email: str | None, map_index: int) -> None:
        """Change the customer, and the position in a mapped list."""
        self._waits = None
        if self._state_name:
            self._map_index = map_index
        elif not self.is_old:
            self.email = email

    @property
    def variable(self) -> str:
        (name,) = [name for name in self._variables.texts if name.endswith(self._suffix())] or [""]
        return name

    def _suffix(self) -> str:
        customer = "" if self.email is None else "." + hashlib.sha256(self.email.encode()).hexdigest()[:8]
        return f".{self._name}.{self._state_name or _CONN + customer}"

    def cursor(self) -> Cursor | None:
        text = self._variables.texts.get(self.variable)
        cursor = json.loads(text).get("cursor") if text else None
        return msgspec.convert(cursor, Cursor) if cursor else None

    def _context(self, run: str, max_tries: int = 0) -> Any:
        ti = SimpleNamespace(
            dag_id="dag", task_id=self._name, run_id=run, map_index=self._map_index, max_tries=max_tries
        )
        return {"ti": ti}

    def _new(self) -> NewTicketSensor:
        return NewTicketSensor(
            task_id=self._name,
            lightspeed_conn_id=_CONN,
            customer_email=self.email,
            state_name=self._state_name,
            start=self.start,  # type: ignore[arg-type]
            max_tickets=self.limit,
            poke_interval=0,
            deferrable=self._deferrable,
        )

    def deliver(self, run: str, cut: int) -> list[int]:
        self._variables.down_after = cut - 1 if cut else None
        self._map_indexes[run] = self._map_index
        try:
            return self._sense(run)
        except ConnectionError:
            assert cut
            return []
        finally:
            self._variables.down_after = None

    def _sense(self, run: str, max_tries: int = 0) -> list[int]:
        context, self._waits = self._context(run, max_tries), None
        if not self._deferrable:
            outcome = self._new().poke(context)
            return list(outcome.xcom_value["ticket_ids"]) if outcome.is_done else []
        try:
            result = self._new().execute(context)
            return list(result["ticket_ids"])
        except TaskDeferred as deferred:
            self._waits = deferred.trigger
            return []

    def again(self, back: int, is_cleared: bool) -> None:
        """Run a run once more that has delivered, so many before the last one."""
        epoch, worlds = self.epochs.get(self.email), self.worlds
        if epoch is None or not epoch.runs or worlds.is_away or self.is_old or not self._continues(epoch):
            return
        run = [*epoch.runs][-1 - back % len(epoch.runs)]
        if not is_cleared:
            self._map_index = self._map_indexes[run]
        before = self.cursor()
        shown = worlds.shop.at(worlds.now)
        assert self._sense(run, int(is_cleared)) == [i for i in epoch.runs[run] if i in shown]
        after = self.cursor()
        assert before
        assert after == msgspec.structs.replace(before, shop=worlds.shop.key)

    def wait(self, runner: asyncio.Runner) -> None:
        """Let the trigger poll once: it wakes the task up if that would deliver something."""
        epoch = self.epochs.get(self.email)
        trigger, self._waits = self._waits, None
        if trigger is None or epoch is None or self.is_old or not self._continues(epoch):
            return
        path, arguments = trigger.serialize()
        assert path.endswith(".NewTicketTrigger")
        trigger = type(trigger)(**json.loads(json.dumps(arguments)))
        wakes = runner.run(_wakes(self.worlds, trigger))
        assert wakes == (bool(epoch.new(self.worlds.now)) and not self.worlds.is_away)

    def become_old(self) -> None:
        """Write the state as early versions did."""
        cursor, epoch = self.cursor(), self.epochs.get(self.email)
        if cursor is None or epoch is None or cursor.known or self.email or self._state_name:
            return
        runs = {run: [min(ids) - 1, max(ids), ids] for run, ids in epoch.runs.items()}
        text = json.dumps({"since_id": cursor.max_id, "runs": runs})
        del self._variables.texts[self.variable]
        self._variables.texts[f"lightspeed_new_tickets.dag.{self._name}"] = text
        self.is_old = True

    def break_state(self, text: str) -> None:
        """Make the state unreadable: it is left as it is, and no ticket is delivered, until it is mended."""
        if not (name := self.variable):
            return
        kept, self._variables.texts[name] = self._variables.texts[name], text
        with pytest.raises(LightspeedTaskFailed, match=name):
            self._new().poke(self._context("unreadable"))
        assert self._variables.texts[name] == text
        self._variables.texts[name] = kept


class _Asset(_Consumer):
    """An asset's watcher, in a triggerer that starts with each poll."""

    def __init__(self, runner: asyncio.Runner, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._runner = runner
        self._stored: dict[str, Any] | None = None

    def cursor(self) -> Cursor | None:
        return msgspec.convert(self._stored, Cursor) if self._stored else None

    def deliver(self, run: str, cut: int) -> list[int]:
        return self._runner.run(self._watch(cut))

    async def _watch(self, cut: int) -> list[int]:
        client = _AsyncClient(self.worlds)
        delivered: list[int] = []
        with _leading_to(client):
            arguments = {"lightspeed_conn_id": _CONN, "poll_interval": 0, "start": self.start}
            batches = new_batches(arguments, self.cursor())
            ends = asyncio.ensure_future(client.asks_again.wait())
            while True:
                batch: Any = asyncio.ensure_future(anext(batches))
                await asyncio.wait({batch, ends}, return_when=asyncio.FIRST_COMPLETED)
                if not batch.done():
                    batch.cancel()
                    await asyncio.gather(batch, return_exceptions=True)
                    break
                item = batch.result()
                cut -= item.result is not None
                if cut == 0 and item.result is not None:
                    break  # sent, and killed before Airflow has stored it: it is sent again
                self._stored = json.loads(json.dumps(item.cursor.to_json()))
                delivered += item.result.ticket_ids if item.result else []
            ends.cancel()
            await batches.aclose()
        return delivered


async def _wakes(worlds: _Worlds, trigger: Any) -> bool:
    """Return whether a trigger ends with its first poll."""
    client = _AsyncClient(worlds)
    with _leading_to(client):
        event: Any = asyncio.ensure_future(anext(aiter(trigger.run())))
        ends = asyncio.ensure_future(client.asks_again.wait())
        await asyncio.wait({event, ends}, return_when=asyncio.FIRST_COMPLETED)
        wakes = event.done()
        event.cancel()
        ends.cancel()
        await asyncio.gather(event, ends, return_exceptions=True)
        return bool(wakes)


@contextmanager
def _leading_to(client: _AsyncClient) -> Generator[None]:
    async def open_client(_: str) -> _AsyncClient:  # ruff: ignore[unused-async] - it is awaited
        return client

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_lightspeed.hooks.connection.open_client", open_client)
        yield


@contextmanager
def _in_memory(worlds: _Worlds, variables: _Variables) -> Generator[asyncio.Runner]:
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        for module in ("sensors.tickets", "triggers.tickets", "triggers.poller"):
            patch.setattr(f"airflow_provider_lightspeed.{module}.time", worlds)
        for module in ("_variables", "sensors.state"):
            patch.setattr(f"airflow_provider_lightspeed.{module}.Variable", variables)
        patch.setattr("airflow_provider_lightspeed.triggers.batches.EVENT_INTERVAL", 0)
        patch.setattr("airflow_provider_lightspeed.triggers.batches.BATCH_SIZE", 2)
        patch.setattr(NewTicketSensor, "_hook", _Hook(worlds))
        yield runner


_POLL = st.tuples(st.just("poll"), st.sampled_from([0, 0, 0, 1, 2, 3]))
_ARRIVE = st.tuples(
    st.just("arrive"), st.sampled_from([0, 0, 0, 70, 400, _LATEST]), st.sampled_from([*_EMAILS, _EMAILS[0]])
)
_CHANGE = st.one_of(
    st.tuples(st.just("again"), st.sampled_from([0, 0, 1, 5]), st.booleans()),
    st.tuples(st.just("delete"), st.sampled_from([0, 1, 2, 6])),
    st.tuples(st.just("rotate")),
    st.tuples(st.just("wait")),
    st.tuples(st.just("old")),
    st.one_of(
        st.tuples(st.just("lead"), st.integers(0, 1)),
        st.tuples(st.just("away"), st.sampled_from([True, False, False])),
        st.tuples(st.just("turn"), st.sampled_from([None, *_EMAILS]), st.integers(0, 3)),
        st.tuples(st.just("break"), st.sampled_from(["", "[]", '{"cursor": 1}', "{"])),
    ),
)
_STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 60, 400, 900, 7_200]), st.integers(0, 1), st.one_of(_POLL, _ARRIVE, _CHANGE)
    ),
    min_size=15,
    max_size=40,
)


def _consumers(kind: str, worlds: _Worlds, variables: _Variables, *arguments: Any) -> list[_Sensor]:
    if kind == "mapped":
        names = ("one", "two")
        return [_Sensor(kind, variables, worlds, *arguments, state_name=name) for name in names]
    return [_Sensor(kind, variables, worlds, *arguments, deferrable=kind == "deferred")]


def _happen(step: Any, worlds: _Worlds, sensor: _Consumer, runner: asyncio.Runner) -> None:
    match step:
        case "arrive", delay, email:
            worlds.shop.arrive(worlds.now, delay, email)
        case "delete", back:
            for ticket_id in sorted(worlds.shop.at(worlds.now), reverse=True)[back : back + 1]:
                del worlds.shop.rows[ticket_id]
        case ("rotate",):
            worlds.shop.key += " rotated"
        case "lead", which:
            worlds.shop = worlds.shops[which]
        case "away", is_away:
            worlds.is_away = is_away
    if not isinstance(sensor, _Sensor):
        return
    match step:
        case "again", back, is_cleared:
            sensor.again(back, is_cleared)
        case ("wait",):
            sensor.wait(runner)
        case "turn", email, map_index:
            sensor.turn_to(email, map_index)
        case ("old",):
            sensor.become_old()
        case "break", text:
            sensor.break_state(text)


@pytest.mark.parametrize("kind", ["poke", "deferred", "mapped", "asset"])
@settings(max_examples=drawn(40, 200))
@given(
    _STEPS,
    st.sampled_from(["unordered", "oldest", "newest"]),
    st.sampled_from([20, 250]),
    st.sampled_from(["latest", "latest", "earliest"]),
    st.sampled_from([1, 3, 10_000]),
    st.integers(0, 3),
)
def test_each_ticket_once_for_each_cursor(
    kind: str, steps: list[Any], order: str, page_size: int, start: str, limit: int, before: int
) -> None:
    worlds, variables = _Worlds(order, page_size), _Variables()
    for shop in worlds.shops:
        for _ in range(before):
            shop.arrive(worlds.now, 0, _EMAILS[0])
    with _in_memory(worlds, variables) as runner:
        consumers: list[Any] = [_Asset(runner, worlds, start, 10_000)]
        if kind != "asset":
            consumers = _consumers(kind, worlds, variables, start, limit)
        for number, (pause, which, step) in enumerate(steps):
            worlds.now += pause
            consumer = consumers[which % len(consumers)]
            match step:
                case "poll", cut:
                    consumer.poll(f"run {number}", cut)
                case _:
                    _happen(step, worlds, consumer, runner)
        worlds.is_away = False
        for consumer in consumers:
            consumer.come_to_rest()
