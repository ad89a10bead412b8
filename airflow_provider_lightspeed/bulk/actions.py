"""What a bulk change does to one ticket. Pure: a ticket goes in, a request comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_lightspeed.api import tickets as api
from airflow_provider_lightspeed.api.tickets import Request, Ticket


class Action(Protocol):
    """One kind of bulk change."""

    @property
    def ends_in_absence(self) -> bool:
        """Whether a ticket to which it was done is no longer there."""

    def request(self, ticket: Ticket) -> Request | None:
        """Return the call that makes the ticket as wanted; None if it is so already."""

    def ignored(self, answer: Ticket | None) -> list[str]:
        """Name what the answer to that call shows as it must not be."""


@dataclass(frozen=True)
class Update:
    """Give properties a value, and write only those that have another one.

    :param wanted: by the API's names.
    """

    wanted: Mapping[str, bool | str]

    @property
    def ends_in_absence(self) -> bool:
        """Not so."""
        return False

    def request(self, ticket: Ticket) -> Request | None:
        """Return the PUT of what differs."""
        differing = {name: value for name, value in self.wanted.items() if not _is(ticket.get(name), value)}
        return api.update_ticket(ticket["id"], differing) if differing else None

    def ignored(self, answer: Ticket | None) -> list[str]:
        """Name the switches that the shop has left as they were. Of a text it may make another."""
        shown: Mapping[str, Any] = answer or {}
        return [
            name
            for name, value in self.wanted.items()
            if isinstance(value, bool) and name in shown and not _is(shown[name], value)
        ]


@dataclass(frozen=True)
class Delete:
    """Delete for good."""

    @property
    def ends_in_absence(self) -> bool:
        """So it does."""
        return True

    def request(self, ticket: Ticket) -> Request | None:
        """Return the DELETE."""
        return api.delete_ticket(ticket["id"])

    def ignored(self, answer: Ticket | None) -> list[str]:  # ruff: ignore[unused-method-argument] - as the protocol has it
        """Name nothing: there is no answer."""
        return []


def _is(current: Any, wanted: bool | str) -> bool:
    # ``false`` stands for null almost anywhere, and so for an empty text.
    return bool(current) is wanted if isinstance(wanted, bool) else (current or "") == wanted
