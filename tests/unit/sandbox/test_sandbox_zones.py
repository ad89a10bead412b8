from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lightspeed.sandbox import ShopConfig
from airflow_provider_lightspeed.sandbox.zones import parse_zone, read_wall_clock, write_instant

zones = st.sampled_from([
    *("UTC", "+14:00", "-12:00", "+05:45", "Europe/Amsterdam", "America/New_York"),
    *("Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"),
]).map(parse_zone)
CHANGES_OF_CLOCKS = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),  # Amsterdam
    datetime(2026, 11, 1, 6, tzinfo=UTC),  # New York
    datetime(2026, 4, 4, 15, tzinfo=UTC),  # Lord Howe, by half an hour
    datetime(2011, 12, 30, 10, tzinfo=UTC),  # Apia, by a day
]
# From 1990 to 2037, and often near a change of clocks.
instants = st.integers(631_152_000, 2_145_916_800) | st.builds(
    lambda change, seconds: int(change.timestamp()) + seconds,
    st.sampled_from(CHANGES_OF_CLOCKS),
    st.integers(-7_200, 7_200),
)


@settings(max_examples=500)
@given(instants, zones)
def test_instants_are_written_as_iso_8601(instant: int, zone: ZoneInfo) -> None:
    assert write_instant(instant, zone) == datetime.fromtimestamp(instant, zone).isoformat()


@settings(max_examples=500)
@given(instants, zones)
def test_a_wall_clock_is_read_in_its_zone(instant: int, zone: ZoneInfo) -> None:
    there = datetime.fromtimestamp(instant, zone)
    read = read_wall_clock(f"{there:%Y-%m-%d %H:%M:%S}", zone)
    assert read == there.replace(fold=0).timestamp()


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("UTC", UTC),
        ("+02:00", timezone(timedelta(hours=2))),
        ("-09:30", timezone(-timedelta(hours=9, minutes=30))),
        ("Europe/Amsterdam", ZoneInfo("Europe/Amsterdam")),
    ],
)
def test_zones_are_names_or_offsets(name: str, zone: object) -> None:
    assert parse_zone(name) == zone


@pytest.mark.parametrize("name", ["Europe/Atlantis", "+25:00", "", "../etc/passwd"])
def test_an_unknown_zone_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(ValueError, match="Unknown time zone"):
        ShopConfig(filter_timezone=name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-13-01 00:00:00",
        "2026-01-01 00:00:00+00:00",
    ],
)
def test_other_forms_of_dates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"YYYY-MM-DD HH:MM:SS|month must be"):
        read_wall_clock(text, UTC)
