"""Chance that can be repeated: everything random in the sandbox follows from its seed."""

from __future__ import annotations

import random

_64_BITS = (1 << 64) - 1


def mix(seed: int, number: int) -> int:
    """Return 64 well spread bits for a number (splitmix64).

    Unlike a generator it needs no state, so that any ticket of a million can be made on its own.
    """
    x = (seed * 0xD1342543DE82EF95 + number * 0x9E3779B97F4A7C15) & _64_BITS
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _64_BITS
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _64_BITS
    return x ^ (x >> 31)


def generator(seed: int, purpose: str) -> random.Random:
    """Return a generator of its own for each purpose, so that one does not disturb another."""
    return random.Random(f"{seed} {purpose}")  # ruff: ignore[suspicious-non-cryptographic-random-usage] - no secrets here; the same seed must give the same shop
