"""What watches a shop in the triggerer, to start DAGs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_lightspeed._airflow import BaseEventTrigger
from airflow_provider_lightspeed.new_tickets import Look
from airflow_provider_lightspeed.triggers.lookout import View, watching

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

#: Most tickets that one event names.
BATCH = 500
#: Seconds between two events of an asset. An event that is stored while the scheduler has not yet started the run for
#: the one before may stay behind until the next (https://github.com/apache/airflow/issues/56050).
APART = 10.0


class NewTicketEventTrigger(BaseEventTrigger):
    """Update an asset when there are new tickets. It never ends: nobody would start it again.

    Where it stands is kept in the asset's state store, where Airflow has one (3.3). There Airflow also says which
    events it has stored, in what it calls a shared stream: each asset has one of its own for that. The looks at the
    shop are shared in any case.

    :param asset_name: name of the asset. It keeps the triggers of two assets apart, which else were one to Airflow.
    :param lightspeed_conn_id: connection to the shop.
    :param poll_interval: seconds between two looks.
    :param start: ``latest`` or ``earliest``, see :func:`airflow_provider_lightspeed.assets.new_tickets_asset`.
    """

    def __init__(self, *, asset_name: str, lightspeed_conn_id: str, poll_interval: float, start: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asset_name = asset_name
        self.lightspeed_conn_id = lightspeed_conn_id
        self.poll_interval = poll_interval
        self.start = start

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how to make this trigger again. No state: Airflow reads it but once."""
        return (
            f"{__name__}.{type(self).__name__}",
            {
                "asset_name": self.asset_name,
                "lightspeed_conn_id": self.lightspeed_conn_id,
                "poll_interval": self.poll_interval,
                "start": self.start,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Send events, and keep nothing (Airflow before 3.3)."""
        _, arguments = self.serialize()
        async for batch in new_batches(arguments, None):
            if batch.ticket_ids:
                yield TriggerEvent(batch.result())  # type: ignore[no-untyped-call]

    def shared_stream_key(self) -> Hashable:
        """Name this asset's stream (Airflow 3.3)."""
        _, arguments = self.serialize()
        return ("lightspeed", *arguments.values())

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Make what this asset's stream comes from."""
        from airflow_provider_lightspeed.triggers.deliveries import Deliveries

        return Deliveries(kwargs)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Send the events of the stream."""
        async for item in shared_stream:
            if isinstance(item, Look):
                yield TriggerEvent(item.result())  # type: ignore[no-untyped-call]
            else:
                item.set_result(self.asset_state_store)


async def new_batches(arguments: dict[str, Any], cursor: int | None) -> AsyncIterator[Look]:
    """Yield new tickets for ever, in order, as events name them; the very first look also if it shows none.

    :param arguments: those of the trigger.
    :param cursor: the greatest ticket id of earlier batches; None: there were none.
    """
    view = View(arguments["lightspeed_conn_id"], None, arguments["poll_interval"])
    is_first = cursor is None
    if is_first and arguments["start"] == "earliest":
        cursor = 0
    async with watching(view, since_id=cursor) as watch:
        while True:
            try:
                ids = sorted(await watch.look())
            except Exception:  # ruff: ignore[blind-except, try-except-continue] - it is in the log, and will be looked again
                continue
            since_id = watch.since_id or 0
            if is_first and not ids:
                yield Look(since_id, [], since_id)
            is_first = False
            for start in range(0, len(ids), BATCH):
                batch = Look(since_id, ids[start : start + BATCH], ids[start : start + BATCH][-1])
                yield batch
                watch.since_id = since_id = batch.max_id
                await asyncio.sleep(APART)
