"""A small day in the life of a warehouse, with the followers that need no environment of their own."""

from __future__ import annotations

import pytest

from benchmarks.day import Shape, spend
from benchmarks.results import Wrong

CHANGES, WINDOWS = "this provider, changes", "this provider, window exports"


@pytest.mark.in_all
@pytest.mark.airflow(since="3.0")  # the benchmarks know the newest Airflow
def test_changes_reach_the_warehouse_and_windows_miss_them() -> None:
    shape = Shape(tickets=600, looks=2)
    day = spend(shape, [CHANGES, WINDOWS])
    changes, windows = day.followers[CHANGES], day.followers[WINDOWS]
    assert changes.in_the_evening == Wrong(stale=0, missing=0, ghosts=0)
    assert windows.in_the_evening == Wrong(
        stale=shape.events["changed"], missing=0, ghosts=shape.events["deleted"]
    )
    assert changes.rows == sum(shape.events.values())
    assert windows.rows == shape.events["new"]
    assert changes.calls > windows.calls
    assert changes.looked == windows.looked == shape.looks
