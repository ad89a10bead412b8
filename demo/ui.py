"""`make ui`: the demo's shop and S3 server with Airflow's web interface, until Ctrl-C."""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import requests

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

# A minute as a rule, longer on a busy machine. An Airflow that ends is noticed at once.
_READY_WITHIN = 900.0
_A_CUSTOMER_EVERY = 30.0
_PROGRESS_EVERY = 15.0


def main(port: int, directory: Path = DIRECTORY) -> int:
    """Run until a signal ends it."""
    end_in_order_on_signals()
    stay_on_this_machine()
    if not is_free(port):
        say(f"Port {port} is taken, perhaps by another Airflow. Choose another one: make ui PORT={port + 1}")
        return 1
    say(paint("Lightspeed eCom tickets in Airflow's web interface", "bold"))
    heading("Starting a local shop, a local S3 server and Airflow's database")
    started = time.monotonic()
    try:
        # A poll every 15 seconds: two sensors share one key's quota here, for hours.
        with (
            world(directory, poll_seconds=15, settings=_settings(port)) as here,
            here.airflow.standalone() as airflow,
        ):
            print_addresses(here)
            heading("Starting Airflow, in about a minute")
            _start_dags(here, AirflowApi(port), airflow, started)
            _print_next_steps(here, port)
            _write_tickets(here, airflow)
    except RuntimeError as error:
        say(paint(f"\n✗ {error}", "red"))
        return 1
    except SystemExit:
        # By a signal, as intended.
        say("\nEverything has stopped.")
    return 0


def _settings(port: int) -> dict[str, str]:
    return {
        **serving(port),
        "AIRFLOW__CORE__PARALLELISM": "8",
        # All DAGs start at once. A busy Airflow answers its own tasks later than the usual 5 s.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # Off by default: it lets anyone who may edit connections make the server call any address.
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
    }


def _start_dags(here: World, api: AirflowApi, airflow: subprocess.Popen[bytes], started: float) -> None:
    """Unpause the DAGs once all of Airflow is up. Before, their first tasks would find no server to report to.

    :raises RuntimeError: it does not come up.
    """
    printed: tuple[list[str], float] = ([], started)
    while time.monotonic() < started + _READY_WITHIN and airflow.poll() is None:
        missing, now = _missing(here, api), time.monotonic()
        if missing != printed[0] or now > printed[1] + _PROGRESS_EVERY:
            printed = (missing, now)
            waiting = f"waiting for {', '.join(missing)}" if missing else "ready"
            say(f"  {now - started:5.1f} s  {waiting}")
        if not missing:
            for dag_id in api.dag_ids():
                api.unpause(dag_id)
            return
        time.sleep(0.5)
    raise RuntimeError(f"Airflow does not start. {here.airflow.last_error()}\nThe log: {here.airflow.log}")


def _missing(here: World, api: AirflowApi) -> list[str]:
    """Return what is not ready yet, in words."""
    if parts := api.parts_not_up():
        return parts
    expected = sum(file.read_text().count("@dag(") for file in here.airflow.dags.glob("*.py"))
    with suppress(requests.RequestException):
        missing = expected - len(api.dag_ids())
        return [f"{missing} of {expected} DAGs"] if missing else []
    return ["API server"]


def _print_next_steps(here: World, port: int) -> None:
    heading(f"Open http://127.0.0.1:{port} (no password)")
    say(
        "  DAGs          the example DAGs run: they keep a lake current, close stale tickets, wait for new ones"
    )
    say("  Connections   Admin → Connections → Add: choose the type Lightspeed eCom")
    say(f"  S3            {here.s3.endpoint}, {here.s3.access_key} / {here.s3.secret_key}")
    say(f"  lake, exports {here.s3.files(BUCKET)} (open it in the browser)")
    say(f"  shop          {here.shop.url}, {here.shop.key} / {here.shop.secret}")
    say(f"  DAG files     {short(here.airflow.dags)}/: change them and watch")
    say(f"  log           {short(here.airflow.log)}")
    heading("Ctrl-C stops everything. Until then, customers open tickets")


def _write_tickets(here: World, airflow: subprocess.Popen[bytes]) -> None:
    """Let customers open tickets until Airflow ends.

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
