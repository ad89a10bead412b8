"""The input and output of each contender: one command line, one line of JSON. Standard library only.

    python benchmarks/contenders/NAME.py --shop URL --key K --secret S --order newest|oldest
        --s3 URL --access-key A --secret-key B --bucket NAME --prefix PATH

It exports the whole shop to gzipped JSON Lines below the prefix. A `day_….py` follows the shop for a day: for each line
on its standard input it looks at the shop once, and writes a line of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = 250


@dataclass(frozen=True)
class Job:
    """The command line."""

    shop: str
    key: str
    secret: str
    order: str
    """Of the shop's lists. Whoever writes a loop has looked it up; the provider is not told."""
    s3: str
    access_key: str
    secret_key: str
    bucket: str
    prefix: str
    mode: str = ""
    """Of a contender that has several."""
    region: str = "us-east-1"

    @classmethod
    def from_command_line(cls) -> Job:
        parser = argparse.ArgumentParser(
            description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        for name in cls.__dataclass_fields__:
            if name != "region":
                parser.add_argument(f"--{name.replace('_', '-')}", required=name != "mode", default="")
        return cls(**vars(parser.parse_args()))

    @property
    def target(self) -> str:
        """The key for contenders that choose their object themselves."""
        return f"{self.prefix}/tickets.jsonl.gz"

    def s3_client(self) -> Any:
        """Return a boto3 client, for contenders that have none."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.s3,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
        )

    def airflow_connection(self) -> str:
        """Return the connection to S3, as ``AIRFLOW_CONN_<ID>`` takes it."""
        return json.dumps({
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": {"endpoint_url": self.s3, "region_name": self.region},
        })


@dataclass(frozen=True)
class Look:
    """One of the looks at the shop of a day.

    :ivar since: the instant of the last one; none at the first.
    :ivar until: the instant of this one.
    :ivar is_full: whether all tickets are due, for a contender that does not always read all.
    :ivar state: file for what the warehouse has now, of a contender that has it on this machine.
    """

    number: int
    since: str
    until: str
    is_full: bool
    state: str


def looks() -> Generator[Look]:
    """Go through the looks of a day."""
    print(json.dumps({"rows": 0}), flush=True)  # all is loaded
    for line in sys.stdin:
        yield Look(**json.loads(line))


def report(rows: int) -> None:
    """Report a look: so many rows were to be loaded."""
    print(json.dumps({"rows": rows}), flush=True)


@contextmanager
def at_work() -> Generator[None]:
    """Measure the export: seconds, seconds of CPU, peak memory in MiB, and how much of it came with the work."""
    loading, idle = _memory("VmHWM"), _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from here
    begun, cpu = time.perf_counter(), time.process_time()
    yield  # ruff: ignore[fallible-context-manager] - what fails is not measured
    measured = {
        "seconds": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "peak": max(loading, _memory("VmHWM")),
        "growth": _memory("VmHWM") - idle,
    }
    print(json.dumps(measured), flush=True)


def _memory(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name)) / 1024
