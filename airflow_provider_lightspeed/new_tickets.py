"""What counts as new, when to poll again, and the events that triggers send to tasks. Pure functions and values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from airflow_provider_lightspeed.api.errors import LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.api.tickets import Ticket

#: Maximum seconds between polls while the shop fails (or the poke interval, if that is longer).
MAX_PAUSE = 600.0


class PollResult(msgspec.Struct, frozen=True):
    """What one poll of the shop found.

    :param since_id: tickets with a greater id were polled.
    :param ticket_ids: those that count, ascending.
    :param max_id: the greatest id that was seen, whether it counts or not: all up to it is done.
    """

    since_id: int
    ticket_ids: list[int]
    max_id: int

    @classmethod
    def of(
        cls, tickets: Sequence[Ticket], since_id: int, where: Callable[[Ticket], bool] | None = None
    ) -> PollResult:
        """Judge the tickets of one poll.

        :param where: which tickets count.
        """
        return cls(
            since_id=since_id,
            ticket_ids=sorted(ticket["id"] for ticket in tickets if where is None or where(ticket)),
            max_id=max((ticket["id"] for ticket in tickets), default=since_id),
        )

    def result(self) -> dict[str, Any]:
        """Return the result of a task."""
        return {
            "ticket_ids": self.ticket_ids,
            "count": len(self.ticket_ids),
            "since_id": self.since_id,
            "max_id": self.max_id,
        }


def fingerprint(ticket: Ticket) -> int:
    """Return a number that stands for a ticket as it is now, and reveals nothing of it."""
    content = msgspec.json.encode(ticket, order="sorted")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def digest(fingerprints: Mapping[int, int]) -> str:
    """Return a text that stands for these tickets as they are now.

    :param fingerprints: by the tickets' ids, in any order.
    """
    return hashlib.sha256(msgspec.json.encode(sorted(fingerprints.items()))).hexdigest()


@dataclass
class PollSchedule:
    """How long to wait from one poll to the next.

    :param interval: seconds between two polls that succeed.
    """

    interval: float
    _failures: int = 0

    def after_success(self) -> float:
        """Return the pause after a poll that succeeded."""
        self._failures = 0
        return self.interval

    def after_error(self, error: Exception, now: datetime) -> float:
        """Return the pause after one that failed: until the quota is back, else longer each time."""
        if isinstance(error, LightspeedQuotaExhaustedError):
            return max(0.0, (error.until - now).total_seconds())
        self._failures += 1
        longest = max(self.interval, MAX_PAUSE)
        return min(self.interval * 2.0 ** min(self._failures - 1, 20), longest)


class PollEvent(msgspec.Struct, frozen=True):
    """The trigger asks the task to poll: something is new, or it is time for the last poll.

    :param deadline: when the sensor times out, in seconds since 1970. A task that was deferred knows nothing of the
        time before, so the event brings it.
    """

    deadline: float

    def payload(self) -> dict[str, Any]:
        """Return it as an event carries it."""
        return {"status": "poll", "deadline": self.deadline}


class FailedEvent(msgspec.Struct, frozen=True):
    """The trigger reports that no further poll can succeed: the credentials or the arguments are wrong.

    :param kind: class of the error.
    :param message: its text.
    """

    kind: str
    message: str

    def payload(self) -> dict[str, Any]:
        """Return it as an event carries it."""
        return {"status": "failed", "kind": self.kind, "message": self.message}


def read_event(payload: object) -> PollEvent | FailedEvent:
    """Read the event of a trigger.

    :raises ValueError: if it is neither of the two, as when triggerer and worker run different versions.
    """
    match payload:
        case {"status": "poll", "deadline": float() | int() as deadline}:
            return PollEvent(float(deadline))
        case {"status": "failed", "kind": str(kind), "message": str(message)}:
            return FailedEvent(kind, message)
    shape = sorted(map(str, payload)) if isinstance(payload, Mapping) else type(payload).__name__
    raise ValueError(
        f"The trigger sent an event that this version of the provider does not know ({shape}): "
        "do triggerer and workers run the same version?"
    )
