"""Child processes that never outlive the program that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import psutil

# What a kill takes on a busy machine, many times over: a process gives back its memory before it is gone.
_GONE_WITHIN = 10.0


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    patience: float = 10.0,
    stdin: int = subprocess.DEVNULL,
) -> Generator[subprocess.Popen[bytes]]:
    """Run a command beside this program; at the end of the block end it and all that it started.

    :param log: gets all that the command prints.
    :param patience: seconds between asking the command to end and killing it; 0 kills at once.
    """
    with log.open("ab") as output:
        # A process group of its own: Ctrl-C in the terminal reaches this program alone, which then ends its
        # children in the right order, and one signal reaches the grandchildren too.
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process, patience)


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    # Asked for while they can still be found: a task of Airflow runs in a process group of its own, and a process
    # whose parent has gone is no longer anybody's child.
    descendants = _descendants(process)
    if patience and process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    # Also where the command itself has gone: what it started may have stayed.
    _signal_group(process, signal.SIGKILL)
    for descendant in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            descendant.kill()
    process.wait()
    give_up = time.monotonic() + _GONE_WITHIN
    while any(map(is_alive, descendants)) and time.monotonic() < give_up:
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process still runs."""
    try:
        # What the kernel keeps of an orphan that has ended is init's business.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def whoever_calls(port: int, ancestor: psutil.Process) -> list[psutil.Process]:
    """Return the descendants that have a connection to a port."""
    found = []
    for process in ancestor.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(c.raddr and c.raddr.port == port for c in process.net_connections("tcp")):
                found.append(process)
    return found


def kill_whoever_calls(port: int, ancestor: psutil.Process) -> bool:
    """Send SIGKILL to a descendant that has a connection to a port; False where there is none."""
    for process in whoever_calls(port, ancestor):
        with contextlib.suppress(psutil.Error):
            process.kill()
            return True
    return False


def _descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # The group bears the leader's id, and the kernel gives that id to no other process while a member lives.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def end_in_order_on_signals() -> None:
    """Let SIGTERM and a closed terminal end this program as Ctrl-C does: through every `finally`."""

    def leave(number: int, _: FrameType | None) -> None:
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)  # a second one must not cut the clean-up short
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
