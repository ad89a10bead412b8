"""What counts as new, and what triggers and tasks say to each other. Values only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_lightspeed.api.errors import (
    LightspeedConnectionError,
    LightspeedQuotaExhaustedError,
)
from airflow_provider_lightspeed.new_tickets import (
    Cursor,
    FailedEvent,
    PollEvent,
    PollSchedule,
    Seen,
    digest,
    fingerprint,
    read_event,
)


def _ticket(number: int, **properties: Any) -> Any:
    return {"id": number, "createdAt": "2026-01-01T00:00:00+00:00", **properties}


def _cursor(since_id: int, *known: int, created: int | None = None) -> Cursor:
    witnesses = () if created is None else ((max(known), created),)
    return Cursor(since_id, known, witnesses)


def _seen(*ids: int, created: int = 0, counts: bool = True) -> dict[int, Seen]:
    return {ticket_id: Seen(0, created, counts) for ticket_id in ids}


def test_what_does_not_count_is_done_too() -> None:
    new = {**_seen(7, 8), **_seen(9, counts=False)}
    result, after = Cursor(5).deliver(new, 100)
    assert result.result() == {"ticket_ids": [7, 8], "count": 2, "since_id": 5, "max_id": 9}
    assert not after.new(new)


def test_a_look_back_closes_after_fifteen_minutes_and_one_more_poll() -> None:
    cursor, all_of_it = _cursor(10, 12, 14, created=1_000), _seen(12, 14)
    assert list(cursor.new(_seen(9, 10, 11, 12, 13, 14, 15))) == [11, 13, 15]
    assert cursor.settled(all_of_it, 1_000 + 899) == cursor
    assert cursor.settled(all_of_it, 1_000 + 900) == Cursor(14, (), cursor.witnesses)
    # Not by a list that shows less than there was, nor while there is something new.
    assert cursor.settled({}, 1e9) == cursor
    assert cursor.settled(_seen(12, 13, 14), 1e9) == cursor


@pytest.mark.parametrize(("page_size", "known"), [(250, 100), (50, 25), (20, 10), (3, 10)])
def test_a_look_back_fits_half_a_page(page_size: int, known: int) -> None:
    _, after = Cursor(0).deliver(_seen(*range(1, 501)), 10_000, page_size)
    assert after.since_id == 500 - known
    assert after.known == tuple(range(500 - known + 1, 501))


def test_the_size_of_a_page_is_remembered() -> None:
    _, after = Cursor(0).deliver(_seen(*range(1, 121)), 10_000, 50)
    _, after = after.deliver(_seen(121), 10_000)
    assert after.known == tuple(range(97, 122))


def test_a_limit_leaves_the_rest_for_the_next_run() -> None:
    tickets = _seen(*range(1, 26))
    cursor, delivered = Cursor(0), []
    while new := cursor.new(tickets):
        result, cursor = cursor.deliver(new, 10)
        delivered.append(len(result.ticket_ids))
    assert delivered == [10, 10, 5]


def test_a_limit_that_cuts_within_the_look_back_keeps_it_open() -> None:
    cursor = _cursor(0, 4, 5, 6)
    result, after = cursor.deliver(_seen(1, 3, 7), 1)
    assert (result.ticket_ids, result.since_id) == ([1], 6)
    assert after.since_id < 3
    assert after.settled(_seen(3, *after.known), 1e9) == after
    assert list(after.new(_seen(*range(1, 8)))) == [2, 3, 7]
    _, after = after.deliver(_seen(3, 7), 9)
    assert after.settled(_seen(*after.known), 1e9).since_id == 7


def test_a_limit_keeps_what_it_leaves_new_though_the_look_back_gets_shorter() -> None:
    cursor = _cursor(0, *range(41, 101))
    _, after = cursor.deliver(_seen(10, 20, 101), 1, 50)
    assert list(after.new(_seen(10, 20, 101))) == [20, 101]


def test_what_does_not_count_fits_half_a_page() -> None:
    cursor = _cursor(10, 12, 200, created=1_000)
    few = _seen(12, *range(101, 201), counts=False)
    assert cursor.settled(few, 2_000) == cursor
    many = _seen(12, *range(51, 200), counts=False)
    assert list(cursor.settled(many, 2_000).new(many)) == [*range(100, 200)]
    assert list(cursor.settled(many, 2_000, 50).new(many)) == [*range(175, 200)]
    # One that counts waits for others that do, and so do all above it.
    waiting = {**many, **_seen(60)}
    assert list(cursor.settled(waiting, 2_000).new(waiting)) == [*range(60, 200)]
    assert cursor.settled(_seen(*range(51, 200)), 2_000) == cursor


def test_a_deleted_ticket_keeps_no_look_back_open() -> None:
    cursor = _cursor(10, 12, 14, created=1_000)
    assert cursor.settled(_seen(12), 1e9) == Cursor(14, (), cursor.witnesses)


def test_the_youngest_of_five_tickets_tells_how_long_a_look_back_is_open() -> None:
    tickets = {number: Seen(0, 1_000 * number) for number in range(1, 8)}
    _, after = Cursor(0).deliver(tickets, 100)
    assert after.witnesses == tuple((number, 1_000 * number) for number in range(3, 8))
    assert after.settled(tickets, 7_000 + 899) == after
    assert after.settled(tickets, 7_000 + 900).known == ()


def test_the_smallest_page_counts() -> None:
    _, after = Cursor(0).deliver(_seen(*range(1, 121)), 1_000, 50)
    _, after = after.deliver(_seen(*range(121, 301)), 1_000, 100)
    assert (after.page_size, len(after.known)) == (50, 25)


def test_an_unreadable_creation_time_is_no_witness() -> None:
    tickets: list[Any] = [
        {**_ticket(1), "createdAt": None},
        {**_ticket(2), "createdAt": "-0001-11-30T00:00:00+00:00"},
    ]
    result, after = Cursor(0).deliver({ticket["id"]: Seen.of(ticket) for ticket in tickets}, 9)
    assert result.ticket_ids == [1, 2]
    assert after.witnesses == ()


def _digest(*tickets: Any) -> str:
    return digest({ticket["id"]: Seen.of(ticket) for ticket in tickets})


def test_a_digest_knows_every_change_but_not_the_order() -> None:
    one, two = _ticket(1, isTodo=False), _ticket(2)
    assert _digest(one, two) == _digest(two, one)
    assert fingerprint(one) == fingerprint(dict(reversed(one.items())))
    assert len({_digest(), _digest(one), _digest(one, two), _digest({**one, "isTodo": True}, two)}) == 4


def test_looks_get_rarer_while_the_shop_fails() -> None:
    schedule, now = PollSchedule(60), datetime.now(UTC)
    away = LightspeedConnectionError("dropped")
    assert [schedule.after_error(away, now) for _ in range(6)] == [60, 120, 240, 480, 600, 600]
    assert schedule.after_success() == 60
    assert schedule.after_error(away, now) == 60
    assert PollSchedule(3_600).after_error(away, now) == 3_600


def test_a_used_up_quota_is_waited_for() -> None:
    now = datetime.now(UTC)
    used_up = LightspeedQuotaExhaustedError("used up", until=now + timedelta(hours=3))
    assert PollSchedule(60).after_error(used_up, now) == 3 * 3_600
    assert PollSchedule(60).after_error(used_up, now + timedelta(days=1)) == 0


@pytest.mark.parametrize("event", [PollEvent(12.5), FailedEvent("LightspeedAuthenticationError", "401")])
def test_events_go_both_ways(event: PollEvent | FailedEvent) -> None:
    assert read_event(event.payload()) == event


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "poll",
        {},
        {"status": "poll"},
        {"status": "success", "deadline": 1},
        {"status": "failed", "kind": "x"},
    ],
)
def test_an_unknown_event_is_an_error(payload: object) -> None:
    with pytest.raises(ValueError, match="same version"):
        read_event(payload)
