"""Run one scenario and check its invariants."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests
from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_lightspeed.sandbox import Sandbox
from chaos.calls import calls_of, closing_met_the_reserve
from chaos.environment import BUCKET, DAG_ID, Environment
from chaos.invariants import (
    Snapshot,
    export_is_complete,
    frees_its_worker,
    is_green,
    lake_follows_its_log,
    lake_is_the_shop,
    log_grows,
    log_is_sound,
    logs_are_discreet,
    none_is_buried_alive,
    none_is_written_twice,
    only_its_targets_are_closed,
    only_stale_are_closed,
    quota_is_kept,
    require,
    resumes_where_it_stopped,
    watch_is_complete,
)
from chaos.lake import Lake, read_lake
from chaos.rows import read_rows
from chaos.scenarios import LANGUAGES, NEW_TICKETS, STAFF_WORK, SYNCS, TASKS, Disruption, Scenario
from demo.airflow_api import OVER, wait_until

#: A shop or server that goes down is back after this many seconds.
_DOWN = 3.0
_ENDS_WITHIN = 900.0
_REPORTED_WITHIN = 60.0
#: The logs are searched for the subjects of this many tickets.
_SUBJECTS = 1_000
_TASK_KILLED, _SHOP_AWAY = "a task killed", "the shop away"


@dataclass
class Observations:
    """What was seen while the scenario ran."""

    etags: set[str] = field(default_factory=set)
    """Of the export's object, each time that it was visible."""
    files: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The etags of each change file."""
    reached: list[int] = field(default_factory=list)
    """Up to which change file ``current`` went."""
    disruptions: list[str] = field(default_factory=list)
    after: dict[str, Snapshot] = field(default_factory=dict)
    """The shop when a task first read as over."""

    @property
    def times_away(self) -> int:
        """How often requests in flight were lost."""
        return self.disruptions.count(_SHOP_AWAY)


@dataclass(frozen=True)
class Report:
    """How a scenario has ended."""

    states: Mapping[str, str]
    """Of the tasks."""
    line: str


def run(scenario: Scenario, environment: Environment) -> Report:
    """Run the scenario and check what must hold.

    :raises BrokenInvariantError: something does not hold.
    """
    key = f"{scenario.seed}/tickets.{scenario.ending}"
    prefix = f"{scenario.seed}-log/"
    with Sandbox(scenario.shop, port=environment.shop_port) as shop:
        before = shop.shop.tickets()
        since_id = max(before, default=0)
        run_id = environment.airflow.start(
            DAG_ID,
            key=key,
            prefix=prefix,
            log_format=scenario.log_format,
            created_from=scenario.created_from.isoformat(),
            created_to=scenario.created_to.isoformat(),
            close_before=scenario.close_before.isoformat(),
            since_id=since_id,
            **{f"{task}_conn_id": scenario.connection_id(task) for task in LANGUAGES},
        )
        seen = Observations()
        tasks = _watch(scenario, environment, shop, run_id, key, prefix, since_id, seen)
        states = {name: task["state"] for name, task in tasks.items()}
        _observe(environment, key, prefix, seen)
        for name, state in states.items():
            is_green(scenario, name, state, environment.logs(run_id, name))
        require(len(seen.etags) <= 1, "the object has changed after it could be seen")
        if states["export"] == "success":
            body = environment.s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
            export_is_complete(scenario, shop, read_rows(body, scenario.ending), before, seen.after["export"])
            # A failed one leaves its parts for another try.
            left = (
                environment.s3
                .client()
                .list_objects_v2(Bucket=BUCKET, Prefix=f"{scenario.seed}/")
                .get("Contents", [])
            )
            require({item["Key"] for item in left} <= {key}, f"left behind: {[item['Key'] for item in left]}")
        else:
            require(not seen.etags, "the export has failed, and its object is there")
        if states["close"] == "success":
            result = _result(environment, run_id, "close")
            only_its_targets_are_closed(scenario, shop, before, result, environment.logs(run_id, "close"))
        else:
            only_stale_are_closed(scenario, shop, before)
        if states["watch"] == "success":
            watch_is_complete(
                scenario, since_id, before, seen.after["watch"], _result(environment, run_id, "watch")
            )
        lake = read_lake(environment.s3.client(), BUCKET, prefix)
        log_grows(seen.files, seen.reached)
        log_is_sound(scenario, lake)
        none_is_buried_alive(shop, lake)
        if all(states[name] == "success" for name in SYNCS):
            lake_follows_its_log(lake)
            lake_is_the_shop(scenario, shop, lake)
        tries = {name: task["try_number"] for name, task in tasks.items()}
        calls = shop.calls
        logs = {name: environment.logs(run_id, name) for name in TASKS}
        # Airflow 3.3.2 also kills tasks that return from a short deferral before it has recorded the deferral.
        none_is_written_twice(calls_of("close", calls), seen.times_away + tries["close"] - 1)
        repeated = resumes_where_it_stopped(
            scenario, calls_of("export", calls), logs["export"], seen.times_away
        )
        quota_is_kept(shop, 2 * sum(tries.values()) + 2 * len(scenario.disruptions))
        # The next try does not know the quota that the last one saw.
        had_to_defer = (
            scenario.is_tight
            and tries["close"] == 1
            and not seen.times_away
            and closing_met_the_reserve(scenario, calls)
        )
        if had_to_defer:
            frees_its_worker(logs["close"])
        subjects = {ticket["subject"] for ticket in list(before.values())[:_SUBJECTS]}
        # The shop says false for what is empty.
        logs_are_discreet(environment.all_logs(run_id), shop.secret, subjects - {False, ""})
        states_text = ", ".join(f"{name} {state}" for name, state in sorted(states.items()))
        return Report(
            states,
            f"{states_text}; {sum(tries.values())} tries, {shop.count_calls()} calls, {repeated} of the export's repeated; "
            f"{_summary(lake)}{', close had to be deferred' if had_to_defer else ''}; {', '.join(seen.disruptions)}",
        )


def _summary(lake: Lake) -> str:
    changes = [row["op"] for rows in lake.files.values() for row in rows]
    counts = ", ".join(f"{changes.count(op)} {op}" for op in "IUD")
    return f"{len(lake.files)} change files with {counts}"


def _result(environment: Environment, run_id: str, task_id: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        with suppress(requests.RequestException):
            found.append(environment.airflow.result(DAG_ID, run_id, task_id))
        return bool(found)

    wait_until(is_there, _REPORTED_WITHIN, lambda: f"Airflow has no result of {task_id}")
    return found[0]


def _watch(
    scenario: Scenario,
    environment: Environment,
    shop: Sandbox,
    run_id: str,
    key: str,
    prefix: str,
    since_id: int,
    seen: Observations,
) -> Mapping[str, dict[str, Any]]:
    started = time.monotonic()
    disruptions = list(scenario.disruptions)
    tasks: dict[str, dict[str, Any]] = {}
    while not tasks or not OVER.issuperset(task["state"] for task in tasks.values()):
        require(
            time.monotonic() - started < _ENDS_WITHIN,
            f"it does not end: { {name: task['state'] for name, task in tasks.items()} }",
        )
        if disruptions and disruptions[0][0] <= shop.count_calls():
            seen.disruptions.append(_disrupt(disruptions.pop(0)[1], environment, shop))
        _observe(environment, key, prefix, seen)
        time.sleep(0.3)
        # Airflow's own server may be late on a busy machine.
        with suppress(requests.RequestException):
            tasks = {task["task_id"]: task for task in environment.airflow.tasks(DAG_ID, run_id)}
        for name, task in tasks.items():
            if task["state"] in OVER and name not in seen.after:
                # In this order: a ticket that is deleted between the two is in both.
                seen.after[name] = Snapshot(shop.shop.tickets(), shop.shop.deleted())
                if name == "sync":
                    _staff_works(scenario, shop, since_id)
    return tasks


def _staff_works(scenario: Scenario, shop: Sandbox, up_to_id: int) -> None:
    # The sensor waits for all new tickets: if one is deleted before it polls, they never come.
    ids = [number for number in shop.shop.ids() if number <= up_to_id]
    chosen = random.Random(f"{scenario.seed} staff").sample(ids, min(len(ids), 2 * STAFF_WORK))
    for place, number in enumerate(chosen):
        # Others may delete it meanwhile.
        with suppress(LookupError):
            if place % 2:
                shop.delete_ticket(number)
            else:
                shop.update_ticket(number, memo="Seen by the staff")


def _disrupt(disruption: Disruption, environment: Environment, shop: Sandbox) -> str:
    match disruption:
        case "new tickets":
            shop.add_tickets(NEW_TICKETS)
            environment.watched.add_tickets(NEW_TICKETS)
            return f"{NEW_TICKETS} new tickets"
        case "task":
            give_up = time.monotonic() + _DOWN
            while not (is_killed := environment.kill_task()) and time.monotonic() < give_up:
                time.sleep(0.05)
            return _TASK_KILLED if is_killed else "no task to kill"
        case "triggerer":
            environment.kill_triggerer()
            return "the triggerer killed"
        case "s3":
            environment.s3.kill()
            time.sleep(_DOWN)
            environment.s3.start()
            environment.s3.wait_until_ready()
            return "S3 killed"
        case "shop":
            shop.close()
            environment.watched.close()
            time.sleep(_DOWN)
            shop.start()
            environment.watched.start()
            return _SHOP_AWAY


def _observe(environment: Environment, key: str, prefix: str, seen: Observations) -> None:
    s3 = environment.s3.client()
    with suppress(ClientError, BotoCoreError):
        for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", []):
            name = item["Key"].removeprefix(prefix)
            if name.startswith("changes/"):
                seen.files[name].add(item["ETag"])
            elif name.startswith("current/"):
                current = s3.head_object(Bucket=BUCKET, Key=item["Key"])
                seen.reached.append(int(current["Metadata"]["seq"]))
    with suppress(ClientError, BotoCoreError):
        seen.etags.add(s3.head_object(Bucket=BUCKET, Key=key)["ETag"])
