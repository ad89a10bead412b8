"""An Airflow of its own: a fresh home with a SQLite database, connections in its environment, logs in one place."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import sqlite3
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from demo.outcome import Outcome
from demo.ports import free_ports
from demo.processes import running

PROJECT = Path(__file__).resolve().parent.parent

OnChange = Callable[[str, str], None]

_SCRIPTS = Path(sysconfig.get_path("scripts"))
_AIRFLOW = _SCRIPTS / "airflow"
_EXCEPTION = re.compile(r"[\w.]+(?:Error|Exception|Failed|Exhausted)\b")
_DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_GIVE_UP_AFTER = 600.0


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def serving(port: int) -> dict[str, str]:
    """Return the settings of an Airflow with an API server, beside which others may run on this machine."""
    worker_logs, triggerer_logs = free_ports(2)
    return {
        # It asks for no password, so it must be reachable from this machine only.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        # Airflow 3.0 starts four, and ends each that isn't up after five seconds: on a busy machine, all of them.
        "AIRFLOW__API__WORKERS": "1",
        # Parts that are started one by one would each make up their own.
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        # Fixed ones otherwise.
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(triggerer_logs),
    }


@dataclass
class _Kept:
    """The process that runs DAGs, once there is one, and what ends it."""

    stack: contextlib.ExitStack
    process: subprocess.Popen[bytes] | None = None


@dataclass(frozen=True)
class AirflowHome:
    """One Airflow installation's home directory, and the environment in which its commands run."""

    directory: Path
    dags: Path
    environment: Mapping[str, str]
    _kept: list[_Kept] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        dags: Path = PROJECT / "example_dags",
        connections: Mapping[str, str],
        settings: Mapping[str, str],
    ) -> AirflowHome:
        """Make a new home, with its database.

        :param connections: Airflow connections as JSON, by id.
        :param settings: further environment variables.
        """
        directory.mkdir(parents=True)
        # Nothing of the Airflow or AWS set-up of whoever runs this may leak in, and no proxy may come between.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "AWS_", "_AIRFLOW", "PYTHONDONTWRITEBYTECODE"))
        }
        home = cls(
            directory,
            dags,
            {
                **inherited,
                "AIRFLOW_HOME": str(directory),
                "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
                # Otherwise each part that starts first in a new home makes up its own, and cannot read the others' secrets.
                "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
                # Airflow's own limits, of 5, 30 and 50 seconds, are too short for a busy machine.
                "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "300",
                "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
                "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
                # Five minutes otherwise. Whoever looks on should see at once whether trying again helps.
                "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "2",
                **{f"AIRFLOW_CONN_{name.upper()}": connection for name, connection in connections.items()},
                # `airflow standalone` looks for `airflow` there.
                "PATH": f"{_SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}",
                # Tracebacks are plain text, and not broken into short lines.
                "NO_COLOR": "1",
                "COLUMNS": "200",
                "NO_PROXY": "*",
                "no_proxy": "*",
                "PYTHONPATH": str(PROJECT),
                **settings,
            },
        )
        home._make_database()
        return home

    def _make_database(self) -> None:
        """Copy the database that was migrated once for this Airflow; one that is no SQLite file is migrated."""
        if not self.environment.get(_DATABASE, "sqlite:").startswith("sqlite:"):
            self.run("db", "migrate")
            return
        database = self.directory / "airflow.db"
        migrated = Path(sys.prefix) / f"airflow-{version('apache-airflow')}.db"
        if not migrated.exists():
            self.run("db", "migrate")
            # Complete or not there: other programs may do the same at this moment.
            part = migrated.with_suffix(f".{os.getpid()}")
            _copy(database, part)
            part.replace(migrated)
        else:
            _copy(migrated, database)

    @property
    def log(self) -> Path:
        """All that the commands of this home have printed."""
        return self.directory / "airflow.log"

    def last_error(self) -> str:
        """Return the line of the log that names the last exception, if there is any."""
        errors = [line for line in self.log.read_text().splitlines() if _EXCEPTION.match(line)]
        return errors[-1] if errors else "The log names no exception."

    def run(self, *arguments: str) -> str:
        """Run an `airflow` command and return what it prints.

        :raises RuntimeError: it fails.
        """
        done = subprocess.run(
            [_AIRFLOW, *arguments],
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

    def run_dag(
        self,
        dag_id: str,
        on_change: OnChange = lambda _task_id, _state: None,
        *,
        conf: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Run a DAG in a process of its own, as `dag.test()` does: real tasks, one after another.

        :param on_change: called with a task's id and its new state, while the DAG runs.
        :param conf: what the run is triggered with.
        :raises RuntimeError: the run does not end, or ends without a word.
        """
        file = self.directory / f"{dag_id}.json"
        file.unlink(missing_ok=True)
        before = self._newest_run()
        seen: dict[str, str | None] = {}
        give_up = time.monotonic() + _GIVE_UP_AFTER
        with self._dag_process() as process:
            assert process.stdin  # ruff: ignore[assert]
            process.stdin.write(f"{dag_id}\t{file}\t{json.dumps(conf)}\n".encode())
            process.stdin.flush()
            is_over = False
            while not is_over:
                # In this order, so that the states at the very end are seen too.
                is_over = file.exists() or process.poll() is not None
                states = self._task_states(dag_id, before)
                for task_id, state in states.items():
                    if state is not None and state != seen.get(task_id):
                        on_change(task_id, state)
                seen = states
                if time.monotonic() > give_up:
                    process.kill()
                    raise RuntimeError(f"{dag_id} does not end. {self.last_error()}\nThe log: {self.log}")
                time.sleep(0.1)
        if not file.exists():
            raise RuntimeError(f"{dag_id} could not be run. {self.last_error()}\nThe log: {self.log}")
        return msgspec.json.decode(file.read_bytes(), type=Outcome)

    def require_success(self, outcome: Outcome) -> None:
        """Check that a run has succeeded.

        :raises RuntimeError: it has not.
        """
        if outcome.state != "success":
            states = ", ".join(f"{task_id} {task.state}" for task_id, task in outcome.tasks.items())
            raise RuntimeError(
                f"The run is {outcome.state}: {states}\n{self.last_error()}\nThe log: {self.log}"
            )

    @contextlib.contextmanager
    def dags_in_one_process(self) -> Generator[None]:
        """Within the block, `run_dag` loads Airflow once, and not for each run."""
        with contextlib.ExitStack() as stack:
            self._kept.append(_Kept(stack))
            try:
                yield
            finally:
                self._kept.clear()

    @contextlib.contextmanager
    def _dag_process(self) -> Generator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "demo.run_dag"]
        new = running(command, log=self.log, environment=self.environment, stdin=subprocess.PIPE, patience=0)
        if not self._kept:
            with new as process:
                try:
                    yield process
                finally:
                    process.communicate()  # it ends with its input
            return
        (kept,) = self._kept
        if kept.process is None or kept.process.poll() is not None:
            kept.process = kept.stack.enter_context(new)
        yield kept.process

    @contextlib.contextmanager
    def standalone(self) -> Generator[subprocess.Popen[bytes]]:
        """Run `airflow standalone`: web server, scheduler, DAG processor and triggerer."""
        with running(
            [_AIRFLOW, "standalone"], log=self.log, environment=self.environment, patience=20
        ) as process:
            yield process

    @contextlib.contextmanager
    def part(
        self, *command: str, name: str, patience: float = 10.0, **environment: str
    ) -> Generator[subprocess.Popen[bytes]]:
        """Run one part of Airflow, such as ``scheduler``.

        :param name: of its log.
        :param patience: seconds between asking it to end and killing it; 0 kills at once.
        """
        with running(
            [_AIRFLOW, *command],
            log=self.directory / f"{name}.log",
            environment={**self.environment, **environment},
            patience=patience,
        ) as process:
            yield process

    def _newest_run(self) -> int:
        newest: int = self.query("select coalesce(max(id), 0) from dag_run")[0][0]
        return newest

    def _task_states(self, dag_id: str, after_run: int) -> dict[str, str | None]:
        return dict(
            self.query(
                "select task_id, task_instance.state from task_instance join dag_run using (dag_id, run_id)"
                " where dag_id = ? and dag_run.id > ?",
                dag_id,
                after_run,
            )
        )

    def query(self, sql: str, *values: object) -> list[Any]:
        """Read from Airflow's database, which is a SQLite file."""
        # Airflow's own ways to ask would load all of Airflow into this process, with its settings fixed for good.
        with contextlib.closing(
            sqlite3.connect(f"file:{self.directory}/airflow.db?mode=ro", uri=True, timeout=60)
        ) as database:
            return database.execute(sql, values).fetchall()
