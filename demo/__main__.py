"""`make demo`: a lake follows a shop through a support desk's day, on real Airflow, printed and checked.

Shop and S3 server are local.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from demo.airflow_home import PROJECT
from demo.checks import CHECKS
from demo.isolation import stay_on_this_machine
from demo.lake import DAG_ID as SYNC
from demo.lake import LAKE_CHECKS, Lake, staff_works, sync
from demo.processes import end_in_order_on_signals
from demo.screen import heading, paint, say
from demo.story import (
    change_printer,
    print_addresses,
    print_calls,
    print_lake,
    print_log,
    print_object,
    print_tickets,
    short,
)
from demo.support_desk import DAG_ID, Day, spend_day
from demo.world import World, world

DIRECTORY = PROJECT / ".demo" / "demo"


def main(directory: Path = DIRECTORY) -> int:
    """Run the day, print it and check it. Returns 1 if a check fails."""
    end_in_order_on_signals()
    stay_on_this_machine()
    say(paint("Lightspeed eCom tickets on Apache Airflow: the lake follows the shop", "bold"))
    say("Everything runs on this machine, without a shop or a cloud account, in about a minute.")
    heading("What runs")
    try:
        with world(directory) as here:
            return _run(here)
    except RuntimeError as error:
        say(paint(f"\n✗ {error}", "red"))
        return 1


def _run(here: World) -> int:
    print_addresses(here)
    show = change_printer()
    with here.airflow.dags_in_one_process():
        _announce(here, "1. The lake gets all tickets", SYNC)
        say("    0.0 s  Airflow starts and reads the DAGs, in about half a minute")
        first = sync(here, show())
        _announce(here, "2. A day at the support desk", DAG_ID)
        day = spend_day(here, show())
        staff_works(here, show())
        _announce(here, "3. The lake follows", SYNC)
        say('  Triggered with {"scan": "full"}, to find changes of tickets older than 14 days too')
        lake = Lake(first, sync(here, show()))
    print_log(here)
    print_tickets(day)
    print_object(here, day)
    print_calls(day)
    print_lake(lake)
    all_is_well = _check(day, lake)
    heading("Next steps")
    say(f"  {short(here.airflow.log)}: the full Airflow log of this run")
    say(f"  {short(here.airflow.dags)}/: these DAGs and smaller ones, ready to copy")
    say("  make ui: the same shop in Airflow's web interface")
    say("  docs/tutorial.md: how to connect a real shop")
    return 0 if all_is_well else 1


def _announce(here: World, what: str, dag_id: str) -> None:
    heading(f"{what}: {short(here.airflow.dags)}/{dag_id}.py")


def _check(day: Day, lake: Lake) -> bool:
    heading("Checked against the shop's own data")
    checked: list[tuple[str, Iterator[str]]] = [
        *((claim, wrongs_in(day)) for claim, wrongs_in in CHECKS.items()),
        *((claim, wrongs_in(lake)) for claim, wrongs_in in LAKE_CHECKS.items()),
    ]
    all_is_well = True
    for claim, found in checked:
        wrongs = list(found)
        say(paint(f"  ✗ {claim}", "red") if wrongs else f"  {paint('✓', 'green')} {claim}")
        for wrong in wrongs:
            say(f"      {wrong}")
        all_is_well = all_is_well and not wrongs
    return all_is_well


if __name__ == "__main__":
    sys.exit(main())
