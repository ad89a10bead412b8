"""What waits in the triggerer for new tickets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_lightspeed.api.client import AsyncLightspeedClient
from airflow_provider_lightspeed.api.errors import (
    LightspeedAuthenticationError,
    LightspeedConfigurationError,
    LightspeedError,
)
from airflow_provider_lightspeed.api.tickets import Ticket, TicketFilter
from airflow_provider_lightspeed.hooks.asynchronous import open_client
from airflow_provider_lightspeed.new_tickets import GiveUp, LookAgain, Rhythm, digest, may_pass


class NewTicketTrigger(BaseTrigger):
    """Wait until a new-ticket sensor has a reason to look again.

    It hands no tickets over: the sensor looks for itself, by the code of its other modes, so that the result is
    the same in all of them, and a ticket that is deleted in between is no surprise. One call a look.

    :param lightspeed_conn_id: connection to the shop.
    :param since_id: tickets with a greater id are new; None if the sensor could not yet find that out, for which
        it must look for itself.
    :param customer_email: only tickets of the customer with this e-mail address.
    :param min_tickets: how many tickets it takes.
    :param poke_interval: seconds between two looks.
    :param look_at: when to look first, in seconds since 1970, as is the next.
    :param deadline: when the sensor times out.
    :param seen: digest of what the sensor saw; it looks again only when that has changed. None: it looks
        whenever there are enough tickets.
    """

    def __init__(
        self,
        *,
        lightspeed_conn_id: str,
        since_id: int | None,
        customer_email: str | None,
        min_tickets: int,
        poke_interval: float,
        look_at: float,
        deadline: float,
        seen: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lightspeed_conn_id = lightspeed_conn_id
        self.since_id = since_id
        self.customer_email = customer_email
        self.min_tickets = min_tickets
        self.poke_interval = poke_interval
        self.look_at = look_at
        self.deadline = deadline
        self.seen = seen

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how to make this trigger again, perhaps in another triggerer."""
        return (
            f"{__name__}.{type(self).__name__}",
            {
                "lightspeed_conn_id": self.lightspeed_conn_id,
                "since_id": self.since_id,
                "customer_email": self.customer_email,
                "min_tickets": self.min_tickets,
                "poke_interval": self.poke_interval,
                "look_at": self.look_at,
                "deadline": self.deadline,
                "seen": self.seen,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and say how it ended."""
        word: LookAgain | GiveUp = LookAgain(self.deadline)
        try:
            async with asyncio.timeout(max(0.0, self.deadline - time.time())):
                await self._wait()
        except TimeoutError:
            self.log.info("The time is up; the sensor looks once more")
        except (LightspeedAuthenticationError, LightspeedConfigurationError) as error:
            word = GiveUp(type(error).__name__, str(error))
        except Exception:
            # The sensor meets it too, and Airflow then does what it does in the other modes: retry, silent_fail, …
            self.log.exception("Cannot wait for new tickets; the sensor looks for itself")
        yield TriggerEvent(word.payload())  # type: ignore[no-untyped-call]

    async def _wait(self) -> None:
        await asyncio.sleep(self.look_at - time.time())
        if self.since_id is None:
            return
        wanted = TicketFilter(self.since_id, email=self.customer_email)
        rhythm = Rhythm(self.poke_interval)
        async with await open_client(self.lightspeed_conn_id) as client:
            while True:
                try:
                    if await self._has_news(client, wanted):
                        return
                    pause = rhythm.after_look()
                except LightspeedError as error:
                    if not may_pass(error):
                        raise
                    pause = rhythm.after_error(error, datetime.now(UTC))
                    self.log.warning("No answer, looking again in %.0f s: %s", pause, error)
                await asyncio.sleep(pause)

    async def _has_news(self, client: AsyncLightspeedClient, wanted: TicketFilter) -> bool:
        found: list[Ticket] = []
        async for ticket in client.iter_tickets(wanted):
            found.append(ticket)
            if self.seen is None and len(found) >= self.min_tickets:
                return True
        return len(found) >= self.min_tickets and digest(found) != self.seen
