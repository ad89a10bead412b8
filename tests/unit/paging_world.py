"""A small shop in memory that answers the walk's requests: written from the API's documents alone."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from itertools import islice
from math import ceil
from operator import attrgetter
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from airflow_provider_lightspeed.api.errors import LightspeedError, LightspeedInvalidRequestError
from airflow_provider_lightspeed.api.paging import Cursor, Page, walk
from airflow_provider_lightspeed.api.responses import Response, parse_response
from airflow_provider_lightspeed.api.tickets import Request, TicketFilter
from tests.plain_json import plain_json


@lru_cache
def zone_of(name: str) -> tzinfo:
    """Read an IANA name, or minutes from UTC."""
    try:
        return timezone(timedelta(minutes=int(name)))
    except ValueError:
        return ZoneInfo(name)


@lru_cache(maxsize=100_000)
def iso(second: int, zone: str) -> str:
    return datetime.fromtimestamp(second, zone_of(zone)).isoformat()


@lru_cache(maxsize=100_000)
def local(second: int, zone: str) -> int:
    """The wall clock, as seconds since 1970 of that wall clock."""
    return int(datetime.fromtimestamp(second, zone_of(zone)).replace(tzinfo=UTC).timestamp())


@dataclass
class Row:
    id: int
    created: int
    updated: int | None
    email: str
    rank: float
    hidden: bool = False
    twice: bool = False
    visible_from: int = 0

    def copied(self) -> Row:
        # Ten times as fast as `dataclasses.replace`.
        return Row(
            self.id,
            self.created,
            self.updated,
            self.email,
            self.rank,
            self.hidden,
            self.twice,
            self.visible_from,
        )


@dataclass
class World:
    """Everything that is not known of a shop, what others do to it between two calls, and how it lies.

    :param page_cap: most rows of a page, whatever ``limit`` says.
    :param cap_skips: pages of a capped shop start at multiples of the ``limit`` asked for.
    :param hidden: share of tickets that are left out of pages after the limit was applied.
    :param twice: share of tickets that are in their page twice.
    :param twice_counts: rows that are there twice count for the limit.
    :param count_cap: most that a count says.
    :param count_off: by how much a count is wrong (below zero: it lags).
    :param empty_at: the list response that is wrongly empty, the first of `empties` in a row.
    :param replica: share of responses that come from a replica.
    :param replica_lag: calls that the replica lags behind.
    :param replica_lacks: newest tickets that the replica lacks.
    :param turn: 0 or 1: a replica answers every other request, from the first or the second on; None: by chance.
    :param late: share of new tickets that become visible some calls later than tickets with higher ids.
    :param deepest: rows after which pages are ...
    :param deep: ... refused, emptied or cut.
    :param blocked_at: the call that a firewall refuses, however often it is tried.
    :param switches: how false and true are written; None: tickets have no switches.
    :param aliased: whether each ticket is answered with the newest one.
    """

    order: str = "newest"
    filter_zone: str = "UTC"
    answer_zone: str = "UTC"
    naive: bool = False
    min_inclusive: bool = True
    max_inclusive: bool = True
    since_id_inclusive: bool = False
    count_reads_email: bool = False
    null_is_lowest: bool = False
    ignores: frozenset[str] = frozenset()
    page_cap: int = 250
    cap_skips: bool = False
    hidden: float = 0.0
    twice: float = 0.0
    twice_counts: bool = True
    count_cap: int | None = None
    count_off: int = 0
    count_sees_hidden: bool = True
    empty_at: int | None = None
    empties: int = 1
    replica: float = 0.0
    replica_lag: int = 0
    replica_lacks: int = 0
    turn: int | None = None
    late: float = 0.0
    deepest: int | None = None
    deep: str = "refuse"
    blocked_at: int | None = None
    switches: tuple[Any, Any] | None = None
    aliased: bool = False
    inserts: float = 0.0
    changes: float = 0.0
    deletes: float = 0.0
    seed: int = 0
    rows: dict[int, Row] = field(default_factory=dict, repr=False)
    calls: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.now = 0
        self.last_id = 0
        self.gap = 1
        self.lists = 0
        self.filled = False
        self.history: deque[dict[int, Row]] = deque(maxlen=self.replica_lag + 1)
        # What was there at all requests so far, and what all responses could see; None: not asked yet.
        self.always: set[int] | None = None
        self.shown: set[int] = set()
        self.all: dict[int, Row] = {}
        self.still: list[Row] = []

    def fill(
        self, created: Iterable[int], *, gap: int = 1, changed: float = 0.0, null: bool = False
    ) -> World:
        self.gap = gap
        for second in created:
            self.now = max(self.now, second)
            updated = None if null else second
            if self.chance.random() < changed:
                updated = second + self.chance.randrange(1, 500_000)
            self.add(second, updated)
        self.now = max([self.now + 1, *((row.updated or 0) for row in self.rows.values())])
        self.filled = True
        if self.hidden:
            # So long a run of rows left out that it fills half a page would look like the end of the list.
            hidden_at: dict[str | None, int] = {}
            positions: Counter[str | None] = Counter()
            for row in self._sorted([*self.rows.values()]):
                lists = (None, row.email)
                row.hidden = row.hidden and all(positions[of] - hidden_at.get(of, -9) > 3 for of in lists)
                if row.hidden:
                    hidden_at |= {of: positions[of] for of in lists}
                positions.update(lists)
        return self

    def add(self, created: int, updated: int | None) -> None:
        self.still = []
        below = self.chance._randbelow  # randint and choice without their checks, which take longer
        self.last_id += 1 + below(self.gap)
        email = ("a@example.com", "b@example.com")[below(2)]
        row = self.rows[self.last_id] = self.all[self.last_id] = Row(
            self.last_id, created, updated, email, self.chance.random()
        )
        if self.hidden or self.twice or self.late:
            row.hidden = not self.filled and self.chance.random() < self.hidden
            row.twice = self.chance.random() < self.twice
            if self.filled and self.chance.random() < self.late:
                row.visible_from = self.calls + self.chance.randint(1, 8)

    def churn(self) -> None:
        self.now += self.chance.choice([0, 0, 1, 60])
        for rate, change in (
            (self.inserts, self._insert),
            (self.changes, self._change),
            (self.deletes, self._delete),
        ):
            times = int(rate) + (self.chance.random() < rate % 1)
            for _ in range(times):
                change()

    def _insert(self) -> None:
        self.add(self.now, self.now)

    def _change(self) -> None:
        if self.rows:
            self.rows[self._any()].updated = self.now

    def _any(self) -> int:
        ids = list(self.rows)
        return self.chance.choice(ids)

    def _delete(self) -> None:
        if self.rows:
            del self.rows[self._any()]

    # What the API does

    def answer(self, request: Request) -> Any:
        """Answer a call; an exception is what the client raises for the response."""
        self.calls += 1
        if self.calls == self.blocked_at:
            return _over_the_wire(request, 403, b"<html>Request blocked</html>")
        if request.expected_id is not None:
            shown = max(self.rows) if self.aliased else request.expected_id
            return _over_the_wire(request, 200, {"ticket": self._document(self.rows[shown])})
        query = dict(request.query)
        state = self._state()
        if request.path == "tickets/count.json":
            if not self.count_reads_email:
                query.pop("email", None)
            found = self._matching([*state.values()], query)
            count = sum(not row.hidden for row in found) if not self.count_sees_hidden else len(found)
            count = max(0, count + self.count_off) if count else 0
            return count if self.count_cap is None else min(count, self.count_cap)
        assert request.path == "tickets.json"
        self.lists += 1
        if self.empty_at is not None and 0 <= self.lists - self.empty_at < self.empties:
            return []
        if self.always is None or self.replica or self.late or self.turn is not None:
            visible = {key for key, row in self.rows.items() if row.visible_from <= self.calls}
            if self.always is None:
                self.always, self.shown = visible, set(state)
            self.always &= visible
            self.shown &= state.keys()
        limit, page = query.get("limit", 50), query.get("page", 1)
        assert isinstance(limit, int)
        assert isinstance(page, int)
        assert 1 <= limit <= 250
        page = 1 if "page" in self.ignores else page
        held = min(limit, self.page_cap)
        start = (page - 1) * (limit if self.cap_skips else held)
        end = start + held
        if self.deepest is not None and end > self.deepest and page > 1:
            if self.deep == "refuse":
                return LightspeedInvalidRequestError(
                    status=400, message="Page is too deep.", method="GET", path="/tickets.json"
                )
            end = min(end, self.deepest) if self.deep == "cut" else start
        rows = self._in_order(state, query, start, end)
        documents = [self._document(row) for row in rows if not row.hidden]
        return documents if self.switches is None else _over_the_wire(request, 200, {"tickets": documents})

    def _state(self) -> dict[int, Row]:
        """Return what this response can see."""
        state = self.rows
        if self.replica or self.turn is not None:
            self.history.append({row.id: row.copied() for row in self.rows.values()})
            lags = self.chance.random() < self.replica if self.turn is None else self.calls % 2 != self.turn
            if lags:
                state = self.history[0]
                if self.replica_lacks:
                    newest = sorted(state)[-self.replica_lacks :]
                    state = {key: row for key, row in state.items() if key not in newest}
        if self.late:
            state = {key: row for key, row in state.items() if row.visible_from <= self.calls}
        return state

    def _in_order(self, state: dict[int, Row], query: dict[str, Any], start: int, end: int) -> list[Row]:
        plain = not query.keys() & {"since_id", "email", "created_at_min", "created_at_max"}
        if plain and self.order in {"oldest", "newest"} and not self.twice:
            # Rows are kept in the order of their ids.
            rows = reversed(state.values()) if self.order == "newest" else iter(state.values())
            return [*islice(rows, start, max(start, end))]
        if state is self.rows and type(self).churn is World.churn and not self._churns:
            # Where nothing changes it is sorted once: this is where tests of long lists spend their time.
            self.still = self.still or self._sorted([*state.values()])
            found = self._matching(self.still, query)
        else:
            found = self._sorted(self._matching([*state.values()], query))
        if self.twice and self.twice_counts:
            found = [row for row in found for _ in range(1 + row.twice)]
        found = found[start:end] if end > start else []
        if self.twice and not self.twice_counts:
            found = [row for row in found for _ in range(1 + row.twice)]
        return found

    @property
    def _churns(self) -> bool:
        return bool(self.inserts or self.changes or self.deletes)

    def _matching(self, rows: list[Row], query: dict[str, Any]) -> list[Row]:
        if "since_id" in query and "since_id" not in self.ignores:
            lowest = int(query["since_id"]) + (0 if self.since_id_inclusive else 1)
            rows = [row for row in rows if row.id >= lowest]
        if "email" in query:
            rows = [row for row in rows if row.email == query["email"]]
        low, high = -(1 << 40), 1 << 40
        if "created_at_min" in query and not self.ignores & {"dates", "created_at_min"}:
            low = self._read(query["created_at_min"]) + (0 if self.min_inclusive else 1)
        if "created_at_max" in query and not self.ignores & {"dates", "created_at_max"}:
            high = self._read(query["created_at_max"]) - (0 if self.max_inclusive else 1)
        if (low, high) == (0, 1 << 40):
            return rows
        if not self.naive:
            return [row for row in rows if low <= row.created <= high]
        # No wall clock is a day from UTC; to read one takes long.
        rows = [row for row in rows if low - 86_400 <= row.created <= high + 86_400]
        return [row for row in rows if low <= self._wall_clock(row) <= high]

    def _read(self, text: str) -> int:
        assert len(text) == len("YYYY-MM-DD HH:MM:SS")
        zone = UTC if self.naive else zone_of(self.filter_zone)
        return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())

    def _wall_clock(self, row: Row) -> int:
        return local(row.created, self.filter_zone)

    def _sorted(self, rows: list[Row]) -> list[Row]:
        """Sort rows that are in the order of their ids; those that changed in one second stay in it."""

        def change(row: Row) -> int:
            return row.updated if row.updated is not None else 0 if self.null_is_lowest else row.created

        match self.order:
            case "unordered":
                rows.sort(key=attrgetter("rank"))
            case "newest":
                rows.reverse()
            case "last_change":
                rows.reverse()
                rows.sort(key=change, reverse=True)
            case "last_change_asc":
                rows.sort(key=change)
        return rows

    def _document(self, row: Row) -> dict[str, Any]:
        updated = False if row.updated is None else iso(row.updated, self.answer_zone)
        document = {"id": row.id, "createdAt": iso(row.created, self.answer_zone), "updatedAt": updated}
        return (
            document if self.switches is None else document | {"isClosed": self.switches[is_closed(row.id)]}
        )

    # The truth

    def must_and_may(self, wanted: TicketFilter) -> tuple[set[int], set[int]]:
        """Return the ids that a walk must yield, and those that it may yield.

        Where a replica takes turns, the walk must yield every ticket that the shop itself had all the time. It can't do
        that in a list of one page if others are deleted meanwhile, nor if a response is empty besides. Else it must yield what all responses could see.
        """
        matching = {row.id for row in self.all.values() if matches(row, wanted) and not row.hidden}
        must = matching & (self.always or set()) & self.rows.keys()
        if self.turn is None or self.empty_at is not None or (self.deletes and len(must) <= 12):
            must &= self.shown
        return must, matching

    def expected(self, wanted: TicketFilter) -> set[int]:
        """Return the ids of the tickets of now that match."""
        return {row.id for row in self.rows.values() if matches(row, wanted)}


def is_closed(ticket_id: int) -> bool:
    return ticket_id % 2 == 0


def _over_the_wire(request: Request[Any], status: int, body: Any) -> Any:
    """Return what the client reads in a response: its data, or the exception."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    try:
        return parse_response(request, Response(status, {}, content))
    except LightspeedError as error:
        return error


def matches(row: Row, wanted: TicketFilter) -> bool:
    low = wanted.created_from.timestamp() if wanted.created_from else 0
    high = wanted.created_to.timestamp() if wanted.created_to else 1 << 40
    return low <= row.created < high and row.id > (wanted.since_id or 0) and wanted.email in {None, row.email}


class EndlessError(AssertionError):
    """A walk made more calls than any walk should."""


@dataclass
class Outcome:
    """What a walk yielded, and what it should have."""

    yielded: list[int]
    must: set[int]
    may: set[int]
    calls: int
    pages: list[Page]

    def check(self) -> None:
        assert len(self.yielded) == len(set(self.yielded)), f"twice: {duplicates(self.yielded)}"
        assert set(self.yielded) <= self.may, f"do not match: {set(self.yielded) - self.may}"
        assert self.must <= set(self.yielded), f"lost: {sorted(self.must - set(self.yielded))}"
        tickets = (ticket for page in self.pages for ticket in page.tickets if "isClosed" in ticket)
        assert all(ticket["isClosed"] is is_closed(ticket["id"]) for ticket in tickets)


def accidental(rows: list[dict[str, Any]], page_size: int) -> bool:
    """Whether a full page of a list in no order is in order."""
    ids = [row["id"] for row in rows]
    return len(ids) >= page_size and ids in (sorted(ids), sorted(ids, reverse=True))


def duplicates(ids: list[int]) -> list[int]:
    return sorted({number for number in ids if ids.count(number) > 1})


def reread(cursor: Cursor | None) -> Cursor:
    """Return a cursor as a later try finds it, after a way through JSON."""
    return msgspec.convert(plain_json(msgspec.to_builtins(cursor)), Cursor)  # type: ignore[no-any-return]  # a union is no type to mypy


def run(
    world: World,
    wanted: TicketFilter,
    *,
    filter_timezone: str | None = None,
    page_size: int = 250,
    cursor: Cursor | None = None,
    stop_after: tuple[int, ...] = (),
    most_calls: int = 3_000,
    trace: bool = False,
) -> Outcome | None:
    """Drive a walk to its end; stop after so many pages with a cursor, and resume, as often as asked.

    :param cursor: of an earlier walk.
    :return: None where an unordered list showed its first page in order by accident, which happens to
        few tickets, but never to 250.
    :raises LightspeedIncompleteListError: if the walk does.
    """
    yielded: list[int] = []
    pages: list[Page] = []
    before = world.calls
    world.always = None
    stops = [*stop_after, None]
    for stop in stops:
        steps = walk(wanted, filter_timezone, cursor, page_size=page_size)
        resumable = 0
        reply: Any = None
        while True:
            try:
                step = steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)
            except StopIteration:
                return Outcome(yielded, *world.must_and_may(wanted), world.calls - before, pages)
            if isinstance(step, Page):
                reply = None
                yielded += [ticket["id"] for ticket in step.tickets]
                pages.append(step)
                if trace:
                    print("   page", [ticket["id"] for ticket in step.tickets], step.cursor)
                if step.cursor is not None:
                    resumable += 1
                    if stop is not None and resumable > stop:
                        cursor = reread(step.cursor)
                        break
                continue
            first = world.calls == before
            if not first:
                world.churn()
            reply = world.answer(step)
            if (
                world.order == "unordered"
                and first
                and isinstance(reply, list)
                and accidental(reply, min(page_size, world.page_cap))
            ):
                return None
            if trace:
                shown = [row["id"] for row in reply] if isinstance(reply, list) else reply
                print(dict(step.query), step.path, "->", shown)
            if world.calls - before > most_calls:
                raise EndlessError(f"more than {most_calls} calls")
    raise AssertionError("unreachable")


# For tests with small pages, where lists of many pages cost little

SMALL_PAGE = 10


def pages(size: int) -> int:
    """Return how many small pages a list takes. Pages overlap, which costs a tenth at full size, and much more here."""
    return ceil(size / 6)


CLOCK_CHANGES = [
    ("Europe/Amsterdam", (2025, 3, 30, 1)),
    ("Europe/Amsterdam", (2025, 10, 26, 1)),
    ("America/New_York", (2025, 3, 9, 7)),
    ("America/New_York", (2025, 11, 2, 6)),
    ("Antarctica/Troll", (2025, 3, 30, 1)),
    ("Australia/Lord_Howe", (2025, 4, 5, 15)),
]


def walked(world: World, wanted: TicketFilter | None = None, **options: Any) -> Outcome:
    partly = options.get("cursor") is not None
    outcome = run(world, wanted or TicketFilter(), page_size=SMALL_PAGE, **options)
    assert outcome is not None
    if not partly:
        outcome.check()
    return outcome


def window(hours: float, middle: int) -> TicketFilter:
    half = timedelta(hours=hours) / 2
    moment = datetime.fromtimestamp(middle, UTC)
    return TicketFilter(created_from=moment - half, created_to=moment + half)
