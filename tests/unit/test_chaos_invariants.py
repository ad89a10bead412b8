"""Each invariant of chaos can fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from airflow_provider_lightspeed.sandbox import Call, Churn, ShopConfig
from chaos.calls import closing_met_the_reserve, repeated_reads, repeated_writes
from chaos.invariants import (
    BrokenInvariantError,
    frees_its_worker,
    is_green,
    logs_are_discreet,
    none_is_written_twice,
    resumes_where_it_stopped,
)
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


def test_an_export_that_starts_over_is_noticed() -> None:
    pages = [page(number) for number in range(50)]
    assert repeated_reads([page(1, "503"), *pages]) == 0
    assert resumes_where_it_stopped(scenario(), pages + pages[:40], ["", ""], cuts=0) == 40
    with pytest.raises(BrokenInvariantError, match="41 lists were requested again"):
        resumes_where_it_stopped(scenario(), pages + pages[:41], ["", ""], cuts=0)
    with pytest.raises(BrokenInvariantError, match="1 lists"):
        resumes_where_it_stopped(scenario(), pages + pages[:1], [""], cuts=0)


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
