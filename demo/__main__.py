"""`make demo`: a support desk's day on real Airflow, with a local shop and a local S3 server, told and checked."""

from __future__ import annotations

import sys
from pathlib import Path

from demo.airflow_home import PROJECT
from demo.checks import CHECKS
from demo.isolation import stay_on_this_machine
from demo.processes import end_in_order_on_signals
from demo.screen import heading, paint, say
from demo.story import (
    change_printer,
    print_addresses,
    print_calls,
    print_log,
    print_object,
    print_tickets,
    short,
)
from demo.support_desk import DAG_ID, Day, spend_day
from demo.world import World, world

DIRECTORY = PROJECT / ".demo" / "demo"


def main(directory: Path = DIRECTORY) -> int:
    """Tell the story and return the exit status: 1 if anything is not as it must be."""
    end_in_order_on_signals()
    stay_on_this_machine()
    say(paint("Lightspeed eCom tickets on Apache Airflow: a day at the support desk", "bold"))
    say("All of it runs on this machine, with no shop and no cloud account, and takes half a minute.")
    heading("The world")
    try:
        with world(directory) as here:
            return _run(here)
    except RuntimeError as error:
        say(paint(f"\n✗ {error}", "red"))
        return 1


def _run(here: World) -> int:
    print_addresses(here)
    heading(f"The run: {short(here.airflow.dags)}/{DAG_ID}.py")
    say("    0.0 s  Airflow starts")
    day = spend_day(here, change_printer())
    print_log(here)
    print_tickets(day)
    print_object(here, day)
    print_calls(day)
    all_is_well = _check(day)
    heading("Where to look next")
    say(f"  {short(here.airflow.log)}: the whole Airflow log of this run")
    say(f"  {short(here.airflow.dags)}/: this DAG and smaller ones, to be copied as they are")
    say("  make ui: the same world in Airflow's web interface")
    say("  README.md: the connection to a real shop")
    return 0 if all_is_well else 1


def _check(day: Day) -> bool:
    heading("Checked against the shop's own truth")
    all_is_well = True
    for promise, wrongs_in in CHECKS.items():
        wrongs = list(wrongs_in(day))
        say(paint(f"  ✗ {promise}", "red") if wrongs else f"  {paint('✓', 'green')} {promise}")
        for wrong in wrongs:
            say(f"      {wrong}")
        all_is_well = all_is_well and not wrongs
    return all_is_well


if __name__ == "__main__":
    sys.exit(main())
