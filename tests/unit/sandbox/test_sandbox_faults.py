from __future__ import annotations

import pytest

from airflow_provider_lightspeed.sandbox import Fault
from airflow_provider_lightspeed.sandbox.faults import Faults


def hits(
    *faults: Fault, calls: int = 8, method: str = "GET", path: str = "/en/tickets.json"
) -> list[str | None]:
    waiting = Faults(faults, seed=1)
    picked = [waiting.pick(method, path) for _ in range(calls)]
    return [fault and fault.kind for fault in picked]


def test_a_fault_hits_once_and_is_over() -> None:
    assert hits(Fault("503"), calls=3) == ["503", None, None]


def test_a_fault_waits_its_turn_and_counts_its_hits() -> None:
    assert hits(Fault("503", after=2, times=3)) == [None, None, "503", "503", "503", None, None, None]


def test_no_end_is_written_as_zero() -> None:
    assert hits(Fault("503", times=0)) == ["503"] * 8


def test_faults_hit_in_the_order_given() -> None:
    assert hits(Fault("503"), Fault("drop"), calls=3) == ["503", "drop", None]


@pytest.mark.parametrize(
    ("fault", "hit"),
    [
        (Fault("500", method="GET"), True),
        (Fault("500", method="PUT"), False),
        (Fault("500", path=r"tickets\.json$"), True),
        (Fault("500", path=r"/messages"), False),
    ],
)
def test_a_fault_hits_only_what_it_matches(fault: Fault, hit: bool) -> None:
    assert hits(fault, calls=1) == ["500" if hit else None]


def test_chance_follows_the_seed() -> None:
    fault = Fault("503", times=0, probability=0.3)
    first = hits(fault, calls=500)
    assert first == hits(fault, calls=500)
    assert 100 < first.count("503") < 200


def test_a_mistyped_fault_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="Unknown fault 'oops'"):
        Fault("oops")  # type: ignore[arg-type] - the mistake that is meant
