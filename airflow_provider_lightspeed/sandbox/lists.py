"""Lists and counts of tickets, as far from the truth as the shop's options say."""

from __future__ import annotations

import msgspec

from airflow_provider_lightspeed.sandbox.distortions import is_multiple
from airflow_provider_lightspeed.sandbox.shop import Query, Shop
from airflow_provider_lightspeed.sandbox.tickets import Ticket
from airflow_provider_lightspeed.sandbox.wire import ApiError

_ALL = 1 << 40


def list_page(shop: Shop, query: Query) -> list[Ticket]:
    """Return one page of a list.

    :raises ApiError: the shop refuses pages that deep.
    """
    options = shop.config
    limit = min(query.limit, options.page_limit)
    first = (query.page - 1) * limit
    if options.page_depth is not None and first >= max(1, options.page_depth):
        if options.beyond_depth == "refused":
            raise ApiError(422, f"Invalid data input. No page starts beyond {options.page_depth} rows.")
        return []
    if options.hidden or options.late_every or options.repeated_every:
        rows = [
            ticket
            for ticket in _shown(shop, query)
            for _ in range(2 if is_multiple(ticket.id, options.repeated_every) else 1)
        ][first : first + limit]
    else:
        rows = shop.find(msgspec.structs.replace(query, limit=limit))
    return [ticket for ticket in rows if not options.is_left_out(ticket.id)]


def count_list(shop: Shop, query: Query) -> int:
    """Return what the shop says is the length of a whole list."""
    options = shop.config
    is_partly_shown = options.hidden or options.late_every
    count = len(_shown(shop, query)) if is_partly_shown else shop.count(query)
    return count if options.count_cap is None else min(count, options.count_cap)


def is_visible(shop: Shop, ticket: Ticket) -> bool:
    """Return whether a ticket can be read yet."""
    options = shop.config
    return not is_multiple(ticket.id, options.late_every) or (
        shop.now() >= ticket.created_at + options.late_seconds
    )


def _shown(shop: Shop, query: Query) -> list[Ticket]:
    everything = shop.find(msgspec.structs.replace(query, page=1, limit=_ALL))
    return [
        ticket for ticket in everything if ticket.id not in shop.config.hidden and is_visible(shop, ticket)
    ]
