"""What a sensor that keeps a state needs of Airflow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Variables:
    """What the sensor uses of Airflow's Variables."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def get(self, name: str, default: Any) -> Any:
        return self.texts.get(name, default)

    def set(self, name: str, value: str) -> None:
        self.texts[name] = value

    def delete(self, name: str) -> None:
        del self.texts[name]


def sensor_context(run: object, map_index: int = -1, max_tries: int = 0) -> Any:
    return {
        "ti": SimpleNamespace(
            dag_id="dag", task_id="wait", run_id=f"run_{run}", map_index=map_index, max_tries=max_tries
        )
    }
