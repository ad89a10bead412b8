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
from chaos.promises import (
    export_is_complete,
    keep,
    only_its_targets_are_closed,
    only_once,
    quota_is_kept,
    read_ids,
    watch_is_complete,
)
from chaos.stage import BUCKET, DAG_ID, Stage
from chaos.worlds import NEWCOMERS, Blow, World
from demo.airflow_api import OVER

#: A shop or server that goes down is back after so many seconds.
_DOWN = 3.0
_ENDS_WITHIN = 900.0


@dataclass
class Witness:
    """What was seen while the world was going on."""

    etags: set[str] = field(default_factory=set)
    """Of the export's object, whenever it could be seen."""
    blows: list[str] = field(default_factory=list)


def play(world: World, stage: Stage) -> str:
    """Let the world go by and check what must hold; a line that tells how it was.

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
        )
        witness = Witness()
        tasks = _live_through(world, stage, shop, run_id, key, witness)
        after = shop.shop.tickets()
        states = {name: task["state"] for name, task in tasks.items()}
        _look(stage, key, witness)
        keep(len(witness.etags) <= 1, "the object has changed after it could be seen")
        if states["export"] == "success":
            body = stage.s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
            export_is_complete(world, read_ids(body, world.ending), before, after, shop.shop.deleted())
            # A failed one leaves its pieces for another try, until their lease is over.
            left = (
                stage.s3.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{world.seed}/").get("Contents", [])
            )
            keep({item["Key"] for item in left} <= {key}, f"left behind: {[item['Key'] for item in left]}")
        else:
            keep(not witness.etags, "the export has failed, and its object is there")
        if states["close"] == "success":
            result = stage.airflow.result(DAG_ID, run_id, "close")
            only_its_targets_are_closed(world, shop, before, result)
        else:
            only_once(world, shop, before)
        if states["watch"] == "success":
            watch_is_complete(since_id, before, after, stage.airflow.result(DAG_ID, run_id, "watch"))
        tries = sum(task["try_number"] for task in tasks.values())
        quota_is_kept(shop, 2 * tries + 2 * len(world.blows))
        told = ", ".join(f"{name} {state}" for name, state in sorted(states.items()))
        return f"{told}; {tries} tries, {shop.count_calls()} calls; {', '.join(witness.blows)}"


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
            return "a task killed" if is_killed else "no task to kill"
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
            return "the shop away"


def _look(stage: Stage, key: str, witness: Witness) -> None:
    with suppress(ClientError, BotoCoreError):
        witness.etags.add(stage.s3.client().head_object(Bucket=BUCKET, Key=key)["ETag"])
