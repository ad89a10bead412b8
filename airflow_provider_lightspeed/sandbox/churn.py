"""What other people do to a shop while a client reads it."""

from __future__ import annotations

from airflow_provider_lightspeed.sandbox.rng import generator
from airflow_provider_lightspeed.sandbox.shop import Shop

_BY = "churn"

# Where nearly every ticket is protected, a call may pass with no change.
_TRIES = 100


class Churner:
    """Inserts, changes and deletes tickets, the same ones for the same seed and calls."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._churn = shop.config.churn
        self._chance = generator(shop.config.seed, "churn")
        self._calls = 0

    def step(self) -> None:
        """Do what happens before one call is answered."""
        self._calls += 1
        churn = self._churn
        for _ in range(self._due(churn.inserts)):
            self._shop.receive({}, by=_BY)
        for _ in range(self._due(churn.changes)):
            if (ticket_id := self._pick()) is not None:
                ticket = self._shop.get(ticket_id)
                self._shop.update(ticket_id, {"is_todo": not ticket.is_todo}, by=_BY)
        for _ in range(self._due(churn.deletes)):
            if (ticket_id := self._pick()) is not None:
                self._shop.delete(ticket_id, by=_BY)

    def _due(self, rate: float) -> int:
        return int(self._calls * rate) - int((self._calls - 1) * rate)

    def _pick(self) -> int | None:
        for _ in range(_TRIES if len(self._shop) else 0):
            ticket_id = self._shop.id_at(self._chance.randrange(len(self._shop)))
            if ticket_id not in self._churn.protected:
                return ticket_id
        return None
