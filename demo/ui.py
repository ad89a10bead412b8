"""`make ui`: the demo's world in Airflow's web interface, until Ctrl-C."""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from demo.airflow_home import PROJECT
from demo.ports import free_ports, is_free
from demo.processes import end_in_order_on_signals
from demo.screen import heading, paint, say
from demo.story import short, tell_world
from demo.support_desk import CUSTOMERS_ASK
from demo.world import BUCKET, World, world

DIRECTORY = PROJECT / ".demo" / "ui"

# A minute as a rule; a busy machine takes its time, and an Airflow that ends is noticed at once.
_READY_WITHIN = 900.0
_PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
_A_CUSTOMER_EVERY = 30.0


def main(port: int, directory: Path = DIRECTORY) -> int:
    """Run the world until a signal ends it."""
    end_in_order_on_signals()
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
            tell_world(here)
            say("\n  Airflow starts, which takes a minute …")
            _start_dags(here, f"http://127.0.0.1:{port}/api/v2", airflow)
            _tell_way_on(here, port)
            _live(here, airflow)
    except RuntimeError as error:
        say(paint(f"\n✗ {error}", "red"))
        return 1
    except SystemExit:
        # By a signal, which is how this is meant to end.
        say("\nAll of it has ended.")
    return 0


def _settings(port: int) -> dict[str, str]:
    log_ports = free_ports(2)
    return {
        # This Airflow asks nobody for a password, so that nobody else may reach it.
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        # Fixed ones otherwise, which another Airflow on this machine may use.
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_ports[0]),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(log_ports[1]),
        "AIRFLOW__CORE__PARALLELISM": "8",
        # All DAGs start at once, and on a busy machine Airflow does not answer its own tasks within the usual 5 s.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        # Off otherwise, since it lets whoever may edit connections make the server call any address.
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    }


def _start_dags(here: World, api: str, airflow: subprocess.Popen[bytes]) -> None:
    """Let the DAGs run once all of Airflow is up: before, their first tasks would find no server to report to.

    :raises RuntimeError: it does not come up.
    """
    expected = len(list(here.airflow.dags.glob("*.py")))
    give_up = time.monotonic() + _READY_WITHIN
    while time.monotonic() < give_up and airflow.poll() is None:
        time.sleep(1)
        try:
            health = _ask("GET", f"{api}/monitor/health")
            parsed = _ask("GET", f"{api}/dags")["total_entries"]
        except requests.RequestException:
            continue
        healthy = all(health[part]["status"] == "healthy" for part in _PARTS)
        if healthy and parsed == expected:
            _ask("PATCH", f"{api}/dags?dag_id_pattern=~", {"is_paused": False})
            return
    raise RuntimeError(f"Airflow does not start. {here.airflow.last_error()}\nThe log: {here.airflow.log}")


def _ask(method: str, address: str, body: object = None) -> Any:
    answer = requests.request(method, address, json=body, timeout=10)
    answer.raise_for_status()
    return answer.json()


def _tell_way_on(here: World, port: int) -> None:
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
