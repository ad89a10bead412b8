"""The demo's world, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from airflow_provider_lightspeed.sandbox import Sandbox
from demo.s3_server import S3Server
from demo.world import World, world


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A shop, an S3 server and an Airflow that knows both; each test file has its own."""
    directory = tmp_path_factory.mktemp("world") / "world"
    # Time for a test to change the shop before the second poll: the `dag.test()` of Airflow 3.0 knows no third one.
    poll_seconds = 10
    # The DAGs of a file run within one window of the quota on a fast machine, and a sensor would wait for the next.
    limits = (3_000, 30_000, 120_000)
    with (
        world(directory, poll_seconds=poll_seconds, limits=limits) as made,
        made.airflow.dags_in_one_process(),
    ):
        yield made


@pytest.fixture(scope="module")
def s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with the bucket that the test file names in `BUCKET`."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        server.wait_until_ready()
        server.client().create_bucket(Bucket=request.module.BUCKET)
        yield server


#: Adds so many tickets to a shop.
Adding = Callable[[Sandbox, int], AbstractContextManager[list[int]]]


@pytest.fixture
def adding_once_polled() -> Adding:
    """Add so many tickets to a shop at its next call, and give their ids."""

    @contextmanager
    def adding(shop: Sandbox, count: int) -> Generator[list[int]]:
        before, is_over = len(shop.calls), threading.Event()
        new: list[int] = []

        def add() -> None:
            while len(shop.calls) == before and not is_over.wait(0.01):
                pass
            new.extend(shop.add_tickets(count))

        shopper = threading.Thread(target=add)
        shopper.start()
        try:
            yield new
        finally:
            is_over.set()
            shopper.join()

    return adding
