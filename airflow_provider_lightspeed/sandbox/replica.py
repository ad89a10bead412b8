"""A copy of a shop that is some writes behind."""

from __future__ import annotations

from collections import deque

from airflow_provider_lightspeed.sandbox.shop import Shop
from airflow_provider_lightspeed.sandbox.tickets import Ticket


class Replica:
    """Follows a shop at a distance.

    :param lag: this many of the latest writes are not here yet. Before there are so many, the newest tickets are not.
    """

    def __init__(self, primary: Shop, lag: int) -> None:
        self.shop = primary.copy()
        self._lag = lag
        self._pending: deque[tuple[Ticket | None, Ticket | None]] = deque()
        for ticket in self.shop.newest(lag):
            self.shop.apply(ticket, None)
            self._pending.append((None, ticket))
        primary.followers.append(self._receive)

    def _receive(self, old: Ticket | None, new: Ticket | None) -> None:
        self._pending.append((old, new))
        while len(self._pending) > self._lag:
            self.shop.apply(*self._pending.popleft())
