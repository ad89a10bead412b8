"""A whole Airflow: bulk changes killed, deferred over quota windows, cleared, approved by a person; the retry policy."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from airflow_provider_lightspeed.api.rate_limit import WINDOWS
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig
from chaos.calls import repeated_writes
from demo.airflow_api import TIMEOUT
from demo.airflow_home import PROJECT
from demo.s3_server import S3Server
from tests.system.whole_airflow import WholeAirflow, answered, wait_until, whole_airflow

# Airflow alone takes half a minute to start, and minutes on a busy machine.
# A killed try's work is kept in the task state store of 3.3.
pytestmark = [pytest.mark.timeout(1500), pytest.mark.airflow(since="3.3")]

APPROVAL = "example_lightspeed_close_with_approval"
BUCKET = "receipts"
END = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Whole(WholeAirflow):
    """With the shops that its connections lead to."""

    slow: Sandbox
    """Has 240 open tickets, and takes its time."""
    small: Sandbox
    """Its windows of quota are back after some seconds."""
    calm: Sandbox
    """The default connection's."""
    s3: S3Server


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """Start it, for all tests here together."""
    directory = tmp_path_factory.mktemp("whole")
    dags = directory / "dags"
    shutil.copytree(Path(__file__).parent / "bulk_dags", dags)
    shutil.copy(PROJECT / "example_dags" / f"{APPROVAL}.py", dags)
    slow = ShopConfig(tickets=0, limits=NO_LIMITS, latency=0.25)
    small = ShopConfig(tickets=450, end=END, limits=(40, 1000, 2000), window_seconds=(20, 40, 80))
    calm = ShopConfig(tickets=500, end=END, limits=NO_LIMITS)
    with S3Server(directory) as s3, Sandbox(slow) as one, Sandbox(small) as two, Sandbox(calm) as three:
        # Airflow takes a task for a failed one if its deferral is over before the scheduler has processed the end of the
        # process that deferred: shorter waits are slept.
        impatient = json.dumps({**json.loads(two.airflow_connection()), "extra": {"max_wait": 8}})
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=BUCKET)
        wrong = json.dumps({**json.loads(three.airflow_connection()), "password": "x" * 32})
        connections = {
            "lightspeed_slow": one.airflow_connection(),
            "lightspeed_small": impatient,
            "lightspeed_default": three.airflow_connection(),
            "lightspeed_wrong": wrong,
            "aws_default": s3.airflow_connection(),
        }
        settings = {"LIGHTSPEED_S3_BUCKET": BUCKET}
        with whole_airflow(
            directory / "airflow", dags=dags, connections=connections, settings=settings
        ) as airflow:
            yield Whole(**vars(airflow), slow=one, small=two, calm=three, s3=s3)


def use_up_each_window(whole: Whole, task_id: str) -> None:
    """Be another program with the small shop's key, until the task has deferred for each window."""
    wait_until(lambda: whole.small.count_calls(method="PUT") >= 10)
    for number, (name, _) in enumerate(WINDOWS):

        def has_deferred(
            number: int = number,
            told: str = f"Deferred until .*: the quota of {name} is used up",
        ) -> bool:
            whole.small.use_quota(whole.small.backend.quota.windows()[number].remaining)
            return re.search(told, whole.log(task_id)) is not None

        wait_until(has_deferred)


def kill_now_and_then(whole: Whole) -> list[int]:
    """Kill whoever closes the slow shop's tickets, and return after how many."""
    kills = sorted(random.Random().sample(range(10, 220), 2))
    for at in kills:
        wait_until(lambda at=at: whole.slow.count_calls(method="PUT") >= at)  # type: ignore[misc]
        wait_until(lambda: whole.kill_whoever_calls(whole.slow))
    return kills


def test_killed_deferred_and_cleared(whole: Whole) -> None:
    ids = whole.slow.add_tickets(240, isClosed=False)
    whole.small.add_tickets(80, isClosed=False)
    before = whole.small.shop.tickets()
    run = whole.start("bulk_kill", ids=ids)
    with ThreadPoolExecutor(1) as others:
        used_up = others.submit(use_up_each_window, whole, "deferred")
        kills = kill_now_and_then(whole)
        used_up.result()
    wait_until(lambda: whole.state(run) in {"success", "failed"})
    assert whole.state(run) == "success", kills

    outcome = whole.result(run, "killed")
    assert sorted(outcome["closed"]) == sorted(ids), kills
    assert [len(whole.slow.shop.history(number)) for number in ids] == [2] * 240  # opened, and closed once
    # At most the calls that were in flight when it was killed are sent again.
    assert whole.slow.count_calls(method="PUT") <= 240 + 8 * len(kills)
    assert repeated_writes(whole.slow.calls) <= 8 * len(kills)

    expected = {number for number, ticket in before.items() if not ticket["isClosed"]}
    outcome = whole.result(run, "deferred")
    assert set(outcome["closed"]) == expected
    by_us = [[c for c in whole.small.shop.history(n) if c.by == whole.small.key] for n in before]
    assert sorted(map(len, by_us)) == [0] * (len(before) - len(expected)) + [1] * len(expected)
    tries = answered(
        lambda: requests.get(f"{run}/taskInstances/deferred", timeout=TIMEOUT).json()["try_number"]
    )
    assert repeated_writes(whole.small.calls) <= 8 * (tries - 1)
    # (A try that Airflow ends in the middle takes its last calls' count with it.)
    assert whole.small.count_calls() >= outcome["calls"]

    # Cleared and run again: nothing is left to do.
    whole.slow.reset_calls()
    whole.clear(run, "killed")
    wait_until(lambda: whole.slow.count_calls() > 0)
    wait_until(lambda: whole.state(run, "killed") in {"success", "failed"})
    assert sorted(whole.result(run, "killed")["already"]) == sorted(ids)
    assert whole.slow.count_calls(method="PUT") == 0


def test_marked_failed_stops_it_with_the_receipt_written(whole: Whole) -> None:
    ids = whole.slow.add_tickets(900, isClosed=False)
    whole.slow.reset_calls()
    run = whole.start("bulk_stop", ids=ids)

    def puts() -> int:
        return whole.slow.count_calls(method="PUT")

    wait_until(lambda: puts() >= 20)
    task = f"{run}/taskInstances/stopped"
    requests.patch(task, json={"new_state": "failed"}, timeout=TIMEOUT).raise_for_status()

    def receipt() -> dict[int, str]:
        body = whole.s3.client().get_object(Bucket=BUCKET, Key="stopped.jsonl")["Body"].read()
        return {line["id"]: line["outcome"] for line in map(json.loads, body.splitlines())}

    # It is written with the plan, and then at the end only.
    wait_until(lambda: "closed" in receipt().values())
    told, sent = receipt(), puts()
    closed = {number for number in ids if whole.slow.shop.ticket(number)["isClosed"]}
    assert set(told) == set(ids)
    # A request in flight when it stopped may or may not have been executed: the result says so.
    assert {number for number, outcome in told.items() if outcome == "closed"} <= closed
    unsure = {number for number, outcome in told.items() if outcome == "unknown"}
    assert closed <= {number for number, outcome in told.items() if outcome == "closed"} | unsure
    assert len(closed) < len(ids)
    # And that was the end of it.
    wait_until(lambda: not whole.whoever_calls(whole.slow))
    assert puts() == sent


def test_what_was_approved_is_closed_and_nothing_else(whole: Whole) -> None:
    before = whole.calm.shop.tickets()
    run = whole.scheduled(APPROVAL)
    details = f"{run}/taskInstances/approve/-1/hitlDetails"
    wait_until(lambda: requests.get(details, timeout=TIMEOUT).ok)
    planned = whole.result(run, "plan")["closed"]
    assert planned
    question = requests.get(details, timeout=TIMEOUT).json()["body"]
    assert f"**{len(planned)} tickets**, chosen by: updated_before=" in question
    assert f"| {planned[0]} |" in question
    assert f"s3://{BUCKET}/tickets/closed/" in question
    assert not any(before[number]["subject"] in question for number in planned if before[number]["subject"])
    assert whole.calm.shop.tickets() == before
    # While a person thinks: a customer writes again, and another ticket would have come into the plan.
    whole.calm.add_message(planned[0], "It is still broken")
    late = next(
        n for n, t in before.items() if not t["isAnswered"] and not t["isClosed"] and n not in planned
    )
    whole.calm.add_message(late, "Done", author="shop")

    def is_over() -> bool:
        # Airflow 3.3.2 takes a task that is answered before its worker is free for a failed one; its retry asks
        # again.
        waits = whole.state(run, "approve") == "awaiting_input"
        if waits and not requests.get(details, timeout=TIMEOUT).json()["response_received"]:
            answer = {"chosen_options": ["Approve"], "params_input": {}}
            requests.patch(details, json=answer, timeout=TIMEOUT).raise_for_status()
        return whole.state(run) in {"success", "failed"}

    wait_until(is_over)
    outcome = whole.result(run, "close")
    assert (outcome["closed"], outcome["changed"]) == (planned[1:], planned[:1])
    after = whole.calm.shop.tickets()
    closed = {n for n in before if after[n]["isClosed"] and not before[n]["isClosed"]}
    assert closed == set(planned[1:])


def test_the_retry_policy_decides(whole: Whole) -> None:
    whole.calm.inject(Fault("drop", method="POST", applied=True))
    before = whole.calm.shop.ids()
    whole.calm.reset_calls()
    whole.small.reset_calls()
    run = whole.start("retry_policy")
    wait_until(lambda: whole.state(run) in {"success", "failed"})
    tasks = answered(lambda: requests.get(f"{run}/taskInstances", timeout=TIMEOUT).json()["task_instances"])
    assert {task["task_id"]: (task["state"], task["try_number"]) for task in tasks} == {
        "wrong_secret": ("failed", 1),
        "lost_answer": ("failed", 1),
        "used_up_quota": ("success", 2),
    }
    assert [call.status for call in whole.calm.calls].count(401) == 1
    assert len(whole.calm.shop.ids()) == len(before) + 1
    # It came back when there was quota again, and not before.
    assert 429 not in {call.status for call in whole.small.calls}
