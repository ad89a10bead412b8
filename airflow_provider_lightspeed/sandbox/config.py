"""Every option of a shop."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from airflow_provider_lightspeed.sandbox.distortions import Distortions
from airflow_provider_lightspeed.sandbox.faults import Fault
from airflow_provider_lightspeed.sandbox.properties import WRITABLE
from airflow_provider_lightspeed.sandbox.zones import parse_zone

Order = Literal["newest", "oldest", "unordered", "last_change", "last_change_asc"]
RetryAfter = Literal["none", "seconds", "date"]

NO_LIMITS = (1_000_000_000,) * 3

# As long as real ones, but clearly not real.
_SANDBOX_CREDENTIALS = ("sandbox0only0key0000000000000000", "sandbox0only0secret0000000000000")


@dataclass(frozen=True, kw_only=True)
class Churn:
    """What others do to the shop before each call; 0.1 means before every tenth call."""

    inserts: float = 0.0
    changes: float = 0.0
    deletes: float = 0.0
    protected: frozenset[int] = frozenset()
    """Ids that are neither changed nor deleted."""


@dataclass(frozen=True, kw_only=True)
class ShopConfig(Distortions):
    """One shop. The same options (with ``end`` given) make the same shop, to the byte."""

    key: str = _SANDBOX_CREDENTIALS[0]
    """The API key."""
    secret: str = _SANDBOX_CREDENTIALS[1]
    """The API secret."""
    languages: tuple[str, ...] = ("en", "us", "nl", "de")
    """Active languages: the first path segment of each call."""

    tickets: int = 1_000
    """How many tickets the shop starts with."""
    seed: int = 1
    """Another seed makes other tickets."""
    end: datetime | None = None
    """The newest ticket is from just before this instant, e.g. 2026-01-01T00:00:00+00:00 (default: now)."""
    days: float = 365.0
    """The tickets are spread over this many days up to ``end``."""
    first_id: int = 2546
    """The id of the oldest ticket."""
    id_step: int = 1
    """The mean distance between neighbouring ids; over 1, the gaps vary."""
    per_second: int = 1
    """This many tickets each share one second of ``createdAt``."""
    oddities: bool = False
    """Some tickets have no language, no customer, or properties that no document mentions; some have ``false`` for
    ``updatedAt``, ``subject``, ``memo`` or ``messages``, ``""`` for a number, or something embedded in a relation."""

    order: Order = "newest"
    """The order of lists."""
    filter_timezone: str = "UTC"
    """The zone in which ``created_at_min`` and ``created_at_max`` are read: an IANA name or ``+02:00``."""
    answer_timezone: str = "UTC"
    """The zone of the times in responses."""
    min_inclusive: bool = True
    """A ticket created exactly at ``created_at_min`` matches."""
    max_inclusive: bool = True
    """A ticket created exactly at ``created_at_max`` matches."""
    since_id_inclusive: bool = False
    """``since_id`` also returns the ticket with that id."""
    count_reads_email: bool = False
    """``count.json`` reads the filter ``email``."""
    messages_touch_tickets: bool = True
    """A posted message sets ``isAnswered`` and ``updatedAt`` of its ticket."""
    message_page_size: int | None = None
    """The size of a page of messages, whatever ``limit`` says (default: ``limit`` decides)."""
    messages_ignore_page: bool = False
    """Lists of messages always return the first page."""
    ignored_properties: tuple[str, ...] = ()
    """Properties that a client cannot change, such as ``doNotifyAnswered``."""
    same_touches_tickets: bool = False
    """A PUT that changes nothing still sets ``updatedAt``."""

    limits: tuple[int, int, int] = (300, 3_000, 12_000)
    """Calls allowed in each window of the quota."""
    window_seconds: tuple[float, float, float] = (300.0, 3_600.0, 86_400.0)
    """The length of each window."""
    burst_limit: int = 20
    """Calls allowed in any one second (0: no such limit)."""
    negative_remaining: bool = False
    """The response to a refused call shows -1 calls remaining."""
    retry_after: RetryAfter = "none"
    """The form of the ``Retry-After`` header of a refused call."""

    latency: float = 0.0
    """Each response takes at least this many seconds."""
    faults: tuple[Fault, ...] = ()
    """Faults that wait for their calls from the start."""
    churn: Churn = field(default_factory=Churn)
    """What others do to the shop before each call: 0.1 means before every tenth call."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_zone(self.filter_timezone)
        parse_zone(self.answer_timezone)
        if self.end is not None and self.end.tzinfo is None:
            raise ValueError("end needs a time zone")
        if unknown := set(self.ignored_properties) - WRITABLE:
            raise ValueError(f"Unknown properties {sorted(unknown)}: choose from {sorted(WRITABLE)}")
        if not self.languages:
            raise ValueError("A shop has at least one language")
        if self.tickets < 0 or min(self.id_step, self.per_second, self.first_id) < 1 or self.days <= 0:
            raise ValueError("tickets must be >= 0; id_step, per_second and first_id >= 1; days > 0")
        if self.message_page_size is not None and self.message_page_size < 1:
            raise ValueError("message_page_size must be >= 1")
        if min(self.window_seconds) <= 0:
            raise ValueError("window_seconds must be above 0")
