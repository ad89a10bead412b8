"""The sandbox in a process of its own."""

from __future__ import annotations

import subprocess  # ruff: ignore[suspicious-subprocess-import] - starts nothing but the sandbox
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def serve(order: str, tickets: int, *, core: int | None = None) -> Generator[dict[str, str]]:
    """Serve a shop without limits; what it told: ``address``, ``key``, ``secret``, ``pid``.

    :param core: the one that it keeps to.
    """
    command = [
        *(() if core is None else ("taskset", "--cpu-list", str(core))),
        *(sys.executable, "-m", "airflow_provider_lightspeed.sandbox", "--port", "0"),
        *("--order", order, "--tickets", str(tickets), "--limits", "off", "--burst-limit", "0"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            told = {"pid": str(process.pid)}
            while "secret" not in told:
                line = process.stdout.readline()
                assert line, "the sandbox does not start"
                label, _, value = line.strip().partition(" ")
                told[label] = value.strip()
            yield told
        finally:
            process.terminate()
