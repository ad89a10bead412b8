"""New tickets of a shop as batches, one for each event of an asset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from airflow_provider_lightspeed.new_tickets import Cursor, PollResult
from airflow_provider_lightspeed.triggers.poller import PollKey, subscribe

#: Maximum number of tickets in one event.
BATCH_SIZE = 500
#: Minimum seconds between two events of an asset. The scheduler may leave an event behind that is stored before it has
#: started the run for the one before (https://github.com/apache/airflow/issues/56050).
EVENT_INTERVAL = 10.0


class Batch(msgspec.Struct, frozen=True):
    """What one event delivers, and the cursor behind it.

    :param result: None if only the cursor is new.
    """

    result: PollResult | None
    cursor: Cursor


async def new_batches(arguments: dict[str, Any], cursor: Cursor | None) -> AsyncIterator[Batch]:
    """Yield new tickets without end, in order.

    :param arguments: those of the trigger.
    :param cursor: which tickets earlier batches delivered; None: there were none.
    """
    key = PollKey(arguments["lightspeed_conn_id"], None, arguments["poll_interval"])
    async with subscribe(key, cursor=cursor, start=arguments["start"]) as subscription:
        while True:
            try:
                poll, polled = await subscription.next_poll()
            except Exception:  # ruff: ignore[blind-except, try-except-continue] - the poller logs it, and polls again
                continue
            if polled != cursor:  # the first poll, another key or another shop
                cursor = polled
                yield Batch(None, cursor)
            while new := cursor.new(poll.kept):
                result, cursor = cursor.deliver(new, BATCH_SIZE, poll.page_size)
                yield Batch(result, cursor)
                subscription.cursor = cursor
                await asyncio.sleep(EVENT_INTERVAL)
