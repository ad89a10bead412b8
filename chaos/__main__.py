"""Run random scenarios for a time: `python -m chaos --minutes 60 --seed 1`."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import requests

from chaos.environment import Environment, environment
from chaos.invariants import require
from chaos.run import run
from chaos.scenarios import draw
from demo.airflow_api import wait_until
from demo.isolation import stay_on_this_machine
from demo.processes import end_in_order_on_signals

_REPORTED_WITHIN = 120.0
#: A file that marks directories which this program may empty.
_MARK = "made-by-chaos"


def main() -> int:
    """Run until the time is up, or until an invariant is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="start no scenario after these")
    parser.add_argument(
        "--seed",
        type=int,
        help="of the first scenario; each next scenario takes the next seed (default: random)",
    )
    parser.add_argument("--scenarios", type=int, default=10**6, help="run at most this many")
    parser.add_argument("--directory", type=Path, default=Path(".chaos"))
    options = parser.parse_args()
    end_in_order_on_signals()
    stay_on_this_machine()
    first = random.randrange(10**6) if options.seed is None else options.seed
    directory: Path = options.directory.absolute()
    if directory.exists() and not (directory / _MARK).exists():
        parser.error(f"{directory} exists and was not made by chaos: remove it, or name another one")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / _MARK).touch()
    give_up = time.monotonic() + options.minutes * 60
    done = 0
    ends: Counter[str] = Counter()
    with environment(directory) as made:
        print(f"Airflow, S3 and a shop are up; all logs are below {directory}", flush=True)
        while done < options.scenarios and (not done or time.monotonic() < give_up):
            seed = first + done
            scenario = draw(seed)
            print(f"{seed}: {scenario}", flush=True)
            started = time.monotonic()
            try:
                report = run(scenario, made)
            except BaseException:
                print(f"Repeat with: make chaos SEED={seed} SCENARIOS=1    Logs: {directory}", flush=True)
                raise
            print(f"{seed}: {report.line}; {time.monotonic() - started:.0f} s", flush=True)
            done += 1
            ends.update(report.states.values())
        _asset_has_reported_all(made)
    print(f"{ends['success']} tasks green, {ends.total() - ends['success']} red, as expected")
    print(f"{done} scenarios, all invariants hold")
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def _asset_has_reported_all(made: Environment) -> None:
    """Each new ticket of the watched shop is in an event: at least once, since triggerers were killed."""
    new = {number for number in made.watched.shop.ids() if made.watched.shop.history(number)}

    reported: set[int] = set()

    def has_reported() -> bool:
        # Airflow's own server may be late on a busy machine.
        with suppress(requests.RequestException):
            for event in made.airflow.asset_events():
                reported.update(event["extra"].get("payload", {}).get("ticket_ids", ()))
        return new <= reported

    wait_until(has_reported, _REPORTED_WITHIN, lambda: f"the asset has not reported {sorted(new - reported)}")
    require(reported <= new, f"the asset has reported {sorted(reported - new)}, which are not new")


if __name__ == "__main__":
    sys.exit(main())
