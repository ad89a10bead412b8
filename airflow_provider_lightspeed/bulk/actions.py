"""What a bulk change does to one ticket. Pure: a ticket goes in, a request comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from airflow_provider_lightspeed.api import tickets as api
from airflow_provider_lightspeed.api.tickets import Request, Ticket
from airflow_provider_lightspeed.api.values import is_same_text


class Action(Protocol):
    """One kind of bulk change."""

    @property
    def ends_in_absence(self) -> bool:
        """Whether a ticket to which it was done is no longer there."""

    def request(self, ticket: Ticket) -> Request | None:
        """Return the call that changes the ticket; None if nothing differs."""

    def ignored(self, answer: Ticket) -> list[str]:
        """Return the names of properties that the response shows unchanged."""

    def fingerprint(self, ticket: Ticket) -> str:
        """Return what :meth:`is_own_change` has to know of the ticket before the change."""

    def is_own_change(self, before: str, ticket: Ticket) -> bool:
        """Return whether the ticket differs from before only by what the change writes.

        :param before: the fingerprint of then.
        """


@dataclass(frozen=True)
class Update:
    """Give properties a value, and write only those that have another one.

    :param properties: by the API's names.
    """

    properties: Mapping[str, bool | str]

    @property
    def ends_in_absence(self) -> bool:
        """Return False: the ticket stays."""
        return False

    def request(self, ticket: Ticket) -> Request | None:
        """Return the PUT of what differs."""
        differing = {
            name: value for name, value in self.properties.items() if not _is(ticket.get(name), value)
        }
        return api.update_ticket(ticket["id"], differing) if differing else None

    def ignored(self, answer: Ticket) -> list[str]:
        """Return the names of switches that the shop has left as they were. It may store a text in another form."""
        shown: Mapping[str, Any] = answer
        return [
            name
            for name, value in self.properties.items()
            if isinstance(value, bool) and name in shown and not _is(shown[name], value)
        ]

    def fingerprint(self, ticket: Ticket) -> str:
        """Hash the properties that are written, and all others but the time of the last change."""
        written = {name: ticket.get(name) for name in self.properties}
        others = {key: value for key, value in ticket.items() if key != "updatedAt" and key not in written}
        return f"{_hash(written)} {_hash(others)}"

    def is_own_change(self, before: str, ticket: Ticket) -> bool:
        """Return whether only written properties differ. The shop may store a text in a form that we don't know."""
        now = self.fingerprint(ticket)
        return now != before and now.split()[1] == before.split()[1]


@dataclass(frozen=True)
class Delete:
    """Delete for good."""

    @property
    def ends_in_absence(self) -> bool:
        """Return True: the ticket is gone."""
        return True

    def request(self, ticket: Ticket) -> Request | None:
        """Return the DELETE."""
        return api.delete_ticket(ticket["id"])

    def ignored(self, answer: Ticket) -> list[str]:  # ruff: ignore[unused-method-argument] - as the protocol has it
        """Return nothing: there is no response to compare with."""
        return []

    def fingerprint(self, ticket: Ticket) -> str:  # ruff: ignore[unused-method-argument] - as the protocol has it
        """Return nothing: a deleted ticket is gone."""
        return ""

    def is_own_change(self, before: str, ticket: Ticket) -> bool:  # ruff: ignore[unused-method-argument] - as the protocol has it
        """Return False: a ticket that is still there was not deleted."""
        return False


def _is(current: Any, value: bool | str) -> bool:
    if isinstance(value, bool):
        return bool(current) is value
    # ``false`` stands for null almost anywhere, and so for an empty text.
    return is_same_text(str(current or ""), value)


def _hash(properties: Mapping[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(properties, order="sorted")).hexdigest()[:12]
