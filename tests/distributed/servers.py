"""PostgreSQL and Redis of this machine, with data, ports and processes of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from demo.ports import free_ports
from demo.processes import running

_READY_WITHIN = 60.0


@contextmanager
def postgres(directory: Path) -> Generator[str]:
    """Run a new, empty database; the address for SQLAlchemy, without the driver."""
    data = directory / "postgres"
    data.mkdir()
    (port,) = free_ports(1)
    as_user: list[str] = []
    if os.geteuid() == 0:  # as which PostgreSQL refuses to run
        shutil.chown(data, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        _let_pass(data, pwd.getpwnam("postgres").pw_uid)
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    initdb = [*as_user, programs / "initdb", "-D", data, "-U", "airflow", "--auth=trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd="/")
    server = [*as_user, programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", ""]
    server += ["-c", "fsync=off", "-c", "max_connections=300"]
    with running(server, log=directory / "postgres.log", directory=Path("/")):
        _wait_for(port, directory / "postgres.log")
        yield f"airflow@127.0.0.1:{port}/postgres"


@contextmanager
def redis(directory: Path) -> Generator[str]:
    """Run a new, empty broker; its address."""
    (port,) = free_ports(1)
    server = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with running(server, log=directory / "redis.log", directory=directory):
        _wait_for(port, directory / "redis.log")
        yield f"redis://127.0.0.1:{port}/0"


def _let_pass(path: Path, uid: int) -> None:
    """Let a user come to a directory whose parents are for root alone, as those of pytest are."""
    for parent in path.parents:
        if parent.stat().st_uid != uid and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)


def _wait_for(port: int, log: Path) -> None:
    give_up = time.monotonic() + _READY_WITHIN
    while time.monotonic() < give_up:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server does not answer; its log: {log}\n{log.read_text()[-2000:]}")
