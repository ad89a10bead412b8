"""One world from its beginning to its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests
from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_lightspeed.sandbox import Sandbox
from chaos.calls import calls_of, closing_met_the_reserve
from chaos.promises import (
    Snapshot,
    export_is_complete,
    goes_on_where_it_was,
    is_green,
    keep,
    lets_go_of_its_worker,
    logs_are_discreet,
    none_is_written_again,
    only_its_targets_are_closed,
    only_stale_are_closed,
    quota_is_kept,
    watch_is_complete,
)
from chaos.rows import read_rows
from chaos.stage import BUCKET, DAG_ID, Stage
from chaos.worlds import NEWCOMERS, TASKS, Blow, World
from demo.airflow_api import OVER, wait_until

#: A shop or server that goes down is back after so many seconds.
_DOWN = 3.0
_ENDS_WITHIN = 900.0
_TOLD_WITHIN = 60.0
#: So many tickets' subjects are looked for in the logs.
_SUBJECTS = 1_000
_TASK_KILLED, _SHOP_AWAY = "a task killed", "the shop away"


@dataclass
class Witness:
    """What was seen while the world was going on."""

    etags: set[str] = field(default_factory=set)
    """Of the export's object, whenever it could be seen."""
    blows: list[str] = field(default_factory=list)
    after: dict[str, Snapshot] = field(default_factory=dict)
    """The shop when a task first read as over."""

    @property
    def times_away(self) -> int:
        """How often what was under way to the shop was lost."""
        return self.blows.count(_SHOP_AWAY)


@dataclass(frozen=True)
class Told:
    """How a world has ended."""

    states: Mapping[str, str]
    """Of the tasks. A red one is one that had to be."""
    line: str


def play(world: World, stage: Stage) -> Told:
    """Let the world go by and check what must hold.

    :raises BrokenPromiseError: something does not hold.
    """
    key = f"{world.seed}/tickets.{world.ending}"
    with Sandbox(world.shop, port=stage.shop_port) as shop:
        before = shop.shop.tickets()
        since_id = max(before, default=0)
        run_id = stage.airflow.start(
            DAG_ID,
            key=key,
            created_from=world.created_from.isoformat(),
            created_to=world.created_to.isoformat(),
            close_before=world.close_before.isoformat(),
            since_id=since_id,
            **{f"{task}_conn_id": world.connection_id(task) for task in TASKS},
        )
        witness = Witness()
        tasks = _live_through(world, stage, shop, run_id, key, witness)
        states = {name: task["state"] for name, task in tasks.items()}
        _look(stage, key, witness)
        for name, state in states.items():
            is_green(world, name, state, stage.logs(run_id, name))
        keep(len(witness.etags) <= 1, "the object has changed after it could be seen")
        if states["export"] == "success":
            body = stage.s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
            export_is_complete(world, shop, read_rows(body, world.ending), before, witness.after["export"])
            # A failed one leaves its pieces for another try, until their lease is over.
            left = (
                stage.s3.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{world.seed}/").get("Contents", [])
            )
            keep({item["Key"] for item in left} <= {key}, f"left behind: {[item['Key'] for item in left]}")
        else:
            keep(not witness.etags, "the export has failed, and its object is there")
        if states["close"] == "success":
            result = _result(stage, run_id, "close")
            only_its_targets_are_closed(world, shop, before, result)
        else:
            only_stale_are_closed(world, shop, before)
        if states["watch"] == "success":
            watch_is_complete(since_id, before, witness.after["watch"], _result(stage, run_id, "watch"))
        tries = {name: task["try_number"] for name, task in tasks.items()}
        calls = shop.calls
        logs = {name: stage.logs(run_id, name) for name in TASKS}
        # Airflow 3.3.2 kills tasks of its own accord, too: such as come back from a short deferral before it has heard
        # that they had gone.
        none_is_written_again(calls_of("close", calls), witness.times_away + tries["close"] - 1)
        repeated = goes_on_where_it_was(world, calls_of("export", calls), logs["export"], witness.times_away)
        quota_is_kept(shop, 2 * sum(tries.values()) + 2 * len(world.blows))
        # Another try has not heard what the one before it was told.
        had_to_let_go = (
            world.is_tight
            and tries["close"] == 1
            and not witness.times_away
            and closing_met_the_reserve(world, calls)
        )
        if had_to_let_go:
            lets_go_of_its_worker(logs["close"])
        subjects = {ticket["subject"] for ticket in list(before.values())[:_SUBJECTS]}
        # The shop says false for what is empty.
        logs_are_discreet(stage.all_logs(run_id), shop.secret, subjects - {False, ""})
        told = ", ".join(f"{name} {state}" for name, state in sorted(states.items()))
        return Told(
            states,
            f"{told}; {sum(tries.values())} tries, {shop.count_calls()} calls, {repeated} of the export's repeated"
            f"{', close had to be deferred' if had_to_let_go else ''}; {', '.join(witness.blows)}",
        )


def _result(stage: Stage, run_id: str, task_id: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def is_told() -> bool:
        with suppress(requests.RequestException):
            found.append(stage.airflow.result(DAG_ID, run_id, task_id))
        return bool(found)

    wait_until(is_told, _TOLD_WITHIN, lambda: f"Airflow does not tell what {task_id} has handed over")
    return found[0]


def _live_through(
    world: World, stage: Stage, shop: Sandbox, run_id: str, key: str, witness: Witness
) -> Mapping[str, dict[str, Any]]:
    begun = time.monotonic()
    blows = list(world.blows)
    tasks: dict[str, dict[str, Any]] = {}
    while not tasks or not OVER.issuperset(task["state"] for task in tasks.values()):
        keep(
            time.monotonic() - begun < _ENDS_WITHIN,
            f"it does not end: { {name: task['state'] for name, task in tasks.items()} }",
        )
        if blows and blows[0][0] <= shop.count_calls():
            witness.blows.append(_strike(blows.pop(0)[1], stage, shop))
        _look(stage, key, witness)
        time.sleep(0.3)
        # Airflow's own server may be late on a busy machine.
        with suppress(requests.RequestException):
            tasks = {task["task_id"]: task for task in stage.airflow.tasks(DAG_ID, run_id)}
        for name, task in tasks.items():
            if task["state"] in OVER and name not in witness.after:
                # In this order: what is deleted between the two is in both, and not in neither.
                witness.after[name] = Snapshot(shop.shop.tickets(), shop.shop.deleted())
    return tasks


def _strike(blow: Blow, stage: Stage, shop: Sandbox) -> str:
    match blow:
        case "newcomers":
            shop.add_tickets(NEWCOMERS)
            stage.watched.add_tickets(NEWCOMERS)
            return f"{NEWCOMERS} new tickets"
        case "task":
            give_up = time.monotonic() + _DOWN
            while not (is_killed := stage.kill_task()) and time.monotonic() < give_up:
                time.sleep(0.05)
            return _TASK_KILLED if is_killed else "no task to kill"
        case "triggerer":
            stage.kill_triggerer()
            return "the triggerer killed"
        case "s3":
            stage.s3.kill()
            time.sleep(_DOWN)
            stage.s3.start()
            stage.s3.wait_until_ready()
            return "S3 killed"
        case "shop":
            shop.close()
            stage.watched.close()
            time.sleep(_DOWN)
            shop.start()
            stage.watched.start()
            return _SHOP_AWAY


def _look(stage: Stage, key: str, witness: Witness) -> None:
    with suppress(ClientError, BotoCoreError):
        witness.etags.add(stage.s3.client().head_object(Bucket=BUCKET, Key=key)["ETag"])
