"""Airflow, S3 and the places where shops will be: what outlives a world."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from demo.airflow_api import AirflowApi, wait_until
from demo.airflow_home import AirflowHome, serving
from demo.ports import free_ports
from demo.s3_server import S3Server

BUCKET = "chaos"
DAG_ID = "chaos"
_UP_WITHIN = 600.0
_SOME_LOOKS = 4


class Stage:
    """All of it, up and running.

    :param shop_port: where the shop of each world is to be.
    :param watched: the shop whose new tickets update an asset.
    """

    def __init__(self, home: AirflowHome, port: int, shop_port: int, s3: S3Server, watched: Sandbox) -> None:
        self.airflow = AirflowApi(port)
        self.shop_port = shop_port
        self.s3 = s3
        self.watched = watched
        self._home = home
        self._parts = ExitStack()
        self._triggerer = ExitStack()
        self._scheduler: psutil.Process | None = None

    def start(self) -> None:
        """Start the parts of Airflow."""
        for part in ("api-server", "scheduler", "dag-processor"):
            process = self._parts.enter_context(self._home.part(part, name=part))
            if part == "scheduler":
                self._scheduler = psutil.Process(process.pid)
        self._start_triggerer()
        wait_until(self.airflow.is_up, _UP_WITHIN, lambda: f"Airflow is not up, see {self._home.directory}")
        for dag_id in (DAG_ID, "watched"):
            self._unpause(dag_id)
        # What is new is what comes after the first look, so that has to be over, and its place kept.
        wait_until(lambda: self.watched.count_calls() >= _SOME_LOOKS, _UP_WITHIN, lambda: "nobody watches")

    def stop(self) -> None:
        """End them."""
        self._triggerer.close()
        self._parts.close()

    def kill_triggerer(self) -> None:
        """Kill the triggerer and start another one."""
        self._triggerer.close()
        self._start_triggerer()

    def kill_task(self) -> bool:
        """Kill a task that has a connection to the world's shop; False where there is none."""
        for process in self._scheduler.children(recursive=True) if self._scheduler else ():
            with suppress(psutil.Error):
                if any(c.raddr and c.raddr.port == self.shop_port for c in process.net_connections("tcp")):
                    process.kill()
                    return True
        return False

    def _unpause(self, dag_id: str) -> None:
        wait_until(
            lambda: self.airflow.knows(dag_id), _UP_WITHIN, lambda: f"no {dag_id}, see {self._home.directory}"
        )
        self.airflow.unpause(dag_id)

    def _start_triggerer(self) -> None:
        self._triggerer.enter_context(self._home.part("triggerer", name="triggerer", patience=0.0))


@contextmanager
def stage(directory: Path) -> Generator[Stage]:
    """Build everything below a directory."""
    port, shop_port = free_ports(2)
    # Copied, since the project's files may change during an hour.
    dags = shutil.copytree(Path(__file__).parent / "dags", directory / "dags")
    with S3Server(directory) as s3, Sandbox(ShopConfig(tickets=50, limits=NO_LIMITS)) as watched:
        shop = ShopConfig()
        extra = {"quota_reserve": 0.3, "calls_per_second": 6, "max_wait": 2}
        connection = {
            "conn_type": "lightspeed",
            "login": shop.key,
            "password": shop.secret,
            "host": f"http://127.0.0.1:{shop_port}",
            "extra": extra,
        }
        home = AirflowHome.create(
            directory / "airflow",
            dags=dags,
            connections={
                "chaos": json.dumps(connection),
                "watched": watched.airflow_connection(),
                "aws_default": s3.airflow_connection(),
            },
            settings={
                **serving(port),
                "AIRFLOW__API__WORKERS": "1",
                "AIRFLOW__CORE__PARALLELISM": "4",
                # How soon another triggerer takes over what a dead one had.
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            },
        )
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=BUCKET)
        made = Stage(home, port, shop_port, s3, watched)
        try:
            made.start()
            yield made
        finally:
            made.stop()
