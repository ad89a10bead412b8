from __future__ import annotations

import math
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lightspeed.sandbox import ShopConfig
from airflow_provider_lightspeed.sandbox.quota import Quota

BEGIN = 1_772_323_200.0  # a midnight, so that all three windows begin here


class Clock:
    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> float:
        return self.now


def make_quota(**options: Any) -> tuple[Quota, Clock]:
    clock = Clock()
    return Quota(ShopConfig(**{"burst_limit": 0, **options}), clock), clock


def test_headers_show_the_triple() -> None:
    quota, clock = make_quota()
    assert [quota.take() for _ in range(2)] == [0, 0]
    clock.now += 98
    assert quota.headers() == {
        "X-RateLimit-Limit": "300/3000/12000",
        "X-RateLimit-Remaining": "298/2998/11998",
        "X-RateLimit-Reset": "202/3502/86302",
    }


def test_a_window_comes_back_whole_at_its_end() -> None:
    quota, clock = make_quota(limits=(3, 5, 100))
    assert [quota.take() for _ in range(4)] == [0, 0, 0, 300]
    clock.now += 299.9
    assert quota.take() == 1
    clock.now = BEGIN + 300
    assert [quota.take() for _ in range(3)] == [0, 0, 3_300]


def test_the_longest_of_the_used_up_windows_is_to_be_waited_for() -> None:
    quota, _ = make_quota(limits=(3, 3, 3))
    quota.use(3)
    assert quota.take() == 86_400


@pytest.mark.parametrize(("negative", "shown"), [(True, "-1/7/97"), (False, "0/7/97")])
def test_a_used_up_window_may_read_minus_one(negative: bool, shown: str) -> None:
    quota, _ = make_quota(limits=(3, 10, 100), negative_remaining=negative)
    quota.use(3)
    assert quota.headers(refused_for=quota.take())["X-RateLimit-Remaining"] == shown


def test_more_calls_in_a_second_than_allowed_are_refused_while_plenty_is_left() -> None:
    quota, clock = make_quota(burst_limit=20)
    assert [quota.take() for _ in range(21)] == [0] * 20 + [1]
    assert quota.headers(refused_for=1)["X-RateLimit-Remaining"] == "280/2980/11980"
    clock.now += 1
    assert quota.take() == 0


@pytest.mark.parametrize("form", ["none", "seconds", "date"])
def test_retry_after_has_the_form_chosen(form: str) -> None:
    quota, clock = make_quota(limits=(1, 10, 100), retry_after=form)
    quota.use(1)
    clock.now += 100
    headers = quota.headers(refused_for=quota.take())
    match form:
        case "none":
            assert "Retry-After" not in headers
        case "seconds":
            assert headers["Retry-After"] == "200"
        case "date":
            assert parsedate_to_datetime(headers["Retry-After"]).timestamp() == BEGIN + 300
    assert "Retry-After" not in quota.headers()


def test_the_document_agrees_with_the_headers() -> None:
    quota, clock = make_quota()
    quota.use(7)
    clock.now += 10.5
    hour = quota.document()["limitHour"]
    assert (hour["limit"], hour["remaining"], hour["reset"]) == (3_000, 2_993, 3_590)
    assert datetime.fromisoformat(str(hour["resetTime"])).timestamp() == BEGIN + 3_600


@settings(deadline=None)
@given(
    limits=st.tuples(*[st.integers(1, 9)] * 3),
    windows=st.tuples(*[st.sampled_from([0.5, 1.0, 2.5, 5.0, 60.0])] * 3),
    burst=st.integers(0, 4),
    steps=st.lists(st.floats(0, 3), max_size=60),
)
def test_no_window_ever_lets_more_through_than_its_limit(
    limits: tuple[int, int, int], windows: tuple[float, float, float], burst: int, steps: list[float]
) -> None:
    quota, clock = make_quota(limits=limits, window_seconds=windows, burst_limit=burst)
    passed: list[float] = []
    for step in steps:
        clock.now += step
        before = quota.windows()
        in_last_second = sum(clock.now - at < 1 for at in passed)
        wait = quota.take()
        free = all(window.remaining > 0 for window in before) and not (burst and in_last_second >= burst)
        assert (wait == 0) == free
        if not wait:
            passed.append(clock.now)
        for window, length, limit in zip(quota.windows(), windows, limits, strict=True):
            used = sum(at // length == clock.now // length for at in passed)
            assert window.remaining == limit - used
            assert window.reset == max(1, math.ceil(length - clock.now % length))
