"""What many waiting sensors do to a triggerer: how long they block its event loop, its memory, the calls they make.

    PYTHONPATH=. .venv/bin/python -m benchmarks.triggerer_scale [--sensors 1000] [--shops 50] [--interval 15]

A real `airflow triggerer` runs, first with nothing but a probe in its event loop, then with all sensors deferred,
then while a new ticket in every shop ends them all. The probe times each callback of the loop, in wall time and in
CPU time: on a busy machine only the second shows what the code does. A full garbage collection goes over all objects
of Airflow, whatever has made enough new ones: its time is listed apart. The command ends with an error if a callback
took more than 50 ms of CPU, the process grew by more than 300 MiB, or there was more than one call for each interval
and shop.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_lightspeed.new_tickets import Cursor
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from airflow_provider_lightspeed.triggers.tickets import NewTicketTrigger
from demo.airflow_home import AirflowHome
from demo.ports import free_ports
from demo.processes import end_in_order_on_signals, running

MOST_BLOCKED = 0.050
MOST_MEMORY = 300.0

# A DAG for each shop. One large DAG would measure how long Airflow takes to read it, once for each sensor.
_DAGS = """
from datetime import UTC, datetime
from airflow.sdk import dag
from airflow.providers.standard.operators.empty import EmptyOperator

for shop in range({dags}):
    @dag(dag_id=f"waiting_{{shop}}", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
    def waiting():
        for number in range({tasks}):
            EmptyOperator(task_id=f"wait_{{number}}")

    waiting()
"""


class LoopProbe(BaseTrigger):
    """Times every callback of the event loop it runs in, and says each second what the worst was."""

    def __init__(self, *, file: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.file = file

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how to make it again."""
        return "benchmarks.triggerer_scale.LoopProbe", {"file": self.file}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Write a line a second, without end."""
        worst: list[tuple[float, float, float, str]] = []
        run_callback = asyncio.Handle._run
        collecting = 0.0
        loop_thread = threading.get_ident()

        def collected(phase: str, _: object) -> None:
            # Whichever thread allocates collects: what another one does is not in this one's processor time.
            nonlocal collecting
            if threading.get_ident() == loop_thread:
                collecting += time.thread_time() * (1 if phase == "stop" else -1)

        def timed(handle: asyncio.Handle) -> None:
            nonlocal collecting
            collecting = 0.0
            wall, cpu = time.perf_counter(), time.thread_time()
            run_callback(handle)
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            if wall > 0.005:
                worst.append((cpu - collecting, wall, collecting, _name(handle)))

        gc.callbacks.append(collected)
        asyncio.Handle._run = timed  # type: ignore[method-assign]
        me = psutil.Process()
        with Path(self.file).open("a", buffering=1) as file:
            while True:
                await asyncio.sleep(1)
                tasks = len(asyncio.all_tasks())
                file.write(json.dumps([time.time(), me.memory_info().rss / 2**20, tasks, worst]) + "\n")
                worst.clear()
        yield TriggerEvent(None)  # type: ignore[unreachable]


def _name(handle: asyncio.Handle) -> str:
    callback: Any = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        return getattr(task.get_coro(), "__qualname__", "a task")
    return getattr(callback, "__qualname__", repr(callback))


@dataclass(frozen=True)
class Phase:
    """What the probe saw from one instant to another."""

    name: str
    begin: float
    end: float

    def report(self, lines: list[Any], idle: float) -> tuple[float, float]:
        """Print it; return the longest callback (CPU seconds, garbage collections not counted) and the memory over idle (MiB)."""
        seen = [line for line in lines if self.begin <= line[0] <= self.end]
        slow = sorted((tuple(call) for line in seen for call in line[3]), reverse=True)
        memory = max(line[1] for line in seen)
        print(
            f"{self.name:28} {self.end - self.begin:4.0f} s, {max(line[2] for line in seen)} tasks, "
            f"{memory:.0f} MiB ({memory - idle:+.0f}), {len(slow)} callbacks over 5 ms"
        )
        for cpu, wall, collecting, name in slow[:4]:
            print(
                f"    {cpu * 1000:6.1f} ms CPU {wall * 1000:6.1f} ms wall {collecting * 1000:6.1f} ms "
                f"collecting garbage  {name}"
            )
        return (slow[0][0] if slow else 0.0), memory - idle


def defer(dag_id: str, triggers: list[BaseTrigger]) -> None:
    """Defer a run's tasks on triggers, as workers do. Runs in the environment of the benchmark's Airflow."""
    from airflow.models.dagbag import DBDagBag
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(dag_id, session=session)
        assert dag is not None
        run = dag.create_dagrun(
            run_id="run",
            run_after=datetime.now(UTC),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=session,
        )
        for task, trigger in zip(run.get_task_instances(session=session), triggers, strict=False):
            row = Trigger.from_object(trigger)
            session.add(row)
            session.flush()
            task.state, task.trigger_id, task.next_method = (
                TaskInstanceState.DEFERRED,
                row.id,
                "execute_complete",
            )


def sensors(shop: int, number: int, interval: float, since_id: int) -> list[BaseTrigger]:
    """Make triggers as the sensors do."""
    now = time.time()
    return [
        NewTicketTrigger(
            lightspeed_conn_id=f"shop_{shop}",
            cursor=Cursor(since_id),
            customer_email=None,
            min_tickets=1,
            poke_interval=interval,
            first_poll_at=now + interval,
            deadline=now + 3_600,
        )
        for _ in range(number)
    ]


def main(number: int, shops: int, interval: float) -> int:
    """Measure."""
    end_in_order_on_signals()
    with tempfile.TemporaryDirectory() as there:
        directory = Path(there)
        (directory / "dags").mkdir()
        (directory / "dags" / "waiting.py").write_text(
            _DAGS.format(dags=shops + 1, tasks=-(-number // shops))
        )
        configs = [
            ShopConfig(key=f"{i:032}", tickets=100, limits=NO_LIMITS, burst_limit=0) for i in range(shops)
        ]
        with Sandbox(*configs) as sandbox:
            home = AirflowHome.create(
                directory / "airflow",
                dags=directory / "dags",
                connections={
                    f"shop_{i}": sandbox.airflow_connection(backend)
                    for i, backend in enumerate(sandbox.backends)
                },
                settings={
                    "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_ports(1)[0]),
                    "AIRFLOW__TRIGGERER__CAPACITY": str(2 * number + 10),
                },
            )
            home.run("dags", "reserialize")
            return _measure(home, sandbox, number, interval)


def _measure(home: AirflowHome, sandbox: Sandbox, number: int, interval: float) -> int:
    file = home.directory / "probe.jsonl"
    file.touch()
    since_id = max(sandbox.shop.ids())
    shops = len(sandbox.backends)

    def ask(*what: object) -> None:
        command = [sys.executable, "-m", "benchmarks.triggerer_scale", "--defer", json.dumps(what)]
        with running(command, log=home.log, environment=home.environment) as process:
            assert process.wait() == 0, home.last_error()

    def lines() -> list[Any]:
        return [json.loads(line) for line in file.read_text().splitlines()]

    def wait_for_tasks(least: int, most: int = 10**6) -> None:
        give_up = time.monotonic() + 600
        while not (found := lines()) or not least <= found[-1][2] <= most:
            assert time.monotonic() < give_up, home.last_error()
            time.sleep(0.5)

    ask("probe", shops, str(file))
    triggerer = [Path(sysconfig.get_path("scripts")) / "airflow", "triggerer"]
    with running(triggerer, log=home.log, environment=home.environment, patience=5):
        wait_for_tasks(1)
        time.sleep(5)
        idle_from = time.time()
        time.sleep(15)
        alone = Phase("the probe alone", idle_from, time.time())
        before = lines()[-1][2]
        ask("sensors", shops, -(-number // shops), interval, since_id)
        starting = time.time()
        wait_for_tasks(before + number)
        time.sleep(interval)
        started = time.time()
        sandbox.reset_calls()
        time.sleep(4 * interval)
        calls, waited = len(sandbox.calls), time.time()
        for backend in sandbox.backends:
            backend.add_tickets(1)
        wait_for_tasks(0, before + shops)
        time.sleep(2)
        seen = lines()
        idle = max(line[1] for line in seen if alone.begin <= line[0] <= alone.end)
        print(f"{number} sensors, {shops} shops, a look every {interval:.0f} s")
        alone.report(seen, idle)
        results = [
            Phase("sensors start", starting, started).report(seen, idle),
            Phase("sensors wait", started, waited).report(seen, idle),
            Phase("a new ticket in each shop", waited, time.time()).report(seen, idle),
        ]
    per_interval = calls / shops / ((waited - started) / interval)
    print(f"{calls} calls: {per_interval:.2f} a shop and interval")
    blocked, memory = (max(values) for values in zip(*results, strict=True))
    return 0 if blocked <= MOST_BLOCKED and memory <= MOST_MEMORY and per_interval <= 1.05 else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sensors", type=int, default=1_000)
    parser.add_argument("--shops", type=int, default=50)
    parser.add_argument("--interval", type=float, default=15)
    parser.add_argument("--defer", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    match arguments.defer:
        case None:
            sys.exit(main(arguments.sensors, arguments.shops, arguments.interval))
        case ["probe", number, file]:
            defer(f"waiting_{number}", [LoopProbe(file=file)])
        case ["sensors", shops, *what]:
            for shop in range(shops):
                defer(f"waiting_{shop}", sensors(shop, *what))
