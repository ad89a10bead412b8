"""Airflow, S3 and the ports of the shops: what outlives a scenario."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from chaos.scenarios import LANGUAGES, MAX_WAIT, QUOTA_RESERVE, ZONES, connection_id
from demo.airflow_api import AirflowApi, wait_until
from demo.airflow_home import AirflowHome, serving
from demo.ports import free_ports
from demo.processes import kill_whoever_calls
from demo.s3_server import S3Server

BUCKET = "chaos"
DAG_ID = "chaos"
_UP_WITHIN = 600.0
_SOME_POLLS = 4


class Environment:
    """What all scenarios share, up and running.

    :param shop_port: of each scenario's shop.
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
        # A ticket counts as new after the first poll, so that poll has to be over and its cursor stored.
        wait_until(
            lambda: self.watched.count_calls() >= _SOME_POLLS,
            _UP_WITHIN,
            lambda: "no trigger polls the watched shop",
        )

    def stop(self) -> None:
        """Stop them."""
        self._triggerer.close()
        self._parts.close()

    def kill_triggerer(self) -> None:
        """Kill the triggerer and start another one."""
        self._triggerer.close()
        self._start_triggerer()

    def kill_task(self) -> bool:
        """Kill a task that has a connection to the scenario's shop; False if there is none."""
        return self._scheduler is not None and kill_whoever_calls(self.shop_port, self._scheduler)

    def logs(self, run_id: str, task_id: str) -> list[str]:
        """Return what each try of a task has logged, the last one last."""
        directory = self._logs_of(run_id) / f"task_id={task_id}"
        # Beside each lies what its triggers have logged.
        tries = {file.stem.partition("=")[2]: file for file in directory.glob("attempt=*.log")}
        return [tries[number].read_text() for number in sorted(filter(str.isdecimal, tries), key=int)]

    def all_logs(self, run_id: str) -> list[str]:
        """Return what all tasks of a run and their triggers have logged."""
        return [file.read_text() for file in self._logs_of(run_id).rglob("*.log*")]

    def _logs_of(self, run_id: str) -> Path:
        return self._home.directory / "logs" / f"dag_id={DAG_ID}" / f"run_id={run_id}"

    def _unpause(self, dag_id: str) -> None:
        wait_until(
            lambda: self.airflow.knows(dag_id), _UP_WITHIN, lambda: f"no {dag_id}, see {self._home.directory}"
        )
        self.airflow.unpause(dag_id)

    def _start_triggerer(self) -> None:
        self._triggerer.enter_context(self._home.part("triggerer", name="triggerer", patience=0.0))


@contextmanager
def environment(directory: Path) -> Generator[Environment]:
    """Build everything below a directory."""
    # The shops' ports are free for seconds when they are away, so they are none that a system gives to outgoing calls.
    port, shop_port, watched_port = free_ports(3)
    # Copied, since the project's files may change during an hour.
    dags = shutil.copytree(Path(__file__).parent / "dags", directory / "dags")
    # Each third new ticket becomes visible after tickets with higher ids.
    of_watched = ShopConfig(tickets=50, limits=NO_LIMITS, late_every=3, late_seconds=4)
    with S3Server(directory) as s3, Sandbox(of_watched, port=watched_port) as watched:
        home = AirflowHome.create(
            directory / "airflow",
            dags=dags,
            connections={
                **_connections(shop_port),
                "watched": watched.airflow_connection(),
                "aws_default": s3.airflow_connection(),
            },
            settings={
                **serving(port),
                "AIRFLOW__API__WORKERS": "1",
                "AIRFLOW__CORE__PARALLELISM": "4",
                # On a busy machine Airflow does not answer its own tasks within the usual 5 s, and kills them.
                "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
                # How soon another triggerer takes over what a dead one had.
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            },
        )
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=BUCKET)
        made = Environment(home, port, shop_port, s3, watched)
        try:
            made.start()
            yield made
        finally:
            made.stop()


def _connections(port: int) -> dict[str, str]:
    """Return the connections to a scenario's shop: of each task, for each zone that may be known, and for none."""
    shop = ShopConfig()
    made = {}
    for task, language in LANGUAGES.items():
        for zone in ("", *ZONES):
            extra: dict[str, object] = {
                "quota_reserve": QUOTA_RESERVE,
                "calls_per_second": 6,
                "max_wait": MAX_WAIT,
                "language": language,
            }
            if zone:
                extra["filter_timezone"] = zone
            made[connection_id(task, zone)] = json.dumps({
                "conn_type": "lightspeed",
                "login": shop.key,
                "password": shop.secret,
                "host": f"http://127.0.0.1:{port}",
                "extra": extra,
            })
    return made
