"""`make ui`: the demo's world in Airflow's web interface, until Ctrl-C."""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from pathlib import Path

from demo.airflow_api import AirflowApi
from demo.airflow_home import PROJECT, serving
from demo.isolation import stay_on_this_machine
from demo.ports import is_free
from demo.processes import end_in_order_on_signals
from demo.screen import heading, paint, say
from demo.story import print_addresses, short
from demo.support_desk import CUSTOMERS_ASK
from demo.world import BUCKET, World, world

DIRECTORY = PROJECT / ".demo" / "ui"

# A minute as a rule; a busy machine takes its time, and an Airflow that ends is noticed at once.
_READY_WITHIN = 900.0
_A_CUSTOMER_EVERY = 30.0


def main(port: int, directory: Path = DIRECTORY) -> int:
    """Run the world until a signal ends it."""
    end_in_order_on_signals()
    stay_on_this_machine()
    if not is_free(port):
        say(f"Port {port} is taken, perhaps by another Airflow. Choose a free one: make ui PORT={port + 1}")
        return 1
    say(paint("Lightspeed eCom tickets in Airflow's web interface", "bold"))
    heading("The world")
    try:
        # A look every 15 seconds: two sensors wait here at the same time, for hours, with one key's quota.
        with (
            world(directory, poll_seconds=15, settings=_settings(port)) as here,
            here.airflow.standalone() as airflow,
        ):
            print_addresses(here)
            say("\n  Airflow starts, which takes a minute …")
            _start_dags(here, AirflowApi(port), airflow)
            _print_addresses(here, port)
            _live(here, airflow)
    except RuntimeError as error:
        say(paint(f"\n✗ {error}", "red"))
        return 1
    except SystemExit:
        # By a signal, which is how this is meant to end.
        say("\nAll of it has ended.")
    return 0


def _settings(port: int) -> dict[str, str]:
    return {
        **serving(port),
        "AIRFLOW__CORE__PARALLELISM": "8",
        # All DAGs start at once, and on a busy machine Airflow does not answer its own tasks within the usual 5 s.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # Off otherwise, since it lets whoever may edit connections make the server call any address.
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    }


def _start_dags(here: World, api: AirflowApi, airflow: subprocess.Popen[bytes]) -> None:
    """Let the DAGs run once all of Airflow is up: before, their first tasks would find no server to report to.

    :raises RuntimeError: it does not come up.
    """
    expected = len(list(here.airflow.dags.glob("*.py")))
    give_up = time.monotonic() + _READY_WITHIN
    while time.monotonic() < give_up and airflow.poll() is None:
        time.sleep(1)
        if api.is_up() and len(dag_ids := api.dag_ids()) == expected:
            for dag_id in dag_ids:
                api.unpause(dag_id)
            return
    raise RuntimeError(f"Airflow does not start. {here.airflow.last_error()}\nThe log: {here.airflow.log}")


def _print_addresses(here: World, port: int) -> None:
    heading(f"Open http://127.0.0.1:{port}  (no password is asked)")
    say("  Dags          the example DAGs have begun: yesterday's export, closing, waiting for new tickets")
    say("  Connections   Admin → Connections → Add: choose the type Lightspeed eCom")
    say(f"  S3            {here.s3.endpoint}, {here.s3.access_key} / {here.s3.secret_key}")
    say(f"  exports       {here.s3.files(BUCKET)}, to look at in the browser")
    say(f"  shop          {here.shop.url}, {here.shop.key} / {here.shop.secret}")
    say(f"  DAG files     {short(here.airflow.dags)}/: change them and watch")
    say(f"  log           {short(here.airflow.log)}")
    heading("Ctrl-C ends all of it. Meanwhile customers write")


def _live(here: World, airflow: subprocess.Popen[bytes]) -> None:
    """Let customers write until Airflow ends.

    :raises RuntimeError: it has.
    """
    for subject in itertools.cycle(CUSTOMERS_ASK):
        (number,) = here.shop.add_tickets(subject=subject)
        say(f"  {time.strftime('%H:%M:%S')}  {number}  {subject}")
        try:
            airflow.wait(_A_CUSTOMER_EVERY)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"Airflow has ended. {here.airflow.last_error()}\nThe log: {here.airflow.log}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    sys.exit(main(parser.parse_args().port))
