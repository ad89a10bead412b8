"""Counts and durations, as log lines and errors write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_lightspeed.api.wording import counted, days, first_few, humanize


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 tickets"), (1, "1 ticket"), (2, "2 tickets"), (1_000, "1,000 tickets")],
)
def test_only_one_is_singular(number: int, words: str) -> None:
    assert counted(number, "ticket") == words


def test_a_noun_of_several_words() -> None:
    assert [counted(number, "API call") for number in (1, 2)] == ["1 API call", "2 API calls"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "less than 10 s"),
        (9.4, "less than 10 s"),
        (9.6, "about 10 s"),
        (119.4, "about 119 s"),
        (119.6, "about 2 min"),
        (120, "about 2 min"),
        (3_600, "about 60 min"),
        (7_140, "about 119 min"),
        (7_200, "about 2 h 0 min"),
        (86_400 + 59 * 60, "about 24 h 59 min"),
    ],
)
def test_how_long_in_words(seconds: float, words: str) -> None:
    assert humanize(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("hours", "words"), [(24, "1 day"), (36, "1.5 days"), (30 * 24, "30 days"), (24 * 1000, "1000 days")]
)
def test_an_age_in_days(hours: float, words: str) -> None:
    assert days(timedelta(hours=hours)) == words


@pytest.mark.parametrize(
    ("items", "words"), [("", ""), ("a", "a"), ("abcde", "a, b, c, d, e"), ("abcdefg", "a, b, c, d, e, …")]
)
def test_a_long_list_is_cut(items: str, words: str) -> None:
    assert first_few([*items]) == words
