"""The zone in which the shop reads date filters: unknown, or found out.

Undocumented: a filter's wall clock may be UTC's or the shop's own. So bounds are always asked for
such that they are right in every zone that is still possible; what decides is each ticket's own
``createdAt``. A zone that the connection names is a guess like others: it is the first to be proven.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

#: Offsets in use in the world.
LOWEST = timedelta(hours=-12)
HIGHEST = timedelta(hours=14)
#: Bounds may be exclusive, and hold whole seconds only.
TICK = timedelta(seconds=2)
#: How far an offset found at one date may be off at another (clock changes; 2 h in one zone).
_CLOCK_CHANGE = timedelta(hours=2)
#: So far from the ends of the calendar, any zone's clock can be told.
_FIRST = datetime(1, 1, 3, tzinfo=UTC)
_LAST = datetime(9999, 12, 29, tzinfo=UTC)
_LAST_SECOND = 253_402_300_799.0
_BEGINNING, _END = "0001-01-01 00:00:00", "9999-12-31 23:59:59"


@dataclass(frozen=True)
class FilterZone:
    """What is known of the zone.

    :param offset: offset from UTC, found out at some ticket.
    :param named: IANA name of the likeliest zone, from the connection.
    """

    offset: timedelta | None = None
    named: str | None = None

    @property
    def known(self) -> bool:
        """Whether there is nothing left to find out."""
        return self.offset is not None

    def earliest_local_time(self, instant: datetime) -> str:
        """Return a wall clock that no ticket created at or after this instant lies before."""
        return local_time(instant, min(self._offsets()) - TICK)

    def latest_local_time(self, instant: datetime) -> str:
        """Return a wall clock that no ticket created before this instant lies after."""
        return local_time(instant, max(self._offsets()) + TICK)

    def guess(self, instant: datetime) -> timedelta:
        """Return the likeliest offset at an instant."""
        return self.candidates(instant)[0] if self.offset is None else self.offset

    def candidates(self, created: datetime) -> list[timedelta]:
        """Return the likeliest offsets at the creation of a ticket: of the zone that is named, of the answers, UTC's."""
        around = min(max(created, _FIRST), _LAST)
        named = [around.astimezone(ZoneInfo(self.named)).utcoffset()] if self.named else []
        return list(dict.fromkeys(offset or timedelta(0) for offset in (*named, created.utcoffset(), None)))

    def _offsets(self) -> list[timedelta]:
        """Return the offsets that may be in force."""
        if self.offset is not None:
            lowest, highest = self.offset - _CLOCK_CHANGE, self.offset + _CLOCK_CHANGE
            return [max(LOWEST, lowest), self.offset, min(HIGHEST, highest)]
        return [LOWEST, HIGHEST]


def local_time_from_seconds(seconds: float) -> str:
    """Write seconds since 1970 of some wall clock as the filters want them."""
    moment = datetime.fromtimestamp(min(max(0.0, seconds), _LAST_SECOND), UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def local_time(instant: datetime, offset: timedelta) -> str:
    shift = offset - (instant.utcoffset() or timedelta(0))
    try:
        wall_clock = instant.replace(tzinfo=None) + shift
    except OverflowError:
        return _BEGINNING if shift < timedelta(0) else _END
    # %Y writes the year 1 with one digit.
    return f"{wall_clock.year:04d}-{wall_clock:%m-%d %H:%M:%S}"
