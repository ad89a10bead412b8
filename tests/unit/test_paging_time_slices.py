"""The walk over lists in no order, or by last change, with small pages: what it costs, where it goes on, clock changes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError
from airflow_provider_lightspeed.api.tickets import TicketFilter
from tests.unit.paging_world import CLOCK_CHANGES, World, pages, reread, run, walked, window
from tests.unit.paging_world import SMALL_PAGE as PAGE

END = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
NO_ORDER = ["unordered", "last_change", "last_change_asc"]


def world_of(size: int, spacing: float, **options: object) -> World:
    created = (END - int((size - number) * spacing) for number in range(size))
    return World(**{"order": "unordered", "seed": size} | options).fill(created, gap=5, changed=0.3)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", NO_ORDER)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "840"])
@pytest.mark.parametrize("spacing", [300, 3_600, 90_000])
def test_no_more_than_three_calls_a_page(spacing: float, zone: str, order: str) -> None:
    for size in 25, 60, 79, 81, 200:
        world = world_of(size, spacing, order=order, filter_zone=zone)
        # A clock change is in none of these lists; up to ten calls more find out the zone.
        assert walked(world).calls <= 3 * pages(size) + 9 + 10 * (spacing < 3_600), size


@pytest.mark.parametrize("stops", [(), (0,), (0, 3)])
@pytest.mark.parametrize(("empties", "failing"), [(2, 2), (4, 6), (10**6, 79)])
@pytest.mark.parametrize("order", [*NO_ORDER, "newest", "oldest"])
def test_responses_that_are_empty_one_after_the_other_hide_no_ticket(
    order: str, empties: int, failing: int, stops: tuple[int, ...]
) -> None:
    failed = 0
    for empty_at in range(1, 80):
        world = world_of(200, 3_600, order=order, empty_at=empty_at, empties=empties)
        try:
            walked(world, stop_after=stops)
        except LightspeedIncompleteListError:
            failed += 1
    # Pages of a list with the newest ticket first have to overlap: there, such a shop fails the walk more often.
    assert failed <= failing or order == "newest"


def test_a_window_whose_list_stays_empty_is_no_empty_window() -> None:
    world = world_of(200, 3_600, empty_at=1, empties=10**6)
    wanted = TicketFilter(created_from=datetime.fromtimestamp(END - 100 * 3_600, UTC))
    with pytest.raises(LightspeedIncompleteListError, match="lists no ticket, and counts some"):
        run(world, wanted, page_size=PAGE)


@pytest.mark.parametrize("order", ["unordered", "last_change"])
@pytest.mark.parametrize("spacing", [0, 0.05])
def test_where_tickets_crowd_all_is_read_twice(spacing: float, order: str) -> None:
    for size in 25, 60, 150, 300:
        world = world_of(size, spacing, order=order)
        assert walked(world).calls <= 2 * pages(size) + 6, size


@pytest.mark.parametrize("size", [28, 67, 155, 290])
def test_where_one_customers_tickets_crowd_all_is_read_twice_too(size: int) -> None:
    """Where the shop counts the tickets of one customer."""
    wanted = TicketFilter(email="a@example.com")
    world = world_of(2 * size, 0.05, count_reads_email=True)
    assert walked(world, wanted).calls <= 2 * pages(len(world.expected(wanted))) + 6


@pytest.mark.parametrize("zone", ["UTC", "-720"])
@pytest.mark.parametrize("spacing", [300, 3_600])
def test_each_cursor_goes_on_right_after_its_page(spacing: int, zone: str) -> None:
    """Each cursor of the survey too, of which the last holds all that was seen."""
    world = world_of(100, spacing, filter_zone=zone)
    unbroken = walked(world)
    yielded: set[int] = set()
    calls = []
    for page in unbroken.pages:
        yielded |= {ticket["id"] for ticket in page.tickets}
        if page.cursor is not None:
            rest = walked(world, cursor=reread(page.cursor))
            assert set(rest.yielded) == unbroken.must - yielded
            calls.append(rest.calls)
    assert len(calls) >= 10
    # Wherever a walk is stopped, no more than five pages are read again: the first page, the question whether it is
    # the whole list, a count and five pages come before the first cursor.
    assert calls[0] >= unbroken.calls - 8
    # The cursor after five pages and a count; the one after ten, and so on. A resumed walk has no sample to hold
    # against its slices.
    assert calls[0] <= unbroken.calls - 6 + 4
    assert calls[1] <= unbroken.calls - 11 + 4
    # One slice, and two looks at the newest tickets.
    assert calls[-1] <= 4


@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize(("zone", "change"), CLOCK_CHANGES)
def test_clock_changes(zone: str, change: tuple[int, ...], naive: bool) -> None:
    moment = int(datetime(*change, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]
    for spacing in 100, 300, 900:
        for shift in 1, 898:
            world = World(order="unordered", filter_zone=zone, naive=naive, seed=shift)
            world.fill(range(moment - 60 * spacing + shift, moment + 60 * spacing, spacing), changed=0.3)
            # One hour may have no wall clock of its own; where many tickets fall into it, they are read twice.
            assert walked(world).calls <= 130


@pytest.mark.parametrize(("zone", "change"), CLOCK_CHANGES)
def test_nothing_is_lost_to_a_cut_at_the_second_in_which_a_clock_changes(
    zone: str, change: tuple[int, ...]
) -> None:
    moment = int(datetime(*change, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]
    for begin in range(40, 49):
        # Two seconds before one of these tickets a clock changes, and with nine of them in a slice, one cut lies there.
        # Slices are so wide that the zone that is named is taken for right.
        world = World(order="unordered", filter_zone=zone, seed=begin)
        world.fill(range(moment - 1_800 * begin + 1, moment + 1_800 * 40, 1_800))
        walked(world, filter_timezone=zone)


@pytest.mark.parametrize("max_inclusive", [True, False])
@pytest.mark.parametrize("min_inclusive", [True, False])
def test_nothing_is_lost_or_doubled_at_a_cut_between_two_seconds(
    min_inclusive: bool, max_inclusive: bool
) -> None:
    for burst in range(2, 9):
        # Some tickets each day, a second apart: with nine of them in a slice, cuts lie before, in and behind these.
        world = World(order="unordered", min_inclusive=min_inclusive, max_inclusive=max_inclusive, seed=burst)
        walked(world.fill(END - 86_400 * (20 - day) + second for day in range(20) for second in range(burst)))


@pytest.mark.parametrize("after", [600, 1_900])
@pytest.mark.parametrize(("zone", "change"), [CLOCK_CHANGES[1], CLOCK_CHANGES[3]])
def test_a_crowded_second_after_a_clock_was_set_back_is_soon_found(
    zone: str, change: tuple[int, ...], after: int
) -> None:
    """Wall clocks tell its place wrongly, so cutting beside it would come nearer by a second with each call."""
    moment = int(datetime(*change, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]
    for seed in range(3):
        world = World(order="unordered", filter_zone=zone, seed=seed, deletes=0.05)
        others = [moment + 90_000 * number for number in range(-55, 55)]
        outcome = walked(world.fill(sorted([*others, *[moment + after] * 60]), changed=0.3))
        assert outcome.calls <= 10 * pages(170)


@pytest.mark.parametrize("every", [86_400, 864_000])
def test_many_tickets_that_came_in_bursts_after_a_stop(every: int) -> None:
    """No survey told where to cut; the tickets that a slice shows do, though time between them is empty."""

    def bursts(size: int, begin: int) -> list[int]:
        return [begin + every * (number // 12) + 10 * (number % 12) for number in range(size)]

    world = World(order="unordered", seed=1).fill(bursts(200, END), changed=0.3)
    cursor = [page.cursor for page in walked(world).pages if page.cursor is not None][-1]
    yielded = set(world.rows)
    for second in bursts(400, world.now + every):
        world.add(second, second)
    rest = walked(world, cursor=reread(cursor))
    assert set(rest.yielded) >= set(world.rows) - yielded
    assert rest.calls <= 5 * pages(400) + 10


@pytest.mark.parametrize("deletes", [0.3, 1.0])
@pytest.mark.parametrize("spacing", [1, 600])
def test_changes_meanwhile(spacing: int, deletes: float) -> None:
    for seed in range(12):
        for order in NO_ORDER:
            world = World(order=order, seed=seed, deletes=deletes, changes=0.5, inserts=0.3)
            world.fill((END - 60 * spacing + number * spacing for number in range(60)), changed=0.5)
            walked(world)


@pytest.mark.parametrize("seed", range(8))
def test_a_second_of_which_tickets_are_deleted_meanwhile(seed: int) -> None:
    """It is tried again until none is."""
    walked(World(order="unordered", seed=seed, deletes=0.1).fill([END] * 40))


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("order", NO_ORDER)
def test_a_window(order: str, named: bool, zone: str) -> None:
    for hours in 5, 40:
        world = world_of(300, 1_800, order=order, filter_zone=zone)
        outcome = walked(world, window(hours, END - 150 * 1_800), filter_timezone=zone if named else None)
        near = 2 * hours + (16 if named else 2 * 26 + 8)
        assert outcome.calls <= 3 * pages(near) + 6 + (1 if named else 10)


@pytest.mark.parametrize("spacing", [60, 1_800])
def test_only_what_is_newer_than_an_id(spacing: int) -> None:
    world = world_of(300, spacing)
    since_id = sorted(world.rows)[-51]
    assert walked(world, TicketFilter(since_id=since_id)).calls <= 3 * 5 + 6


class AroundAPage(World):
    """A shop whose list is a page long, then shorter while it is surveyed, then longer than a page."""

    def churn(self) -> None:
        if self.calls == 1:
            self._delete()
            self._delete()
        if self.calls == 3:
            for _ in range(4):
                self.now += 60
                self._insert()


@pytest.mark.parametrize("order", NO_ORDER)
def test_a_list_that_fits_on_a_page_and_then_does_not(order: str) -> None:
    for seed in range(8):
        walked(AroundAPage(order=order, seed=seed).fill(range(END - PAGE * 60, END, 60), changed=0.5))


@pytest.mark.parametrize("order", [*NO_ORDER, "oldest", "newest"])
@pytest.mark.parametrize("deletes", [8.0, 100.0])
def test_a_list_that_empties_while_it_is_read(deletes: float, order: str) -> None:
    for spacing in 0, 3_600:
        walked(world_of(40, spacing, order=order, deletes=deletes))


@pytest.mark.parametrize(
    ("order", "page_size", "seed"), [("last_change", 9, 68), ("last_change", 9, 86), ("last_change", 16, 3)]
)
def test_nothing_is_lost_behind_rows_left_out_while_tickets_change_and_vanish(
    order: str, page_size: int, seed: int
) -> None:
    """A response that is full but for rows left out is not taken for its whole slice."""
    world = World(order=order, seed=seed, hidden=0.05, changes=1.0, deletes=1.0, inserts=0.3)
    outcome = run(
        world.fill((END - 3_600 * (40 - number) for number in range(40)), changed=0.3),
        TicketFilter(),
        page_size=page_size,
    )
    assert outcome is not None
    outcome.check()


@pytest.mark.parametrize(
    ("order", "spacing", "seed"),
    [
        *(("last_change_asc", 1, seed) for seed in (3, 58, 64, 76, 96)),
        *(("last_change", 60, seed) for seed in (0, 60, 354)),
        *(("last_change_asc", 60, seed) for seed in (179, 307)),
    ],
)
def test_nothing_comes_twice_where_a_later_response_is_longer_than_all_before(
    order: str, spacing: int, seed: int
) -> None:
    """The end asks again for the newest tickets: for those of which it remembers all, however long pages turned out."""
    day, half = ((2025, 3, 30, 1), 55) if spacing == 1 else ((2025, 3, 9, 7), 90 * spacing)
    middle = int(datetime(*day, tzinfo=UTC).timestamp())
    world = World(
        order=order, filter_zone="Europe/Amsterdam", hidden=0.05, changes=1.0, deletes=1.0, seed=seed
    )
    outcome = run(
        world.fill(range(middle - half, middle + half, spacing), changed=0.9), TicketFilter(), page_size=25
    )
    assert outcome is not None
    outcome.check()
