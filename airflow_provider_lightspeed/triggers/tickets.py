"""What waits in the triggerer for new tickets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_lightspeed.api.errors import (
    LightspeedAuthenticationError,
    LightspeedConfigurationError,
    LightspeedError,
)
from airflow_provider_lightspeed.api.retry import is_transient
from airflow_provider_lightspeed.new_tickets import GiveUp, LookAgain, digest
from airflow_provider_lightspeed.triggers.lookout import View, watching


class NewTicketTrigger(BaseTrigger):
    """Wait until a new-ticket sensor has a reason to look again.

    It hands no tickets over: the sensor looks for itself, by the code of its other modes, so that the result is
    the same in all of them, and a ticket that is deleted in between is no surprise. One call a look, for all sensors
    of a triggerer that wait for the same shop and customer at the same interval.

    :param lightspeed_conn_id: connection to the shop.
    :param since_id: tickets with a greater id are new; None if the sensor could not yet find that out, for which
        it must look for itself.
    :param customer_email: only tickets of the customer with this e-mail address.
    :param min_tickets: how many tickets it takes.
    :param poke_interval: seconds between two looks.
    :param look_at: when to look first, in seconds since 1970, as is the next; where others look already, with them.
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
        if self.since_id is None:
            await asyncio.sleep(self.look_at - time.time())
            return
        view = View(self.lightspeed_conn_id, self.customer_email, self.poke_interval)
        async with watching(view, since_id=self.since_id, look_at=self.look_at) as watch:
            while True:
                try:
                    if self._is_news(await watch.look()):
                        return
                except LightspeedError as error:
                    if not is_transient(error):
                        raise
                    self.log.warning("No answer this time: %s", error)

    def _is_news(self, found: Mapping[int, int]) -> bool:
        return len(found) >= self.min_tickets and (self.seen is None or digest(found) != self.seen)
