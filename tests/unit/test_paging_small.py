"""The walk with small pages, so that lists of many pages cost little: what it promises page by page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import accumulate, cycle, islice
from math import ceil
from typing import Any

import pytest

from airflow_provider_lightspeed.api.errors import (
    LightspeedIncompleteListError,
    LightspeedResponseTooLargeError,
)
from airflow_provider_lightspeed.api.paging import Page
from airflow_provider_lightspeed.api.paging.walk import walk
from airflow_provider_lightspeed.api.tickets import Request, TicketFilter
from tests.unit.paging_world import CLOCK_CHANGES, World, pages, reread, run, walked, window
from tests.unit.paging_world import SMALL_PAGE as PAGE

END = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp())
ORDERED = ["oldest", "newest"]
ORDERS = [*ORDERED, "unordered", "last_change", "last_change_asc"]


def world_of(size: int, *, spacing: int = 300, changed: float = 0.3, gap: int = 5, **options: Any) -> World:
    return World(**{"seed": size} | options).fill(
        range(END - size * spacing, END, spacing), gap=gap, changed=changed
    )


@pytest.mark.parametrize("stops", [(0,), (3,), (20,), (2, 2, 2)])
@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("order", ORDERED)
def test_in_order_nothing_is_read_again_after_a_stop(
    order: str, inclusive: bool, stops: tuple[int, ...]
) -> None:
    def world() -> World:
        return world_of(299, order=order, since_id_inclusive=inclusive)

    unbroken, stopped = walked(world()), walked(world(), stop_after=stops)
    assert stopped.yielded == unbroken.yielded
    assert stopped.calls <= unbroken.calls
    assert stopped.pages[-1].seen == unbroken.pages[-1].seen == 299
    # Once a change has told the order, each page is one to go on from.
    assert sum(page.cursor is None for page in unbroken.pages) <= 3


@pytest.mark.parametrize("first_change", [0, PAGE + 1, 3 * PAGE + 1])
@pytest.mark.parametrize("order", ORDERS)
def test_each_cursor_goes_on_right_after_its_page(order: str, first_change: int) -> None:
    world = world_of(85, order=order, changed=0.3, spacing=3_600)
    rows = list(world.rows.values())
    for row in (rows if order in {"oldest", "last_change_asc"} else rows[::-1])[:first_change]:
        row.updated = row.created
    unbroken = walked(world)
    if not order.startswith("last_change"):
        assert sum(page.cursor is not None for page in unbroken.pages) >= 5
    yielded: set[int] = set()
    for page in unbroken.pages:
        yielded |= {ticket["id"] for ticket in page.tickets}
        if page.cursor is not None:
            rest = walked(world, cursor=reread(page.cursor))
            assert set(rest.yielded) == unbroken.must - yielded
            assert [page.seen for page in rest.pages][-1:] in ([], [unbroken.pages[-1].seen])


@pytest.mark.parametrize("order", ORDERED)
@pytest.mark.parametrize("zone", ["345", "America/New_York"])
@pytest.mark.parametrize("named", [True, False])
def test_the_zone_is_not_found_out_again_after_a_stop(named: bool, zone: str, order: str) -> None:
    named = named and "/" in zone

    def world() -> World:
        return world_of(600, order=order, filter_zone=zone)

    wanted = window(8, END - 300 * 300)
    options: dict[str, Any] = {"filter_timezone": zone if named else None}
    unbroken, stopped = (
        walked(world(), wanted, **options),
        walked(world(), wanted, **options, stop_after=(3,)),
    )
    assert stopped.yielded == unbroken.yielded
    assert stopped.calls == unbroken.calls


@pytest.mark.parametrize("order", ORDERED)
@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize("minutes", range(-720, 841, 105))
def test_any_zone_is_found_out_in_ten_calls(minutes: int, naive: bool, order: str) -> None:
    world = world_of(700, order=order, filter_zone=str(minutes), naive=naive, answer_zone="Europe/Amsterdam")
    wanted = window(5, END - 350 * 300)
    # Five hours hold 60 tickets. The zone is known at one moment only, so two hours more are asked for on either side.
    assert walked(world, wanted).calls <= pages(60 + 48 + 2) + 10 + 1 + 6


# At the lowest offset, the proof is the question that halving ended with.
@pytest.mark.parametrize("minutes", range(-660, 841, 60))
def test_finding_a_zone_out_asks_nothing_twice(minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of(700, order="newest", filter_zone=str(minutes), answer_zone="Europe/Amsterdam")
    asked, answer = [], world.answer

    def noted(request: Any) -> Any:
        asked.append((request.path, *sorted(request.query.items())))
        return answer(request)

    monkeypatch.setattr(world, "answer", noted)
    walked(world, window(5, END - 350 * 300))
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("order", ORDERED)
@pytest.mark.parametrize(
    ("zone", "answers", "calls"),
    [("Europe/Amsterdam", "Europe/Amsterdam", 1), ("UTC", "UTC", 1), ("UTC", "Europe/Amsterdam", 2)],
)
def test_in_the_zone_of_the_answers_or_in_utc_finding_out_costs_little(
    zone: str, answers: str, calls: int, order: str
) -> None:
    world = world_of(700, order=order, filter_zone=zone, answer_zone=answers)
    outcome = walked(world, window(5, END - 350 * 300))
    assert outcome.calls <= pages(60 + 48) + calls + 6


@pytest.mark.parametrize("order", ORDERED)
@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize(("zone", "change"), CLOCK_CHANGES)
def test_a_zone_that_is_found_out_is_right_beyond_a_clock_change(
    zone: str, change: tuple[int, ...], naive: bool, order: str
) -> None:
    moment = int(datetime(*change, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]
    world = World(order=order, filter_zone=zone, naive=naive, answer_zone="Asia/Kolkata")
    world.fill(range(moment - 60 * 3_600, moment + 60 * 3_600, 1_200), changed=0.3)
    walked(world, window(48, moment))


@pytest.mark.parametrize("order", ORDERED)
@pytest.mark.parametrize("zone", ["-300", "840"])
def test_a_zone_that_is_not_proven_is_not_relied_on(zone: str, order: str) -> None:
    """The ticket that should prove it is deleted meanwhile."""
    begin = datetime.fromtimestamp(END - 3_600 * 4, UTC)
    for seed in range(15):
        world = Shrinking(order=order, filter_zone=zone, deletes=2.0, seed=seed)
        world.fill(range(END - 3_600 * 40, END, 600), changed=0.3)
        walked(world, TicketFilter(created_from=begin))


@pytest.fixture
def machine_in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("machine_in_new_york")
@pytest.mark.parametrize("zone", ["UTC", "840"])
@pytest.mark.parametrize("order", ORDERS)
def test_the_zone_of_the_machine_does_not_matter(order: str, zone: str) -> None:
    change = int(datetime(2025, 11, 2, 6, tzinfo=UTC).timestamp())
    world = World(order=order, filter_zone=zone, seed=1)
    world.fill(range(change - 12 * 3_600, change + 12 * 3_600, 300), changed=0.3)
    walked(world)
    walked(world, window(10, change))


@pytest.mark.parametrize("order", ORDERS)
def test_only_what_is_newer_than_an_id_is_read(order: str) -> None:
    world = world_of(300, order=order, spacing=7_200)
    since_id = sorted(world.rows)[-26]
    outcome = walked(world, TicketFilter(since_id=since_id))
    assert outcome.calls <= (3 + 4 if order in ORDERED else 3 * 3 + 6)


def test_one_customers_tickets_of_a_second_that_can_be_counted() -> None:
    world = World(order="unordered", seed=1, count_reads_email=True).fill([END] * 60)
    walked(world, TicketFilter(email="a@example.com"))


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("first_change", [None, 0, PAGE + 1, 2 * PAGE + 1])
def test_oldest_first_costs_no_more_than_documented(first_change: int | None, inclusive: bool) -> None:
    for size in range(1, 73):
        world = World(order="oldest", since_id_inclusive=inclusive).fill(range(END - size, END))
        for row in list(world.rows.values())[size if first_change is None else first_change :: 2]:
            row.updated = row.created + 1_000_000 - 1_000 * row.id
        # With less than 250 on a page, the end of some lists that are no multiple of it does not fit either.
        most = 2 if first_change == 0 else 3
        assert walked(world).calls <= ceil(size / PAGE) + most, size


@pytest.mark.parametrize("changed", [0.0, 0.3])
def test_newest_first_costs_no_more_than_documented(changed: float) -> None:
    for size in range(1, 73):
        world = World(order="newest", seed=size)
        world.fill(range(END - size, END), changed=changed)
        assert walked(world).calls <= pages(size) + 6, size


@pytest.mark.parametrize("email", [None, "a@example.com"])
@pytest.mark.parametrize("seed", range(4))
def test_newest_first_with_deletions_costs_twice_as_much(seed: int, email: str | None) -> None:
    world = world_of(600, order="newest", deletes=0.5, changes=0.3, seed=seed)
    outcome = walked(world, TicketFilter(email=email))
    assert outcome.calls <= 2.2 * ceil(len(outcome.may) / PAGE) + 3


class Shrinking(World):
    """A shop in which the newest tickets are deleted, so that others move into the holes between two pages."""

    def _delete(self) -> None:
        if self.rows:
            del self.rows[self.chance.choice(sorted(self.rows)[-14:])]


@pytest.mark.parametrize("email", [None, "a@example.com"])
@pytest.mark.parametrize("deletes", [0.3, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("gap", [1, 3])
def test_newest_first_loses_nothing_to_deletions(gap: int, deletes: float, email: str | None) -> None:
    for seed in range(40):
        world = Shrinking(order="newest", deletes=deletes, seed=seed)
        world.fill(range(END - 20 - 2 * seed, END), gap=gap, changed=0.5)
        walked(world, TicketFilter(email=email))


@pytest.mark.parametrize("changed", [0.0, 0.1])
@pytest.mark.parametrize("deletes", [0.3, 1.0, 3.0, 8.0])
def test_oldest_first_loses_nothing_to_deletions(deletes: float, changed: float) -> None:
    for seed in range(40):
        world = Shrinking(order="oldest", deletes=deletes, inserts=0.2, changes=0.2, seed=seed)
        world.fill(range(END - 3_600 * (20 + 2 * seed), END, 3_600), changed=changed)
        walked(world)


@pytest.mark.parametrize("email", [None, "a@example.com"])
@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("order", ORDERED)
def test_a_long_list_is_read_to_its_end(order: str, inclusive: bool, email: str | None) -> None:
    world = world_of(600 if email is None else 1_000, order=order, since_id_inclusive=inclusive)
    outcome = walked(world, TicketFilter(email=email))
    # Where the shop may not count one customer's tickets, pages overlap: by one of ten here, by one of 250 at full size.
    assert (
        outcome.calls
        <= (ceil(len(outcome.must) / PAGE) if order == "oldest" else pages(len(outcome.must))) + 6
    )
    assert outcome.pages[-1].seen == len(outcome.must)


def test_a_page_tells_how_many_were_read_and_how_many_there_are() -> None:
    world = world_of(100, order="newest")
    shown = walked(world).pages
    assert [page.seen for page in shown][:: len(shown) - 1] == [10, 100]
    assert {page.counted for page in shown} == {None, 100}


@pytest.mark.parametrize("stops", [(), (0,)])
@pytest.mark.parametrize("order", ["last_change", "last_change_asc"])
@pytest.mark.parametrize(("changes", "inserts"), [(0.1, 0.1), (0.5, 0.2), (0.5, 0.8), (2.0, 0.2)])
def test_a_list_by_last_change_that_looks_like_one_by_id_is_noticed(
    changes: float, inserts: float, order: str, stops: tuple[int, ...]
) -> None:
    """No ticket was changed before the walk; some are while it runs, and move."""
    for seed in range(25):
        world = World(order=order, seed=seed, changes=changes, inserts=inserts, deletes=0.2)
        world.fill(range(END - 60 * (12 + 2 * seed), END, 60))
        walked(world, stop_after=stops)


class Grown(World):
    """A shop in which two tickets come while the end of a list of 19 is looked for; then a third changes, and moves behind it."""

    def churn(self) -> None:
        if self.calls == 2:
            self.now += 1
            self._insert()
            self._insert()
            self.now += 1
            self.rows[12].updated = self.now


def test_a_list_that_goes_on_behind_what_should_be_its_last_page() -> None:
    walked(Grown(order="last_change_asc").fill(range(END - 19 * 60, END, 60)))


def failure(
    world: World, wanted: TicketFilter | None = None, **options: Any
) -> LightspeedIncompleteListError:
    with pytest.raises(LightspeedIncompleteListError) as caught:
        run(world, wanted or TicketFilter(), page_size=PAGE, **options)
    return caught.value


@pytest.mark.parametrize("email", [None, "a@example.com"])
@pytest.mark.parametrize("deletes", [0.0, 0.1])
def test_a_shop_that_ignores_the_page_number_is_read_by_time(deletes: float, email: str | None) -> None:
    world = world_of(200, order="newest", ignores=frozenset({"page"}), deletes=deletes)
    assert walked(world, TicketFilter(email=email)).calls < 130


def test_a_shop_that_ignores_the_page_number_is_noticed_if_no_order_helps() -> None:
    world = World(order="unordered", seed=1, ignores=frozenset({"page"})).fill([END] * 60)
    assert "more tickets were created than a page holds" in str(failure(world))
    assert world.calls < 250


@pytest.mark.parametrize("spacing", [3_600, 86_400])
@pytest.mark.parametrize(
    ("ignored", "told"),
    [
        ("dates", "created_at_max"),
        ("created_at_max", "created_at_max"),
        ("created_at_min", "created_at_min"),
    ],
)
def test_a_shop_that_ignores_dates_is_noticed_where_no_order_helps(
    ignored: str, told: str, spacing: int
) -> None:
    world = world_of(100, order="unordered", spacing=spacing, ignores=frozenset({ignored}))
    assert f"the shop ignores {told}, and lists are in no order" in str(failure(world))
    assert world.calls < 40


def test_one_customers_tickets_of_a_second_that_cannot_be_counted() -> None:
    world = World(order="unordered", seed=1).fill([END] * 60)
    error = failure(world, TicketFilter(email="a@example.com"))
    assert "more tickets were created than a page holds, and they can't be counted" in str(error)
    assert "between 2026-02-28 23:59:5" in str(error)
    assert "and 2026-03-01 00:00:0" in str(error)
    assert error.expected == 60
    assert world.calls < 150


def test_a_list_that_is_in_another_order_after_a_stop() -> None:
    for order, other in ("oldest", "newest"), ("newest", "oldest"):
        cursor = next(page.cursor for page in walked(world_of(100, order=order)).pages if page.cursor)
        error = failure(world_of(100, order=other), cursor=reread(cursor))
        assert "starts over" in str(error)
        assert "the list's order has changed since its first pages were read" in str(error)
        assert error.seen == cursor.reader.seen


@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize(("zone", "change"), CLOCK_CHANGES)
def test_a_zone_that_is_named_is_right_around_clock_changes(
    zone: str, change: tuple[int, ...], naive: bool
) -> None:
    moment = int(datetime(*change, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]
    for order in ORDERED:
        for shift in range(-3 * 3_600, 3 * 3_600 + 1, 1_800):
            world = World(order=order, filter_zone=zone, naive=naive, answer_zone="Asia/Kolkata")
            world.fill(range(moment - 10 * 3_600, moment + 10 * 3_600, 450))
            walked(world, window(1, moment + shift), filter_timezone=zone)


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [3, 8, 15, 25, 120])
def test_a_replica_that_takes_turns_hides_nothing(size: int, order: str, turn: int) -> None:
    """It lacks the newest tickets. They exist all the time, so a walk that ends has read them."""
    for seed in range(12):
        world = world_of(size, order=order, turn=turn, replica_lacks=1 + seed % 3, seed=seed)
        with suppress(LightspeedIncompleteListError):
            walked(world)


@pytest.mark.parametrize(
    ("wanted", "counted", "believed"),
    [
        (TicketFilter(), 30, False),
        (TicketFilter(), 4, True),  # as many may be counted and not listed
        (TicketFilter(), 0, True),
        (TicketFilter(since_id=7), 30, True),
    ],
)
def test_a_whole_shop_that_lists_nothing_and_counts_tickets_is_not_believed(
    wanted: TicketFilter, counted: int, believed: bool
) -> None:
    steps = walk(wanted)
    with (
        suppress(StopIteration)
        if believed
        else pytest.raises(LightspeedIncompleteListError, match="30 expected")
    ):
        step = next(steps)
        while True:
            step = steps.send(None if isinstance(step, Page) else [] if step.is_list else counted)


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("order", ORDERS)
def test_a_first_page_as_long_as_asked_for_may_be_full_whatever_was_asked_for(order: str, turn: int) -> None:
    """A replica that lacks the only ticket behind it shows no more at the next question."""
    world = world_of(10, order=order, turn=turn, replica_lacks=1)
    outcome = run(world, TicketFilter(), page_size=9)
    assert outcome is not None
    outcome.check()


def test_an_end_in_a_crowded_second_is_no_end() -> None:
    """A response by date shows no older ticket: it is full but for a row that is left out, and all of one second."""
    seconds = [*range(END - 600, END, 20), *[END] * 6, *[END + 20] * 4]
    world = World(order="newest", page_cap=6).fill(seconds, changed=1.0)
    world.rows[33].hidden = True
    outcome = run(world, TicketFilter(), page_size=8)
    assert outcome is not None
    outcome.check()


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("order", ORDERS)
def test_a_page_that_is_full_but_for_a_row_left_out_hides_nothing_with_a_replica(
    order: str, turn: int
) -> None:
    """Behind the first page: it looks as if more had fit, and the replica lacks the newest ticket."""
    for size in range(2 * PAGE, 3 * PAGE + 2):
        for left_out in range(PAGE + 1, size):
            world = world_of(size, order=order, turn=turn, replica_lacks=1, gap=1)
            world.rows[left_out].hidden = True
            with suppress(LightspeedIncompleteListError):
                if (outcome := run(world, TicketFilter(), page_size=PAGE)) is not None:
                    outcome.check()


@pytest.mark.parametrize("order", ORDERS)
def test_a_repeated_row_does_not_push_the_next_question_past_the_last_one(order: str) -> None:
    """Behind the last row, one wrongly empty response would look like the end."""
    world = World(order=order, page_cap=6, twice=1e-9, twice_counts=False, empty_at=2).fill(
        [END - 9, END] + [END] * 5
    )
    next(iter(world.rows.values())).twice = True
    list(world.rows.values())[3].twice = True
    with suppress(LightspeedIncompleteListError):
        if (outcome := run(world, TicketFilter(), page_size=8)) is not None:
            outcome.check()


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("turn", [0, 1])
def test_a_repeated_row_does_not_hide_that_a_list_has_moved(turn: int, counts: bool) -> None:
    """The shop shows one ticket more than its replica did, which repeated one."""
    world = World(order="newest", turn=turn, replica_lacks=1, twice=1e-9, twice_counts=counts).fill(
        range(END - 7, END), changed=1.0
    )
    list(world.rows.values())[5].twice = True
    outcome = run(world, TicketFilter(), page_size=8)
    assert outcome is not None
    outcome.check()


@pytest.mark.parametrize("size", [81, 83])
@pytest.mark.parametrize("order", ["newest", "unordered", "last_change"])
def test_a_count_that_is_too_low_does_not_prove_a_list_that_is_cut(order: str, size: int) -> None:
    """All tickets are of one second, so that no date shows what is behind the cut."""
    world = World(order=order, deepest=80, deep="cut", count_off=-2, seed=size).fill([END] * size)
    with suppress(LightspeedIncompleteListError):
        if (outcome := run(world, TicketFilter(), page_size=8)) is not None:
            outcome.check()


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("spacing", [(0, 0, 0, 1), (0, 0, 5), (60,), (3_600,)])
@pytest.mark.parametrize("deep", ["cut", "empty", "refuse"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_list_that_is_cut_where_its_count_is_capped_is_not_whole(
    order: str, deep: str, spacing: tuple[int, ...], zone: str
) -> None:
    """Pages and count say the same number, and there are more."""
    for deepest, size in [(40, 41), (40, 55), (60, 120)]:
        moments = [*accumulate(islice(cycle(spacing), size), initial=END)][1:]
        world = World(order=order, deepest=deepest, deep=deep, count_cap=deepest, filter_zone=zone, seed=size)
        with suppress(LightspeedIncompleteListError):
            if (outcome := run(world.fill(moments, changed=0.3), TicketFilter(), page_size=8)) is not None:
                outcome.check()


def test_one_customers_list_that_is_cut_in_a_crowded_second_is_not_whole() -> None:
    """No date shows what is behind the cut, and the count may be of all customers."""
    world = World(order="newest", page_cap=6, deepest=80, deep="cut", inserts=0.3, changes=0.1).fill(
        [END] * 150
    )
    with suppress(LightspeedIncompleteListError):
        outcome = run(world, TicketFilter(email="a@example.com"), page_size=8)
        assert outcome is not None
        outcome.check()


class Large(World):
    """Responses with more tickets than this are larger than the client reads."""

    most = 250

    def answer(self, request: Request[Any]) -> Any:
        reply = super().answer(request)
        return (
            LightspeedResponseTooLargeError("too large")
            if isinstance(reply, list) and len(reply) > self.most
            else reply
        )


@pytest.mark.parametrize("most", [4, 7, 15])
@pytest.mark.parametrize("order", ORDERS)
def test_responses_that_are_too_large_are_asked_for_in_halves_unless_those_prove_nothing(
    order: str, most: int
) -> None:
    for seed in range(10):
        world = Large(order=order, seed=seed, inserts=0.3, changes=0.3, deletes=0.3)
        world.most = most
        world.fill(range(END - 80 * 300, END, 300), changed=0.3)
        if most == 4:
            with pytest.raises(LightspeedResponseTooLargeError):
                run(world, TicketFilter())
        else:
            outcome = run(world, TicketFilter())
            assert outcome is not None
            outcome.check()


@pytest.mark.parametrize("order", ["unordered", "last_change"])
def test_a_list_that_is_counted_in_parts_says_how_long_it_is(order: str) -> None:
    """Who asks for an estimate need not count again."""
    outcome = walked(world_of(25, order=order, spacing=1))
    assert next(page.counted for page in outcome.pages if page.tickets) is not None
