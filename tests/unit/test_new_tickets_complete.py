"""Each new ticket is delivered, whatever the shop shows and whatever is killed. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lightspeed.new_tickets import Cursor, Poll

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

    def take(self, poll: Poll, now: int, killed: str) -> None:
        if new := self.cursor.new(poll.tickets):
            result, after = self.cursor.deliver(new, self.limit, self.page_size)
            if killed != "before":
                self.delivered += result.ticket_ids
            if killed == "":
                self.cursor = after
        elif killed == "":
            self.cursor = self.cursor.settled(poll.tickets, now)


def _poll(shop: _Shop, cursor: Cursor, start: int, kind: str, page_size: int, unseen: set[int]) -> Poll:
    """Read a shop as `kind` has it.

    :param unseen: which of the tickets that appear while a list is read are missed.
    """
    if kind == "empty":
        return Poll(cursor.max_id)
    now = start - _LAG if kind == "lagging" else start
    first, last = shop.at(now), shop.at(now + _MINUTE)
    missed = unseen - set(first)
    ids = [i for i in last if i > cursor.since_id and i not in missed]
    whole = [i for i in first if i > cursor.since_id]
    poll = Poll(cursor.max_id)
    # In one response while it fits, which is the shop at one moment; else in no order, from several moments.
    pages = [whole] if len(whole) < page_size else _paged(ids, page_size)
    if all([_add(poll, shop, page) for page in pages]):  # ruff: ignore[unnecessary-comprehension-in-call] - each is read
        return poll
    poll = Poll(cursor.max_id, max(first, default=0))
    for page in _paged(ids, page_size):
        _add(poll, shop, page)
    return poll


def _paged(ids: list[int], size: int) -> list[list[int]]:
    mixed = sorted(ids, key=lambda i: (i * 7919) % 101)
    return [mixed[start : start + size] for start in range(0, len(mixed), size)]


def _add(poll: Poll, shop: _Shop, ids: list[int]) -> bool:
    return poll.add([
        {"id": i, "createdAt": datetime.fromtimestamp(shop.created[i - 1], UTC).isoformat()} for i in ids
    ])


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
@given(_STEPS, st.sampled_from([20, 50, 250]), st.sampled_from([1, 3, 10_000]))
def test_each_ticket_is_delivered(steps: list[Any], page_size: int, limit: int) -> None:
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
        consumer.take(_poll(shop, before, now, poll.kind, page_size, poll.unseen), now, poll.killed)
        repeats += len(consumer.delivered) - count if poll.killed == "between" else 0
        # Whatever the shop shows, a cursor never moves backwards.
        assert consumer.cursor.max_id >= before.max_id
        assert consumer.cursor.since_id >= before.since_id
    # Then the shop is quiet, and a sensor runs now and then.
    for _ in range(len(arrivals) + 5):
        now += 2 * 3_600
        consumer.take(_poll(shop, consumer.cursor, now, "whole", page_size, set()), now, "")
    assert set(consumer.delivered) == set(range(1, len(arrivals) + 1))
    # Repeated are only those that were delivered by what died before it could save.
    assert len(consumer.delivered) <= len(arrivals) + repeats
    assert consumer.cursor.known == ()
