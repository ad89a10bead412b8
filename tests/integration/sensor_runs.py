"""What a sensor that keeps a state needs of Airflow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Variables:
    """What the sensor uses of Airflow's Variables.

    Where Airflow can't read one, it says that there is none; 3.0 to 3.2 only log what they can't write.

    :param failing_reads: how many of the next ones fail.
    :param failing_writes: how many of the next ones are lost.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.failing_reads = 0
        self.failing_writes = 0

    def get(self, name: str, default: Any) -> Any:
        if self.failing_reads:
            self.failing_reads -= 1
            return default
        return self.texts.get(name, default)

    def set(self, name: str, value: str) -> None:
        if self.failing_writes:
            self.failing_writes -= 1
        else:
            self.texts[name] = value

    def delete(self, name: str) -> None:
        del self.texts[name]


def sensor_context(run: object, map_index: int = -1, max_tries: int = 0) -> Any:
    return {
        "ti": SimpleNamespace(
            dag_id="dag", task_id="wait", run_id=f"run_{run}", map_index=map_index, max_tries=max_tries
        )
    }
