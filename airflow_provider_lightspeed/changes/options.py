"""How a shop is scanned, and which scan is due."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from airflow_provider_lightspeed.changes.compare import Limits
from airflow_provider_lightspeed.changes.coverage import Coverage
from airflow_provider_lightspeed.changes.records import Identity, Refused

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How a shop is scanned.

    :param recent: age up to which a ticket is read by a recent scan.
    :param full_every: age of the last full scan from which ``auto`` makes another one.
    :param confirm_deleted: tickets that are gone from the list and asked for one by one; of those that the list hides, as
        many as are left, at random.
    :param compact: age from which change files are deleted; None: never.
    """

    identity: Identity
    scan: Literal["auto", "recent", "full"] = "auto"
    recent: timedelta = timedelta(days=14)
    full_every: timedelta = timedelta(hours=23)
    limits: Limits = field(default_factory=Limits)
    confirm_deleted: int = 25
    compact: timedelta | None = None
    run: str = ""
    generation: str = ""


def choose_scan(
    options: Options, coverage: Coverage, refused: Refused | None, now: datetime
) -> Literal["recent", "full"]:
    """Return which scan is due."""
    last_full = coverage[0].as_of if coverage else None
    if last_full is None:
        return "full"  # nothing is known yet
    if options.scan != "auto":
        return options.scan
    if now - last_full <= options.full_every:
        return "recent"
    if refused is None or refused.scan != "full" or options.limits.accept_deleted is not None:
        return "full"
    if now - refused.started > options.full_every:
        return "full"
    log.warning(
        "A full scan is due, but the last one was refused at %s: %s. Recent scans continue",
        refused.started.isoformat(), refused.why,
    )  # fmt: skip
    return "recent"
