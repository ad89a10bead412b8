"""Does the DAG close stale tickets, and no others?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_lightspeed.sandbox import Fault, Sandbox

DAG_ID = "example_lightspeed_close_stale_tickets"


def test_it_closes_what_is_stale(lightspeed_sandbox: Sandbox, run_dag: Callable[[str], Any]) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=21)).isoformat()
    stale = lightspeed_sandbox.add_tickets(3, createdAt=long_ago, isAnswered=True)
    lightspeed_sandbox.add_tickets(1, createdAt=long_ago, isAnswered=False)  # waits for us
    lightspeed_sandbox.add_tickets(2, isAnswered=True)  # may not be over yet

    run = run_dag(DAG_ID)

    assert run.state == "success"
    closed = [number for number, ticket in lightspeed_sandbox.shop.tickets().items() if ticket["isClosed"]]
    assert closed == stale
    assert lightspeed_sandbox.count_calls(method="PUT") == len(stale)


def test_a_shop_in_trouble_does_not_stop_it(
    lightspeed_sandbox: Sandbox, run_dag: Callable[[str], Any]
) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=21)).isoformat()
    stale = lightspeed_sandbox.add_tickets(3, createdAt=long_ago, isAnswered=True)
    # The next two calls find the shop in maintenance, and the first change is made but its answer is lost.
    lightspeed_sandbox.inject(Fault(kind="503", times=2), Fault(kind="drop", method="PUT", applied=True))

    assert run_dag(DAG_ID).state == "success"
    assert all(lightspeed_sandbox.shop.tickets()[number]["isClosed"] for number in stale)
