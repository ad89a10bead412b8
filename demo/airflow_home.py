"""An Airflow of its own: a fresh home with a SQLite database, connections in its environment, logs in one place."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from demo.outcome import Outcome
from demo.processes import running

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class AirflowHome:
    """One Airflow installation's home directory, and the environment in which its commands run."""

    directory: Path
    dags: Path
    environment: Mapping[str, str]

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        dags: Path = PROJECT / "example_dags",
        connections: Mapping[str, str],
        settings: Mapping[str, str],
    ) -> AirflowHome:
        """Make an empty home.

        :param connections: Airflow connections as JSON, by id.
        :param settings: further environment variables.
        """
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        # Nothing of the Airflow or AWS set-up of whoever runs this may leak in, and no proxy may come between.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "AWS_", "_AIRFLOW"))
        }
        return cls(
            directory,
            dags,
            {
                **inherited,
                "AIRFLOW_HOME": str(directory),
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
                **{f"AIRFLOW_CONN_{name.upper()}": connection for name, connection in connections.items()},
                "NO_PROXY": "*",
                "PYTHONPATH": str(PROJECT),
                "PYTHONDONTWRITEBYTECODE": "1",
                **settings,
            },
        )

    @property
    def log(self) -> Path:
        """All that the commands of this home have printed."""
        return self.directory / "airflow.log"

    def run(self, *arguments: str) -> str:
        """Run an `airflow` command and return what it prints.

        :raises RuntimeError: it fails.
        """
        done = subprocess.run(
            [_script("airflow"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        with self.log.open("a") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            raise RuntimeError(
                f"airflow {' '.join(arguments)} has failed; its log: {self.log}\n{done.stderr[-2000:]}"
            )
        return done.stdout

    @contextlib.contextmanager
    def running_dag(self, dag_id: str) -> Generator[DagRun]:
        """Run a DAG in a process of its own, as `dag.test()` does: real tasks, one after another."""
        outcome = self.directory / f"{dag_id}.json"
        outcome.unlink(missing_ok=True)
        with running(
            [sys.executable, "-m", "demo.run_dag", dag_id, outcome],
            log=self.log,
            environment=self.environment,
        ) as process:
            yield DagRun(dag_id, outcome, process, self)

    @contextlib.contextmanager
    def standalone(self) -> Generator[subprocess.Popen[bytes]]:
        """Run `airflow standalone`: web server, scheduler, DAG processor and triggerer."""
        with running(
            [_script("airflow"), "standalone"], log=self.log, environment=self.environment, patience=20
        ) as process:
            yield process

    def task_states(self, dag_id: str) -> dict[str, str | None]:
        """Return the state of each task in the DAG's runs, straight from the database."""
        # Airflow's own ways would load all of Airflow into this process, with settings read once and for all.
        with contextlib.closing(
            sqlite3.connect(f"file:{self.directory}/airflow.db?mode=ro", uri=True)
        ) as database:
            rows = database.execute("select task_id, state from task_instance where dag_id = ?", (dag_id,))
            return dict(rows.fetchall())


@dataclass(frozen=True)
class DagRun:
    """A DAG that is running."""

    dag_id: str
    _outcome: Path
    _process: subprocess.Popen[bytes]
    _home: AirflowHome

    @property
    def is_over(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def task_states(self) -> dict[str, str | None]:
        """Return the state of each task so far."""
        return self._home.task_states(self.dag_id)

    def wait(self, timeout: float | None = None) -> Outcome:
        """Wait for the end and return what came of it.

        :raises RuntimeError: the process ended without a word.
        """
        self._process.wait(timeout)
        if not self._outcome.exists():
            raise RuntimeError(f"{self.dag_id} was not run; the log: {self._home.log}")
        return msgspec.json.decode(self._outcome.read_bytes(), type=Outcome)


def _script(name: str) -> Path:
    return Path(sysconfig.get_path("scripts"), name)
