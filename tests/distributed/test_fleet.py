"""Thirty shops on CeleryExecutor with two workers, a broker and PostgreSQL: `make distributed`."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_lightspeed.sandbox import Sandbox, ShopConfig
from demo.airflow_api import OVER, AirflowApi, wait_until
from demo.airflow_home import PROJECT, AirflowHome, serving
from demo.ports import free_ports
from demo.s3_server import S3Server
from tests.distributed.servers import postgres, redis

FLEET = "example_lightspeed_fleet"
ONE_KEY = "one_key"
BUCKET = "fleet"
WORKERS = ("first", "second")
USED_UP, WRONG_SECRET = "shop_00", "shop_01"
SHOPS = [f"shop_{number:02}" for number in range(30)]

_PATIENCE = 1_200.0
#: When the calls of the shop without quota come back: long after its task has begun, also on a slow machine.
_QUOTA_BACK_AFTER = 150.0


@dataclass(frozen=True)
class Fleet:
    """Airflow in parts, each a process, as on machines of their own."""

    airflow: AirflowApi
    s3: S3Server
    workers: dict[str, subprocess.Popen[bytes]]
    shop_port: int
    one_key: Sandbox

    def ids(self, key: str) -> list[int]:
        body = self.s3.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return sorted(json.loads(line)["id"] for line in gzip.decompress(body).splitlines())


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    dags = directory / "dags"
    shutil.copytree(Path(__file__).parent / "dags", dags)
    shutil.copy(PROJECT / "example_dags" / f"{FLEET}.py", dags)
    port, shop_port = free_ports(2)
    one_key = ShopConfig(
        tickets=5_000, limits=(40, 10**6, 10**6), window_seconds=(15.0, 3_600.0, 86_400.0), burst_limit=20
    )
    with ExitStack() as stack:
        database = stack.enter_context(postgres(directory))
        broker = stack.enter_context(redis(directory))
        s3 = stack.enter_context(S3Server(directory))
        shared = stack.enter_context(Sandbox(one_key))
        polite = {
            **json.loads(shared.airflow_connection()),
            "extra": {"quota_reserve": 0.2, "calls_per_second": 5},
        }
        home = AirflowHome.create(
            directory / "airflow",
            dags=dags,
            connections={
                **{shop: _connection(shop, shop_port) for shop in SHOPS},
                "one_key": json.dumps(polite),
                "aws_default": s3.airflow_connection(),
            },
            settings={
                "LIGHTSPEED_FLEET": " ".join(SHOPS),
                "LIGHTSPEED_S3_BUCKET": BUCKET,
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tests.distributed.worker_name.worker_name",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
                "AIRFLOW__CELERY__BROKER_URL": broker,
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{database}",
                "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
                **serving(port),
                "AIRFLOW__API__WORKERS": "1",
            },
        )
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=BUCKET)

        for command in ("api-server", "scheduler", "dag-processor", "triggerer"):
            stack.enter_context(home.part(command, name=command))
        worker = ("celery", "worker", "--skip-serve-logs", "--celery-hostname")
        workers = {
            name: stack.enter_context(
                home.part(*worker, f"{name}@%h", name=f"worker-{name}", WORKER_NAME=name)
            )
            for name in WORKERS
        }
        airflow = AirflowApi(port)
        wait_until(airflow.is_up, _PATIENCE, lambda: f"Airflow is not up, see {home.directory}")
        for dag_id in (FLEET, ONE_KEY):
            wait_until(lambda dag_id=dag_id: airflow.knows(dag_id), _PATIENCE, lambda: home.directory)  # type: ignore[misc]
        airflow.unpause(ONE_KEY)
        yield Fleet(airflow, s3, workers, shop_port, shared)


def _connection(shop: str, port: int) -> str:
    return json.dumps({
        "conn_type": "lightspeed",
        "login": _key(shop),
        "password": _secret(shop) if shop != WRONG_SECRET else _secret(USED_UP),
        "host": f"http://127.0.0.1:{port}",
        # So that it lets go rather than sleep, however much of the window is left.
        "extra": {"max_wait": 0.5},
    })


def _key(shop: str) -> str:
    return f"key0of0{shop.replace('_', '0')}".ljust(32, "0")


def _secret(shop: str) -> str:
    return f"secret0of0{shop.replace('_', '0')}".ljust(32, "0")


def _shops() -> list[ShopConfig]:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    quota_back_at = time.time() + _QUOTA_BACK_AFTER
    return [
        ShopConfig(
            key=_key(shop),
            secret=_secret(shop),
            seed=number,
            tickets=6_000 if shop == USED_UP else 600,
            days=2,
            end=midnight + timedelta(hours=1),
            limits=(50, 10**6, 10**6) if shop == USED_UP else (300, 3_000, 12_000),
            # Windows are aligned to 1970, so that this one ends when it should.
            window_seconds=(quota_back_at if shop == USED_UP else 300.0, 3_600.0, 86_400.0),
        )
        for number, shop in enumerate(SHOPS)
    ]


@pytest.mark.timeout(3_600)
def test_the_others_finish_and_another_worker_goes_on(fleet: Fleet) -> None:
    with Sandbox(*_shops(), port=fleet.shop_port) as shops:
        backends = dict(zip(SHOPS, shops.backends, strict=True))
        backends[USED_UP].use_quota(42)
        fleet.airflow.unpause(FLEET)

        def tasks() -> dict[str, dict[str, Any]]:
            return {
                SHOPS[task["map_index"]]: task
                for task in fleet.airflow.tasks(FLEET)
                if task["map_index"] >= 0
            }

        def states() -> dict[str, str]:
            return {shop: task["state"] for shop, task in tasks().items()}

        wait_until(lambda: states().get(USED_UP) == "deferred", _PATIENCE, states)
        assert shops.count_calls(key=_key(USED_UP)) > 1, "it was to begin before its quota was used up"
        began_on = tasks()[USED_UP]["hostname"]
        # It ends its tasks and takes no new ones: the machine is needed elsewhere.
        fleet.workers[began_on].terminate()

        wait_until(lambda: OVER.issuperset(states().values()), _PATIENCE, states)
        assert states() == {shop: "failed" if shop == WRONG_SECRET else "success" for shop in SHOPS}
        assert tasks()[WRONG_SECRET]["try_number"] == 1
        assert {began_on, tasks()[USED_UP]["hostname"]} == set(WORKERS)

        (run,) = fleet.airflow.runs(FLEET)
        begin, end = (datetime.fromisoformat(run[f"data_interval_{name}"]) for name in ("start", "end"))
        for shop, backend in backends.items():
            statuses = {call.status for call in shops.calls if call.key == _key(shop)}
            if shop == WRONG_SECRET:
                assert statuses == {401}
                continue
            expected = [
                number
                for number, ticket in backend.shop.tickets().items()
                if begin <= datetime.fromisoformat(str(ticket["createdAt"])) < end
            ]
            assert expected
            assert fleet.ids(f"tickets/date={begin:%Y-%m-%d}/shop={shop}/tickets.jsonl.gz") == expected, shop
            assert statuses == {200}, shop


@pytest.mark.timeout(3_600)
def test_tasks_that_share_a_key_keep_its_quota(fleet: Fleet) -> None:
    run_id = fleet.airflow.start(ONE_KEY)

    def states() -> list[str]:
        return [task["state"] for task in fleet.airflow.tasks(ONE_KEY, run_id)]

    wait_until(lambda: len(states()) == 4 and OVER.issuperset(states()), _PATIENCE, states)
    assert states() == ["success"] * 4
    everything = fleet.one_key.shop.ids()
    assert all(fleet.ids(f"one_key/{number}.jsonl.gz") == everything for number in range(4))
    assert {call.status for call in fleet.one_key.calls} == {200}
    # More than one window's worth, else there was nothing to keep.
    assert fleet.one_key.count_calls() > 80
