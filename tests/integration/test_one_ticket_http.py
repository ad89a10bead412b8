"""What tasks log about a single ticket."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from tests.integration.exporting import export

Log = Callable[[], str]


@pytest.fixture
def number(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The id of the only ticket of a shop, which is open."""
    with Sandbox(ShopConfig(tickets=0, limits=NO_LIMITS, burst_limit=0)) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        (number,) = shop.add_tickets(1)
        yield number


@pytest.mark.usefixtures("aws", "number")
def test_an_export(s3_bucket: str, log: Log) -> None:
    export({}, s3_bucket=s3_bucket, s3_key="tickets.jsonl")
    assert "Exported 1 ticket (" in log()


def test_a_sensor(number: int, log: Log) -> None:
    assert NewTicketSensor(task_id="wait", since_id=number - 1).poke({}).is_done
    assert f"1 new ticket after id {number - 1}; " in log()


@pytest.mark.usefixtures("number")
def test_a_plan_of_a_bulk_change(log: Log) -> None:
    CloseTicketsOperator(task_id="close", where=lambda ticket: True, max_share=1.0, dry_run=True).execute({})
    text = log()
    assert "choose 1 of 1 open ticket read" in text
    assert "Would have closed 1 of 1 ticket (" in text


@pytest.mark.usefixtures("number")
def test_a_test_of_the_connection() -> None:
    works, words = LightspeedHook().test_connection()
    assert works
    assert ": 1 ticket; quota: " in words
