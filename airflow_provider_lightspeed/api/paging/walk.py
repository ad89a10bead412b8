"""Chooses the walk that fits the list."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from airflow_provider_lightspeed.api.paging.cursors import (
    Cursor,
    NewestFirstCursor,
    OldestFirstCursor,
)
from airflow_provider_lightspeed.api.paging.detect_offset import detect_offset
from airflow_provider_lightspeed.api.paging.newest_first import newest_first
from airflow_provider_lightspeed.api.paging.oldest_first import oldest_first
from airflow_provider_lightspeed.api.paging.reader import (
    ListReader,
    NotInOrder,
    Section,
    Walk,
    ascending,
    descending,
    overlapping,
)
from airflow_provider_lightspeed.api.paging.time_slices import time_slices
from airflow_provider_lightspeed.api.paging.timezone import FilterZone
from airflow_provider_lightspeed.api.tickets import (
    PAGE_SIZE,
    SMALLEST_PAGE,
    Ticket,
    TicketFilter,
    count_tickets,
)

#: How often a short list is read while it moves.
_TRIES = 5


def usual_calls(tickets: int) -> int:
    """Return about how many calls a walk over so many tickets takes, with those that prove the list complete."""
    # Pages of a list with the newest ticket first overlap, by up to a twelfth.
    return 2 if tickets < PAGE_SIZE else ceil(1.08 * tickets / PAGE_SIZE) + 3


def walk(
    filter: TicketFilter,
    filter_timezone: str | None = None,
    cursor: Cursor | None = None,
    *,
    page_size: int = PAGE_SIZE,
    keep_malformed: bool = False,
) -> Walk[None]:
    """Read every ticket that matches and exists from the first call to the last, each exactly once.

    :param filter_timezone: zone in which the shop likely reads date filters. It is detected if that saves
        calls; else the dates are asked for so widely that any zone is right.
    :param cursor: of a page of an earlier walk with the same filter; the walk resumes after that page.
    :param page_size: tickets to ask for at once; for tests.
    :param keep_malformed: yield rows that are no readable ticket as rejected; else they are an error.
    :raises LightspeedIncompleteListError: if completeness can't be proven.
    """
    if cursor is not None:
        yield from _resume(
            ListReader.resumed(filter, cursor.reader, page_size, keep_malformed=keep_malformed), cursor
        )
        return
    reader = ListReader(filter, FilterZone(named=filter_timezone), page_size, keep_malformed=keep_malformed)
    first = yield from _first_page(reader)
    in_order = _guess_order(first)
    # Slices need no zone: without order it is worth its calls only if it is named.
    if first.size >= page_size and reader.zone_matters and (in_order or filter_timezone):
        offset = yield from detect_offset(reader, first.rows)
        if offset is not None:
            longest = reader.longest
            reader = ListReader(
                filter, FilterZone(offset, filter_timezone), page_size, keep_malformed=keep_malformed
            )
            reader.longest = longest
            first = yield from _first_page(reader)
            in_order = _guess_order(first)
    if not first.rows:
        yield from _refuse_counted(reader)
        yield reader.emit([])
        return
    reader.boundary = max(first.ids, default=0)
    reader.track_updated_at(first.rows, newest_first=in_order is newest_first)
    ordered_by_id = in_order is not None and not reader.maybe_ordered_by_update
    is_tiny = first.size < SMALLEST_PAGE
    if is_tiny or (first.size < page_size and not ordered_by_id):
        whole = yield from _read_short_list(reader, first)
        if whole is not None:
            reader.boundary = max(row["id"] for row in whole)
            yield reader.emit(whole)
            return
        reader.contradicted = True
    if in_order is not None:
        try:
            yield from in_order(reader, first)
        except NotInOrder:
            pass
        else:
            return
    try:
        yield from time_slices(reader, first if in_order is None and not reader.contradicted else None)
    except NotInOrder:
        raise reader.incomplete("the list is in no order, and the shop refuses its pages") from None


def _first_page(reader: ListReader) -> Walk[Section]:
    section = yield from reader.list()
    if not section.rows:
        # One empty response proves nothing. Another limit is another question, for caches too.
        section = yield from reader.list(limit=reader.page_size - 1)
    return section


def _refuse_counted(reader: ListReader) -> Walk[None]:
    """Refuse a list without tickets of which the shop counts some: all of them are not left out by chance.

    :raises LightspeedIncompleteListError: what is made of the list may replace them.
    """
    if not reader.counts_exactly:
        return
    count = yield from reader.count()
    if count < SMALLEST_PAGE:
        return
    if reader.filter != TicketFilter():
        everything: int = yield count_tickets()
        if count == everything:
            return  # the count may ignore the filter
    raise reader.incomplete("the shop lists no ticket, and counts some", count)


def _guess_order(first: Section) -> Callable[[ListReader, Section], Walk[None]] | None:
    return oldest_first if ascending(first.ids) else newest_first if descending(first.ids) else None


def _read_short_list(reader: ListReader, first: Section) -> Walk[list[Ticket] | None]:
    """Return the tickets of a list that fits one page, in any order; None if it does not, or moves too fast.

    The next question starts at the last row or before: it must show the same rows from there on, and have room for
    more. If the page is as long as pages of some shops are, the list must not have moved meanwhile either.
    """
    shown = set(first.ids)
    for _ in range(_TRIES):
        # Repeated rows may not count for the place of the last one.
        page, limit = overlapping(len(first.rows) - 1, reader.limit)
        try:
            behind = yield from reader.list(page=page, limit=limit)
        except NotInOrder:
            return None  # the shop refuses the page
        shown.update(behind.ids)
        is_whole = behind.room and behind.rows == first.rows[behind.start :] and shown == set(first.ids)
        if is_whole and not first.may_be_full:
            return first.rows
        if not behind.room:
            return None
        again = yield from reader.list()
        if is_whole and again.rows == first.rows:
            return first.rows
        # Two servers may answer in turn, of which one lags behind. What shows more counts, and the same server has to
        # say what is behind it.
        other = yield from reader.list()
        if not set(other.ids) <= set(again.ids):
            again, other = other, (yield from reader.list())
        if not again.rows or again.size >= reader.page_size:
            return None
        first = again
        shown.update(again.ids, other.ids)
    return None


def _resume(reader: ListReader, cursor: Cursor) -> Walk[None]:
    try:
        if isinstance(cursor, OldestFirstCursor):
            yield from oldest_first(reader, None, cursor)
        elif isinstance(cursor, NewestFirstCursor):
            yield from newest_first(reader, None, cursor)
        else:
            yield from time_slices(reader, None, cursor)
    except NotInOrder:
        raise reader.incomplete(
            "the list's order has changed since its first pages were read, so the walk can't be resumed; the next try "
            "starts over"
        ) from None
