"""A search for the newest ticket."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, Request, Ticket, count_tickets, list_tickets


def newest_ticket() -> Generator[Request, Any, int]:
    """Find the greatest ticket id of the shop (0: there are no tickets), whatever the order of its lists.

    It takes two calls where lists are newest first, four where they are oldest first, a few more otherwise.
    The tickets above the greatest id seen are asked for, at both ends of the list, until there are none.

    Yields calls to make, and is sent their data.
    """
    newest = 0
    while True:
        page: list[Ticket] = yield list_tickets(since_id=newest)
        if max((ticket["id"] for ticket in page), default=0) <= newest:
            return newest
        newest = max(ticket["id"] for ticket in page)
        above = int((yield count_tickets(since_id=newest)))
        if above == 0:
            return newest
        last_page = -(-above // PAGE_SIZE)
        if last_page > 1:
            page = yield list_tickets(since_id=newest, page=last_page)
            newest = max([newest, *(ticket["id"] for ticket in page)])
