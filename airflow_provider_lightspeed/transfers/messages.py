"""Tickets with their conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_provider_lightspeed.api.errors import LightspeedNotFoundError, LightspeedQuotaExhaustedError

# Parallel calls hide the latency. The client keeps to the shop's limit of calls a second.
_AT_ONCE = 8


def with_messages(
    tickets: Iterable[dict[str, Any]], fetch: Callable[[int], Iterable[Any]]
) -> tuple[list[dict[str, Any]], int, LightspeedQuotaExhaustedError | None]:
    """Put each ticket's messages in place of their address, keeping the order.

    :param fetch: the messages of a ticket id.
    :return: the tickets; how many of them had been deleted meanwhile (they have no messages); and the exhausted
        quota that left out the others, if it did. Any ticket may have taken the last calls of a window.
    """

    def messages(ticket: dict[str, Any]) -> list[Any] | LightspeedQuotaExhaustedError | None:
        try:
            return list(fetch(ticket["id"]))
        except LightspeedNotFoundError as error:
            if not error.gone:
                raise
            return None
        except LightspeedQuotaExhaustedError as error:
            return error

    done: list[dict[str, Any]] = []
    missing = 0
    exhausted = None
    with ThreadPoolExecutor(_AT_ONCE, "messages") as pool:
        tickets = list(tickets)
        for ticket, found in zip(tickets, pool.map(messages, tickets), strict=True):
            if isinstance(found, LightspeedQuotaExhaustedError):
                exhausted = found
                continue
            missing += found is None
            done.append({**ticket, "messages": found or []})
    return done, missing, exhausted
