"""What a log of changes says of itself: the metadata of each change file, and ``status.json``. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.changes.coverage import Coverage, complete_as_of, recent_as_of


class Identity(msgspec.Struct, frozen=True):
    """What a prefix holds: of which shop, and how. It is fixed, but for a key that was rotated.

    :ivar fields: digest of what is left out, hashed and added.
    :ivar hash_key: digest that tells one key of hashes from another.
    """

    shop: str
    language: str
    file_format: str
    fields: str
    hash_key: str


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """What a change file says of itself, in the object's metadata.

    :ivar observation: id of the scan, the same in each of its tries.
    :ivar run: task instance that made it, and `generation` its tries until it is cleared.
    :ivar started: start of the scan, and `ended` its end.
    :ivar tickets: how many the shop has.
    :ivar coverage: up to when the log has every change.
    :ivar deleted_since_full: in recent scans since the last full one.
    :ivar rejected: malformed tickets, of which the last good row stays.
    """

    seq: int
    observation: str
    run: str
    generation: str
    scan: str
    started: datetime
    ended: datetime
    inserted: int
    updated: int
    deleted: int
    unlisted: int
    tickets: int
    calls: int
    deleted_since_full: int
    coverage: Coverage
    identity: Identity
    rejected: int = 0

    def to_metadata(self) -> dict[str, str]:
        """Return it as user metadata of an object: ASCII, less than 2 KB."""
        plain = msgspec.to_builtins(self)
        return {
            name.replace("_", "-"): value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for name, value in plain.items()
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> Commit | None:
        """Read it; None for what is no change file of this provider."""
        # Some stores drop values that are empty.
        plain: dict[str, Any] = {"run": "", "generation": ""}
        plain |= {name.replace("-", "_"): value for name, value in metadata.items()}
        try:
            for name in ("coverage", "identity"):
                plain[name] = msgspec.json.decode(plain[name])
            return msgspec.convert(plain, cls, strict=False)
        except (KeyError, msgspec.MsgspecError):
            return None


class Refused(msgspec.Struct, frozen=True):
    """A scan that changed more than it may.

    :ivar started: its start.
    :ivar gone: so many tickets are gone from the list.
    """

    scan: str
    started: datetime
    gone: int
    why: str


class Announced(msgspec.Struct, frozen=True):
    """The last commit that an asset event has reported, and the task instance that sent it."""

    seq: int
    run: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """``status.json``: what the prefix holds now, for people and monitors.

    :ivar seq: of the last change file; 0 if nothing has ever changed.
    :ivar uri: its address.
    :ivar tickets: how many tickets ``current`` has.
    :ivar complete_as_of: every change before this instant is in the log.
    :ivar recent_as_of: of tickets above `recent_after_id`, every change before this instant is in the log.
    :ivar scan: kind of the last scan, and `scanned_at` its start.
    """

    seq: int
    uri: str | None
    tickets: int
    complete_as_of: datetime | None
    recent_as_of: datetime | None
    recent_after_id: int
    scan: str
    scanned_at: datetime
    unlisted: int
    deleted_since_full: int
    coverage: Coverage
    identity: Identity
    refused: Refused | None = None
    announced: Announced | None = None
    rejected: int = 0


def instants(coverage: Coverage) -> dict[str, Any]:
    """Return what a coverage means, as fields of a `Status`."""
    return {
        "coverage": coverage,
        "complete_as_of": complete_as_of(coverage),
        "recent_as_of": recent_as_of(coverage),
        "recent_after_id": coverage[-1].after_id if coverage else 0,
    }


def check_identity(there: Identity, ours: Identity) -> None:
    """Refuse a prefix that holds something else. Another key of the shop is for the caller to judge.

    :raises LightspeedConfigurationError: naming what differs.
    """
    for name, meaning in (
        ("language", "another language of the shop"),
        ("file_format", "another file_format"),
        ("fields", "other exclude_fields, hash_fields or include_messages"),
        ("hash_key", "hashes made with another key"),
    ):
        if getattr(there, name) != getattr(ours, name):
            raise LightspeedConfigurationError(
                f"the prefix holds {meaning}: a warehouse that reads it would mix both. Take another prefix, which "
                "begins with a full scan. No ticket was fetched"
            )
