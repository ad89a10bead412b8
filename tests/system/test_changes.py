"""The log of changes on a whole Airflow: two DAGs keep it while staff and customers work and tasks are killed."""

from __future__ import annotations

import io
import json
import os
import random
import re
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import psutil
import pyarrow.parquet as pq
import pytest

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from demo.airflow_api import wait_until
from demo.airflow_home import AirflowHome, serving
from demo.ports import free_ports, is_free
from demo.processes import kill_whoever_calls
from demo.s3_server import S3Server

# Airflow alone takes half a minute to start, and minutes on a busy machine.
pytestmark = pytest.mark.timeout(2400)

_PATIENCE = 1200.0
#: How often a task is killed; LIGHTSPEED_TEST_KILLS=25 for a long proof.
KILLS = int(os.environ.get("LIGHTSPEED_TEST_KILLS", "4"))
_PAGE = (Path(__file__).parents[2] / "docs" / "current-state.md").read_text(encoding="utf-8")
_DUCKDB = _PAGE.partition("### DuckDB\n")[2].partition("\n### ")[0]
_, MERGE, HISTORY = re.findall(r"```sql\n(.+?)```", _DUCKDB, re.S)


@dataclass(frozen=True)
class Whole:
    """An Airflow that runs, asked by its database: the API differs between versions."""

    home: AirflowHome
    process: psutil.Process
    shop: Sandbox
    s3: S3Server
    loaded: Path

    def runs(self, dag_id: str, state: str, since: datetime) -> int:
        """Count the runs of a DAG in a state that have started since."""
        rows = self.home.query("select start_date, state from dag_run where dag_id = ?", dag_id)
        return sum(
            found == state and datetime.fromisoformat(at).astimezone(UTC) > since for at, found in rows
        )

    def kill_someone(self, port: int) -> None:
        """Send SIGKILL to a task that has a connection to a port, as soon as there is one."""
        wait_until(lambda: kill_whoever_calls(port, self.process), _PATIENCE, self.said)

    def said(self) -> str:
        """Return what the tasks have logged, or, if none has begun, Airflow."""
        logs = sorted(
            (self.home.directory / "logs").rglob("dag_id=*/**/*.log"), key=lambda log: log.stat().st_mtime
        )
        return "".join(log.read_text()[-2_000:] for log in logs[-5:]) or self.home.log.read_text()[-5_000:]

    def status(self) -> Any:
        body = self.s3.client().get_object(Bucket="warehouse", Key="lightspeed/shop/status.json")["Body"]
        return json.loads(body.read())

    def rows(self) -> list[dict[str, Any]]:
        return json.loads(self.loaded.read_text()) if self.loaded.exists() else []

    def download(self, directory: Path) -> None:
        """Copy the change files that are not there yet; what is there never changes."""
        for item in self.s3.client().list_objects_v2(Bucket="warehouse", Prefix="lightspeed/")["Contents"]:
            target = directory / item["Key"]
            if item["Key"].startswith("lightspeed/shop/changes/") and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                self.s3.client().download_file("warehouse", item["Key"], str(target))

    def current(self) -> dict[int, dict[str, Any]]:
        key = "lightspeed/shop/current/tickets.parquet"
        body = self.s3.client().get_object(Bucket="warehouse", Key=key)["Body"].read()
        return {row["id"]: row for row in pq.read_table(io.BytesIO(body)).to_pylist()}

    def truth(self) -> dict[int, tuple[Any, Any]]:
        return {one: (found["subject"], found["isClosed"]) for one, found in self.shop.shop.tickets().items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[Whole]:
    directory = tmp_path_factory.mktemp("changes")
    (port,) = free_ports(1)
    s3_server.client().create_bucket(Bucket="warehouse")
    now = datetime.now(UTC)
    config = ShopConfig(tickets=3_000, end=now, days=90, limits=NO_LIMITS, burst_limit=0, latency=0.1)
    with Sandbox(config) as shop:
        home = AirflowHome.create(
            directory / "airflow",
            dags=Path(__file__).parent / "changes_dags",
            connections={
                "lightspeed_default": shop.airflow_connection(),
                "aws_default": s3_server.airflow_connection(),
            },
            settings={
                **serving(port),
                "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(port),  # Airflow 2
                "AIRFLOW__CORE__PARALLELISM": "3",
                "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
                "LOADED": str(directory / "loaded.json"),
            },
        )
        with home.standalone() as process:
            # Tasks of Airflow 3 start by a call to its API server, and fail while there is none.
            wait_until(lambda: not is_free(port), _PATIENCE, home.log.read_text)
            yield Whole(home, psutil.Process(process.pid), shop, s3_server, directory / "loaded.json")


@contextmanager
def work_at(shop: Sandbox) -> Generator[None]:
    """Let staff and customers work meanwhile."""
    stop = threading.Event()
    chance = random.Random(7)

    def work() -> None:
        for number in count(1):
            change_something(shop, chance, number)
            if stop.wait(0.2):
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def change_something(shop: Sandbox, chance: random.Random, number: int) -> None:
    """Open, answer, close or delete a ticket, new ones more often than old ones."""
    ids = shop.shop.ids()
    one = chance.choice(ids[-100:] if chance.random() < 0.7 else ids)
    what = chance.choice(["open", "write", "close", "answer", "delete"])
    if what == "open":
        shop.add_tickets(1, subject=f"New {number}")
    elif what == "delete":
        shop.delete_ticket(one)
    elif what == "close":
        shop.update_ticket(one, isClosed=not shop.shop.ticket(one)["isClosed"])
    else:
        shop.update_ticket(one, isAnswered=what == "answer", subject=f"Again {number}")


def test_the_warehouse_equals_the_shop(whole: Whole, tmp_path: Path) -> None:
    base = duckdb.connect()

    def merge() -> None:
        whole.download(tmp_path)
        for statement in MERGE.split(";\n\n"):
            base.execute(
                statement.replace("s3://my-warehouse/lightspeed/shop_nl", f"{tmp_path}/lightspeed/shop")
            )

    ports = [int(urlsplit(address).port or 0) for address in (whole.shop.url, whole.s3.endpoint)]
    began = datetime.now(UTC)
    wait_until(lambda: whole.runs("often", "success", began), _PATIENCE, whole.said)
    whole.home.run("dags", "unpause", "nightly")
    merge()
    with work_at(whole.shop):
        for number in range(KILLS):
            time.sleep(random.Random().random() * 3)  # anywhere in a scan, a commit or a load
            whole.kill_someone(ports[number % 2])
            merge()
        since = datetime.now(UTC)
        wait_until(lambda: whole.runs("often", "success", since), _PATIENCE, whole.said)
    ended = datetime.now(UTC)
    wait_until(lambda: whole.runs("nightly", "success", ended), _PATIENCE, whole.said)
    head = whole.status()["seq"]
    wait_until(lambda: whole.rows() and whole.rows()[-1]["_seq"] >= head, _PATIENCE, whole.said)

    truth = whole.truth()
    current = {one: (row["subject"], row["is_closed"]) for one, row in whole.current().items()}
    assert not differences(current, truth)
    gone = whole.shop.shop.deleted().keys()
    assert datetime.fromisoformat(whole.status()["complete_as_of"]) > ended - timedelta(seconds=1)

    # A task that reads what it has not read yet, whenever the asset says so, has each change once and in order.
    rows = whole.rows()
    assert all(first["_seq"] <= second["_seq"] for first, second in pairwise(rows))
    assert len({(row["_seq"], row["id"]) for row in rows}) == len(rows)
    last = {row["id"]: row for row in rows}
    left = {one: (row["subject"], row["is_closed"]) for one, row in last.items() if row["op"] != "D"}
    assert not differences(left, truth)

    # So has a table kept by the MERGE that the guide shows, and the view of the history.
    merge()
    kept = base.sql("SELECT id, subject, is_closed FROM tickets WHERE NOT _deleted").fetchall()
    assert not differences({one: (subject, is_closed) for one, subject, is_closed in kept}, truth)
    removed = {one for (one,) in base.sql("SELECT id FROM tickets WHERE _deleted").fetchall()}
    assert not removed ^ {one for one, row in last.items() if row["op"] == "D"}
    assert not removed - gone
    base.execute(HISTORY.replace("s3://my-warehouse/lightspeed/shop_nl", f"{tmp_path}/lightspeed/shop"))
    now = "SELECT id, subject, is_closed FROM ticket_history WHERE valid_to IS NULL AND op <> 'D'"
    ours = {one: (subject, is_closed) for one, subject, is_closed in base.sql(now).fetchall()}
    assert not differences(ours, truth)
    assert base.sql("SELECT count(*) FROM ticket_history WHERE valid_to < valid_from").fetchall() == [(0,)]
    versions = base.sql("SELECT id, subject FROM ticket_history WHERE op <> 'D'").fetchall()
    known = whole.shop.shop.deleted() | whole.shop.shop.tickets()
    earlier = [(one, subject) for one, subject in versions if subject != known[one]["subject"]]
    assert not [(one, subject) for one, subject in earlier if subject not in was(whole.shop, one)]
    assert len(versions) > len(truth)


def differences(ours: dict[int, Any], truth: dict[int, Any]) -> list[Any]:
    """Return the first tickets that differ: pytest would take minutes to show how two thousand rows differ."""
    ids = sorted(ours.keys() | truth.keys())
    return [(one, ours.get(one), truth.get(one)) for one in ids if ours.get(one) != truth.get(one)][:5]


def was(shop: Sandbox, ticket_id: int) -> set[Any]:
    """Return all subjects that a ticket had before the last one."""
    return {change.before.get("subject") for change in shop.shop.history(ticket_id)}
