"""How much CPU an export to S3 takes, beside that of another commit.

    .venv/bin/python -m benchmarks.export_cpu --against REF [--tickets 100000] [--rounds 9] [--endings jsonl.gz jsonl]
        [--order newest]

Shop and S3 server are real ones on this machine. Each export is a process of its own, the two commits take turns, and
only what a task does after its imports counts. Noise makes an export slower, never faster: so beside the median of the
pairs stands what the fastest export of each side took.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess  # ruff: ignore[suspicious-subprocess-import] - runs git and the exports
import sys
import tarfile
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.export_memory import BUCKET, exporting
from demo.processes import end_in_order_on_signals

REPOSITORY = Path(__file__).parents[1]


def package_of(ref: str, directory: Path) -> Path:
    """Put the package of a commit into a directory; return the directory."""
    packed = subprocess.run(
        ["git", "archive", ref, "airflow_provider_lightspeed"],
        check=True, stdout=subprocess.PIPE, cwd=REPOSITORY,
    ).stdout  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(directory, filter="data")
    return directory


def cpu(package: Path, key: str, environment: dict[str, str]) -> float:
    """Export with the package in this directory; return seconds of CPU."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks.export_memory", "--export", key],
        check=True, stdout=subprocess.PIPE, text=True,
        env=environment | {"PYTHONPATH": f"{package}{os.pathsep}{REPOSITORY}"},
    )  # fmt: skip
    seconds: float = json.loads(done.stdout.splitlines()[-1])["cpu"]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", required=True, metavar="REF", help="a commit")
    parser.add_argument("--tickets", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--endings", nargs="+", default=["jsonl.gz", "jsonl"])
    parser.add_argument("--order", choices=["oldest", "newest"], default="newest", help="of the shop's lists")
    options = parser.parse_args()
    end_in_order_on_signals()
    with (
        tempfile.TemporaryDirectory() as directory,
        exporting(options.tickets, options.order, Path(directory)) as environment,
    ):
        sides = {"then": package_of(options.against, Path(directory) / "then"), "now": REPOSITORY}
        for ending in options.endings:
            pairs: list[dict[str, float]] = []
            for number in range(options.rounds):
                turn = list(sides) if number % 2 else list(reversed(sides))
                pairs.append({
                    side: cpu(sides[side], f"{side}-{number}.{ending}", environment) for side in turn
                })
            ratios = sorted(pair["now"] / pair["then"] for pair in pairs)
            fastest = {side: min(pair[side] for pair in pairs) for side in sides}
            print(
                f"s3://{BUCKET}/*.{ending}: median of {len(ratios)} pairs x {median(ratios):.3f} "
                f"({ratios[0]:.3f} to {ratios[-1]:.3f}); fastest {fastest['then']:.2f} s then, "
                f"{fastest['now']:.2f} s now, x {fastest['now'] / fastest['then']:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
