"""Date filters at the ends of what a datetime holds: users write them to mean "from the beginning" and "without end"."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_lightspeed.api.paging.timezone import FilterZone, local_time_from_seconds
from airflow_provider_lightspeed.api.tickets import TicketFilter
from tests.unit.paging_world import World, run

ZONES = [
    FilterZone(),
    FilterZone(offset=timedelta(hours=14)),
    FilterZone(offset=timedelta(hours=-12)),
    FilterZone(named="UTC"),
    FilterZone(named="Pacific/Kiritimati"),
    FilterZone(named="America/New_York"),
]
FIRST = ["0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00", "0001-01-01T05:00:00-12:00"]
LAST = ["9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59.999999-12:00", "9999-12-31T20:00:00+14:00"]


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize("text", [*FIRST, *LAST])
def test_bounds_end_with_the_calendar(zone: FilterZone, text: str) -> None:
    instant = datetime.fromisoformat(text)
    earliest, latest = zone.earliest_local_time(instant), zone.latest_local_time(instant)
    assert len(earliest) == len(latest) == len("2026-01-01 00:00:00")
    wall_clock = instant.replace(tzinfo=None)
    day = timedelta(days=1)
    if text in FIRST:
        assert datetime.fromisoformat(earliest) <= wall_clock + day
    else:
        assert datetime.fromisoformat(latest) >= wall_clock - 2 * day
    zone.guess(instant)


def test_the_beginning_is_the_beginning() -> None:
    assert FilterZone().earliest_local_time(datetime.fromisoformat(FIRST[0])) == "0001-01-01 00:00:00"
    assert FilterZone().latest_local_time(datetime.fromisoformat(LAST[0])) == "9999-12-31 23:59:59"


def test_cuts_end_with_the_calendar() -> None:
    assert (
        local_time_from_seconds(datetime.max.replace(tzinfo=UTC).timestamp() + 1e6) == "9999-12-31 23:59:59"
    )


@pytest.mark.parametrize("order", ["oldest", "newest", "unordered"])
@pytest.mark.parametrize("name", [None, "Europe/Amsterdam"])
@pytest.mark.parametrize(("first", "last"), [(FIRST[0], None), (None, LAST[0]), (FIRST[0], LAST[0])])
def test_all_tickets_of_all_times(order: str, name: str | None, first: str | None, last: str | None) -> None:
    end = int(datetime(2025, 7, 1, tzinfo=UTC).timestamp())
    world = World(order=order, filter_zone="Europe/Amsterdam").fill(range(end - 100_000, end, 600))
    wanted = TicketFilter(
        created_from=datetime.fromisoformat(first) if first else None,
        created_to=datetime.fromisoformat(last) if last else None,
    )
    outcome = run(world, wanted, filter_timezone=name, page_size=10)
    assert outcome is not None
    outcome.check()
    assert len(outcome.yielded) == len(range(end - 100_000, end, 600))


def test_last_changes_with_an_offset_and_without_prove_nothing_beside_each_other() -> None:
    from airflow_provider_lightspeed.api.paging.reader import ListReader

    def row(number: int, change: object) -> object:
        return {"id": number, "createdAt": "2026-01-01T00:00:00+00:00", "updatedAt": change}

    reader = ListReader(TicketFilter(), FilterZone())
    rows = [
        row(1, "2026-01-01T00:00:00+00:00"),
        row(2, "2026-01-03T00:00:00"),
        row(3, True),
        row(4, "2026-01-02T00:00:00+00:00"),
    ]
    reader.track_updated_at(rows, newest_first=False)  # type: ignore[arg-type]
    assert reader.maybe_ordered_by_update
