"""Chooses the walk that fits the list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError
from airflow_provider_lightspeed.api.paging.detect_offset import detect_offset
from airflow_provider_lightspeed.api.paging.newest_first import newest_first
from airflow_provider_lightspeed.api.paging.oldest_first import oldest_first
from airflow_provider_lightspeed.api.paging.reader import (
    Cursor,
    ListReader,
    NotInOrder,
    Walk,
    ascending,
    descending,
)
from airflow_provider_lightspeed.api.paging.time_slices import time_slices
from airflow_provider_lightspeed.api.paging.timezone import FilterZone
from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, Ticket, TicketFilter


def walk(
    filter: TicketFilter,
    filter_timezone: str | None = None,
    cursor: Cursor | None = None,
    *,
    page_size: int = PAGE_SIZE,
) -> Walk[None]:
    """Read every ticket that matches and exists from the first call to the last, each exactly once.

    :param filter_timezone: zone in which the shop likely reads date filters. It is found out if that saves
        calls; else the dates are asked for so widely that any zone is right.
    :param cursor: of a page of an earlier walk with the same filter; goes on after that page.
    :param page_size: tickets to ask for at once; for tests.
    :raises LightspeedIncompleteListError: if completeness can't be established.
    """
    if cursor is not None:
        yield from _resume(ListReader(filter, FilterZone.from_json(cursor["zone"]), page_size), cursor)
        return
    reader = ListReader(filter, FilterZone(named=filter_timezone), page_size)
    rows = yield from reader.list()
    in_order = _guess_order(rows)
    # Slices need no zone: without order it is worth its calls only where it is named.
    if len(rows) >= page_size and reader.zone_matters and (in_order or filter_timezone):
        offset = yield from detect_offset(reader, rows)
        if offset is not None:
            reader = ListReader(filter, FilterZone(offset, filter_timezone), page_size)
            if in_order is oldest_first:
                rows = yield from reader.list()
    if len(rows) < page_size:
        yield reader.emit(rows, None)
        return
    if in_order is not None:
        try:
            yield from in_order(reader, rows)
        except NotInOrder:
            pass
        else:
            return
    yield from time_slices(reader)


def _guess_order(rows: Sequence[Ticket]) -> Callable[[ListReader, list[Ticket]], Walk[None]] | None:
    ids = [row["id"] for row in rows]
    return oldest_first if ascending(ids) else newest_first if descending(ids) else None


def _resume(reader: ListReader, cursor: Cursor) -> Walk[None]:
    if cursor["order"] in {"none", "survey"}:
        yield from time_slices(reader, cursor)
        return
    ordered = oldest_first if cursor["order"] == "oldest" else newest_first
    try:
        yield from ordered(reader, [], cursor)
    except NotInOrder:
        raise LightspeedIncompleteListError(
            "the list is not in the order in which its first pages came, and what the earlier try "
            "read can't be told apart any more; start again from the beginning",
            seen=cursor["seen"],
        ) from None
