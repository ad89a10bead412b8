"""Each invariant of chaos can fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_lightspeed.sandbox import Call, Churn, Sandbox, ShopConfig
from chaos.calls import closing_met_the_reserve, repeated_reads, repeated_writes
from chaos.invariants import (
    BrokenInvariantError,
    frees_its_worker,
    is_green,
    lake_follows_its_log,
    lake_is_the_shop,
    log_grows,
    log_is_sound,
    logs_are_discreet,
    none_is_buried_alive,
    none_is_written_twice,
    only_its_targets_are_closed,
    resumes_where_it_stopped,
)
from chaos.lake import Lake, columns_of, replay
from chaos.scenarios import Scenario, draw

INCOMPLETE = "… LightspeedIncompleteListError: the list moves too fast"


def scenario(**options: object) -> Scenario:
    shop = {"tickets": 1000, "order": "newest", "limits": (60, 10**6, 10**6), "window_seconds": (10, 10, 10)}
    return replace(draw(1), shop=ShopConfig(**{**shop, **options}))  # type: ignore[arg-type]


def put(number: int, at: float = 0.0, *, status: int = 200, fault: str | None = None) -> Call:
    return call("PUT", f"/us/tickets/{number}.json", at=at, status=status, fault=fault)


def page(number: int, fault: str | None = None) -> Call:
    return call("GET", "/en/tickets.json", query={"page": str(number)}, fault=fault)


def call(method: str, path: str, *, at: float = 0.0, status: int = 200, **options: object) -> Call:
    given = {"monotonic": at, "key": "k", "query": {}, "body": "", **options}
    return Call(at=at, method=method, path=path, status=status, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("calls", "again"),
    [
        ([put(1), put(2)], 0),
        ([put(1, status=503, fault="503"), put(1), put(2)], 0),
        ([put(1, fault="empty-200"), put(1)], 0),
        ([put(1), put(1, fault="slow"), put(1, status=503, fault="503")], 2),
        ([put(1, fault="slow"), put(1)], 1),
    ],
)
def test_a_write_repeats_one_that_the_shop_has_confirmed(calls: Sequence[Call], again: int) -> None:
    assert repeated_writes(calls) == again


def test_writes_in_flight_at_a_cut_may_be_repeated() -> None:
    calls = [put(number) for number in range(9)] + [put(number) for number in range(8)]
    none_is_written_twice(calls, cuts=1)
    with pytest.raises(BrokenInvariantError, match="8 tickets were written again"):
        none_is_written_twice(calls, cuts=0)
    with pytest.raises(BrokenInvariantError, match="9 tickets"):
        none_is_written_twice([*calls, put(8)], cuts=1)


def test_the_result_of_a_bulk_close_is_held_against_the_shop() -> None:
    stale = draw(1)
    shop = Sandbox(replace(stale.shop, tickets=2, churn=Churn(), oddities=False))
    before = {
        number: {**ticket, "isAnswered": True, "isClosed": False, "isTodo": False}
        for number, ticket in shop.shop.tickets().items()
    }
    scenario = replace(stale, shop=shop.backend.config, close_before=datetime(2027, 1, 1, tzinfo=UTC))
    first, second = before
    for number in before:
        shop.update_ticket(number, isClosed=False)
        shop.shop.update(number, {"is_closed": True}, by=shop.key)
    result = {"closed": [first], "already": [second], "missing": [], "changed": [], "failed": {}}
    two_at_once = ["Server indicated the task shouldn't be running anymore. Terminating process"]
    only_its_targets_are_closed(
        scenario, shop, before, {**result, "closed": [first, second], "already": []}, [""]
    )
    only_its_targets_are_closed(scenario, shop, before, result, two_at_once)
    with pytest.raises(BrokenInvariantError, match=f"1 tickets .{second}"):
        only_its_targets_are_closed(scenario, shop, before, result, ["Task killed!"])
    with pytest.raises(BrokenInvariantError, match=f"1 tickets .{second}"):
        only_its_targets_are_closed(scenario, shop, before, {**result, "already": []}, two_at_once)


def test_an_export_that_starts_over_is_noticed() -> None:
    pages = [page(number) for number in range(50)]
    assert repeated_reads([page(1, "503"), *pages]) == 0
    assert resumes_where_it_stopped(scenario(), pages + pages[:40], ["", ""], cuts=0) == 40
    with pytest.raises(BrokenInvariantError, match="41 lists were requested again"):
        resumes_where_it_stopped(scenario(), pages + pages[:41], ["", ""], cuts=0)
    with pytest.raises(BrokenInvariantError, match="1 lists"):
        resumes_where_it_stopped(scenario(), pages + pages[:1], [""], cuts=0)
    waited = ["This list can't be resumed there: the task waits in its worker slot"]
    assert resumes_where_it_stopped(scenario(), pages + pages[:40], waited, cuts=0) == 40
    cut = scenario(page_limit=50, page_depth=500)
    assert resumes_where_it_stopped(cut, pages + 2 * pages[:14], [""], cuts=0) == 28
    with pytest.raises(BrokenInvariantError, match="29 lists"):
        resumes_where_it_stopped(cut, pages + pages[:29], [""], cuts=0)


def test_a_red_task_needs_a_reason() -> None:
    churning = Churn(changes=0.2)
    is_green(scenario(), "export", "success", [""])
    is_green(scenario(order="unordered", churn=churning), "export", "failed", ["", INCOMPLETE])
    for failed, task, logs in (
        (scenario(order="unordered", churn=churning), "export", [INCOMPLETE, "LightspeedServerError"]),
        (scenario(order="unordered", churn=churning), "export", []),
        (scenario(order="unordered", churn=churning), "watch", [INCOMPLETE]),
        (scenario(order="unordered"), "export", [INCOMPLETE]),
        (scenario(churn=churning), "export", [INCOMPLETE]),
    ):
        with pytest.raises(BrokenInvariantError, match=f"{task} is failed"):
            is_green(failed, task, "failed", logs)


def test_a_deferral_has_to_be_where_the_quota_was_used_up_for_long() -> None:
    early = [put(number, number / 20) for number in range(42)]
    assert closing_met_the_reserve(scenario(), [*early, put(43, 10.5)])
    assert not closing_met_the_reserve(scenario(), early)
    assert not closing_met_the_reserve(scenario(), [*early[:41], put(43, 10.5)])
    late = [put(number, 4 + number / 20) for number in range(42)]
    assert not closing_met_the_reserve(scenario(), [*late, put(43, 10.5)])
    frees_its_worker(["Pausing task as DEFERRED. "])
    with pytest.raises(BrokenInvariantError, match="never deferred"):
        frees_its_worker(["Waiting 7 s"])


@pytest.mark.parametrize("log", ["password: the-secret", "ticket 7: Where is my order?"])
def test_a_log_with_the_secret_or_a_subject_breaks_an_invariant(log: str) -> None:
    logs_are_discreet(["ticket 7 is closed"], "the-secret", {"Where is my order?"})
    with pytest.raises(BrokenInvariantError, match="a log holds"):
        logs_are_discreet(["ticket 7 is closed", log], "the-secret", {"Where is my order?"})


# The log of changes


AT_FIRST = datetime(2026, 6, 2, tzinfo=UTC)
LATER = AT_FIRST + timedelta(hours=1)


class Lakeside:
    """A shop with six tickets, and the lake of two scans: the second one found an insert, an update and a delete."""

    def __init__(self, **options: Any) -> None:
        self.now = AT_FIRST - timedelta(hours=1)
        config = ShopConfig(tickets=6, first_id=11, end=AT_FIRST - timedelta(days=1), **options)
        self.shop = Sandbox(config, clock=lambda: self.now.timestamp())
        self.scenario = replace(draw(1), shop=config)
        first = [self.row(number, "I", 1) for number in self.shop.shop.ids()]
        self.now += timedelta(hours=1, minutes=30)
        self.shop.add_tickets(1)
        self.shop.update_ticket(12, memo="Seen")
        self.gone = self.row(13, "D", 2)
        self.shop.delete_ticket(13)
        self.files: dict[int, list[dict[str, Any]]] = {
            1: first,
            2: [self.row(12, "U", 2), self.row(17, "I", 2), self.gone],
        }
        self.now += timedelta(hours=1)

    def row(self, number: int, op: str, seq: int) -> dict[str, Any]:
        ticket = self.shop.shop.ticket(number)
        updated = datetime.fromisoformat(ticket["updatedAt"])
        changed_by = AT_FIRST if seq == 1 else LATER
        about = {"id": number, "op": op, "_seq": seq, "_changed_by": changed_by, "updated_at": updated}
        return about | dict(columns_of(ticket))

    def lake(self, **parts: Any) -> Lake:
        current = list(replay(self.files).values())
        status = {"seq": 2, "tickets": len(current), "coverage": [[0, LATER.isoformat()]]}
        given: Mapping[str, Any] = {"current": current, "reached": 2, "status": status, **parts}
        return Lake(self.files, **given)

    def check(self, **parts: Any) -> None:
        lake = self.lake(**parts)
        log_is_sound(self.scenario, lake)
        none_is_buried_alive(self.shop, lake)
        lake_follows_its_log(lake)
        lake_is_the_shop(self.scenario, self.shop, lake)


def test_a_lake_that_follows_its_shop_breaks_no_invariant() -> None:
    beside = Lakeside()
    beside.check()
    # What happens after the scan may or may not be there.
    beside.shop.delete_ticket(14)
    beside.shop.update_ticket(12, memo="Seen again")
    beside.shop.add_tickets(1)
    beside.check()


def test_a_stale_missing_or_risen_ticket_is_noticed() -> None:
    beside = Lakeside()
    update, insert, delete = beside.files[2]
    for rows, why in (
        ([insert, delete], "ticket 12 is {"),
        ([update, delete], "ticket 17 is None"),
        ([update, insert], "ticket 13 is {"),
        ([update, insert, delete, beside.row(11, "U", 2) | {"subject": "Another"}], "ticket 11 is {"),
        ([update, insert, delete, beside.row(11, "I", 2) | {"id": 99}], "never had 1 tickets .99"),
    ):
        beside.files[2] = rows
        with pytest.raises(BrokenInvariantError, match=why):
            lake_is_the_shop(beside.scenario, beside.shop, beside.lake())


def test_what_a_scan_could_not_see_is_no_fault() -> None:
    left_out, late = Lakeside(left_out_every=17), Lakeside(late_every=17, late_seconds=3600.0)
    for beside in (left_out, late):
        beside.files[2] = [row for row in beside.files[2] if row["id"] != 17]
        beside.check()
    late.scenario = replace(late.scenario, shop=replace(late.scenario.shop, late_seconds=60.0))
    with pytest.raises(BrokenInvariantError, match="ticket 17 is None"):
        late.check()
    lagging = Lakeside(replica_lag=1)
    lagging.files[2] = [row for row in lagging.files[2] if row["id"] != 12]
    lagging.check()
    lagging.files[1][0]["subject"] = "Of another ticket"
    with pytest.raises(BrokenInvariantError, match=r"ticket 11 is \{"):
        lagging.check()


def test_the_instant_of_a_recent_scan_holds_for_recent_tickets_only() -> None:
    beside = Lakeside()
    coverage = [[0, AT_FIRST.isoformat()], [16, LATER.isoformat()]]
    status = {"seq": 2, "tickets": 6, "coverage": coverage}
    beside.files[2] = [row for row in beside.files[2] if row["id"] != 12]
    beside.check(status=status)
    coverage[1][0] = 11
    with pytest.raises(BrokenInvariantError, match=r"ticket 12 is \{"):
        beside.check(status=status)


def test_a_living_ticket_is_not_to_be_deleted() -> None:
    beside = Lakeside()
    beside.files[2].append(beside.row(14, "D", 2))
    with pytest.raises(BrokenInvariantError, match=r"and in the shop: 1 tickets .14"):
        none_is_buried_alive(beside.shop, beside.lake())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda files: files.update({4: []}), r"change files are \[1, 2, 4\]"),
        (lambda files: files[2].append(files[2][0]), r"has two rows of 1 tickets \(12"),
        (lambda files: files[2][0].update(_seq=1), "change file 2 has a row of 1"),
        (
            lambda files: files[2][0].update(_changed_by=AT_FIRST - timedelta(1)),
            "ended before the one before",
        ),
        (lambda files: files[2][0].update(op="I"), "ticket 12: I in 2"),
        (lambda files: files[2][1].update(op="U"), "ticket 17: U in 2"),
        (lambda files: files.update({3: [files[2][2] | {"_seq": 3}]}), "ticket 13: D in 3"),
        (
            lambda files: files[2][0].update(updated_at=AT_FIRST - timedelta(999)),
            "ticket 12 .* older than before",
        ),
    ],
)
def test_a_log_that_contradicts_itself_is_noticed(change: Any, why: str) -> None:
    beside = Lakeside()
    change(beside.files)
    with pytest.raises(BrokenInvariantError, match=why):
        log_is_sound(beside.scenario, beside.lake())


def test_a_current_that_is_not_the_log_is_noticed() -> None:
    beside = Lakeside()
    current = beside.lake().current
    stale = [{**row, "memo": "Another"} if row["id"] == 11 else row for row in current]
    status = {"seq": 1, "tickets": 6, "coverage": []}
    for parts, why in (
        ({"current": [*current, current[0]]}, "1 tickets are in current twice"),
        ({"current": current[1:]}, r"not what the log comes to: 1 tickets \(11"),
        ({"current": stale}, r"not what the log comes to: 1 tickets \(11"),
        ({"reached": 1}, r"log ends at 2; current and status.json: \(1, 2, 6"),
        ({"status": status}, r"log ends at 2; current and status.json: \(2, 1, 6"),
        ({"others": ["_staging/changes/1"]}, "left behind"),
    ):
        with pytest.raises(BrokenInvariantError, match=why):
            lake_follows_its_log(beside.lake(**parts))


def test_a_change_file_that_changes_and_a_current_that_goes_back_are_noticed() -> None:
    log_grows({"1": {"a"}, "2": {"b"}}, [1, 1, 2])
    with pytest.raises(BrokenInvariantError, match=r"committed and changed: ..2"):
        log_grows({"1": {"a"}, "2": {"b", "c"}}, [1, 2])
    with pytest.raises(BrokenInvariantError, match="current went back"):
        log_grows({"1": {"a"}}, [1, 2, 1])
