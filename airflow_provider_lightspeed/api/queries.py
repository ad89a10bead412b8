"""Questions that take more than one API call: the newest ticket, all messages of a ticket."""

from __future__ import annotations

from collections.abc import Generator, KeysView, Sequence
from typing import Any

from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError, LightspeedNotFoundError
from airflow_provider_lightspeed.api.tickets import (
    DEFAULT_PAGE_SIZE,
    PAGE_SIZE,
    Request,
    Ticket,
    TicketMessage,
    count_messages,
    count_tickets,
    list_messages,
    list_tickets,
)

_TRIES = 3


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


def ticket_messages(ticket_id: int) -> Generator[Request, Any, list[TicketMessage]]:
    """Read a ticket's conversation, each message once.

    An answer with fewer messages than a page of the default size is the whole list. From there on it may be cut: by
    ``limit``, or by a shop that ignores ``limit``, or ``page`` too. So the shop is asked how many messages there are,
    and pages are read until there are as many. Where messages are deleted meanwhile, as many can be read although one
    slipped past unseen: so all pages but the last are read once more, and must show the same. A single page is that
    too where it may be cut, which is where its size is one that pages have (taken to be 50, 100, … 250).

    Calls: one for up to 49 messages; two for up to 250 in one answer, but three for exactly 50, 100, … 250; for k pages,
    2 k.

    Yields calls to make, and is sent their data or thrown a `LightspeedNotFoundError`.

    :raises LightspeedIncompleteListError: if the list can't be read to the number that the shop counts.
    """
    found: dict[int, TicketMessage] = {}
    count = 0
    for _ in range(_TRIES):
        rows: list[TicketMessage] = yield list_messages(ticket_id)
        found = _by_id(rows)
        if len(rows) < DEFAULT_PAGE_SIZE:
            return list(found.values())
        try:
            count = yield count_messages(ticket_id)
        except LightspeedNotFoundError as error:
            if not error.gone:
                raise
            yield list_messages(ticket_id)  # not found either, if the ticket was deleted meanwhile
            raise _incomplete(ticket_id, "can't be counted: the count is not found", len(found)) from None
        shown = [found.keys()]
        fresh = True
        while fresh and len(found) < count:
            page = _by_id((yield list_messages(ticket_id, page=len(shown) + 1)))
            fresh = not page.keys() <= found.keys()
            shown.append(page.keys())
            found = {**found, **page}
        if len(found) == count and (yield from _are_still_there(ticket_id, shown)):
            return list(found.values())
    raise _incomplete(
        ticket_id,
        "can't be read and counted to the same number: their list ignores limit and page, or changes too fast",
        len(found),
        count,
    )


def _are_still_there(ticket_id: int, shown: Sequence[KeysView[int]]) -> Generator[Request, Any, bool]:
    """Read again what may have shifted while the last page was read, and say whether it had not.

    :param shown: the ids on each page.
    """
    earlier = shown[:-1]
    if len(shown) == 1 and len(shown[0]) % DEFAULT_PAGE_SIZE == 0:
        earlier = shown
    for page, ids in enumerate(earlier, 1):
        if _by_id((yield list_messages(ticket_id, page=page))).keys() != ids:
            return False
    return True


def _by_id(messages: list[TicketMessage]) -> dict[int, TicketMessage]:
    return {message["id"]: message for message in messages}


def _incomplete(
    ticket_id: int, why: str, seen: int, expected: int | None = None
) -> LightspeedIncompleteListError:
    return LightspeedIncompleteListError(
        f"the messages of ticket {ticket_id} {why}", seen=seen, expected=expected, of="messages"
    )
