"""The demo's world, for tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.world import World, world


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A shop, an S3 server and an Airflow that knows both; each test file has its own."""
    with world(tmp_path_factory.mktemp("world") / "world") as made, made.airflow.dags_in_one_process():
        yield made
