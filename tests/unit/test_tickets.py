"""Filters, times and endpoints of the ticket resource."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api import tickets as api
from airflow_provider_lightspeed.api.errors import (
    LightspeedConfigurationError,
    LightspeedMalformedResponseError,
)
from airflow_provider_lightspeed.api.tickets import (
    Request,
    TicketFilter,
    changed_at,
    created_at,
    parse_ticket_id,
)

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def ticket(created: Any = "2026-03-01T12:00:00+00:00", number: int = 7) -> Any:
    return {"id": number, "createdAt": created}


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T12:00:00+00:00",
        "2026-03-01T14:00:00+02:00",
        "2026-03-01T00:00:00-12:00",
        "2026-03-02T02:00:00+14:00",
        "2026-03-01T12:00:00Z",
    ],
)
def test_times_in_any_offset(text: str) -> None:
    assert created_at(ticket(text)) == NOON


@pytest.mark.parametrize(
    "text",
    [None, False, "", "2026-03-01T12:00:00", "yesterday", 1_700_000_000, [], "2026-13-01T00:00:00+00:00"],
)
def test_a_time_that_is_none_names_its_ticket(text: Any) -> None:
    with pytest.raises(LightspeedMalformedResponseError, match="ticket 7 has the createdAt"):
        created_at(ticket(text))


def test_a_missing_time_names_its_ticket() -> None:
    with pytest.raises(LightspeedMalformedResponseError, match="ticket 7"):
        created_at({"id": 7})  # type: ignore[typeddict-item]


def test_the_window_includes_its_start_and_excludes_its_end() -> None:
    hour = timedelta(hours=1)
    assert TicketFilter(created_from=NOON, created_to=NOON + hour).matches(ticket())
    assert not TicketFilter(created_from=NOON + hour).matches(ticket())
    assert not TicketFilter(created_from=NOON - hour, created_to=NOON).matches(ticket())
    assert TicketFilter(since_id=6).matches(ticket())
    assert not TicketFilter(since_id=7).matches(ticket())
    assert TicketFilter(since_id=0).matches(ticket())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"since_id": -1}, "negative"),
        ({"created_from": datetime(2026, 3, 1)}, "zone, got 2026-03-01 00:00:00; add"),  # ruff: ignore[call-datetime-without-tzinfo] - what is refused
        ({"created_from": NOON, "created_to": NOON}, "CronDataIntervalTimetable"),
        ({"created_from": NOON, "created_to": NOON - timedelta(seconds=1)}, "reversed"),
    ],
)
def test_filters_that_cannot_be_meant(options: Any, words: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match=words):
        TicketFilter(**options)


@pytest.mark.parametrize("good", [7, "7", " 7 "])
def test_ticket_numbers(good: Any) -> None:
    assert parse_ticket_id(good) == 7
    assert api.get_ticket(good).path == "tickets/7.json"
    assert parse_ticket_id(1) == 1


@pytest.mark.parametrize(
    "bad", [0, -1, True, 7.0, None, "", "7/../8", "7.json", "007", "７", "1e3", "-7", "../shop", "9" * 5_000]
)
def test_what_is_no_ticket_number_becomes_no_path(bad: Any) -> None:
    for request in (api.get_ticket, api.delete_ticket, api.list_messages, api.count_messages):
        with pytest.raises(LightspeedConfigurationError, match="a ticket id is a positive whole number"):
            request(bad)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("2026-03-01T13:00:00+01:00", NOON),
        ("2026-03-01T12:00:00Z", NOON),
        ("2026-03-01T12:00:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (False, None),
        (True, None),
        (1767225600, None),
    ],
)
def test_when_a_ticket_was_changed(change: Any, wanted: datetime | None) -> None:
    assert changed_at({"id": 7, "createdAt": "", "updatedAt": change}) == wanted


_BOUNDS = {"created_at_min": "2026-03-01 00:00:00", "created_at_max": "2026-03-02 00:00:00"}
_FILTERS = {"since_id": 0, **_BOUNDS, "email": "a+b@example.com"}


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (api.list_tickets, ("GET", "tickets.json", {"limit": 250}, None, "tickets", True)),
        (
            partial(api.list_tickets, page=2, limit=9, **_FILTERS),
            ("GET", "tickets.json", {"limit": 9, "page": 2, **_FILTERS}, None, "tickets", True),
        ),
        (api.count_tickets, ("GET", "tickets/count.json", {}, None, "count", False)),
        (
            partial(api.count_tickets, **_FILTERS),
            ("GET", "tickets/count.json", _FILTERS, None, "count", False),
        ),
        (partial(api.get_ticket, 7), ("GET", "tickets/7.json", {}, None, "ticket", False, 7)),
        (
            partial(api.create_ticket, {"subject": "x"}),
            ("POST", "tickets.json", {}, {"ticket": {"subject": "x"}}, "ticket", False),
        ),
        (
            partial(api.update_ticket, 7, {"isClosed": True}),
            ("PUT", "tickets/7.json", {}, {"ticket": {"isClosed": True}}, "ticket", False, 7),
        ),
        (partial(api.delete_ticket, 7), ("DELETE", "tickets/7.json", {}, None, None, False)),
        (
            partial(api.list_messages, 7),
            ("GET", "tickets/7/messages.json", {"limit": 250}, None, "ticketMessages", True),
        ),
        (
            partial(api.list_messages, 7, page=2),
            ("GET", "tickets/7/messages.json", {"limit": 250, "page": 2}, None, "ticketMessages", True),
        ),
        (partial(api.count_messages, 7), ("GET", "tickets/7/messages/count.json", {}, None, "count", False)),
        (
            partial(api.create_message, 7, {"message": "x"}),
            (
                "POST",
                "tickets/7/messages.json",
                {},
                {"ticketMessage": {"message": "x"}},
                "ticketMessage",
                False,
            ),
        ),
    ],
)
def test_endpoints(make: Callable[[], Request], wanted: tuple[Any, ...]) -> None:
    assert make() == Request(*wanted)


def test_a_change_of_nothing_is_refused() -> None:
    with pytest.raises(LightspeedConfigurationError, match="no property of ticket 7"):
        api.update_ticket(7, {})


_INSTANTS = st.one_of(
    st.datetimes(
        NOON.replace(tzinfo=None) - timedelta(days=2), NOON.replace(tzinfo=None) + timedelta(days=2)
    ).map(lambda instant: instant.replace(tzinfo=UTC).isoformat()),
    st.sampled_from([
        "2026-03-01T12:00:00+00:00",
        "2026-03-01T14:00:00+02:00",
        "0001-01-01T00:00:00+00:00",
        "9999-12-31T23:59:59-12:00",
    ]),
)
_ILLEGIBLE = st.sampled_from([None, False, "", "yesterday", "2026-03-01T12:00:00", 1_700_000_000])
_BOUNDS = st.none() | st.sampled_from([NOON - timedelta(days=1), NOON, NOON + timedelta(hours=1)])


@given(
    st.lists(st.tuples(st.integers(1, 9), _INSTANTS | _ILLEGIBLE)),
    st.none() | st.integers(0, 9),
    _BOUNDS,
    _BOUNDS,
)
# The first of them is in the year 2 by its own offset, the last in the impossible year 1.
@example([(1, "0002-01-01T00:00:00+14:00"), (2, "0001-12-31T23:00:00-12:00")], None, None, None)
def test_a_page_is_filtered_as_its_tickets_are(
    rows: list[tuple[int, Any]],
    since_id: int | None,
    created_from: datetime | None,
    created_to: datetime | None,
) -> None:
    assume(not (created_from and created_to and created_from >= created_to))
    wanted = TicketFilter(since_id, created_from, created_to)
    tickets = [ticket(created, number) for number, created in rows]

    def outcome(choose: Callable[[], list[Any]]) -> list[Any] | str:
        try:
            return choose()
        except LightspeedMalformedResponseError as error:
            return str(error)

    one_by_one = outcome(lambda: [one for one in tickets if wanted.matches(one)])
    assert outcome(lambda: wanted.matching(tickets)) == one_by_one
