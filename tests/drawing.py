"""How much the tests that search draw: less in `make test` than in `make test-all`, which CI runs."""

from __future__ import annotations

import os

#: ``ordinary``, ``all``, ``few`` while one works on something, or ``long``; `tests/conftest.py` has the same for Hypothesis.
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ordinary")


def drawn(ordinary: int, in_all: int) -> int:
    """Return how many examples a test draws.

    :param ordinary: in `make test`.
    :param in_all: in `make test-all`.
    """
    return {"few": max(2, ordinary // 10), "ordinary": ordinary, "all": in_all, "long": 50 * in_all}[PROFILE]
