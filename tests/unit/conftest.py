"""Profiles of the tests that draw examples: ``HYPOTHESIS_PROFILE=long`` runs many times as many, ``few`` so few that they can be run often."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_COMMON = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
# The same examples every time, so that a run that lands is a run that can be repeated.
settings.register_profile("ordinary", max_examples=100, derandomize=True, **_COMMON)
settings.register_profile("few", max_examples=10, derandomize=True, **_COMMON)
settings.register_profile("long", max_examples=5_000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ordinary"))
