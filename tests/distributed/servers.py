"""PostgreSQL and Redis of this machine, with data, ports and processes of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from demo.ports import free_ports
from demo.processes import running

_READY_WITHIN = 60.0


@contextmanager
def postgres(directory: Path) -> Generator[str]:
    """Run a new, empty database; the address for SQLAlchemy, without the driver."""
    # Not below pytest's directories: they are for root alone, and PostgreSQL refuses to run as root.
    data = Path(mkdtemp(dir="/tmp", prefix="postgres-"))
    (port,) = free_ports(1)
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(data, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    initdb = [*as_user, programs / "initdb", "-D", data, "-U", "airflow", "--auth=trust", "--no-sync"]
    server = [*as_user, programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", ""]
    server += ["-c", "fsync=off", "-c", "max_connections=300"]
    try:
        subprocess.run(initdb, check=True, capture_output=True, cwd="/")
        with running(server, log=directory / "postgres.log", directory=Path("/")):
            _wait_for(port, directory / "postgres.log")
            yield f"airflow@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(data)


@contextmanager
def redis(directory: Path) -> Generator[str]:
    """Run a new, empty broker; its address."""
    (port,) = free_ports(1)
    server = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with running(server, log=directory / "redis.log", directory=directory):
        _wait_for(port, directory / "redis.log")
        yield f"redis://127.0.0.1:{port}/0"


def _wait_for(port: int, log: Path) -> None:
    give_up = time.monotonic() + _READY_WITHIN
    while time.monotonic() < give_up:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server does not answer; its log: {log}\n{log.read_text()[-2000:]}")
