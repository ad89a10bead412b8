"""Which tickets are planned, and when a plan is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.wording import counted
from airflow_provider_lightspeed.bulk.actions import Delete, Update
from airflow_provider_lightspeed.bulk.job import version_of
from airflow_provider_lightspeed.bulk.plan import Criteria, refuse_too_large_share, refuse_too_many

_YEAR = datetime(2025, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_INSTANTS = st.datetimes(_YEAR, _YEAR + timedelta(days=365), timezones=st.timezones())
_NOTHING = st.sampled_from([False, None, ""])


@st.composite
def tickets(draw: st.DrawFn) -> Any:
    """Tickets with the API's oddities."""
    ticket: dict[str, Any] = {
        "id": draw(st.integers(1, 10**9)),
        "createdAt": draw(_INSTANTS).isoformat(),
        "updatedAt": draw(_INSTANTS.map(datetime.isoformat) | _NOTHING),
        "language": draw(st.just({"id": 1, "code": "nl"}) | st.just(False)),
    }
    for name in ("isClosed", "isAnswered", "isTodo"):
        if draw(st.booleans()):
            ticket[name] = draw(st.booleans())
    return ticket


_CRITERIA = st.builds(
    Criteria,
    created_before=st.none() | _INSTANTS,
    updated_before=st.none() | _INSTANTS,
    only_answered=st.booleans(),
    include_todo=st.booleans(),
    language=st.none() | st.just("nl"),
)


@given(tickets(), _CRITERIA)
def test_all_criteria_hold_together(ticket: Any, criteria: Criteria) -> None:
    created = datetime.fromisoformat(ticket["createdAt"])
    changed = datetime.fromisoformat(ticket["updatedAt"]) if ticket["updatedAt"] else created
    wanted = [
        not ticket.get("isClosed"),
        criteria.include_todo or not ticket.get("isTodo"),
        not criteria.only_answered or ticket.get("isAnswered"),
        criteria.created_before is None or created < criteria.created_before,
        criteria.updated_before is None or changed < criteria.updated_before,
        criteria.language is None or (ticket["language"] or {}).get("code") == criteria.language,
    ]
    assert criteria.choose(ticket) is all(wanted)


def test_no_criterion_is_not_every_ticket() -> None:
    assert not Criteria().is_narrow
    assert not Criteria(include_todo=True).is_narrow
    assert Criteria(only_answered=True).is_narrow
    assert Criteria(where=lambda ticket: True).is_narrow


@given(_INSTANTS, st.integers(-14, 14))
def test_a_change_compares_in_any_offset(instant: datetime, hours: int) -> None:
    other = instant.astimezone(UTC).astimezone(timezone(timedelta(hours=hours)))
    assert version_of({"updatedAt": instant.isoformat()}) == version_of({"updatedAt": other.isoformat()})  # type: ignore[typeddict-item]


@pytest.mark.parametrize("never", [False, None, ""])
def test_never_changed(never: Any) -> None:
    assert version_of({"updatedAt": never}) == version_of({}) == ""  # type: ignore[typeddict-item]


ILLEGIBLE = [True, 0, 1767225600, "yesterday", "2025-01-01T00:00:00", ["2025"], {}]


@pytest.mark.parametrize("change", ILLEGIBLE)
def test_a_ticket_whose_last_change_cannot_be_read_is_never_chosen_as_idle(change: Any) -> None:
    ticket: Any = {"id": 7, "createdAt": "2020-01-01T00:00:00+00:00", "updatedAt": change}
    assert not Criteria(updated_before=datetime(9999, 1, 1, tzinfo=UTC)).choose(ticket)
    assert Criteria(created_before=datetime(9999, 1, 1, tzinfo=UTC)).choose(ticket)


@pytest.mark.parametrize("change", [*ILLEGIBLE, "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_last_change_that_cannot_be_read_still_shows_that_it_is_another(change: Any) -> None:
    kept = version_of({"id": 7, "createdAt": "", "updatedAt": change})
    assert kept not in {"", version_of({"id": 7, "createdAt": "", "updatedAt": "2025-01-01T00:00:00+00:00"})}
    # A receipt holds it as text, and is read again.
    assert version_of({"id": 7, "createdAt": "", "updatedAt": kept}) == kept


@pytest.mark.parametrize("language", [{"id": 1}, {"code": False}, {}, False, None, "nl", 1])
def test_a_language_without_its_code_is_none(language: Any) -> None:
    ticket: Any = {"id": 7, "createdAt": "2020-01-01T00:00:00+00:00", "language": language}
    assert not Criteria(language="nl").choose(ticket)


@pytest.mark.parametrize("language", ["", "NL", " nl", "nl ", "nl,de", "Dutch", "null", "nl_NL", 5, ["nl"]])
def test_a_language_that_no_ticket_has_is_refused(language: Any) -> None:
    with pytest.raises(LightspeedConfigurationError, match="two lower-case letters"):
        Criteria(language=language)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_than_max_tickets(planned: int, most: int) -> None:
    if planned <= most:
        refuse_too_many(planned, most)
        return
    with pytest.raises(
        LightspeedConfigurationError, match=f"^{planned:,} .*max_tickets={most};.*max_tickets={planned}$"
    ):
        refuse_too_many(planned, most)


@given(st.data(), st.floats(0.01, 1.0))
def test_a_share_too_large(data: st.DataObject, share: float) -> None:
    total = data.draw(st.integers(0, 10**6))
    planned = data.draw(st.integers(0, total))
    if planned <= total * share:
        refuse_too_large_share(planned, total, share)
        return
    numbers = f"{planned:,} of {counted(total, 'open ticket')}"
    with pytest.raises(LightspeedConfigurationError, match=rf"{numbers} \(.*max_share=1.0$"):
        refuse_too_large_share(planned, total, share)


def test_an_update_asks_only_for_what_differs() -> None:
    ticket: Any = {"id": 7, "isClosed": False, "isTodo": True, "memo": False}
    request = Update({"isClosed": True, "isTodo": True, "memo": ""}).request(ticket)
    assert request is not None
    assert (request.method, request.path, request.body) == (
        "PUT",
        "tickets/7.json",
        {"ticket": {"isClosed": True}},
    )
    assert Update({"isTodo": True}).request(ticket) is None
    deletion = Delete().request(ticket)
    assert deletion is not None
    assert (deletion.method, deletion.path) == ("DELETE", "tickets/7.json")
