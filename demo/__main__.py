"""`make demo`: a day at a support desk on real Airflow, with a local shop and a local S3 server, printed and checked."""

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
    """Run the day, print it and check it. Returns 1 if a check fails."""
    end_in_order_on_signals()
    stay_on_this_machine()
    say(paint("Lightspeed eCom tickets on Apache Airflow: a day at the support desk", "bold"))
    say("Everything runs on this machine, without a shop or a cloud account, in half a minute.")
    heading("What runs")
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
    heading("Next steps")
    say(f"  {short(here.airflow.log)}: the full Airflow log of this run")
    say(f"  {short(here.airflow.dags)}/: this DAG and smaller ones, ready to copy")
    say("  make ui: the same shop in Airflow's web interface")
    say("  README.md: how to connect a real shop")
    return 0 if all_is_well else 1


def _check(day: Day) -> bool:
    heading("Checked against the shop's own data")
    all_is_well = True
    for claim, wrongs_in in CHECKS.items():
        wrongs = list(wrongs_in(day))
        say(paint(f"  ✗ {claim}", "red") if wrongs else f"  {paint('✓', 'green')} {claim}")
        for wrong in wrongs:
            say(f"      {wrong}")
        all_is_well = all_is_well and not wrongs
    return all_is_well


if __name__ == "__main__":
    sys.exit(main())
