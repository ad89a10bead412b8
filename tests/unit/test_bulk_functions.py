"""When two functions count as the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_lightspeed.bulk.functions import describe

_ROOT = Path(__file__).parents[2]
_SOURCE = """
from functools import partial
def of(ticket, words={"a", "b", "c"}, *, most=3, other=object()):
    return [t for t in ticket["subject"][1:3] if t in {"x", "y", "z"}] and (lambda: 1.5)
class Test:
    def __call__(self, ticket):
        return True
where = [of, partial(of, words=("x",)), Test(), Test().__call__, len, Test, lambda ticket: ticket["id"] > 3]
"""


def _functions(source: str) -> list[Callable[..., Any]]:
    made: dict[str, Any] = {}
    exec(source, made)  # ruff: ignore[exec-builtin] - as two versions of a DAG file
    functions: list[Callable[..., Any]] = made["where"]
    return functions


def test_the_same_in_each_process_and_place() -> None:
    here = repr([describe(function) for function in _functions("# a comment\n\n" + _SOURCE)])
    script = f"from airflow_provider_lightspeed.bulk.functions import describe\n{_SOURCE}\nprint([describe(f) for f in where])"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(_ROOT)}
        command = [sys.executable, "-c", script]
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert printed.stdout.strip() == here


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ('{"a", "b", "c"}', '{"a", "b", "d"}', {0, 1}),
        ("most=3", "most=4", {0, 1}),
        ("[1:3]", "[1:4]", {0, 1}),
        ('{"x", "y", "z"}', '{"x", "y"}', {0, 1}),
        ("lambda: 1.5", "lambda: 2.5", {0, 1}),
        ('words=("x",)', 'words=("y",)', {1}),
        ("return True", "return False", {2, 3}),
        ('["id"] > 3', '["id"] > 4', {6}),
        ('["id"] > 3', '["id"] < 3', {6}),
        ('ticket["id"]', 'ticket["a"]', {6}),
    ],
)
def test_a_correction_shows(old: str, new: str, changed: set[int]) -> None:
    assert old in _SOURCE
    pairs = zip(_functions(_SOURCE), _functions(_SOURCE.replace(old, new)), strict=True)
    differing = {
        place for place, pair in enumerate(pairs) if repr(describe(pair[0])) != repr(describe(pair[1]))
    }
    assert differing == changed


def test_a_partial_of_a_method_of_an_object() -> None:
    assert describe(partial(str.startswith, "x")) != describe(partial(str.endswith, "x"))
