"""The quota, in pure code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api.rate_limit import Quota, RateLimiter, Window, retry_after

LIMIT = "300/3000/12000"


def headers(
    remaining: str = "298/2965/11910", reset: str = "202/802/8002", limit: str = LIMIT
) -> dict[str, str]:
    return {"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": reset}


def limiter(answer: dict[str, str] | None = None, now: float = 1_000.0, **options: Any) -> RateLimiter:
    """A limiter that has heard one answer, long enough ago not to count as a call of this second."""
    made = RateLimiter(**{"calls_per_second": 0, **options})
    made.acquire(now)
    made.record(now, answer if answer is not None else headers(), now)
    return made


def remaining(quota: Quota | None) -> list[int]:
    return [window.remaining for window in quota.windows] if quota else []


# Reading


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title, str])
def test_names_in_any_case(change: Any) -> None:
    quota = Quota.from_headers({change(name): value for name, value in headers().items()}, 10.0)
    assert quota
    assert [(w.name, w.limit, w.remaining, w.resets_at) for w in quota.windows] == [
        ("5 minutes", 300, 298, 212.0),
        ("1 hour", 3000, 2965, 812.0),
        ("1 day", 12000, 11910, 8012.0),
    ]
    assert str(quota).startswith("298 of 300 calls left in 5 minutes, ")
    assert str(Quota.from_headers(headers("-1/0/1"), 10.0)).startswith(
        "0 of 300 calls left in 5 minutes, 0 of 3,000 "
    )


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "300",
        "300/3000",
        "1/2/3/4",
        "a/b/c",
        "300//12000",
        "1e3/2/3",
        "1_0/2/3",
        "９/9/9",
        "9" * 400 + "/1/1",
        "NaN/1/1",
    ],
)
@pytest.mark.parametrize("name", ["limit", "remaining", "reset"])
def test_a_malformed_triple_is_none_at_all(name: str, bad: str) -> None:
    assert Quota.from_headers(headers(**{name: bad}), 0.0) is None
    missing = {key: value for key, value in headers().items() if name not in key.lower()}
    assert Quota.from_headers(missing, 0.0) is None


@pytest.mark.parametrize("limit", ["0/3000/12000", "-1/3000/12000"])
def test_a_limit_of_nothing_is_malformed(limit: str) -> None:
    assert Quota.from_headers(headers(limit=limit), 0.0) is None


def test_a_limit_of_one_is_a_limit() -> None:
    assert Quota.from_headers(headers(limit="1/1/1", remaining="1/1/1"), 0.0)


def test_the_reset_lies_between_what_sending_and_what_answering_makes_of_it() -> None:
    quota = Quota.from_headers(headers(reset="202/802/8002"), 1_010.0, 1_000.0)
    assert quota
    assert (quota.windows[0].resets_from, quota.windows[0].resets_at) == (1_201.0, 1_212.0)
    old, new = Window("", 300.0, 9, 5, 120.0, 100.0), Window("", 300.0, 9, 6, 130.0, 90.0)
    assert old.after(new) == new.after(old) == old


def test_negative_resets_are_now_and_none_is_longer_than_its_window() -> None:
    quota = Quota.from_headers(headers(reset="-5/99999999/1790000000"), 10.0)
    assert quota
    assert [window.resets_at for window in quota.windows] == [10.0, 3610.0, 86410.0]


@given(
    st.dictionaries(
        st.sampled_from(["x-ratelimit-limit", "X-RATELIMIT-REMAINING", "x-RateLimit-Reset"]), st.text()
    )
)
def test_no_header_breaks_the_reading(given_headers: dict[str, str]) -> None:
    Quota.from_headers(given_headers, 0.0)


@given(st.text())
def test_no_retry_after_breaks_the_reading(text: str) -> None:
    seconds = retry_after({"retry-after": text}, datetime.now(UTC))
    assert seconds is None or 0 <= seconds <= 86400


def test_retry_after_in_both_forms() -> None:
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert retry_after({"retry-after": " 30 "}, now) == 30
    assert retry_after({"retry-after": format_datetime(now + timedelta(seconds=45), usegmt=True)}, now) == 45
    assert retry_after({"retry-after": format_datetime(now - timedelta(seconds=45), usegmt=True)}, now) == 0
    assert retry_after({"retry-after": "Sun, 01 Mar 2026 14:00:45 +0200"}, now) == 45
    assert retry_after({"retry-after": "Sun, 01 Mar 2026 12:00:45 -0000"}, now) == 45  # an unknown zone: UTC
    assert retry_after({"retry-after": "9" * 500}, now) == 86400
    # The clock of this machine is an hour slow, or an hour fast.
    for off in (timedelta(hours=1), timedelta(hours=-1)):
        dates = {"date": now + off, "retry-after": now + off + timedelta(seconds=45)}
        assert retry_after({name: format_datetime(at, usegmt=True) for name, at in dates.items()}, now) == 45
    assert retry_after({"date": "soon", "retry-after": "Sun, 01 Mar 2026 12:00:45 GMT"}, now) == 45
    assert retry_after({"retry-after": "Sun, 01 Mar 2099 12:00:00 GMT"}, now) == 86400
    for none in ("", "soon", "-1", "1.5", "٣"):
        assert retry_after({"retry-after": none}, now) is None
    assert retry_after({}, now) is None


# Answers of parallel calls


@given(st.permutations(range(8)), st.lists(st.floats(0, 20), min_size=8, max_size=8))
def test_in_whatever_order_answers_arrive_the_least_that_is_left_counts(
    order: list[int], delays: list[float]
) -> None:
    """Eight calls are sent at once and counted one after another; each answer takes its own time."""
    made = limiter(headers("300/3000/12000", "200/800/8000"))
    for _ in order:
        made.acquire(1_000.0)
    for arrival, call in enumerate(sorted(order, key=lambda call: delays[call])):
        now = 1_000.0 + delays[call]
        told = headers(f"{299 - call}/{2999 - call}/{11999 - call}", "200/800/8000")
        made.record(now, told, 1_000.0)
        del arrival
    assert remaining(made.quota) == [292, 2992, 11992]
    assert made.quota
    assert made.quota.windows[0].resets_at <= 1_200.0 + min(delays)


def test_a_slow_answer_is_no_new_window() -> None:
    made = limiter(headers("200/3000/12000", "100/800/8000"))
    made.acquire(1_000.0)
    made.acquire(1_001.0)
    made.record(1_002.0, headers("100/2900/11900", "98/798/7998"), 1_001.0)
    made.record(1_020.0, headers("199/2999/11999", "100/800/8000"), 1_000.0)
    assert remaining(made.quota) == [100, 2900, 11900]
    made.acquire(1_021.0)
    made.record(1_021.5, headers("99/2899/11899", "79/779/7979"), 1_021.0)
    assert remaining(made.quota) == [99, 2899, 11899]


def test_a_new_window_begins_with_its_own_numbers_and_a_late_answer_of_the_old_one_is_ignored() -> None:
    made = limiter(headers("0/100/100", "10/800/8000"))
    made.acquire(1_009.0)
    made.acquire(1_011.0)
    made.record(1_011.1, headers("299/99/99", "299/789/7989"), 1_011.0)
    assert remaining(made.quota)[0] == 299
    made.record(1_012.0, headers("0/100/100", "1/791/7991"), 1_009.0)
    assert remaining(made.quota)[0] == 299


def test_a_call_without_an_answer_may_have_counted() -> None:
    made = limiter(headers("10/20/30"))
    made.acquire(1_000.0)
    made.record(1_000.0, None, 1_000.0)
    assert remaining(made.quota) == [9, 19, 29]


@pytest.mark.parametrize("answer", [{}, headers("x/y/z"), headers(limit="300/3000")])
def test_after_an_answer_without_a_good_triple_the_last_one_goes_on_to_count(answer: dict[str, str]) -> None:
    made = limiter(headers("2/20/30"))
    for _ in range(2):
        assert made.acquire(1_000.0).seconds <= 0
        made.record(1_000.0, answer, 1_000.0)
    assert remaining(made.quota) == [0, 18, 28]
    assert made.acquire(1_000.0).seconds > 100


# Starting calls


def test_before_the_first_answer_one_call_goes_alone() -> None:
    made = RateLimiter(calls_per_second=0)
    assert made.acquire(0.0).seconds == 0
    wait = made.acquire(0.0)
    assert 0 < wait.seconds < 0.1
    assert wait.reason == "what is left of the quota is not known until a call under way returns"
    made.record(0.1, {}, 0.0)  # no headers: there may never be any
    assert [made.acquire(0.1).seconds for _ in range(5)] == [0] * 5


@given(st.integers(1, 30), st.sampled_from([0.0, 0.25, 0.5, 0.9]))
def test_calls_under_way_never_pass_what_is_left(left: int, reserve: float) -> None:
    made = limiter(headers(f"{left}/3000/12000", limit="40/3000/12000"), reserve=reserve)
    started = 0
    while made.acquire(1_000.0).seconds <= 0:
        started += 1
    assert started == max(0, left - int(40 * reserve))


def test_with_calls_under_way_the_last_ones_wait_for_their_answers_not_for_the_reset() -> None:
    made = limiter(headers("2/3000/12000"))
    assert made.acquire(1_000.0).seconds == 0
    assert made.acquire(1_000.0).seconds == 0
    assert made.acquire(1_000.0).seconds < 0.1
    made.record(1_000.5, headers("1/2999/11999"), 1_000.0)
    made.record(1_000.5, headers("0/2998/11998"), 1_000.0)
    wait = made.acquire(1_000.5)
    assert 190 < wait.seconds < 203
    assert wait.reason == "the quota of 5 minutes is used up (0 of 300 left)"


def test_after_the_reset_no_more_calls_start_than_a_window_has() -> None:
    made = limiter(headers("0/3000/12000", "10/800/8000", limit="5/3000/12000"))
    assert made.acquire(1_009.0).seconds == 1
    assert [made.acquire(1_010.0).seconds for _ in range(5)] == [0] * 5
    assert made.acquire(1_010.0).seconds > 0


@pytest.mark.parametrize("left", ["0", "-1"])
def test_the_longest_used_up_window_decides(left: str) -> None:
    wait = limiter(headers(f"{left}/{left}/11910")).acquire(1_000.0)
    assert wait.seconds == 802
    assert "1 hour" in wait.reason


def test_the_reserve_is_told() -> None:
    wait = limiter(headers("30/3000/12000"), reserve=0.1).acquire(1_000.0)
    assert (
        wait.reason
        == "the quota of 5 minutes is used up (30 of 300 left, 30 of them kept for other programs)"
    )


def test_a_block_holds_all_calls_up_and_the_longer_one_wins() -> None:
    made = limiter()
    made.block(1_010.0, "long")
    made.block(1_005.0, "short")
    assert made.acquire(1_000.0).seconds == 10
    assert made.acquire(1_000.0).reason == "long"
    assert made.acquire(1_010.0).seconds <= 0


def test_calls_under_way_take_up_the_calls_of_a_second() -> None:
    made = limiter(calls_per_second=2)
    assert [made.acquire(1_010.0).seconds for _ in range(2)] == [0, 0]
    wait = made.acquire(1_010.0)
    assert 0 < wait.seconds < 0.1
    assert wait.reason == "2 calls a second is the shop's limit"


@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 1.5)), min_size=30, max_size=120), st.integers(1, 20)
)
def test_no_second_sees_more_calls_than_allowed(steps: list[tuple[float, float]], rate: int) -> None:
    """A call counts at any moment between its start and its answer: take the worst, the start of one, the end of another."""
    made = limiter(calls_per_second=rate, now=0.0)
    now, ends, spans = 2.0, [], []
    for step, latency in steps:
        now += step
        for end in [end for end in ends if end <= now]:
            made.record(end, headers("9999/9999/9999", limit="9999/9999/9999"), end)
            ends.remove(end)
        if made.acquire(now).seconds <= 0:
            spans.append((now, now + latency))
            ends.append(now + latency)
            ends.sort()
    for start, _ in spans:
        assert sum(other <= start < end + 1.0 for other, end in spans) <= rate


# Planning


@pytest.mark.parametrize(
    ("calls", "seconds"),
    [(0, 0), (100, 5), (298, 14.9), (299, 202), (598, 202), (599, 502), (2965, 202 + 8 * 300), (2966, 2602)],
)
def test_plan(calls: int, seconds: float) -> None:
    assert limiter(calls_per_second=20).estimate(calls, 1_000.0) == timedelta(seconds=seconds)


def test_plan_with_nothing_left_waits_for_the_reset() -> None:
    assert limiter(headers("0/3000/12000")).estimate(1, 1_000.0) == timedelta(seconds=202)


@pytest.mark.parametrize(("calls", "seconds"), [(148, 0), (149, 202), (298, 202), (299, 502)])
def test_plan_leaves_the_reserve_in_each_window(calls: int, seconds: float) -> None:
    assert limiter(reserve=0.5).estimate(calls, 1_000.0) == timedelta(seconds=seconds)


@pytest.mark.parametrize("now", [1_202.0, 1_300.0])
def test_plan_after_the_reset_begins_with_a_whole_window(now: float) -> None:
    assert limiter().estimate(300, now) == timedelta(0)
    assert limiter().estimate(301, now) == timedelta(seconds=300)


def test_plan_before_the_first_answer_knows_the_calls_a_second_only() -> None:
    assert RateLimiter(calls_per_second=20).estimate(100, 0.0) == timedelta(seconds=5)
    assert RateLimiter(calls_per_second=0).estimate(100, 0.0) == timedelta(0)


def test_calls_one_after_another_take_as_long_as_those_so_far() -> None:
    made = RateLimiter(calls_per_second=20)
    for started, headers_heard in [(0.0, {}), (1.0, {}), (2.0, None)]:
        made.acquire(started)
        # The last one got no response: how long it took says nothing of others.
        made.record(started + (1.0 if headers_heard is None else 3.0), headers_heard, started)
    assert made.estimate(5, 10.0, sequential=5) == timedelta(seconds=15)
    assert made.estimate(5, 10.0, sequential=1) == timedelta(seconds=3)
    # Eight at once and the like are the caller's to say; when a call is possible again does not depend on it.
    assert made.estimate(5, 10.0) == timedelta(seconds=0.25)


def test_plan_counts_a_block() -> None:
    made = limiter()
    made.block(1_060.0, "refused")
    assert made.estimate(1, 1_000.0) == timedelta(seconds=60)


@given(st.integers(0, 20_000), st.floats(0, 0.9), st.integers(-1, 300), st.floats(0, 900))
def test_more_calls_never_take_less_time(calls: int, reserve: float, left: int, later: float) -> None:
    made = limiter(headers(f"{left}/3000/12000"), reserve=reserve)
    now = 1_000.0 + later
    assert timedelta(0) <= made.estimate(calls, now) <= made.estimate(calls + 1, now)
