"""What counts as new, when to look again, and what triggers say to tasks. Pure functions and values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from airflow_provider_lightspeed.api.errors import LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.api.tickets import Ticket

#: While the shop fails, looks get rarer up to this many seconds (or the poke interval, if that is longer).
LONGEST_PAUSE = 600.0


class Look(msgspec.Struct, frozen=True):
    """What one look at the shop has shown.

    :param since_id: tickets with a greater id were looked at.
    :param ticket_ids: those that count, ascending.
    :param max_id: the greatest id that was looked at, whether it counts or not: all up to it is dealt with.
    """

    since_id: int
    ticket_ids: list[int]
    max_id: int

    @classmethod
    def at(
        cls, tickets: Sequence[Ticket], since_id: int, where: Callable[[Ticket], bool] | None = None
    ) -> Look:
        """Judge the tickets of one look.

        :param where: which tickets count.
        """
        return cls(
            since_id=since_id,
            ticket_ids=sorted(ticket["id"] for ticket in tickets if where is None or where(ticket)),
            max_id=max((ticket["id"] for ticket in tickets), default=since_id),
        )

    def result(self) -> dict[str, Any]:
        """Return what a task hands over."""
        return {
            "ticket_ids": self.ticket_ids,
            "count": len(self.ticket_ids),
            "since_id": self.since_id,
            "max_id": self.max_id,
        }


def fingerprint(ticket: Ticket) -> int:
    """Return a number that stands for a ticket as it is now, and tells nothing of it."""
    content = msgspec.json.encode(ticket, order="sorted")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def digest(fingerprints: Mapping[int, int]) -> str:
    """Return a text that stands for these tickets as they are now.

    :param fingerprints: by the tickets' ids, in any order.
    """
    return hashlib.sha256(msgspec.json.encode(sorted(fingerprints.items()))).hexdigest()


@dataclass
class Rhythm:
    """How long to wait from one look to the next.

    :param interval: seconds between two looks that went well.
    """

    interval: float
    _faults: int = 0

    def after_look(self) -> float:
        """Return the pause after a look that went well."""
        self._faults = 0
        return self.interval

    def after_error(self, error: Exception, now: datetime) -> float:
        """Return the pause after one that failed: until the quota is back, else longer each time."""
        if isinstance(error, LightspeedQuotaExhaustedError):
            return max(0.0, (error.until - now).total_seconds())
        self._faults += 1
        longest = max(self.interval, LONGEST_PAUSE)
        return min(self.interval * 2.0 ** min(self._faults - 1, 20), longest)


class LookAgain(msgspec.Struct, frozen=True):
    """The trigger's word that the task should look: something is new, or it is time for the last look.

    :param deadline: when the sensor times out, in seconds since 1970. It takes this way because a task that was
        deferred knows nothing of the time before.
    """

    deadline: float

    def payload(self) -> dict[str, Any]:
        """Return it as an event carries it."""
        return {"status": "look", "deadline": self.deadline}


class GiveUp(msgspec.Struct, frozen=True):
    """The trigger's word that no further look can go well: the credentials or the arguments are wrong.

    :param kind: class of the error.
    :param message: what it says.
    """

    kind: str
    message: str

    def payload(self) -> dict[str, Any]:
        """Return it as an event carries it."""
        return {"status": "failed", "kind": self.kind, "message": self.message}


def read_event(payload: object) -> LookAgain | GiveUp:
    """Read what the trigger says.

    :raises ValueError: if it is none of the above, as when triggerer and worker run different versions.
    """
    match payload:
        case {"status": "look", "deadline": float() | int() as deadline}:
            return LookAgain(float(deadline))
        case {"status": "failed", "kind": str(kind), "message": str(message)}:
            return GiveUp(kind, message)
    shape = sorted(map(str, payload)) if isinstance(payload, Mapping) else type(payload).__name__
    raise ValueError(
        f"The trigger sent an event that this version of the provider does not know ({shape}): "
        "do triggerer and workers run the same version?"
    )
