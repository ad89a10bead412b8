"""An export is taken for alive as long as it works or waits, and not much longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import EndpointConnectionError

from airflow_provider_lightspeed.transfers.lease import ALIVE, Lease

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class World:
    """A clock that goes on while somebody sleeps, and what other runs can read of the lease."""

    def __init__(self) -> None:
        self.now = NOON
        self.until = NOON
        self.writes = 0
        self.down_until = NOON
        self.expired = False
        self.lease = Lease(self.write, clock=lambda: self.now, sleep=self.sleep)

    def write(self, until: datetime) -> None:
        if self.now < self.down_until:
            raise EndpointConnectionError(endpoint_url="http://s3")
        self.until = until
        self.writes += 1

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.expired = self.expired or self.until <= self.now


def test_it_holds_all_through_a_long_wait_and_ends_soon_after_a_death() -> None:
    world = World()
    world.lease.hold()
    world.lease.sleep(20 * 3600)
    assert world.now == NOON + timedelta(hours=20)
    assert not world.expired
    assert world.until <= world.now + ALIVE
    assert world.writes < 60


def test_work_costs_few_signs_of_life() -> None:
    world = World()
    world.lease.hold()
    for _ in range(3600):
        world.lease.renew()
        world.sleep(1)
    assert world.writes <= 3
    assert not world.expired


def test_an_export_that_defers_is_alive_until_some_time_after_it_may_go_on() -> None:
    world = World()
    world.lease.hold(NOON + timedelta(hours=12))
    assert world.until == NOON + timedelta(hours=12) + ALIVE


def test_a_short_outage_of_s3_is_no_reason_to_give_up_and_a_long_one_is() -> None:
    world = World()
    world.lease.hold()
    world.down_until = NOON + timedelta(hours=1)
    world.lease.sleep(5 * 3600)
    assert not world.expired
    world.down_until = world.now + timedelta(hours=24)
    with pytest.raises(EndpointConnectionError):
        world.lease.sleep(5 * 3600)
