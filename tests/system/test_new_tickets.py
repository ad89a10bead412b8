"""New tickets on a whole Airflow: every mode meets the same story, and delivers the same tickets, each once.

NEW_TICKETS_ROUNDS=20 makes it longer: so many times, tickets arrive at random moments while things are killed, and
there are twice as many runs and some of each sensor that overlap, in each of its modes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sysconfig
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from airflow_provider_lightspeed.sandbox import Fault, Sandbox, ShopConfig
from demo.processes import running
from tests.system.whole_airflow import WholeAirflow, wait_until, whole_airflow

INTERVAL = 3.0
TIMEOUT = 30.0
MODES = ("poke", "reschedule", "deferrable", "event")
ROUNDS = int(os.environ.get("NEW_TICKETS_ROUNDS", "1"))
# Where runs overlap, deferrable mode has more to get wrong than the others.
OVERLAPPING = ("deferrable",) if ROUNDS == 1 else MODES[:3]

# Its quota is back every few seconds.
_SHOP = ShopConfig(tickets=300, limits=(500, 10**6, 10**6), window_seconds=(8.0, 3_600, 86_400))
# Starting an Airflow counts as part of the first test. The events need the asset state store of 3.3; what sensors do
# in whole runs of Airflow 2 is in test_sensor_airflow_2.py.
pytestmark = [pytest.mark.timeout(1_500 + 200 * ROUNDS), pytest.mark.airflow(since="3.3")]


@dataclass(frozen=True)
class Story:
    """An Airflow with a DAG for each mode, each of which has a shop of its own, all with the same tickets.

    :param others: what other DAGs ask.
    :param parts: parts of Airflow that have been started again.
    """

    airflow: WholeAirflow
    shops: dict[str, Sandbox]
    others: dict[str, Sandbox]
    parts: contextlib.ExitStack
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

    def delivered(self) -> dict[str, list[int]]:
        """Return what the runs of each mode have delivered, in their order."""
        results = self.airflow.home.query(
            "select dag_id, value from xcom where key = 'return_value' and dag_id in (?, ?, ?, ?)"
            " order by dag_run_id",
            *MODES,
        )
        found: dict[str, list[int]] = {mode: [] for mode in MODES}
        for mode, value in results:
            found[mode] += _ticket_ids(value)
        return found

    def all_hand_over_the_same(self) -> None:
        """Wait for every mode, then see that each ticket was delivered once and in order."""
        wait_until(lambda: all(set(ids) >= set(self.expected) for ids in self.delivered().values()))
        assert self.delivered() == dict.fromkeys(MODES, self.expected)

    def rescheduled(self) -> int:
        """Return how often the sensor in reschedule mode has freed its worker slot."""
        (found,) = self.airflow.home.query(
            "select count(*) from task_reschedule join task_instance on ti_id = task_instance.id"
            " where dag_id = 'reschedule'"
        )
        return int(found[0])

    def kill(self, part: str) -> None:
        """Send SIGKILL to a part of Airflow and to all that it has started, as when its machine goes."""
        family = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if part in process.cmdline():
                    family += [process, *process.children(recursive=True)]
        for process in family:
            # Each by itself: one that has just ended must not save the others.
            with suppress(psutil.Error):
                process.kill()

    def start(self, *parts: str) -> None:
        """Start parts of Airflow again, and wait until they are at work."""
        home, before = self.airflow.home, {part: self._started(part) for part in parts}
        for part in parts:
            command: list[str | Path] = [Path(sysconfig.get_path("scripts")) / "airflow", part]
            self.parts.enter_context(running(command, log=home.log, environment=home.environment, patience=0))
        wait_until(lambda: all(self._started(part) > before[part] for part in parts))

    def _started(self, part: str) -> int:
        ((number,),) = self.airflow.home.query(
            "select count(*) from job where job_type = ?", f"{part.capitalize()}Job"
        )
        return int(number)

    def timed_is(self, run: str, state: str) -> bool:
        """Say whether the sensor for which no ticket comes is in a state."""
        return self.airflow.state(run, "wait_in_vain") == state

    def runs(self, dag_id: str) -> dict[str, tuple[str, str]]:
        """Return kind and state of all runs, by their ids."""
        found = self.airflow.home.query(
            "select run_id, run_type, state from dag_run where dag_id = ? order by id", dag_id
        )
        return {run_id: (kind, state) for run_id, kind, state in found}

    def at_work(self, dag_id: str) -> int:
        """Return how many sensors have begun and not ended."""
        ((number,),) = self.airflow.home.query(
            "select count(*) from task_instance where dag_id = ? and state in ('queued', 'running', 'deferred')",
            dag_id,
        )
        return int(number)

    def results(self, dag_id: str) -> dict[str, list[int]]:
        """Return what each run has delivered."""
        found = self.airflow.home.query(
            "select run_id, value from xcom where key = 'return_value' and dag_id = ?", dag_id
        )
        return {run_id: _ticket_ids(value) for run_id, value in found}


def _ticket_ids(xcom: str) -> list[int]:
    result = json.loads(xcom)
    ids: list[int] = (json.loads(result) if isinstance(result, str) else result)["ticket_ids"]
    return ids


@contextmanager
def _arrivals(shop: Sandbox) -> Generator[list[int]]:
    """Let tickets arrive at random moments, until the end of the block; their ids so far."""
    chance, has_ended = random.Random(), threading.Event()
    arrived: list[int] = []

    def arrive() -> None:
        while not has_ended.wait(chance.uniform(0, INTERVAL)):
            arrived.extend(shop.add_tickets(chance.choice([1, 1, 2, 5])))

    arriving = threading.Thread(target=arrive)
    arriving.start()
    try:
        yield arrived
    finally:
        has_ended.set()
        arriving.join()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Start it; half a minute."""
    directory = tmp_path_factory.mktemp("new_tickets") / "airflow"
    with contextlib.ExitStack() as stack:
        shops = {name: stack.enter_context(Sandbox(_SHOP)) for name in MODES}
        others = {
            f"runs_{mode}": stack.enter_context(Sandbox(ShopConfig(tickets=300))) for mode in OVERLAPPING
        }
        # One, so that a look at all of them is one call.
        others["timed"] = stack.enter_context(Sandbox(ShopConfig(tickets=1)))
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
                    for name, shop in {**shops, **others}.items()
                },
                settings={
                    "POLL_SECONDS": str(INTERVAL),
                    "TIMEOUT_SECONDS": str(TIMEOUT),
                    # All components at work at once keep SQLite longer than its 5 seconds on a busy machine.
                    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{directory}/airflow.db?timeout=60",
                    # What was killed is missed sooner than in 30 seconds, and its tasks are than in five minutes.
                    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
                    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
                    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
                    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
                    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
                },
            )
        )
        for mode in MODES:
            airflow.unpause(mode)
        # The first poll of each comes after the calls that find out what is new from then on.
        wait_until(lambda: all(len(shop.calls) > 3 for shop in shops.values()))
        yield Story(airflow, shops, others, stack.enter_context(contextlib.ExitStack()))


def test_every_mode_hands_the_same_tickets_over(story: Story) -> None:
    chance = random.Random()
    timed = story.airflow.start("timed")

    # A burst within one second; then while polling and between runs.
    story.arrive(7)
    story.all_hand_over_the_same()
    # An event that names no tickets, as the button in the web interface makes it.
    story.airflow.update_asset("shop_new_tickets")
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

    # Nothing is new: one call a poll, or two while it looks back for late tickets.
    story.everywhere(lambda shop: shop.reset_calls())
    rescheduled, started = story.rescheduled(), time.monotonic()
    time.sleep(4 * INTERVAL)
    wait_until(lambda: all(shop.calls for shop in story.shops.values()))
    calls = {mode: len(shop.calls) for mode, shop in story.shops.items()}
    rescheduled = story.rescheduled() - rescheduled
    most = (time.monotonic() - started) / INTERVAL + 1
    assert all(1 <= number <= 2 * most for number in calls.values()), calls
    assert rescheduled - 1 <= calls["reschedule"] <= 2 * (rescheduled + 1), (calls, rescheduled)

    # However often it was deferred again: the time that was left.
    def comes_and_goes() -> bool:
        story.others["timed"].add_tickets(1)
        return story.timed_is(timed, "skipped")

    wait_until(comes_and_goes)


@pytest.mark.parametrize("mode", OVERLAPPING)
def test_runs_of_every_kind_that_overlap(story: Story, mode: str) -> None:
    dag_id, shop = f"runs_{mode}", story.others[f"runs_{mode}"]
    # A scheduled one; as the first, it says from where on tickets are new.
    story.airflow.unpause(dag_id)
    wait_until(lambda: len(shop.calls) > 3)
    for _ in range(2 * ROUNDS):
        story.airflow.start(dag_id)
    story.airflow.backfill(dag_id, "2026-02-01", "2026-02-02")
    story.airflow.update_asset(f"start_{mode}")
    total = 1 + 2 * ROUNDS + 2 + 1
    wait_until(lambda: [state for _, state in story.runs(dag_id).values()] == ["running"] * total)
    assert {kind for kind, _ in story.runs(dag_id).values()} == {
        "scheduled",
        "manual",
        "backfill",
        "asset_triggered",
    }

    def all_have_ended() -> bool:
        assert story.at_work(dag_id) <= 1
        return {state for _, state in story.runs(dag_id).values()} == {"success"}

    with _arrivals(shop) as arrived:
        wait_until(all_have_ended)
    results = story.results(dag_id)
    assert len(results) == total
    assert all(results.values())
    in_order = [ticket_id for ids in sorted(results.values()) for ticket_id in ids]
    assert in_order == arrived[: len(in_order)]

    # Cleared, they deliver the same again, and the next run what has come since.
    arrived += shop.add_tickets(1)
    cleared = random.Random().sample(sorted(results), k=2)
    for run_id in cleared:
        story.airflow.clear(story.airflow.run(dag_id, run_id), "hand_over")
    last = story.airflow.start(dag_id).rpartition("/")[2]
    wait_until(all_have_ended)
    assert story.results(dag_id) == {**results, last: arrived[len(in_order) :]}


def test_whatever_is_killed(story: Story) -> None:
    chance = random.Random()
    shop = story.others["timed"]
    shop.reset_calls()
    timed = story.airflow.start("timed")
    wait_until(lambda: story.timed_is(timed, "deferred"))
    # While they wait.
    story.kill("triggerer")
    story.arrive(2)
    wait_until(lambda: story.airflow.kill_whoever_calls(story.shops["poke"]))
    story.kill("scheduler")
    story.arrive(3)
    wait_until(lambda: time.time() > shop.calls[0].at + TIMEOUT + 1)
    shop.reset_calls()
    story.start("scheduler", "triggerer")
    story.all_hand_over_the_same()
    # Its time was up: the sensor has polled once more, and the trigger has not.
    wait_until(lambda: story.timed_is(timed, "skipped"))
    assert shop.count_calls() <= 2

    # While tickets, events and results are on their way.
    for _ in range(ROUNDS):
        part = "triggerer" if ROUNDS == 1 else chance.choice(["triggerer", "scheduler"])
        pause = chance.uniform(0, 2 * INTERVAL)
        story.arrive(chance.choice([1, 4]))
        time.sleep(pause)
        story.arrive(1)
        story.kill(part)
        story.arrive(1)
        story.start(part)
        if part == "scheduler":
            # An event that was stored while there was none may come with the next one only.
            time.sleep(2 * INTERVAL)
            story.arrive(1)
        story.all_hand_over_the_same()
