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
    FailedEvent,
    PollEvent,
    PollResult,
    PollSchedule,
    digest,
    fingerprint,
    read_event,
)


def _ticket(number: int, **properties: Any) -> Any:
    return {"id": number, "createdAt": "2026-01-01T00:00:00+00:00", **properties}


def test_what_does_not_count_is_dealt_with_too() -> None:
    tickets = [_ticket(9, isTodo=False), _ticket(7, isTodo=True), _ticket(8, isTodo=True)]
    poll = PollResult.of(tickets, 5, lambda ticket: ticket["isTodo"])
    assert poll.result() == {"ticket_ids": [7, 8], "count": 2, "since_id": 5, "max_id": 9}
    assert PollResult.of([], 5).result() == {"ticket_ids": [], "count": 0, "since_id": 5, "max_id": 5}


def _digest(*tickets: Any) -> str:
    return digest({ticket["id"]: fingerprint(ticket) for ticket in tickets})


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
