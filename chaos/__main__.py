"""Play random worlds for a time: `python -m chaos --minutes 60 --seed 1`."""

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

from chaos.play import play
from chaos.promises import keep
from chaos.stage import Stage, stage
from chaos.worlds import draw
from demo.airflow_api import wait_until
from demo.isolation import stay_on_this_machine
from demo.processes import end_in_order_on_signals

_TOLD_WITHIN = 120.0
#: Lies in each directory that may be emptied.
_MARK = "made-by-chaos"


def main() -> int:
    """Play until the time is up, or until a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="begin no world after these")
    parser.add_argument(
        "--seed", type=int, help="of the first world; the next one has the next (default: a new one)"
    )
    parser.add_argument("--worlds", type=int, default=10**6, help="at most so many")
    parser.add_argument("--directory", type=Path, default=Path(".chaos"))
    options = parser.parse_args()
    end_in_order_on_signals()
    stay_on_this_machine()
    first = random.randrange(10**6) if options.seed is None else options.seed
    directory: Path = options.directory.absolute()
    if directory.exists() and not (directory / _MARK).exists():
        parser.error(f"{directory} exists and is not from here: remove it, or name another one")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / _MARK).touch()
    give_up = time.monotonic() + options.minutes * 60
    played = 0
    ends: Counter[str] = Counter()
    with stage(directory) as made:
        print(f"Airflow, S3 and a shop are up; all logs are below {directory}", flush=True)
        while played < options.worlds and (not played or time.monotonic() < give_up):
            seed = first + played
            world = draw(seed)
            print(f"{seed}: {world}", flush=True)
            begun = time.monotonic()
            try:
                told = play(world, made)
            except BaseException:
                print(f"Again: make chaos SEED={seed} WORLDS=1    Logs: {directory}", flush=True)
                raise
            print(f"{seed}: {told.line}; {time.monotonic() - begun:.0f} s", flush=True)
            played += 1
            ends.update(told.states.values())
        _asset_has_told_of_all(made)
    print(f"{ends['success']} tasks green, {ends.total() - ends['success']} red, as they had to be")
    print(f"{played} worlds, all promises kept")
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def _asset_has_told_of_all(made: Stage) -> None:
    """Each ticket that came to the watched shop is in an event: at least once, since triggerers were killed."""
    new = {number for number in made.watched.shop.ids() if made.watched.shop.history(number)}

    told: set[int] = set()

    def has_told() -> bool:
        # Airflow's own server may be late on a busy machine.
        with suppress(requests.RequestException):
            for event in made.airflow.asset_events():
                told.update(event["extra"].get("payload", {}).get("ticket_ids", ()))
        return new <= told

    wait_until(has_told, _TOLD_WITHIN, lambda: f"the asset has not told of {sorted(new - told)}")
    keep(told <= new, f"the asset has told of {sorted(told - new)}, which are not new")


if __name__ == "__main__":
    sys.exit(main())
