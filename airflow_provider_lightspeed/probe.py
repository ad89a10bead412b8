"""Finds out how a shop answers: ``python -m airflow_provider_lightspeed.probe --conn-id lightspeed_default``.

It makes at most 20 calls and only reads. Its report holds no customer data: no text, address or id of a ticket.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

_NOT_VISIBLE = (
    "The shop of the connection {conn_id!r} cannot be probed: there is no such connection, or it is not visible here. In "
    "a shell, Airflow 3 reads connections from environment variables and secrets backends, not from its database: set "
    "AIRFLOW_CONN_{name}, or call LightspeedHook({conn_id!r}).probe() in a task\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 1 if the shop cannot be read."""
    options = _parser().parse_args(arguments)

    from airflow_provider_lightspeed._airflow import AirflowException, AirflowNotFoundException
    from airflow_provider_lightspeed.api.errors import LightspeedError
    from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook

    try:
        report = LightspeedHook(options.conn_id).probe()
    except AirflowNotFoundException:
        sys.stderr.write(_NOT_VISIBLE.format(conn_id=options.conn_id, name=options.conn_id.upper()))
        return 1
    except (LightspeedError, AirflowException) as error:
        sys.stderr.write(f"The shop of the connection {options.conn_id!r} cannot be probed: {error}\n")
        return 1
    sys.stdout.write(f"{report}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_lightspeed.probe", description=__doc__)
    parser.add_argument(
        "--conn-id", default="lightspeed_default", help="the connection (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
