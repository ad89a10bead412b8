"""Malformed tickets, kept aside so that one of them stops neither an export nor a log of changes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

import msgspec

from airflow_provider_lightspeed.api.errors import LightspeedMalformedResponseError
from airflow_provider_lightspeed.api.tickets import RejectedTicket
from airflow_provider_lightspeed.api.wording import first_few

#: More than this are no exceptions: the shop returns tickets in a form that this version does not know.
_MOST = 1000


class Quarantine:
    """The malformed tickets of one export or scan, each once.

    :param key: of their digests if fields are left out or hashed. Their bytes are not kept then: what can't be read
        can't be redacted.
    """

    def __init__(self, key: bytes = b"") -> None:
        self._key = key
        self._lines: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, tickets: Iterable[RejectedTicket]) -> None:
        """Add tickets; one that is there already (a page that was read twice) is there once.

        :raises LightspeedMalformedResponseError: if there are too many.
        """
        for ticket in tickets:
            row = hashlib.blake2b(ticket.raw, key=self._key, digest_size=8).hexdigest()
            line = {"id": ticket.id, "reason": ticket.reason, "row": row}
            if not self._key:
                line["raw_base64"] = base64.b64encode(ticket.raw).decode()
            self._lines.setdefault(row if ticket.id is None else str(ticket.id), msgspec.json.encode(line))
        if len(self._lines) > _MOST:
            raise LightspeedMalformedResponseError(
                f"more than {_MOST} tickets of the shop are malformed, such as {self.summary}. No object was written"
            )

    def encode(self) -> bytes:
        """Return a line of JSON for each ticket."""
        return b"".join(line + b"\n" for line in self._lines.values())

    def decode(self, data: bytes) -> None:
        """Take over what `encode` returned in an earlier try."""
        for line in data.splitlines():
            ticket = msgspec.json.decode(line)
            key = ticket["row"] if ticket["id"] is None else str(ticket["id"])
            self._lines[key] = line

    @property
    def summary(self) -> str:
        """The first few, by id, with what is wrong with them."""
        tickets = map(msgspec.json.decode, self._lines.values())
        return first_few(
            [f"{ticket['id'] or 'one without id'}, {ticket['reason']}" for ticket in tickets], separator="; "
        )
