"""New tickets on a whole Airflow: every mode meets the same story, and hands the same tickets over, each once.

NEW_TICKETS_ROUNDS=20 makes it longer: so many times, tickets arrive at random moments while things are killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_lightspeed.sandbox import Fault, Sandbox, ShopConfig
from demo.processes import running
from tests.system.whole_airflow import WholeAirflow, wait_until, whole_airflow

INTERVAL = 3.0
MODES = ("poke", "reschedule", "deferrable", "event")
ROUNDS = int(os.environ.get("NEW_TICKETS_ROUNDS", "1"))

# Its quota is back every few seconds.
_SHOP = ShopConfig(tickets=300, limits=(500, 10**6, 10**6), window_seconds=(8.0, 3_600, 86_400))
# Starting an Airflow counts as part of the first test. The events need the asset state store of 3.3; what sensors do
# in whole runs of Airflow 2 is in test_sensor_airflow_2.py.
pytestmark = [pytest.mark.timeout(1_500), pytest.mark.airflow(since="3.3")]


@dataclass(frozen=True)
class Story:
    """An Airflow with a DAG for each mode, each of which has a shop of its own, all with the same tickets."""

    airflow: WholeAirflow
    shops: dict[str, Sandbox]
    triggerers: contextlib.ExitStack
    expected: list[int] = field(default_factory=list)

    def arrive(self, count: int) -> list[int]:
        """Let tickets arrive in all shops."""
        (new,) = {tuple(shop.add_tickets(count)) for shop in self.shops.values()}
        self.expected.extend(new)
        return list(new)

    def delete(self, ticket_id: int) -> None:
        for shop in self.shops.values():
            shop.delete_ticket(ticket_id)
        self.expected.remove(ticket_id)

    def everywhere(self, action: Callable[[Sandbox], object]) -> None:
        for shop in self.shops.values():
            action(shop)

    def handed_over(self) -> dict[str, list[int]]:
        """Return what the runs of each mode have handed over, in their order."""
        results = self._query(
            "select dag_id, value from xcom where key = 'return_value' and dag_id in (?, ?, ?, ?)"
            " order by dag_run_id",
            *MODES,
        )
        found: dict[str, list[int]] = {mode: [] for mode in MODES}
        for mode, value in results:
            result = json.loads(value)
            found[mode] += (json.loads(result) if isinstance(result, str) else result)["ticket_ids"]
        return found

    def all_hand_over_the_same(self) -> None:
        """Wait for every mode, then see that each ticket was handed over once and in order."""
        wait_until(lambda: all(set(ids) >= set(self.expected) for ids in self.handed_over().values()))
        assert self.handed_over() == dict.fromkeys(MODES, self.expected)

    def rescheduled(self) -> int:
        """Return how often the sensor in reschedule mode has let go of its worker."""
        (found,) = self._query(
            "select count(*) from task_reschedule join task_instance on ti_id = task_instance.id"
            " where dag_id = 'reschedule'"
        )
        return int(found[0])

    def kill_triggerer(self) -> None:
        """Send SIGKILL to it and to all that it has started."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "triggerer" in process.cmdline():
                    for one in (*process.children(recursive=True), process):
                        one.kill()

    def start_triggerer(self) -> None:
        home = self.airflow.home
        command: list[str | Path] = [Path(sysconfig.get_path("scripts")) / "airflow", "triggerer"]
        self.triggerers.enter_context(
            running(command, log=home.log, environment=home.environment, patience=0)
        )

    def timed_is(self, run_id: str, state: str) -> bool:
        """Say whether the sensor that waits in vain is in a state."""
        found = self._query("select state from task_instance where dag_id = 'timed' and run_id = ?", run_id)
        return found == [(state,)]

    def _query(self, sql: str, *values: object) -> list[Any]:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.airflow.home.directory}/airflow.db?mode=ro", uri=True, timeout=30)
        ) as database:
            return database.execute(sql, values).fetchall()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Start it; half a minute."""
    directory = tmp_path_factory.mktemp("new_tickets") / "airflow"
    with contextlib.ExitStack() as stack:
        shops = {name: stack.enter_context(Sandbox(_SHOP)) for name in MODES}
        airflow = stack.enter_context(
            whole_airflow(
                directory,
                dags=Path(__file__).parent / "new_ticket_dags",
                connections={
                    # No wait for the quota is short enough to be slept through.
                    f"lightspeed_{name}": json.dumps({
                        **json.loads(shop.airflow_connection()),
                        "extra": {"max_wait": 0.5},
                    })
                    for name, shop in shops.items()
                },
                settings={
                    "POLL_SECONDS": str(INTERVAL),
                    # All components at work at once keep SQLite longer than its 5 seconds on a busy machine.
                    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{directory}/airflow.db?timeout=60",
                    # A triggerer that was killed is missed in 10 seconds rather than 30.
                    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
                    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
                },
            )
        )
        for mode in MODES:
            airflow.unpause(mode)
        # The first look of each tells it what is new from then on: two calls.
        wait_until(lambda: all(len(shop.calls) > 2 for shop in shops.values()))
        yield Story(airflow, shops, stack.enter_context(contextlib.ExitStack()))


def test_every_mode_hands_the_same_tickets_over(story: Story) -> None:
    chance = random.Random()

    # A burst within one second; then while polling and between runs.
    story.arrive(7)
    story.all_hand_over_the_same()
    for _ in range(12):
        time.sleep(chance.uniform(0, 1))
        story.arrive(chance.choice([1, 1, 2, 5]))
    story.all_hand_over_the_same()

    # The shop is away for longer than a call is tried again. A ticket comes and goes meanwhile.
    story.everywhere(
        lambda shop: shop.inject(Fault("drop", times=2), Fault("html-200"), Fault("503", times=6))
    )
    gone, *_ = story.arrive(3)
    story.delete(gone)
    story.all_hand_over_the_same()

    # The quota is used up until its next window.
    story.everywhere(lambda shop: shop.reset_calls())
    story.everywhere(lambda shop: shop.use_quota(500))
    story.arrive(2)
    story.all_hand_over_the_same()
    refused = {mode: sum(call.status == 429 for call in shop.calls) for mode, shop in story.shops.items()}
    assert max(refused.values()) <= 2, refused

    # Nothing is new: one call a poke.
    story.everywhere(lambda shop: shop.reset_calls())
    rescheduled, started = story.rescheduled(), time.monotonic()
    time.sleep(4 * INTERVAL)
    looks = {mode: len(shop.calls) for mode, shop in story.shops.items()}
    rescheduled = story.rescheduled() - rescheduled
    most = (time.monotonic() - started) / INTERVAL + 1
    assert all(1 <= number <= most for number in looks.values()), looks
    assert abs(looks["reschedule"] - rescheduled) <= 1, (looks, rescheduled)


def test_whatever_is_killed(story: Story) -> None:
    chance = random.Random()
    timed = story.airflow.start("timed").rpartition("/")[2]
    wait_until(lambda: story.timed_is(timed, "deferred"))
    # While they wait.
    story.kill_triggerer()
    story.arrive(2)
    wait_until(lambda: story.airflow.kill_whoever_calls(story.shops["poke"]))
    time.sleep(5)
    story.arrive(3)
    story.start_triggerer()
    story.all_hand_over_the_same()
    wait_until(lambda: story.timed_is(timed, "skipped"))

    # While tickets, events and results are on their way.
    for _ in range(ROUNDS):
        pause = chance.uniform(0, 2 * INTERVAL)
        story.arrive(chance.choice([1, 4]))
        time.sleep(pause)
        story.arrive(1)
        story.kill_triggerer()
        story.arrive(1)
        story.start_triggerer()
        story.all_hand_over_the_same()
