"""Each of the smaller example DAGs on real Airflow, as a user copies it."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import sysconfig
import threading
import time
from importlib.metadata import version
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from packaging.version import Version

from demo.airflow_home import OnChange
from demo.checks import changed_tickets, created_between
from demo.outcome import Outcome
from demo.support_desk import DAG_ID as SUPPORT_DESK
from demo.world import BUCKET, World

EXPORT = "example_lightspeed_nightly_export"
CLOSE = "example_lightspeed_close_stale_tickets"
APPROVE = "example_lightspeed_close_with_approval"
REOPEN = "example_lightspeed_reopen_tickets"
REACT = "example_lightspeed_react_to_new_tickets"
FLEET = "example_lightspeed_fleet"
TRIAGE = "example_lightspeed_triage"
CHANGES = ("example_lightspeed_ticket_changes", "example_lightspeed_load_ticket_changes")
CHANGES_OF_MANY = "example_lightspeed_ticket_changes_fleet"
EVENTS = "example_lightspeed_new_ticket_events"

AIRFLOW = Version(version("apache-airflow"))

pytestmark = pytest.mark.in_all

_PARSE = """
import json, pathlib, sys
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # before Airflow 3.2
    from airflow.models.dagbag import DagBag
bag = DagBag(sys.argv[1])
found = {
    "dags": sorted(bag.dags),
    "errors": bag.import_errors,
    "warnings": bag.captured_warnings,
    "no description": sorted(name for name, dag in bag.dags.items() if not dag.description),
    "only one tag": sorted(name for name, dag in bag.dags.items() if len(dag.tags) < 2),
    "updates": sorted(
        (outlet.name, task.s3_prefix) for dag in bag.dags.values() for task in dag.tasks for outlet in task.outlets
    ),
}
pathlib.Path(sys.argv[2]).write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def parsed(here: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Airflow finds in the files."""
    answer = tmp_path_factory.mktemp("parsed") / "found.json"
    subprocess.run(
        [sys.executable, "-W", "always", "-c", _PARSE, here.airflow.dags, answer],
        env=here.airflow.environment,
        check=True,
        capture_output=True,
    )
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def test_no_two_tasks_update_the_same_asset_or_write_the_same_prefix(parsed: dict[str, Any]) -> None:
    # Otherwise the event of one would start a DAG that reads the prefix of the other.
    assets, prefixes = zip(*parsed["updates"], strict=True)
    assert "lightspeed://fleet_shop_nl/tickets/changes" in assets
    assert len(assets) == 4
    assert len(set(assets)) == len(assets)
    assert len(set(prefixes)) == len(prefixes)


def test_they_are_parsed_with_no_error_and_no_warning_and_say_what_they_do(
    here: World, parsed: dict[str, Any]
) -> None:
    found = {name: value for name, value in parsed.items() if name != "updates"}
    expected = {EXPORT, CLOSE, FLEET, REACT, REOPEN, SUPPORT_DESK, TRIAGE, *CHANGES, CHANGES_OF_MANY}
    if Version("3.0") <= AIRFLOW:
        expected.add(EVENTS)
    if Version("3.1") <= AIRFLOW:
        expected.add(APPROVE)
    else:
        error = found["errors"].pop(str(here.airflow.dags / f"{APPROVE}.py"))
        # The oldest standard provider that is allowed does not even have the module.
        no_module = "No module named 'airflow.providers.standard.operators.hitl'\n"
        assert error.endswith(("Human in the loop functionality needs Airflow 3.1+.\n", no_module))
    if Version("3.2") > AIRFLOW:
        # There other packages warn of each other, in whichever file is the first to import them.
        packages = sysconfig.get_path("purelib")
        of_others = {
            file for file, told in found["warnings"].items() if all(w.startswith(packages) for w in told)
        }
        found["warnings"] = {file: told for file, told in found["warnings"].items() if file not in of_others}
    assert found == {
        "dags": sorted(expected),
        "errors": {},
        "warnings": {},
        "no description": [],
        "only one tag": [],
    }


def test_nightly_export(here: World) -> None:
    outcome = _succeed(here, EXPORT)
    report = outcome.tasks["export_tickets"].result
    start, end = outcome.data_interval_start, outcome.data_interval_end
    assert start is not None
    assert end is not None
    assert report["uri"] == f"s3://{BUCKET}/tickets/date={start:%Y-%m-%d}/tickets.jsonl.gz"
    key = report["uri"].removeprefix(f"s3://{BUCKET}/")
    content = here.s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
    exported = [msgspec.json.decode(line) for line in gzip.decompress(content).splitlines()]
    truth = created_between(here.shop.shop.tickets(), start, end)
    assert truth
    assert sorted(exported, key=lambda ticket: ticket["id"]) == [truth[number] for number in sorted(truth)]


# On 2.11, `dag.test()` cannot store events of an alias that no scheduler has stored: DatasetModel.aliases gets a None.
@pytest.mark.airflow(since="3.0")
def test_the_lake_follows_the_shop(here: World) -> None:
    def run() -> dict[str, Any]:
        result: dict[str, Any] = _succeed(here, CHANGES[0]).tasks["sync_tickets"].result
        return result

    def current() -> dict[int, dict[str, Any]]:
        key = "lightspeed/shop_nl/current/tickets.parquet"
        body = here.s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return {row["id"]: row for row in pq.read_table(io.BytesIO(body)).to_pylist()}

    first = run()
    assert first["inserted"] == first["tickets"] == len(here.shop.shop.tickets())
    ids = here.shop.shop.ids()
    here.shop.update_ticket(ids[-1], isClosed=True, subject="It has arrived")
    here.shop.delete_ticket(ids[-2])
    here.shop.add_tickets(2)
    second = run()
    assert [second[name] for name in ("scan", "inserted", "updated", "deleted")] == ["recent", 2, 1, 1]
    truth = here.shop.shop.tickets()
    assert {number: (row["subject"], row["is_closed"]) for number, row in current().items()} == {
        number: (ticket["subject"], ticket["isClosed"]) for number, ticket in truth.items()
    }
    loaded = _succeed(here, CHANGES[1]).tasks["load"].result
    assert loaded == {"I": first["inserted"] + 2, "U": 1, "D": 1}


@pytest.mark.airflow(since="3.0")
def test_each_shop_of_a_fleet_has_a_lake(here: World) -> None:
    tasks = _succeed(here, CHANGES_OF_MANY).tasks
    truth = len(here.shop.shop.ids())
    for shop in ("shop_nl", "shop_be", "shop_de"):
        result = tasks[f"sync_{shop}"].result
        assert result["uri"].startswith(f"s3://{BUCKET}/fleet/{shop}/changes/")
        assert (result["scan"], result["tickets"], result["rejected"]) == ("full", truth, 0)


def test_fleet_exports_each_shop(here: World) -> None:
    outcome = _succeed(here, FLEET)
    assert outcome.data_interval_start is not None
    prefix = f"tickets/date={outcome.data_interval_start:%Y-%m-%d}/shop="
    there = here.s3.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    names = {found["Key"].removeprefix(prefix) for found in there}
    assert names == {f"{shop}/tickets.jsonl.gz" for shop in ("shop_nl", "shop_be", "shop_de")}


def test_close_stale_tickets(here: World) -> None:
    before = here.shop.shop.tickets()
    closed = _succeed(here, CLOSE).tasks["close_stale_tickets"].result["closed"]
    assert closed
    assert changed_tickets(before, here.shop.shop.tickets()) == {
        number: {"isClosed": True} for number in sorted(closed)
    }
    assert all(before[number]["isAnswered"] and not before[number]["isTodo"] for number in closed)


def test_react_to_new_tickets_hands_each_over_once(here: World) -> None:
    first: list[int] = []

    def customers_write(task_id: str, state: str) -> None:
        if not first and (task_id, state) == ("wait_for_new_tickets", "up_for_reschedule"):
            first.extend(here.shop.add_tickets(2))

    sensor = _succeed(here, REACT, customers_write).tasks["wait_for_new_tickets"]
    assert first
    assert sensor.state == "success", here.airflow.log.read_text()[-5_000:]
    assert sensor.result["ticket_ids"] == first

    between_runs = here.shop.add_tickets(3)
    seen = _succeed(here, REACT).tasks["wait_for_new_tickets"].result
    assert seen["ticket_ids"] == between_runs

    after = here.shop.shop.tickets()
    assert all(after[number]["isTodo"] for number in first + between_runs)


def test_triage_answers_some_and_puts_the_rest_on_the_list(here: World) -> None:
    new: list[int] = []
    here.shop.reset_calls()

    def customers_write() -> None:
        # Two calls find out what the newest ticket is, the sensor looks once, then the trigger.
        while len(here.shop.calls) < 4:
            time.sleep(0.1)
        new.extend(here.shop.add_tickets(1, subject="Where is my parcel?", isAnswered=False, isTodo=False))
        new.extend(here.shop.add_tickets(1, subject="It is broken", isAnswered=False, isTodo=False))

    writing = threading.Thread(target=customers_write, daemon=True)
    writing.start()
    kinds = _succeed(here, TRIAGE).tasks["classify"].result
    writing.join()
    # The second may have come after the look that found the first.
    assert kinds["reply"] == new[:1]
    assert kinds["todo"] in ([], new[1:])
    after = here.shop.shop.tickets()
    assert after[new[0]]["isAnswered"]
    assert not after[new[0]]["isTodo"]
    assert after[new[1]]["isTodo"] is bool(kinds["todo"])


@pytest.mark.airflow(since="3.1")
def test_with_nothing_to_close_no_question_is_asked(here: World) -> None:
    for number, ticket in here.shop.shop.tickets().items():
        if not ticket["isClosed"]:
            here.shop.update_ticket(number, isClosed=True)
    tasks = _succeed(here, APPROVE).tasks
    assert tasks["plan"].result["closed"] == []
    assert [tasks[name].state for name in ("approve", "close")] == ["skipped", "skipped"]


def _succeed(here: World, dag_id: str, on_change: OnChange = lambda _task_id, _state: None) -> Outcome:
    outcome = here.airflow.run_dag(dag_id, on_change)
    assert outcome.state == "success", here.airflow.log.read_text()[-5_000:]
    return outcome
