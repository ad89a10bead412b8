"""Each new ticket is delivered, whatever the shop shows and whatever is killed. Values only."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError
from airflow_provider_lightspeed.api.queries import NewTickets, new_tickets
from airflow_provider_lightspeed.new_tickets import Cursor, Seen
from tests.unit.paging_world import Row, World

_MINUTE = 60
# A ticket may appear late by so many seconds and so many tickets; half of a page of 20 may be known.
_LATEST, _OVERTAKEN = 10 * _MINUTE, 5
_LAG = 4 * _MINUTE


@dataclass
class _Shop:
    """Tickets with rising ids, and when each becomes visible."""

    created: list[int]
    visible: list[int]

    @classmethod
    def of(cls, arrivals: Sequence[tuple[int, int]]) -> _Shop:
        created = [instant for instant, _ in arrivals]
        visible = []
        for index, (instant, delay) in enumerate(arrivals):
            overtaken = created[index + _OVERTAKEN] if index + _OVERTAKEN < len(created) else instant + delay
            visible.append(max(instant, min(instant + delay, overtaken)))
        return cls(created, visible)

    def at(self, now: int) -> list[int]:
        return [number + 1 for number, instant in enumerate(self.visible) if instant <= now]


@dataclass
class _Consumer:
    """What keeps a cursor. A kill may come before it is saved, or between delivering and saving (an asset)."""

    page_size: int
    limit: int
    cursor: Cursor = field(default_factory=lambda: Cursor(0))
    delivered: list[int] = field(default_factory=list)

    def take(self, poll: NewTickets[Seen], now: int, killed: str) -> None:
        if new := self.cursor.new(poll.kept):
            result, after = self.cursor.deliver(new, self.limit, poll.page_size)
            if killed != "before":
                self.delivered += result.ticket_ids
            if killed == "":
                self.cursor = after
        elif killed == "":
            self.cursor = self.cursor.settled(poll.kept, now)


def _poll(
    shop: _Shop, cursor: Cursor, start: int, kind: str, order: str, page_size: int, unseen: set[int]
) -> NewTickets[Seen]:
    """Read a shop as `kind` has it.

    :param unseen: which of the tickets that appear while a list is read are missed.
    """
    now = start - _LAG if kind == "lagging" else start
    first, last = set(shop.at(now)), shop.at(now + _MINUTE)
    # The first response shows the shop at one moment, the others a minute later.
    shown = [] if kind == "empty" else [i for i in last if i in first or i not in unseen]
    rows = {i: _row(i, shop.created[i - 1], 0 if i in first else 2) for i in shown}
    world = World(order=order, page_cap=page_size, late=1.0, rows=rows)
    question = new_tickets(cursor.since_id, Seen.of, is_known=lambda i: not cursor.is_new(i))
    return _drive(question, world)


def _row(ticket_id: int, created: int, visible_from: int) -> Row:
    rank = ticket_id * 7919 % 101
    # Changed in an order of its own, so that no list looks like one by last change.
    return Row(ticket_id, created, created + 10_000 + rank, "a@example.com", rank, visible_from=visible_from)


def _one_poll(world: World, since_id: int, known: set[int]) -> tuple[NewTickets[Seen], int]:
    return _drive(new_tickets(since_id, Seen.of, is_known=known.__contains__), world), world.calls


def _drive(question: Generator[Any, Any, NewTickets[Seen]], world: World) -> NewTickets[Seen]:
    reply: Any = None
    while True:
        try:
            request = question.throw(reply) if isinstance(reply, Exception) else question.send(reply)
        except StopIteration as end:
            poll: NewTickets[Seen] = end.value
            return poll
        reply = world.answer(request)


@pytest.mark.parametrize("order", ["unordered", "oldest", "newest"])
@pytest.mark.parametrize("news", [101, 120, 140, 160, None])
@pytest.mark.parametrize("size", [20, 50, 60])
def test_known_tickets_that_fill_a_page_hide_no_news(size: int, news: int | None, order: str) -> None:
    known = set(range(100, 161)) - {news}
    rows = {number: _row(number, 1_000_000 + number, 0) for number in sorted(known | {news or 100})}
    world = World(order=order, page_cap=size, rows=rows)
    poll, calls = _one_poll(world, 99, known)
    assert news is None or news in poll.kept
    assert news is not None or size == 20 or calls == 2


def test_a_second_page_that_is_refused_hides_no_news() -> None:
    known = set(range(100, 160))
    rows = {number: _row(number, 1_000_000 + number, 0) for number in range(100, 161)}
    poll, _ = _one_poll(World(order="oldest", page_cap=50, rows=rows, deepest=1), 99, known)
    assert 160 in poll.kept


def test_a_poll_of_few_known_tickets_takes_one_call() -> None:
    rows = {number: _row(number, 1_000_000 + number, 0) for number in range(100, 119)}
    poll, calls = _one_poll(World(rows=rows), 99, set(rows))
    assert (sorted(poll.kept), poll.boundary, calls) == (sorted(rows), 118, 1)


def test_a_poll_never_goes_back() -> None:
    poll, calls = _one_poll(World(order="newest"), 7, set())
    assert (poll.kept, poll.boundary, calls) == ({}, 7, 1)
    assert _drive(new_tickets(7, Seen.of), World(order="newest")).boundary == 7


def test_a_shop_that_shows_the_ticket_asked_from_shows_no_news() -> None:
    rows = {number: _row(number, 1_000_000 + number, 0) for number in (100, 101)}
    world = World(order="newest", since_id_inclusive=True, rows=rows)
    poll, calls = _one_poll(world, 100, {101})
    assert (list(poll.kept), poll.boundary, calls) == ([101], 101, 1)


def test_tickets_that_come_while_a_list_is_read_are_left_to_the_next_poll() -> None:
    """Others may be missing below them. How long pages are, the longest response tells."""
    rows = {number: _row(number, 1_000_000 + 3_600 * number, 0) for number in range(100, 160)}
    rows |= {number: _row(number, 1_000_000 + 3_600 * number, 12) for number in (170, 171)}
    world = World(order="unordered", page_cap=20, rows=rows, late=1.0)
    poll, calls = _one_poll(world, 99, set())
    assert calls > 12
    assert (list(poll.kept), poll.boundary, poll.page_size) == ([*range(100, 160)], 159, 20)


def test_known_tickets_that_a_replica_lacks_do_not_make_a_short_list_look_like_a_page() -> None:
    """Else the look-back would be as short as half that page from then on, and miss what it should find."""
    cursor = Cursor(99, tuple(range(100, 124)))
    rows = {number: _row(number, 1_000_000 + number, 0) for number in (*range(100, 121), 124)}
    poll, _ = _one_poll(World(order="oldest", rows=rows), 99, set(cursor.known))
    _, after = cursor.deliver(cursor.new(poll.kept), 100, poll.page_size)
    assert after == Cursor(99, tuple(range(100, 125)), after.witnesses)


@pytest.mark.parametrize(("size", "page_size"), [(99, 250), (100, 50)])
def test_a_page_is_what_the_longest_of_many_responses_shows(size: int, page_size: int) -> None:
    rows = {number: _row(number, 1_000_000 + number, 0) for number in range(1, size + 1)}
    poll, _ = _one_poll(World(order="oldest", page_cap=50, rows=rows), 0, set())
    assert (len(poll.kept), poll.page_size) == (size, page_size)


@dataclass
class _Arrival:
    pause: int
    delay: int


@dataclass
class _Poll:
    pause: int
    kind: str
    killed: str
    unseen: set[int]


_STEPS = st.lists(
    st.one_of(
        st.builds(_Arrival, st.sampled_from([0, 1, 30]), st.sampled_from([0, 70, 400, _LATEST])),
        st.builds(
            _Poll,
            st.sampled_from([1, 60, 400, 900, 7_200]),
            st.sampled_from(["whole", "whole", "whole", "lagging", "empty"]),
            st.sampled_from(["", "", "", "before", "between"]),
            st.sets(st.integers(1, 30), max_size=15),
        ),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=2 * settings().max_examples)
@given(
    _STEPS,
    st.sampled_from(["unordered", "unordered", "oldest", "newest"]),
    st.sampled_from([20, 50, 250]),
    st.sampled_from([1, 3, 10_000]),
)
def test_each_ticket_is_delivered(steps: list[Any], order: str, page_size: int, limit: int) -> None:
    now = 1_000_000
    arrivals, polls = [], []
    for step in steps:
        now += step.pause
        if isinstance(step, _Arrival):
            arrivals.append((now, step.delay))
        else:
            polls.append((now, step))
    shop, consumer, repeats = _Shop.of(arrivals), _Consumer(page_size, limit), 0
    for now, poll in polls:
        before, count = consumer.cursor, len(consumer.delivered)
        with suppress(LightspeedIncompleteListError):  # the next poll reads it again
            read = _poll(shop, before, now, poll.kind, order, page_size, poll.unseen)
            consumer.take(read, now, poll.killed)
        repeats += len(consumer.delivered) - count if poll.killed == "between" else 0
        # Whatever the shop shows, a cursor never moves backwards.
        assert consumer.cursor.max_id >= before.max_id
        assert consumer.cursor.since_id >= before.since_id
    # Then the shop is quiet, and a sensor runs now and then.
    for _ in range(len(arrivals) + 5):
        now += 2 * 3_600
        consumer.take(_poll(shop, consumer.cursor, now, "whole", order, page_size, set()), now, "")
    assert set(consumer.delivered) == set(range(1, len(arrivals) + 1))
    # Repeated are only those that were delivered by what died before it could save.
    assert len(consumer.delivered) <= len(arrivals) + repeats
    assert consumer.cursor.known == ()
