"""What Airflow's task state store takes."""

from __future__ import annotations

import json
from typing import Any


def plain_json(value: Any) -> Any:
    """Return a value as it comes back from the store, which refuses what json alone would only change, like a tuple."""
    restored = json.loads(json.dumps(value))
    assert restored == value, f"not plain JSON: {value!r}"
    return restored
