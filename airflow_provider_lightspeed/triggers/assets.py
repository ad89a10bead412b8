"""The trigger behind an asset that new tickets update."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_lightspeed._airflow import BaseEventTrigger
from airflow_provider_lightspeed.new_tickets import PollResult
from airflow_provider_lightspeed.triggers.batches import new_batches

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer


class NewTicketEventTrigger(BaseEventTrigger):
    """Update an asset when there are new tickets. It never ends, since nothing would start it again.

    On Airflow 3.3 the cursor is in the asset's state store, and Airflow reports which events it has stored, through
    what it calls a shared stream. Each asset has its own stream. Polls are shared in any case.

    :param asset_name: name of the asset. Without it, Airflow would take the triggers of two assets for one.
    :param lightspeed_conn_id: connection to the shop.
    :param poll_interval: seconds between two polls.
    :param start: ``latest`` or ``earliest``, see :func:`airflow_provider_lightspeed.assets.new_tickets_asset`.
    """

    def __init__(self, *, asset_name: str, lightspeed_conn_id: str, poll_interval: float, start: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asset_name = asset_name
        self.lightspeed_conn_id = lightspeed_conn_id
        self.poll_interval = poll_interval
        self.start = start

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how to make this trigger again. It holds no state: Airflow reads it only once."""
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
            if batch.result is not None:
                yield TriggerEvent(batch.result.result())  # type: ignore[no-untyped-call]

    def shared_stream_key(self) -> Hashable:
        """Name this asset's stream (Airflow 3.3)."""
        _, arguments = self.serialize()
        return ("lightspeed", *arguments.values())

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Make the producer of this asset's stream."""
        from airflow_provider_lightspeed.triggers.stream import NewTicketStreamProducer

        return NewTicketStreamProducer(kwargs)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Send the events of the stream."""
        async for item in shared_stream:
            if isinstance(item, PollResult):
                yield TriggerEvent(item.result())  # type: ignore[no-untyped-call]
            else:
                item.set_result(self.asset_state_store)
