"""What importing every module that DAG files use adds to a process with `airflow.sdk`: `python -m benchmarks.import_time`.

Airflow parses DAG files in new processes. The aim: under 60 ms and 10 MiB. `tests/unit/test_imports.py` keeps what
these come from: the modules that are loaded.
"""

from __future__ import annotations

import json
import statistics
import subprocess  # ruff: ignore[suspicious-subprocess-import] - imports in new processes
import sys

_ROUNDS = 7
_PROGRAM = """
import importlib, json, time
import airflow.sdk, psutil
airflow.sdk.BaseHook, airflow.sdk.BaseOperator, airflow.sdk.BaseSensorOperator  # which it loads when they are asked for
memory = psutil.Process().memory_info
names = [
    "airflow_provider_lightspeed." + name
    for name in (
        "assets", "exceptions", "api.errors", "hooks.lightspeed", "operators.tickets",
        "retry_policy", "sensors.tickets", "transfers.tickets_to_s3", "triggers.tickets", "triggers.assets",
    )
]
before, wall, cpu = memory().rss, time.perf_counter(), time.process_time()
for name in names:
    importlib.import_module(name)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps([wall * 1000, cpu * 1000, (memory().rss - before) / 2**20]))
"""


def main() -> None:
    """Measure, each time in a new process, and print the medians."""
    rounds = []
    for _ in range(_ROUNDS):
        done = subprocess.run([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, check=True)
        rounds.append(json.loads(done.stdout.splitlines()[-1]))
    wall, cpu, memory = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"{wall:.0f} ms ({cpu:.0f} ms of CPU), {memory:.1f} MiB: medians of {_ROUNDS} processes")


if __name__ == "__main__":
    main()
