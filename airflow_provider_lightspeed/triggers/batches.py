"""New tickets of a shop as batches, one for each event of an asset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow_provider_lightspeed.new_tickets import PollResult
from airflow_provider_lightspeed.triggers.poller import PollKey, subscribe

#: Maximum number of tickets in one event.
BATCH_SIZE = 500
#: Minimum seconds between two events of an asset. The scheduler may leave an event behind that is stored before it has
#: started the run for the one before (https://github.com/apache/airflow/issues/56050).
EVENT_INTERVAL = 10.0


async def new_batches(arguments: dict[str, Any], cursor: int | None) -> AsyncIterator[PollResult]:
    """Yield new tickets without end, in order, as events name them; the very first poll also if it finds none.

    :param arguments: those of the trigger.
    :param cursor: the greatest ticket id of earlier batches; None: there were none.
    """
    key = PollKey(arguments["lightspeed_conn_id"], None, arguments["poll_interval"])
    is_first = cursor is None
    if is_first and arguments["start"] == "earliest":
        cursor = 0
    async with subscribe(key, since_id=cursor) as subscription:
        while True:
            try:
                ids = sorted(await subscription.next_poll())
            except Exception:  # ruff: ignore[blind-except, try-except-continue] - the poller logs it, and polls again
                continue
            since_id = subscription.since_id or 0
            if is_first and not ids:
                yield PollResult(since_id, [], since_id)
            is_first = False
            for start in range(0, len(ids), BATCH_SIZE):
                batch_ids = ids[start : start + BATCH_SIZE]
                batch = PollResult(since_id, batch_ids, batch_ids[-1])
                yield batch
                subscription.since_id = since_id = batch.max_id
                await asyncio.sleep(EVENT_INTERVAL)
