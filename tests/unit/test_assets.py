"""What a DAG reads from the events that started it. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import pytest

from airflow_provider_lightspeed.assets import new_ticket_ids, new_tickets_asset

_SHOP: Any = "stands for an asset"


@dataclass
class _Foreign:
    """An event that is not ours."""

    minute: int
    extra: Any

    @property
    def timestamp(self) -> datetime:
        return datetime(2026, 1, 1, 0, self.minute, tzinfo=UTC)


class _Event(_Foreign):
    def __init__(self, minute: int, ticket_ids: list[int]) -> None:
        super().__init__(minute, {"payload": {"ticket_ids": ticket_ids, "max_id": ticket_ids[-1]}})


@dataclass
class _Events:
    """Those of an asset, as Airflow shows them: ``before`` includes the instant itself."""

    events: list[_Foreign] = field(default_factory=list)

    def before(self, instant: datetime) -> Self:
        return type(self)([event for event in self.events if event.timestamp <= instant])

    def ascending(self, ascending: bool) -> Self:
        return type(self)(sorted(self.events, key=lambda event: event.minute, reverse=not ascending))

    def limit(self, number: int) -> list[_Foreign]:
        return self.events[:number]


def _read(*events: _Foreign, starting: int) -> list[int]:
    """Read what the last events say, which have started the run."""
    context: Any = {
        "triggering_asset_events": {_SHOP: list(events[len(events) - starting :])},
        "inlet_events": {_SHOP: _Events(list(events))},
    }
    return new_ticket_ids(_SHOP, context)


def test_the_tickets_of_all_events_that_started_the_run() -> None:
    assert _read(_Event(1, [1, 2]), _Event(2, [5]), _Event(3, [7, 9]), starting=2) == [5, 7, 9]


def test_the_very_first_event() -> None:
    assert _read(_Event(1, [1, 2]), starting=1) == [1, 2]


def test_what_was_sent_again_counts_once() -> None:
    # Killed before it noted the last two; in the meantime there was one more.
    first, second, again = _Event(1, [1, 2]), _Event(2, [3]), _Event(3, [1, 2, 3, 4])
    assert _read(first, second, again, starting=1) == [4]
    assert _read(first, second, again, starting=2) == [3, 4]
    assert _read(first, second, again, starting=3) == [1, 2, 3, 4]


def test_what_was_sent_again_may_be_all_there_is() -> None:
    assert _read(_Event(1, [1, 2]), _Event(2, [3]), _Event(3, [1, 2]), _Event(4, [3]), starting=1) == []


def test_many_events_lie_before() -> None:
    assert _read(*(_Event(number // 10, [number]) for number in range(1, 500)), starting=1) == [499]


def test_none_of_its_events_started_the_run() -> None:
    # A manual run, or one that another asset has started.
    assert _read(_Event(1, [1, 2]), starting=0) == []


@pytest.mark.parametrize(
    "extra",
    [
        {},
        None,
        "text",
        [1],
        {"from_rest_api": True},
        {"payload": None},
        {"payload": "text"},
        {"payload": {}},
        {"payload": {"ticket_ids": None}},
        {"payload": {"ticket_ids": 7}},
        {"payload": {"ticket_ids": ["7"]}},
        {"payload": {"ticket_ids": [True]}},
        {"payload": {"ticket_ids": [-7]}},
    ],
)
def test_an_event_that_is_not_ours_is_passed_over(extra: Any) -> None:
    ours, foreign, later = _Event(1, [1, 2]), _Foreign(2, extra), _Event(3, [2, 3])
    assert _read(ours, foreign, later, starting=1) == [3]
    assert _read(ours, foreign, later, starting=2) == [3]
    assert _read(ours, foreign, starting=1) == []


def test_a_ticket_that_became_visible_late_is_delivered() -> None:
    assert _read(_Event(1, [1, 2, 5]), _Event(2, [4, 6]), starting=1) == [4, 6]


@pytest.mark.airflow(before="3.0")
def test_airflow_2_says_what_is_needed() -> None:
    with pytest.raises(RuntimeError, match=r"needs Airflow 3.*Use NewTicketSensor"):
        new_tickets_asset("shop")
