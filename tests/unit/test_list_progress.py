"""What a task logs while it reads a list."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_provider_lightspeed.api.list_progress import ListProgress
from airflow_provider_lightspeed.api.paging import Page
from airflow_provider_lightspeed.api.tickets import TicketFilter


@dataclass
class Client:
    """A client that notes which estimates it logs."""

    calls: int = 0
    quota: None = None
    announced: list[tuple[int, str, int | None]] = field(default_factory=list)

    def estimate(self, calls: int, *, sequential: int = 0) -> timedelta:
        return timedelta(seconds=max(calls, sequential))

    def log_estimate(self, calls: int, job: str, *, sequential: int | None = None) -> None:
        self.announced.append((calls, job, sequential))

    def call(self, request: Any, *, max_wait: float | None = None) -> Any:
        raise AssertionError("nothing has to be counted")


def _page(seen: int) -> Page:
    return Page([], None, seen, counted=1000, boundary=0, rejected=[])


def test_the_estimate_has_the_calls_so_far_once() -> None:
    client = Client()
    reading = ListProgress(client, TicketFilter(), "Exporting about {} tickets", calls=0)
    client.calls = 1
    reading.report(_page(250), 250)
    assert client.announced == []  # one page may be all
    client.calls = 7
    reading.report(_page(500), 500)
    # Three pages, of which overlap some rows, and three calls to prove the list complete.
    assert client.announced == [(7 + 6, "Exporting about 1,000 tickets", 13)]
    client.calls = 8
    reading.report(_page(750), 750)
    assert len(client.announced) == 1


def test_calls_for_each_ticket_are_made_several_at_once() -> None:
    client = Client()
    reading = ListProgress(
        client, TicketFilter(), "Exporting about {} tickets", calls=0, calls_per_ticket=1, at_once=8
    )
    client.calls = 502
    reading.report(_page(500), 500)
    assert client.announced == [(502 + 6 + 500, "Exporting about 1,000 tickets", 8 + 125)]
