"""Questions that take more than one API call: the newest ticket, new tickets, all messages of a ticket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, KeysView, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from airflow_provider_lightspeed.api.errors import (
    LightspeedError,
    LightspeedIncompleteListError,
    LightspeedMalformedResponseError,
    LightspeedNotFoundError,
)
from airflow_provider_lightspeed.api.tickets import (
    DEFAULT_PAGE_SIZE,
    PAGE_SIZE,
    SMALLEST_PAGE,
    RejectedTicket,
    Request,
    Ticket,
    TicketFilter,
    TicketMessage,
    count_messages,
    count_tickets,
    list_messages,
    list_tickets,
)

#: Pages of all shops hold so many tickets: a shorter response leaves nothing out.
_SHORTEST_PAGE = 20
#: Rounds without a higher id, after which the search gives up.
_TRIES = 3

log = logging.getLogger(__name__)

T = TypeVar("T")
_Row = Ticket | RejectedTicket


def newest_ticket() -> Generator[Request[Any], Any, int]:
    """Find the greatest ticket id of the shop (0: there are no tickets), whatever the order of its lists.

    The end is seen: a question for all tickets from the greatest id on shows that one, and none above it. A count
    only tells where to look next. It takes two calls if lists are newest first, four if they are oldest first, a few
    more otherwise.

    Yields calls to make, and is sent their data.

    :raises LightspeedIncompleteListError: if the shop ignores ``since_id``, or lists no ticket and counts some.
    """
    page: list[_Row] = yield list_tickets(keep_malformed=True)
    # One empty response proves nothing. Another limit is another question, for caches too.
    page = page or (yield list_tickets(limit=PAGE_SIZE - 1, keep_malformed=True))
    if not page and (count := (yield count_tickets())) >= SMALLEST_PAGE:
        # Believed by mistake, it would make every ticket new.
        raise LightspeedIncompleteListError(
            "the shop lists no ticket, and counts some", seen=0, expected=count
        )
    newest, size, rounds = _highest(page), len(page), 0
    if page and _id(page[0]) != newest:
        newest = max(newest, _highest((yield from _last_page(newest, size))))
    while newest and rounds < _TRIES:
        page = yield list_tickets(since_id=newest - 1, keep_malformed=True)
        ids = [number for row in page if (number := _id(row))]
        if ids and min(ids) < newest - 1:
            raise LightspeedIncompleteListError("the shop ignores since_id", seen=len(ids))
        if max(ids, default=0) > newest:
            size, rounds = max(size, len(page)), 0
            newest = max(ids)
            newest = max(newest, _highest((yield from _last_page(newest, size))))
        elif newest in ids:
            break
        else:
            rounds += 1  # deleted meanwhile, or the response is wrongly empty
    return newest


def _last_page(above: int, size: int) -> Generator[Request[Any], Any, list[_Row]]:
    """Return the last page of the tickets above an id, if the count is right."""
    count: int = yield count_tickets(since_id=above)
    pages = -(-count // size)
    if pages < 2:
        return []
    page: list[_Row] = yield list_tickets(since_id=above, page=pages, limit=size, keep_malformed=True)
    return page


def _id(row: _Row) -> int:
    """Return the id of a row; 0 if it is unreadable."""
    return (row.id or 0) if isinstance(row, RejectedTicket) else row["id"]


def _highest(page: list[_Row]) -> int:
    return max(map(_id, page), default=0)


@dataclass(frozen=True)
class NewTickets(Generic[T]):
    """The tickets above an id.

    :param kept: what is kept of each ticket, by ascending id, none above the boundary.
    :param boundary: no ticket with an id up to this one is missing, but for those that become visible later.
        A cursor may move up to here, and no further.
    :param page_size: what a page of this shop holds: tickets of the longest response, if it took many to show them all.
    """

    kept: dict[int, T]
    boundary: int
    page_size: int


def new_tickets(
    since_id: int,
    keep: Callable[[Ticket | RejectedTicket], T],
    *,
    email: str | None = None,
    is_known: Callable[[int], bool] | None = None,
) -> Generator[Request[Any], Any, NewTickets[T]]:
    """Read the tickets above an id, whatever the order of lists, and say up to which id none is missing.

    Without news it takes one call, or two if it shows so many known tickets that they may fill a page. With news, the
    list is proven complete as for an export. Tickets that came while it was read are left to the next poll, since
    others may be missing below them.

    To find tickets that become visible late, under an id below others, ask from an id below them, and say which
    tickets are known. At most half a page of them, so that one response has room for news.

    Yields calls to make, and is sent their data or thrown their errors.

    :param since_id: tickets with a greater id are read.
    :param keep: what to keep of a ticket; there may be many. A malformed one is there too, if its id can be read: it
        may be corrected later, and must not hide the others until then.
    :param email: only tickets of the customer with this e-mail address.
    :param is_known: whether a ticket is no news; None: all are news.
    :raises LightspeedIncompleteListError: if the list can't be proven complete.
    """
    # The walk is loaded with the first poll, not with the DAG file.
    from airflow_provider_lightspeed.api.paging import Page, walk

    steps = walk(TicketFilter(since_id, email=email), keep_malformed=True)
    found: dict[int, T] = {}
    boundary = since_id
    page_size = 0
    reply: Any = None
    while True:
        try:
            step = steps.throw(reply) if isinstance(reply, LightspeedError) else steps.send(reply)
        except StopIteration:
            break
        if isinstance(step, Page):
            rows: list[_Row] = [*step.tickets, *step.rejected]
            found |= {_id(row): keep(row) for row in rows if _id(row)}
            boundary = max(since_id, step.boundary)
            reply = None
            continue
        try:
            reply = yield step
        except LightspeedError as error:
            reply = error
            continue
        if isinstance(reply, list):
            if not all(map(_id, reply)):
                log.warning("The shop shows a ticket without a readable id: it cannot be delivered")
            is_first = page_size == 0 and not found
            page_size = max(page_size, len(reply))
            if is_first and is_known is not None:
                news = _has_news(reply, since_id, is_known)
                if not news and len(reply) >= _SHORTEST_PAGE:
                    behind = yield from _second_page(since_id, email, len(reply))
                    # If two pages are full of known tickets, only the walk shows whether others follow.
                    is_end = behind is not None and len(behind) < len(reply)
                    news = not is_end or _has_news(behind or [], since_id, is_known)
                if not news:
                    found = {_id(row): keep(row) for row in reply if _id(row) > since_id}
                    boundary = max([since_id, *found])
                    break
    steps.close()
    return NewTickets(
        {ticket_id: found[ticket_id] for ticket_id in sorted(found) if ticket_id <= boundary},
        boundary,
        # Fewer may be two servers' responses, of which one lacks some tickets.
        page_size if len(found) >= 2 * page_size > 0 else PAGE_SIZE,
    )


def _has_news(rows: list[_Row], since_id: int, is_known: Callable[[int], bool]) -> bool:
    return any(number > since_id and not is_known(number) for number in map(_id, rows))


def _second_page(
    since_id: int, email: str | None, size: int
) -> Generator[Request[Any], Any, list[_Row] | None]:
    """Return what follows a page of this size; None if the shop refuses."""
    try:
        page: list[_Row] = yield list_tickets(
            page=2, limit=size, since_id=since_id, email=email, keep_malformed=True
        )
    except LightspeedMalformedResponseError:
        raise
    except LightspeedError:
        return None
    return page


def ticket_messages(ticket_id: int) -> Generator[Request, Any, list[TicketMessage]]:
    """Read a ticket's conversation, each message once.

    A response with fewer messages than a page of the default size is the complete list. A longer one may be cut: by
    ``limit``, or by a shop that ignores ``limit``, or ``page`` too. So the shop is asked how many messages there are,
    and pages are read until there are as many. Where messages are deleted meanwhile, as many can be read although one
    slipped past unseen: so all pages but the last are read once more, and must show the same. A single page is that
    too where it may be cut, which is where its size is one that pages have (taken to be 50, 100, … 250).

    Calls: one for up to 49 messages; two for up to 250 in one response, but three for exactly 50, 100, … 250; for k pages,
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
        f"the messages of ticket {ticket_id} {why}", seen=seen, expected=expected, of="message"
    )
