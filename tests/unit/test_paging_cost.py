"""What a walk costs, with pages of the real size; where not said otherwise, nothing changes meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from math import ceil
from typing import Any

import pytest

from airflow_provider_lightspeed.api.paging import usual_calls
from airflow_provider_lightspeed.api.tickets import TicketFilter
from tests.unit.paging_world import World, run

END = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
SIZES = [251, 500, 750, 2_600, 5_001]
FULL_PAGES_AND_ALMOST = [250, 499, 501, 749, 751, 2_499, 2_500, 2_501]
SPACING = 300


def world_of(size: int, *, changed: float = 0.3, null: bool = False, gap: int = 5, **options: Any) -> World:
    created = range(END - size * SPACING, END, SPACING)
    return World(seed=size, **options).fill(created, gap=gap, changed=changed, null=null)


def calls(world: World, wanted: TicketFilter | None = None, **options: Any) -> int:
    outcome = run(world, wanted or TicketFilter(), **options)
    assert outcome is not None
    outcome.check()
    assert world.inserts or world.deletes or set(outcome.yielded) == outcome.must
    return outcome.calls


@pytest.mark.parametrize("order", ["oldest", "newest", "unordered", "last_change", "last_change_asc"])
@pytest.mark.parametrize(("size", "cost"), [(0, 3), (1, 2), (249, 2)])
def test_one_page_costs_two_calls(order: str, size: int, cost: int) -> None:
    """A whole shop without a ticket is counted, too."""
    assert calls(world_of(size, order=order)) == cost


@pytest.mark.parametrize("order", ["unordered", "last_change", "last_change_asc"])
def test_a_page_as_long_as_those_of_some_shops_costs_one_call_more_without_order(order: str) -> None:
    assert calls(world_of(100, order=order)) == 3


@pytest.mark.parametrize(("order", "cost"), [("oldest", 3), ("newest", 4)])
def test_a_full_page_costs_little_more_in_order(order: str, cost: int) -> None:
    """More may follow, or be too new for a replica: its newest end is looked at twice. Its oldest end is asked for by
    date, since a shop may refuse every page but the first."""
    assert calls(world_of(250, order=order)) == cost


@pytest.mark.parametrize("changed", [0.0, 0.3])
@pytest.mark.parametrize("null", [True, False])
@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("size", FULL_PAGES_AND_ALMOST + SIZES)
def test_oldest_first(size: int, inclusive: bool, null: bool, changed: float) -> None:
    world = world_of(size, order="oldest", since_id_inclusive=inclusive, null=null, changed=changed)
    assert calls(world) <= ceil(size / 250) + 3


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("size", FULL_PAGES_AND_ALMOST + SIZES)
def test_oldest_first_where_a_later_page_is_the_first_to_show_a_change(size: int, inclusive: bool) -> None:
    world = world_of(size, order="oldest", since_id_inclusive=inclusive, changed=0.0)
    for row in list(world.rows.values())[250::2]:
        row.updated = row.created + 1_000_000_000 - row.id
    assert calls(world) <= ceil(size / 250) + 3


@pytest.mark.parametrize("changed", [0.0, 0.3])
@pytest.mark.parametrize("gap", [1, 50])
@pytest.mark.parametrize("size", [250, *SIZES])
def test_newest_first(size: int, gap: int, changed: float) -> None:
    assert calls(world_of(size, order="newest", gap=gap, changed=changed)) <= 1.08 * ceil(size / 250) + 6


@pytest.mark.parametrize("inserts", [0.5, 5.0])
@pytest.mark.parametrize("deletes", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("gap", [1, 5])
def test_newest_first_where_tickets_come_and_go(gap: int, deletes: float, inserts: float) -> None:
    world = world_of(10_000, order="newest", gap=gap, inserts=inserts, deletes=deletes)
    assert calls(world) <= 1.08 * 40 + 6


@pytest.mark.parametrize(
    "churn",
    [
        {},
        {"deletes": 10.0, "inserts": 1.0, "changes": 3.0},
        *(
            pytest.param(churn, marks=pytest.mark.in_all)
            for churn in (
                {"changed": 0.0},
                {"deletes": 1.0},
                {"deletes": 1.0, "inserts": 1.0, "changes": 3.0},
                {"deletes": 10.0},
            )
        ),
    ],
    ids=str,
)
def test_newest_first_in_a_long_list(churn: dict[str, float]) -> None:
    assert calls(world_of(30_000, order="newest", **churn)) <= 1.08 * 120 + 6


@pytest.mark.parametrize("inserts", [0.1, 1.0, 5.0])
def test_newest_first_where_tickets_come_and_none_goes(inserts: float) -> None:
    assert calls(world_of(10_000, order="newest", inserts=inserts)) <= 1.08 * 40 + 6


@pytest.mark.parametrize("email", ["a@example.com"])
@pytest.mark.parametrize("size", [1_000, 5_001])
def test_newest_first_where_the_count_may_be_of_more(size: int, email: str) -> None:
    wanted = TicketFilter(email=email)
    world = world_of(size, order="newest")
    assert calls(world, wanted) <= 1.08 * ceil(len(world.expected(wanted)) / 250) + 6


@pytest.mark.parametrize("order", ["unordered", "last_change", "last_change_asc"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("size", [250, *SIZES])
def test_no_order(size: int, zone: str, order: str) -> None:
    # Where a list is counted in two parts, it may take a call to find the border of a zone that is far away.
    far = zone == "Pacific/Kiritimati"
    assert calls(world_of(size, order=order, filter_zone=zone)) <= 3 * ceil(size / 250) + 6 + far


@pytest.mark.parametrize("order", ["unordered", "last_change_asc"])
@pytest.mark.parametrize("zone", ["UTC", "840"])
@pytest.mark.parametrize("a_minute", [2, 60, 2_400, 5_000, 24_000])
@pytest.mark.parametrize("size", [600, 2_400])
def test_no_order_where_tickets_crowd(size: int, a_minute: int, zone: str, order: str) -> None:
    created = (END - (size - number) * 60 // a_minute for number in range(size))
    world = World(order=order, filter_zone=zone, seed=size + a_minute).fill(created, gap=5, changed=0.3)
    # By last change, a list may look like one by id for some pages, which come on top.
    looks_ordered = 3 * (order == "last_change_asc")
    zone_to_find = 8 * (zone != "UTC")
    assert calls(world) <= 3 * ceil(size / 250) + 6 + looks_ordered + zone_to_find


@pytest.mark.parametrize("order", ["unordered", "last_change"])
@pytest.mark.parametrize("size", [251, 499, 500, 501, 2_500])
def test_no_order_where_tickets_crowd_so_much_that_all_is_read_twice(size: int, order: str) -> None:
    created = (END - (size - number) // 100 for number in range(size))
    world = World(order=order, seed=size).fill(created, gap=5, changed=0.3)
    assert calls(world) <= 2.2 * ceil(size / 250) + 9


def window(world: World, size: int) -> tuple[TicketFilter, int]:
    """Choose a window of so many tickets amid many more; say how many are in and near it."""
    middle = END - len(world.rows) // 2 * SPACING
    bounds = [datetime.fromtimestamp(middle + shift * SPACING * size // 2, UTC) for shift in (-1, 1)]
    return TicketFilter(created_from=bounds[0], created_to=bounds[1]), size + 4 * 3_600 // SPACING


@pytest.mark.parametrize("zone", ["Europe/Amsterdam", "America/New_York"])
@pytest.mark.parametrize("size", SIZES)
def test_newest_first_in_a_window_of_a_named_zone(size: int, zone: str) -> None:
    world = world_of(size + 2_000, order="newest", filter_zone=zone)
    wanted, size = window(world, size)
    assert calls(world, wanted, filter_timezone=zone) <= 1.08 * ceil(size / 250) + 6


@pytest.mark.parametrize("zone", ["Europe/Amsterdam", "UTC"])
@pytest.mark.parametrize("size", SIZES)
def test_newest_first_in_a_window_of_the_answers_zone(size: int, zone: str) -> None:
    world = world_of(size + 2_000, order="newest", filter_zone=zone, answer_zone=zone)
    wanted, size = window(world, size)
    assert calls(world, wanted) <= 1.08 * ceil(size / 250) + 6


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "840", "-720", "345"])
@pytest.mark.parametrize("naive", [True, pytest.param(False, marks=pytest.mark.in_all)])
@pytest.mark.parametrize("size", SIZES)
def test_newest_first_in_a_window_of_a_zone_to_find_out(size: int, naive: bool, zone: str) -> None:
    world = world_of(
        size + 2_000, order="newest", filter_zone=zone, naive=naive, answer_zone="Europe/Amsterdam"
    )
    wanted, size = window(world, size)
    assert calls(world, wanted) <= 1.08 * ceil(size / 250) + 6 + 10


@pytest.mark.parametrize("order", ["oldest", "newest", "unordered"])
def test_a_narrow_window_costs_what_is_near_it(order: str) -> None:
    world = world_of(8_000, order=order, filter_zone="America/New_York")
    middle = datetime.fromtimestamp(END - 4_000 * SPACING, UTC)
    wanted = TicketFilter(created_from=middle, created_to=middle + timedelta(hours=1))
    assert calls(world, wanted) <= 20


STOPPED = 12_000


@cache
def calls_without_a_stop(order: str) -> int:
    return calls(world_of(STOPPED, order=order))


@pytest.mark.parametrize("order", ["unordered", "last_change", "last_change_asc"])
@pytest.mark.parametrize(
    "stops", [(3,), *(pytest.param(stops, marks=pytest.mark.in_all) for stops in [(0,), (2, 2), (12,)])]
)
def test_no_order_stopped_and_resumed(order: str, stops: tuple[int, ...]) -> None:
    """Each stop is at a cursor: what was read until there is not read again. But slices are checked more."""
    stopped = calls(world_of(STOPPED, order=order), stop_after=stops)
    assert stopped <= 3 * ceil(STOPPED / 250) + 6
    assert stopped <= 1.25 * calls_without_a_stop(order)


@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("size", [0, 249, 250, 2_600, 10_000])
def test_the_estimate_is_near(size: int, order: str) -> None:
    taken = calls(world_of(size, order=order))
    assert taken - 3 <= usual_calls(size) <= 1.08 * taken + 4
