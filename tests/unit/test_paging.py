"""The walk against worlds of all kinds: complete, each ticket once, or an error that says so.

``HYPOTHESIS_PROFILE=long pytest --timeout 0 tests/unit/test_paging.py`` tries fifty times as many worlds.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from airflow_provider_lightspeed.api.errors import (
    LightspeedGatewayError,
    LightspeedIncompleteListError,
    LightspeedWrongTicketError,
)
from airflow_provider_lightspeed.api.tickets import TicketFilter, get_ticket
from tests.unit.paging_world import World, run

IANA = [
    "UTC",
    "Europe/Amsterdam",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Pacific/Chatham",
    "Asia/Kolkata",
    "Pacific/Kiritimati",
]
#: Around clock changes of those zones, and an ordinary day.
BASES = [
    datetime(*day, tzinfo=UTC).timestamp()
    for day in [
        (2025, 3, 30, 1),
        (2025, 10, 26, 1),
        (2025, 3, 9, 7),
        (2025, 11, 2, 6),
        (2025, 4, 5, 15),
        (2025, 10, 4, 15, 30),
        (2025, 7, 1),
    ]
]
ORDERED = ["oldest", "newest"]
ORDERS = [*ORDERED, "unordered", "last_change", "last_change_asc"]
SPACINGS = [(0,), (1,), (0, 0, 0, 1), (60,), (0, 1, 60), (900,), (3_600,), (0, 0, 1, 20_000), (86_400,)]

zones = st.one_of(st.sampled_from(IANA), st.integers(-48, 56).map(lambda quarters: str(15 * quarters)))
LIES = [
    "cap",
    "left out",
    "twice",
    "count",
    "empty",
    "replica",
    "replica in turn",
    "late",
    "deep",
    "blocked",
    "switches",
    "aliased",
]
rates = st.sampled_from([0.0, 0.0, 0.1, 0.3, 1.0])
#: With fewer, every limit from a half to a whole page divides some place in the list, and no two
#: answers overlap there.
page_sizes = st.integers(8, 12)


def examples(share: float) -> int:
    return max(1, int(settings.default.max_examples * share))


@st.composite
def lies(draw: st.DrawFn) -> dict[str, Any]:
    """Draw how a shop lies: mostly in one way, sometimes in several."""
    drawn: dict[str, Any] = {}
    for kind in draw(st.lists(st.sampled_from(LIES), min_size=1, max_size=3, unique=True)):
        match kind:
            case "cap":
                drawn |= {"page_cap": draw(st.sampled_from([6, 7, 8])), "cap_skips": draw(st.booleans())}
            case "left out":
                drawn["hidden"] = draw(st.sampled_from([0.02, 0.1]))
            case "twice":
                drawn |= {"twice": draw(st.sampled_from([0.05, 0.3])), "twice_counts": draw(st.booleans())}
            case "count":
                drawn |= {
                    "count_cap": draw(st.sampled_from([None, 5, 20, 50])),
                    "count_off": draw(st.sampled_from([-3, -1, 0, 1, 7])),
                    "count_sees_hidden": draw(st.booleans()),
                }
            case "empty":
                drawn["empty_at"] = draw(st.integers(1, 12))
            case "replica":
                drawn |= {
                    "replica": draw(st.sampled_from([0.1, 0.5])),
                    "replica_lag": draw(st.integers(0, 3)),
                    "replica_lacks": draw(st.sampled_from([0, 1, 3])),
                }
            case "replica in turn":
                drawn |= {
                    "turn": draw(st.integers(0, 1)),
                    "replica_lag": draw(st.integers(0, 3)),
                    "replica_lacks": draw(st.integers(0, 3)),
                }
            case "late":
                drawn["late"] = draw(st.sampled_from([0.2, 0.7]))
            case "deep":
                deepest = draw(st.integers(80, 160))
                drawn |= {"deepest": deepest, "deep": draw(st.sampled_from(["refuse", "empty", "cut"]))}
                if draw(st.booleans()):
                    drawn["count_cap"] = deepest
            case "blocked":
                drawn["blocked_at"] = draw(st.integers(1, 40))
            case "switches":
                drawn["switches"] = draw(st.sampled_from([("false", "true"), (0, 1), ("0", "1")]))
            case "aliased":
                drawn["aliased"] = True
    if "deepest" in drawn:
        # A count that is too low by just as many as are cut off looks right.
        drawn["count_off"] = max(0, drawn.get("count_off", 0))
    if "turn" in drawn:
        # One page, of which a row is left out, looks like the whole list if the replica lacks the ticket behind it;
        # test_paging_small.py has longer lists.
        drawn.pop("hidden", None)
    if "turn" in drawn and "page_cap" in drawn:
        drawn["page_cap"] = (
            10  # a list of exactly one page of another size looks whole, whatever a replica hides
        )
    return drawn


@st.composite
def worlds(
    draw: st.DrawFn, orders: list[str] = ORDERS, churn: bool = True, lying: bool = False, **fixed: Any
) -> Any:
    seed = draw(st.integers(0, 1 << 32))
    world = World(
        order=draw(st.sampled_from(orders)),
        filter_zone=draw(zones),
        answer_zone=draw(zones),
        naive=draw(st.booleans()),
        min_inclusive=draw(st.booleans()),
        max_inclusive=draw(st.booleans()),
        since_id_inclusive=draw(st.booleans()),
        count_reads_email=draw(st.booleans()),
        null_is_lowest=draw(st.booleans()),
        inserts=min(0.5, draw(rates)) if churn else 0.0,
        changes=draw(rates) if churn else 0.0,
        deletes=draw(rates) if churn else 0.0,
        seed=seed,
        **fixed,
        **(draw(lies()) if lying else {}),
    )
    chance = random.Random(seed)
    size = draw(st.one_of(st.integers(0, 30), st.integers(0, 200)))
    # Where all tickets are of one second, no date shows that a list and its count are cut at one number.
    cut_as_counted = world.deepest is not None and world.deepest == world.count_cap
    spacing = draw(st.sampled_from(SPACINGS[1:] if cut_as_counted else SPACINGS))
    moment = int(draw(st.sampled_from(BASES)))
    steps = [chance.choice(spacing) for _ in range(size)]
    moment -= sum(steps) // 2
    created = []
    for step in steps:
        moment += step
        created.append(moment)
    return world.fill(
        created,
        gap=draw(st.sampled_from([1, 1, 5, 1_000])),
        changed=draw(st.sampled_from([0.0, 0.3, 0.9])),
        null=draw(st.booleans()),
    )


@st.composite
def filters(draw: st.DrawFn, world: Any) -> TicketFilter:
    rows = list(world.rows.values())
    first = rows[0].created if rows else int(BASES[-1])
    last = rows[-1].created + 1 if rows else first + 10
    moments = st.one_of(
        st.none(),
        st.integers(first - 2, last + 2),
        st.sampled_from([row.created for row in rows] or [first]),
    ).map(lambda second: None if second is None else datetime.fromtimestamp(second, UTC))
    low, high = draw(moments), draw(moments)
    if low is not None and high is not None and low >= high:
        low, high = (high, low) if high < low else (low, low + timedelta(seconds=1))
    return TicketFilter(
        since_id=draw(st.one_of(st.none(), st.integers(0, max(world.last_id, 1)))),
        created_from=low,
        created_to=high,
        email=draw(st.sampled_from([None, None, None, "a@example.com"])),
    )


def timezone_of(draw: st.DrawFn, world: Any) -> str | None:
    """Name the zone rightly, wrongly, or not at all."""
    named = draw(st.sampled_from([None, world.filter_zone, *IANA]))
    return named if named in IANA else None


def check(world: Any, wanted: TicketFilter, **options: Any) -> bool:
    """Run a walk; say whether it failed honestly."""
    try:
        outcome = run(world, wanted, **options)
    except (LightspeedIncompleteListError, LightspeedGatewayError) as error:
        event(f"incomplete {world.order}: {str(error)[:60]}")
        return True
    if outcome is not None:
        outcome.check()
    return False


def crowded(world: World) -> bool:
    """Whether a slice of time that is too narrow to be cut holds more tickets than a page.

    A list in order then fails only where no ticket shows a change, so that it may be one by last
    change, and tickets came or went while it was read. Where a clock was set back, the hours that it
    repeats can't be cut either: their second pass has no wall clock of its own.
    """
    narrow = 2 * 3_600 + 6 if "/" in world.filter_zone else 6
    created = sorted(row.created for row in world.rows.values())
    return any(last - first < narrow for first, last in zip(created, created[7:], strict=False))


@settings(max_examples=examples(3))
@given(st.data())
def test_nothing_changes(data: st.DataObject) -> None:
    """Where nothing changes, every walk succeeds."""
    world = data.draw(worlds(churn=False))
    wanted = data.draw(filters(world))
    failed = check(
        world, wanted, filter_timezone=timezone_of(data.draw, world), page_size=data.draw(page_sizes)
    )
    # One customer's tickets in one slice, more than a page: the shop may not count them.
    assert not failed or (wanted.email and crowded(world))


@settings(max_examples=examples(4))
@given(st.data())
def test_all_changes(data: st.DataObject) -> None:
    """Whatever others do meanwhile, a walk is complete or fails; lists in order do not fail."""
    world = data.draw(worlds())
    wanted = data.draw(filters(world))
    hard = crowded(world)
    failed = check(
        world,
        wanted,
        filter_timezone=timezone_of(data.draw, world),
        page_size=data.draw(page_sizes),
    )
    assert not failed or world.order not in ORDERED or hard or crowded(world)


@settings(max_examples=examples(3))
@given(st.data())
def test_resumed(data: st.DataObject) -> None:
    """A walk that is stopped and resumed, again and again, is one walk."""
    world = data.draw(worlds())
    wanted = data.draw(filters(world))
    hard = crowded(world)
    failed = check(
        world,
        wanted,
        filter_timezone=timezone_of(data.draw, world),
        page_size=data.draw(page_sizes),
        stop_after=tuple(data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=3))),
    )
    assert not failed or world.order not in ORDERED or hard or crowded(world)


@settings(max_examples=examples(9))
@given(st.data())
def test_a_shop_that_lies(data: st.DataObject) -> None:
    """Whatever a shop shows, a walk is complete or fails."""
    world = data.draw(worlds(lying=True))
    wanted = data.draw(filters(world))
    check(
        world,
        wanted,
        filter_timezone=timezone_of(data.draw, world),
        page_size=data.draw(page_sizes),
        stop_after=tuple(data.draw(st.lists(st.integers(0, 6), max_size=2))),
    )
    world.blocked_at = None
    if world.rows:
        lowest = min(world.rows)
        ticket = world.answer(get_ticket(lowest))
        is_other = world.aliased and len(world.rows) > 1
        assert isinstance(ticket, LightspeedWrongTicketError) if is_other else ticket["id"] == lowest


@settings(max_examples=examples(1))
@given(st.data())
def test_rows_are_left_out_while_tickets_change_and_vanish(data: st.DataObject) -> None:
    """In no order: no page shows what it lacks, and between two calls what it lacks may move."""
    hidden = data.draw(st.sampled_from([0.02, 0.05]))
    world = data.draw(worlds(orders=["unordered", "last_change", "last_change_asc"], hidden=hidden))
    check(
        world,
        data.draw(filters(world)),
        filter_timezone=timezone_of(data.draw, world),
        page_size=data.draw(st.integers(8, 25)),
        stop_after=tuple(data.draw(st.lists(st.integers(0, 3), max_size=2))),
    )


@settings(max_examples=examples(1))
@given(st.data())
def test_a_shop_that_ignores_filters(data: st.DataObject) -> None:
    """Filters that a shop does not read never make a walk wrong, or endless."""
    ignores = data.draw(st.frozensets(st.sampled_from(["page", "since_id", "dates"]), min_size=1))
    world = data.draw(worlds(ignores=ignores))
    check(
        world,
        data.draw(filters(world)),
        filter_timezone=timezone_of(data.draw, world),
        page_size=data.draw(page_sizes),
    )


@pytest.mark.parametrize(("order", "failures"), [("oldest", 0), ("newest", 2)])
def test_a_crowded_second_is_little_trouble_in_order(order: str, failures: int) -> None:
    """Newest first, the end can't be asked for by date then, and tickets that come make the counts contradict it."""
    failed = 0
    for seed in range(20):
        world = World(order=order, seed=seed, inserts=0.3, changes=0.3, deletes=0.3)
        world.fill([int(BASES[-1])] * (20 + 9 * seed), gap=5, changed=0.5)
        try:
            outcome = run(world, TicketFilter(), page_size=7)
        except LightspeedIncompleteListError:
            failed += 1
        else:
            assert outcome is not None
            outcome.check()
    assert failed <= failures


@pytest.mark.parametrize("shift", [-20, -2, 0, 2, 20])
@pytest.mark.parametrize("size", [9, 160])
@pytest.mark.parametrize("naive", [True, False])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_zone_that_is_named_wrongly_loses_nothing(
    order: str, zone: str, naive: bool, size: int, shift: int
) -> None:
    end = int(BASES[-1])
    world = World(order=order, filter_zone=zone, naive=naive).fill(range(end - 600 * size, end, 600))
    middle = datetime.fromtimestamp(end - 300 * size, UTC) + timedelta(hours=shift)
    wanted = TicketFilter(created_from=middle - timedelta(hours=5), created_to=middle + timedelta(hours=5))
    assert not check(world, wanted, filter_timezone="Europe/Amsterdam", page_size=10)
