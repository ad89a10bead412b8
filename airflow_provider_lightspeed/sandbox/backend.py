"""One shop as it is served: its endpoints, quota and faults, and the hands of its staff and customers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import get_type_hints

import msgspec

from airflow_provider_lightspeed.sandbox.churn import Churner
from airflow_provider_lightspeed.sandbox.config import ShopConfig
from airflow_provider_lightspeed.sandbox.distortions import Distortions
from airflow_provider_lightspeed.sandbox.endpoints import Endpoints
from airflow_provider_lightspeed.sandbox.faults import Fault, Faults
from airflow_provider_lightspeed.sandbox.properties import read_staff_ticket
from airflow_provider_lightspeed.sandbox.quota import Quota
from airflow_provider_lightspeed.sandbox.replica import Replica
from airflow_provider_lightspeed.sandbox.shop import Shop
from airflow_provider_lightspeed.sandbox.tickets import Author, Document, message_document
from airflow_provider_lightspeed.sandbox.wire import Reply, Request

_STAFF = "staff"

CHANGEABLE = frozenset({*(option.name for option in fields(Distortions)), "answer_timezone"})
"""Options that can change while a shop serves."""


class ShopBackend:
    """A shop with all that belongs to its key. What the methods do costs no quota and meets no faults."""

    def __init__(self, config: ShopConfig, clock: Callable[[], float]) -> None:
        self.config = config
        self.shop = Shop(config, clock=clock)
        self.quota = Quota(config, clock)
        self.faults = Faults(config.faults, config.seed)
        self.churner = Churner(self.shop)
        self._reads = itertools.count()
        self._serve()

    def answer(self, request: Request) -> Reply:
        """Answer a call to the API.

        :raises ApiError: the API refuses it.
        """
        if request.method == "GET" and request.path == "/tickets/count.json":
            return self._counts.answer(request)
        if request.method == "GET" and next(self._reads) % 2:
            return self._replica.answer(request)
        return self._primary.answer(request)

    def configure(self, **options: object) -> None:
        """Change options while the shop serves: those of :class:`Distortions`, and ``answer_timezone``.

        :raises ValueError: there is no such option, or no such value.
        """
        kinds = get_type_hints(ShopConfig)
        if unknown := options.keys() - CHANGEABLE:
            raise ValueError(f"Options {sorted(unknown)} cannot change: choose from {sorted(CHANGEABLE)}")
        values = {name: msgspec.convert(value, kinds[name], str_keys=True) for name, value in options.items()}
        self.config = replace(self.config, **values)
        self.shop.configure(self.config)
        self._serve()

    def add_tickets(self, count: int = 1, **properties: object) -> list[int]:
        """Let customers open tickets, and return their ids.

        :param properties: by the API's names, such as ``customer=7`` or ``isClosed=True``; also ``createdAt``
            and ``language``. What is left open is made up.
        """
        fields = read_staff_ticket(properties)
        return [self.shop.receive(fields, by=_STAFF).id for _ in range(count)]

    def update_ticket(self, ticket_id: int, **properties: object) -> Document:
        """Change a ticket as the staff does in the back office."""
        fields = read_staff_ticket(properties)
        if "created_at" in fields:
            raise ValueError("createdAt cannot change")
        return self.shop.document(self.shop.update(ticket_id, fields, by=_STAFF))

    def delete_ticket(self, ticket_id: int) -> None:
        """Delete a ticket as the staff does in the back office."""
        self.shop.delete(ticket_id, by=_STAFF)

    def add_message(self, ticket_id: int, text: str, author: Author = "customer") -> Document:
        """Let the customer (or ``author="shop"``) write."""
        by = "customer" if author == "customer" else _STAFF
        message = self.shop.add_message(ticket_id, text, author=author, by=by)
        return message_document(message, self.shop.answer_zone)

    def inject(self, *faults: Fault) -> None:
        """Let calls to come meet faults."""
        self.faults.inject(faults)

    def clear_faults(self) -> None:
        """Forget all faults, those of the configuration too."""
        self.faults.clear()

    def use_quota(self, calls: int) -> None:
        """Use up calls as another program with the same key would."""
        self.quota.use(calls)

    def reset_quota(self) -> None:
        """Give every window its full budget back."""
        self.quota.reset()

    def _serve(self) -> None:
        self.shop.followers.clear()
        self._primary = Endpoints(self.shop, self.quota)
        self._replica = self._lagging(self.config.replica_lag)
        self._counts = self._lagging(self.config.count_lag)

    def _lagging(self, lag: int) -> Endpoints:
        return Endpoints(Replica(self.shop, lag).shop, self.quota) if lag else self._primary
