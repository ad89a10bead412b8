"""Chooses the walk that fits the list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError
from airflow_provider_lightspeed.api.paging.newest_first import newest_first
from airflow_provider_lightspeed.api.paging.oldest_first import oldest_first
from airflow_provider_lightspeed.api.paging.reading import (
    Cursor,
    NotInOrder,
    Reading,
    Steps,
    ascending,
    descending,
)
from airflow_provider_lightspeed.api.paging.unordered import unordered
from airflow_provider_lightspeed.api.paging.zone import FilterZone, find_offset
from airflow_provider_lightspeed.api.tickets import PAGE_SIZE, Ticket, TicketFilter


def walk(
    wanted: TicketFilter,
    filter_timezone: str | None = None,
    cursor: Cursor | None = None,
    *,
    page_size: int = PAGE_SIZE,
) -> Steps[None]:
    """Read every ticket that matches and exists from the first call to the last, each exactly once.

    :param filter_timezone: zone in which the shop likely reads date filters. It is found out if that saves
        calls; else the dates are asked for so widely that any zone is right.
    :param cursor: of a page of an earlier walk with the same filter; goes on after that page.
    :param page_size: tickets to ask for at once; for tests.
    :raises LightspeedIncompleteListError: if completeness can't be established.
    """
    if cursor is not None:
        yield from _resume(Reading(wanted, FilterZone.from_json(cursor["zone"]), page_size), cursor)
        return
    reading = Reading(wanted, FilterZone(named=filter_timezone), page_size)
    rows = yield from reading.list()
    in_order = _guess_order(rows)
    # Slices need no zone: without order it is worth its calls only where it is named.
    if len(rows) >= page_size and reading.zone_matters and (in_order or filter_timezone):
        offset = yield from find_offset(reading, rows)
        if offset is not None:
            reading = Reading(wanted, FilterZone(offset, filter_timezone), page_size)
            if in_order is oldest_first:
                rows = yield from reading.list()
    if len(rows) < page_size:
        yield reading.page(rows, None)
        return
    if in_order is not None:
        try:
            yield from in_order(reading, rows)
        except NotInOrder:
            pass
        else:
            return
    yield from unordered(reading)


def _guess_order(rows: Sequence[Ticket]) -> Callable[[Reading, list[Ticket]], Steps[None]] | None:
    ids = [row["id"] for row in rows]
    return oldest_first if ascending(ids) else newest_first if descending(ids) else None


def _resume(reading: Reading, cursor: Cursor) -> Steps[None]:
    if cursor["order"] in {"none", "survey"}:
        yield from unordered(reading, cursor)
        return
    ordered = oldest_first if cursor["order"] == "oldest" else newest_first
    try:
        yield from ordered(reading, [], cursor)
    except NotInOrder:
        raise LightspeedIncompleteListError(
            "the list is not in the order in which its first pages came, and what the earlier try "
            "read can't be told apart any more; start again from the beginning",
            seen=cursor["seen"],
        ) from None
