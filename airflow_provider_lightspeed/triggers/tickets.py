"""The trigger behind the deferred sensor for new tickets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_lightspeed.api.errors import LightspeedError, LightspeedPermanentError
from airflow_provider_lightspeed.api.retry import is_transient
from airflow_provider_lightspeed.new_tickets import Cursor, FailedEvent, PollEvent, Seen, digest
from airflow_provider_lightspeed.triggers.poller import PollKey, subscribe


class NewTicketTrigger(BaseTrigger):
    """Wait until a new-ticket sensor has a reason to poll again.

    It delivers no tickets. The sensor polls with the code of its other modes, so that the result is the same in all
    of them, and a ticket that is deleted in between does no harm. A poll is one call, for all sensors of a triggerer
    that wait for the same shop and customer at the same interval.

    :param lightspeed_conn_id: connection to the shop.
    :param cursor: which tickets are done, as a value or plain JSON; None if the sensor does not know yet, and has to
        poll itself.
    :param customer_email: only tickets of the customer with this e-mail address.
    :param min_tickets: how many tickets it takes.
    :param poke_interval: seconds between two polls.
    :param first_poll_at: when to poll first, in seconds since 1970, unless others poll the same already.
    :param deadline: when the sensor times out.
    :param seen: digest of what the sensor saw; it polls again only when that has changed. None: it polls
        whenever there are enough tickets.
    """

    def __init__(
        self,
        *,
        lightspeed_conn_id: str,
        cursor: Cursor | dict[str, Any] | None,
        customer_email: str | None,
        min_tickets: int,
        poke_interval: float,
        first_poll_at: float,
        deadline: float,
        seen: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lightspeed_conn_id = lightspeed_conn_id
        self.cursor = None if cursor is None else msgspec.convert(cursor, Cursor)
        self.customer_email = customer_email
        self.min_tickets = min_tickets
        self.poke_interval = poke_interval
        self.first_poll_at = first_poll_at
        self.deadline = deadline
        self.seen = seen

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how to make this trigger again, perhaps in another triggerer."""
        return (
            f"{__name__}.{type(self).__name__}",
            {
                "lightspeed_conn_id": self.lightspeed_conn_id,
                "cursor": self.cursor and self.cursor.to_json(),
                "customer_email": self.customer_email,
                "min_tickets": self.min_tickets,
                "poke_interval": self.poke_interval,
                "first_poll_at": self.first_poll_at,
                "deadline": self.deadline,
                "seen": self.seen,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and send the event that ends the deferral."""
        event: PollEvent | FailedEvent = PollEvent(self.deadline)
        try:
            async with asyncio.timeout(max(0.0, self.deadline - time.time())):
                await self._wait()
        except TimeoutError:
            self.log.info("The time is up; the sensor polls once more")
        except LightspeedPermanentError as error:
            event = FailedEvent(type(error).__name__, str(error))
        except Exception:
            # The sensor meets it too, and Airflow then does what it does in the other modes: retry, silent_fail, …
            self.log.exception("Cannot wait for new tickets; the sensor polls itself")
        yield TriggerEvent(event.payload())  # type: ignore[no-untyped-call]

    async def _wait(self) -> None:
        if self.cursor is None:
            await asyncio.sleep(self.first_poll_at - time.time())
            return
        key = PollKey(self.lightspeed_conn_id, self.customer_email, self.poke_interval)
        async with subscribe(key, cursor=self.cursor, first_poll_at=self.first_poll_at) as subscription:
            while True:
                try:
                    poll, cursor = await subscription.next_poll()
                    if self._has_news(cursor.new(poll.kept)):
                        return
                except LightspeedError as error:
                    if not is_transient(error):
                        raise
                    self.log.warning("This poll failed, and the trigger waits for the next one: %s", error)

    def _has_news(self, new: Mapping[int, Seen]) -> bool:
        return len(new) >= self.min_tickets and (self.seen is None or digest(new) != self.seen)
