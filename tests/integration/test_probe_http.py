"""The probe against shops of many kinds: it reports what they are, in at most 20 calls that only read."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed.api.errors import LightspeedAuthenticationError
from airflow_provider_lightspeed.api.probe import MAX_CALLS, ShopReport
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.probe import main
from airflow_provider_lightspeed.sandbox import Churn, Fault, Sandbox, ShopConfig, email_of

ORDER, TWICE, LIMIT, REPEATS = "order of lists", "same list asked twice", "page limit", "rows that repeat"
ZONE, BOUNDS = "offset of date filters", "bounds of date filters"
COUNT, SINCE_ID, EMAIL, UNREADABLE = "count", "since_id", "email", "tickets that cannot be read"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Probe a shop with the given options."""

    def probe(**options: Any) -> ShopReport:
        given = {"tickets": 1_000, "end": datetime(2026, 3, 1, tzinfo=UTC), "burst_limit": 0, **options}
        with Sandbox(ShopConfig(**given)) as shop:
            monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
            found = LightspeedHook(calls_per_second=0).probe()
            assert shop.count_calls() == found.calls <= MAX_CALLS
            assert {call.method for call in shop.calls} == {"GET"}
            if found.calls:
                assert {finding.topic for finding in found.findings} >= {ORDER, COUNT, ZONE, "quota headers"}
            return found

    return probe


def test_an_honest_shop(report: Any) -> None:
    found = report()
    assert {finding.topic: finding.result for finding in found.findings} == {
        ORDER: "newest first",
        TWICE: "the same tickets, or newer ones",
        LIMIT: "250 rows for limit=250",
        REPEATS: "none in the pages that were read",
        COUNT: "1,000, and the list ends there",
        "offset of times in responses": "+00:00",
        UNREADABLE: "0 of 750 tickets",
        SINCE_ID: "greater than, exclusive",
        EMAIL: "read by lists, ignored by the count",
        ZONE: "+00:00 in 2026-02",
        BOUNDS: "created_at_min inclusive, created_at_max inclusive",
        "quota headers": "300/3000/12000 calls in 5 minutes, 1 hour and 1 day",
    }


@pytest.mark.parametrize(
    ("options", "topic", "result"),
    [
        ({"order": "oldest"}, ORDER, "oldest first"),
        ({"order": "last_change"}, ORDER, "by last change, latest first"),
        ({"order": "last_change_asc"}, ORDER, "by last change, oldest first"),
        ({"order": "unordered"}, ORDER, "none that was found"),
        ({"tickets": 7}, ORDER, "unknown, because the shop has fewer than 8 tickets"),
        ({"replica_lag": 3}, TWICE, "the second response lacks the newest tickets of the first"),
        ({"replica_lag": 3}, COUNT, "unknown, because responses differ in time"),
        ({"replica_lag": 3, "order": "oldest"}, COUNT, "unknown, because responses differ in time"),
        ({"page_limit": 100}, LIMIT, "100 rows for limit=250"),
        ({"page_limit": 50, "order": "oldest"}, LIMIT, "50 rows for limit=250"),
        ({"left_out_every": 50}, LIMIT, "over 245 rows, but rows are left out of pages"),
        ({"tickets": 200}, LIMIT, "unknown, because one page lists all (200 tickets)"),
        ({"repeated_every": 3}, REPEATS, "a ticket comes twice in one page"),
        ({"count_cap": 500}, COUNT, "too low: more rows follow after 500"),
        ({"count_lag": 3}, COUNT, "too low: more rows follow after 997"),
        ({"count_cap": 100, "tickets": 200}, COUNT, "fewer tickets than the list shows (100 for 200)"),
        ({"left_out": (2600,), "tickets": 200}, COUNT, "more tickets than the list shows (200 for 199)"),
        ({"page_depth": 500}, COUNT, "unknown, because the shop refuses page 4 or 5 of 250 rows"),
        ({"page_depth": 500, "beyond_depth": "empty"}, COUNT, "1,000, but pages end 250 rows before"),
        ({"tickets": 200}, COUNT, "exact (200)"),
        ({"tickets": 0}, COUNT, "0, as the list"),
        ({"since_id_inclusive": True}, SINCE_ID, "inclusive"),
        ({"since_id_inclusive": True, "order": "oldest"}, SINCE_ID, "inclusive"),
        ({"since_id_inclusive": True, "order": "unordered"}, SINCE_ID, "inclusive"),
        ({"order": "oldest"}, SINCE_ID, "greater than, exclusive"),
        ({"count_reads_email": True}, EMAIL, "read by lists and by the count"),
        ({"unreadable": {3545: "bytes", 3544: "zero-date", 2546: "no-date"}}, UNREADABLE, "3 of 750 tickets"),
        ({"unreadable": {3545: "surrogate"}}, ORDER, "newest first"),
        ({"unreadable": {3545: "surrogate"}}, ZONE, "+00:00 in 2026-02"),
        ({"answer_timezone": "Europe/Amsterdam"}, "offset of times in responses", "+01:00, +02:00"),
        ({"limits": (60, 600, 6_000)}, "quota headers", "60/600/6000 calls in 5 minutes, 1 hour and 1 day"),
    ],
)
def test_a_shop_that_differs_in_one_way(
    report: Any, options: dict[str, Any], topic: str, result: str
) -> None:
    assert report(**options)[topic] == result


@pytest.mark.parametrize(
    ("order", "zone", "offset"),
    [
        ("newest", "Europe/Amsterdam", "+01:00"),
        ("oldest", "America/New_York", "-05:00"),
        ("unordered", "Asia/Kolkata", "+05:30"),
        ("last_change", "Pacific/Kiritimati", "+14:00"),
        ("newest", "Pacific/Marquesas", "-09:30"),
    ],
)
def test_the_offset_and_the_bounds_of_date_filters(report: Any, order: str, zone: str, offset: str) -> None:
    # All are from one month, so that the offset is that of winter.
    shape = {"order": order, "filter_timezone": zone, "days": 25.0, "answer_timezone": "America/Caracas"}
    for low, high in ((True, False), (False, True), (False, False)):
        found = report(**shape, min_inclusive=low, max_inclusive=high)
        assert found[ZONE] == f"{offset} in 2026-02"
        words = ["inclusive" if inclusive else "exclusive" for inclusive in (low, high)]
        assert found[BOUNDS] == f"created_at_min {words[0]}, created_at_max {words[1]}"


def test_a_small_shop_shows_the_offset_of_its_filters_too(report: Any) -> None:
    assert report(tickets=5, days=20.0, filter_timezone="Asia/Kolkata")[ZONE] == "+05:30 in 2026-02"


def test_a_shop_with_one_ticket(report: Any) -> None:
    assert report(tickets=1)[UNREADABLE] == "0 of 1 ticket"


def test_what_changes_meanwhile_is_not_taken_for_dishonest(report: Any) -> None:
    found = report(churn=Churn(inserts=1.0, deletes=1.0))
    assert found[ORDER] == "newest first"
    assert "too" not in found[COUNT]


def test_a_passing_empty_list_is_asked_for_again(report: Any) -> None:
    assert report(faults=(Fault("empty-list"),))[ORDER] == "newest first"


def test_the_report_holds_no_customer_data(report: Any) -> None:
    text = str(report(tickets=300))
    shop = Sandbox(ShopConfig(tickets=300, end=datetime(2026, 3, 1, tzinfo=UTC))).shop
    for number, ticket in shop.tickets().items():
        customer = ticket["customer"]["resource"]["id"]
        for private in filter(
            None, (number, customer, email_of(customer), ticket["subject"], ticket["memo"])
        ):
            assert str(private) not in text
    assert "Nothing was written" in text


def test_the_command_prints_the_report(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--conn-id", "lightspeed_default"]) == 0
    printed = capsys.readouterr().out
    assert "order of lists: newest first" in printed
    assert sandbox.secret not in printed


def test_wrong_credentials_are_said_in_plain_words(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = sandbox.airflow_connection().replace(sandbox.secret, "not-the-secret")
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", wrong)
    assert main([]) == 1
    complaint = capsys.readouterr().err
    assert "Check the API key and secret of the connection" in complaint
    assert "not-the-secret" not in complaint
    with pytest.raises(LightspeedAuthenticationError):
        LightspeedHook().probe()


def test_no_connection_is_said_in_plain_words() -> None:
    command = [sys.executable, "-m", "airflow_provider_lightspeed.probe", "--conn-id", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "'nowhere' cannot be probed: there is no such connection" in done.stderr
    assert "AIRFLOW_CONN_NOWHERE" in done.stderr
    assert "Traceback" not in done.stderr
