"""Exports on a whole Airflow: killed, cleared, deferred over quota windows, and waiting in their place."""

from __future__ import annotations

import gzip
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig
from demo.airflow_api import TIMEOUT
from demo.s3_server import S3Server
from tests.system.whole_airflow import WholeAirflow, wait_until, whole_airflow

# Airflow alone takes half a minute to start, and minutes on a busy machine.
# A killed try's work is kept in the task state store of 3.3.
pytestmark = [pytest.mark.timeout(1500), pytest.mark.airflow(since="3.3")]

BUCKET = "exports"
END = datetime(2026, 6, 1, tzinfo=UTC)
#: How often the task is killed; LIGHTSPEED_TEST_KILLS=25 for a long proof.
KILLS = int(os.environ.get("LIGHTSPEED_TEST_KILLS", "2"))
#: Pages of the shop whose export is killed.
PAGES = 40 * KILLS

_QUOTA = 20


@dataclass(frozen=True)
class Whole(WholeAirflow):
    """With the shops that its connections lead to."""

    slow: Sandbox
    """Without a quota, but it takes its time."""
    small: Sandbox
    """Twenty calls each half a minute, for the export that defers."""
    small_too: Sandbox
    """Twenty calls each five seconds, for the one that waits."""
    s3: S3Server
    lineage: Path
    """The OpenLineage events, one a line."""

    def left(self, name: str) -> list[str]:
        """List what lies in the folder of an export; no upload may be open."""
        s3 = self.s3.client()
        assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/").get("Contents", [])
        return [item["Key"] for item in found]

    def exported(self, name: str) -> list[dict[str, Any]]:
        answer = self.s3.client().get_object(Bucket=BUCKET, Key=f"{name}/tickets.jsonl.gz")
        return [json.loads(line) for line in gzip.decompress(answer["Body"].read()).splitlines()]

    def assert_exported(self, name: str, shop: Sandbox) -> None:
        """Hold the object against the truth; nothing else may be left."""
        tickets = self.exported(name)
        assert {ticket["id"]: ticket for ticket in tickets} == shop.shop.tickets()
        assert len(tickets) == len(shop.shop.ids())
        assert self.left(name) == [f"{name}/tickets.jsonl.gz"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """Start it, for all tests here together."""
    directory = tmp_path_factory.mktemp("whole")
    slow = ShopConfig(tickets=PAGES * 250, end=END, limits=NO_LIMITS, burst_limit=0, latency=0.1)

    def small(window: float) -> ShopConfig:
        return ShopConfig(
            tickets=50 * 250,
            end=END,
            burst_limit=0,
            limits=(_QUOTA, 10**6, 10**6),
            window_seconds=(window, 3600.0, 86400.0),
        )

    with (
        S3Server(directory) as s3,
        Sandbox(slow) as one,
        Sandbox(small(30.0)) as two,
        Sandbox(small(5.0)) as three,
    ):
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=BUCKET)
        # Airflow takes a task for a failed one if its deferral is over before the scheduler has processed the end of the
        # process that deferred: shorter waits are slept.
        impatient = {"max_wait": 12, "calls_per_second": 0}
        shops = {"killed": one, "stopped": one, "deferred": two, "waiting": three}
        connections = {
            f"lightspeed_{name}": json.dumps({**json.loads(shop.airflow_connection()), "extra": impatient})
            for name, shop in shops.items()
        }
        connections["aws_default"] = s3.airflow_connection()
        dags = Path(__file__).parent / "export_dags"
        lineage = directory / "lineage.jsonl"
        transport = {"type": "file", "log_file_path": str(lineage), "append": True}
        settings = {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}
        with whole_airflow(
            directory / "airflow", dags=dags, connections=connections, settings=settings
        ) as airflow:
            yield Whole(**vars(airflow), slow=one, small=two, small_too=three, s3=s3, lineage=lineage)


def test_killed_again_and_again_and_cleared(whole: Whole) -> None:
    shop, task = whole.slow, "export"
    run = whole.start("export_killed")

    def is_over() -> bool:
        return whole.state(run) in {"success", "failed"}

    seen_at_kill = []
    for _ in range(KILLS):
        # Anywhere in what is left of the walk, its very beginning and the publishing included.
        at = shop.count_calls() + random.Random().randint(1, 40)
        wait_until(lambda at=at: shop.count_calls() >= at or is_over())  # type: ignore[misc]
        time.sleep(random.Random().random() / 4)
        wait_until(lambda: whole.kill_whoever_calls(shop) or is_over())
        if is_over():
            break
        seen_at_kill.append(shop.count_calls())
    wait_until(lambda: whole.state(run) in {"success", "failed"})
    assert whole.state(run) == "success", seen_at_kill
    whole.assert_exported("killed", shop)
    assert seen_at_kill
    repeated = repeated_after(shop, seen_at_kill)
    print(f"killed after calls {seen_at_kill}, repeated {repeated}")
    assert max(repeated) <= 40

    # Cleared, it starts afresh: what came since is in the object too.
    shop.add_tickets(1, subject="late")
    shop.reset_calls()
    whole.clear(run, task)
    wait_until(lambda: shop.count_calls() > 0)
    wait_until(lambda: whole.state(run) in {"success", "failed"})
    whole.assert_exported("killed", shop)
    assert shop.count_calls() >= PAGES
    assert whole.result(run, task)["tickets"] == len(shop.shop.ids())


def test_marked_failed_it_stops_and_starts_over_when_cleared(whole: Whole) -> None:
    shop = whole.slow
    shop.reset_calls()
    # Airflow tells a task within some seconds, on a busy machine later: the export would take minutes.
    shop.inject(Fault("slow", delay=2.0, times=0))
    run = whole.start("export_stopped")
    wait_until(lambda: shop.count_calls() >= 6)
    task = f"{run}/taskInstances/export"
    requests.patch(task, json={"new_state": "failed"}, timeout=TIMEOUT).raise_for_status()
    wait_until(lambda: not whole.whoever_calls(shop))
    assert shop.count_calls() < PAGES
    shop.reset()
    assert whole.state(run, "export") == "failed"
    found = whole.s3.client().list_objects_v2(Bucket=BUCKET, Prefix="stopped/tickets")
    assert not found.get("Contents")

    whole.clear(run, "export")
    wait_until(lambda: shop.count_calls() > 0)
    wait_until(lambda: whole.state(run) in {"success", "failed"})
    assert whole.state(run) == "success"
    whole.assert_exported("stopped", shop)


def repeated_after(shop: Sandbox, kills: list[int]) -> list[int]:
    """Count, for each kill, the calls after it that had been made before."""
    asked = [(call.path, tuple(sorted(call.query.items()))) for call in shop.calls]
    ends = [*kills[1:], len(asked)]
    return [
        sum(call in asked[:kill] for call in asked[kill:end]) for kill, end in zip(kills, ends, strict=True)
    ]


def test_deferred_it_holds_no_slot(whole: Whole) -> None:
    shop = whole.small
    run = whole.start("export_deferred")
    slots: list[tuple[int, int]] = []

    def look() -> bool:
        # From the database: the API server takes longer than a deferral lasts, on a busy machine.
        states = [state for (state,) in whole.home.query("select state from task_instance")]
        slots.append((sum(states.count(held) for held in ("running", "queued")), states.count("deferred")))
        ((state,),) = whole.home.query("select state from dag_run where dag_id = 'export_deferred'")
        return state in {"success", "failed"}

    wait_until(look)
    assert whole.state(run) == "success"
    whole.assert_exported("deferred", shop)
    assert (0, 1) in slots
    assert {call.status for call in shop.calls} == {200}
    assert whole.result(run, "export")["calls"] == shop.count_calls()
    assert_lineage_told(whole, "deferred", shop)
    print(f"{time_taken(shop)}; no slot held in {slots.count((0, 1))} of {len(slots)} looks")


def assert_lineage_told(whole: Whole, name: str, shop: Sandbox) -> None:
    """Hold what OpenLineage was told when the task was done against the truth."""

    def told() -> list[Any]:
        events = map(json.loads, whole.lineage.read_text().splitlines())
        job = f"export_{name}.export"
        return [event for event in events if (event["job"]["name"], event["eventType"]) == (job, "COMPLETE")]

    wait_until(lambda: bool(told()))
    (event,) = told()
    (source,), (written,) = event["inputs"], event["outputs"]
    assert (source["namespace"], source["name"]) == (
        shop.url.replace("http", "lightspeed"),
        f"lightspeed_{name}/tickets",
    )
    assert (written["namespace"], written["name"]) == (f"s3://{BUCKET}", f"{name}/tickets.jsonl.gz")
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == len(shop.shop.ids())
    fields = {field["name"] for field in written["facets"]["schema"]["fields"]}
    assert fields == {*next(iter(shop.shop.tickets().values()))}


def test_not_deferrable_it_waits_in_its_place(whole: Whole) -> None:
    shop = whole.small_too
    run = whole.start("export_waiting")
    states: set[str | None] = set()

    def look() -> bool:
        states.add(whole.state(run, "export"))
        return whole.state(run) in {"success", "failed"}

    wait_until(look)
    assert whole.state(run) == "success"
    whole.assert_exported("waiting", shop)
    assert "deferred" not in states
    assert {call.status for call in shop.calls} == {200}
    print(time_taken(shop))


def time_taken(shop: Sandbox) -> str:
    """Say how long the calls took, and how many fell into each window of the quota."""
    started, ended = shop.calls[0].at, shop.calls[-1].at
    length = shop.backend.config.window_seconds[0]
    used = Counter(int(call.at // length) for call in shop.calls)
    per_window = [used[window] for window in range(int(started // length), int(ended // length) + 1)]
    # Had the first window been used to the full, the others would have followed at once.
    windows = -(-(shop.count_calls() - per_window[0]) // _QUOTA)
    least = (started // length + windows) * length - started
    return f"{sum(per_window)} calls in {ended - started:.1f} s, {per_window} per window; least {least:.1f} s"
