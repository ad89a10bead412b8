"""``python -m airflow_provider_lightspeed.sandbox``: a local shop until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import get_args

import msgspec

from airflow_provider_lightspeed.sandbox.config import NO_LIMITS, Churn, Order, RetryAfter, ShopConfig
from airflow_provider_lightspeed.sandbox.faults import Fault, FaultKind
from airflow_provider_lightspeed.sandbox.server import Sandbox

_DEFAULT = ShopConfig()

_FAULT_HELP = f"""\
faults:
  --fault KIND[,NAME=VALUE...]   may be given several times

  KIND is one of {", ".join(get_args(FaultKind))}.
  NAMEs: method=PUT, path=REGEX, after=N (let N calls pass), times=N (0: without end; default 1),
  probability=0.1, applied=true (done, but the answer is lost), delay=SECONDS, retry_after=TEXT.
  Example: --fault 503,times=0,probability=0.05 --fault drop,method=PUT,applied=true
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sandbox until a signal ends it."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        sandbox = Sandbox(_config(options), host=options.host, port=options.port)
    except ValueError as error:
        parser.error(str(error))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        sandbox.start()
    except OSError as error:
        parser.exit(1, f"{error}\nChoose another port with --port; --port 0 finds a free one.\n")
    sys.stdout.write(_greeting(sandbox))
    sys.stdout.flush()
    ended.wait()
    sandbox.close()


def _greeting(sandbox: Sandbox) -> str:
    return f"""\
A local Lightspeed eCom shop with {len(sandbox.shop):,} tickets. Ctrl-C ends it; nothing is kept.

address   {sandbox.url}
key       {sandbox.key}
secret    {sandbox.secret}
clusters  {sandbox.url}/us1/en/…  {sandbox.url}/eu1/en/…  (and with no cluster: {sandbox.url}/en/…)
control   {sandbox.url}/_sandbox/state

Try it:
  curl -u {sandbox.key}:{sandbox.secret} '{sandbox.url}/en/tickets.json?limit=2'

From Airflow:
  export AIRFLOW_CONN_LIGHTSPEED_DEFAULT='{sandbox.airflow_connection()}'

"""


def _config(options: argparse.Namespace) -> ShopConfig:
    return ShopConfig(
        key=options.key,
        secret=options.secret,
        languages=tuple(options.languages.split(",")),
        tickets=options.tickets,
        seed=options.seed,
        end=options.end,
        days=options.days,
        first_id=options.first_id,
        id_step=options.id_step,
        per_second=options.per_second,
        oddities=options.oddities,
        order=options.order,
        filter_timezone=options.filter_timezone,
        answer_timezone=options.answer_timezone,
        min_inclusive=options.bounds == "inclusive",
        max_inclusive=options.bounds == "inclusive",
        since_id_inclusive=options.since_id_inclusive,
        count_reads_email=options.count_reads_email,
        messages_touch_tickets=not options.messages_do_not_touch,
        message_page_size=options.message_page_size,
        messages_ignore_page=options.messages_ignore_page,
        ignored_properties=tuple(filter(None, options.ignored_properties.split(","))),
        same_touches_tickets=options.same_touches_tickets,
        limits=options.quota,
        window_seconds=options.window_seconds,
        burst_limit=options.burst_limit,
        negative_remaining=options.negative_remaining,
        retry_after=options.retry_after,
        latency=options.latency,
        faults=tuple(options.fault),
        churn=Churn(
            inserts=options.churn_inserts, changes=options.churn_changes, deletes=options.churn_deletes
        ),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_lightspeed.sandbox",
        usage="%(prog)s [options]",
        description="A local shop that speaks the API of Lightspeed eCom: to try the provider, and to test your DAGs.",
        epilog=_FAULT_HELP,
        formatter_class=_HelpFormatter,
    )
    server = parser.add_argument_group("server")
    server.add_argument("--host", default="127.0.0.1", help="where to listen")
    server.add_argument("--port", type=int, default=8100, help="0 finds a free one and prints it")
    server.add_argument(
        "--latency", type=float, metavar="SECONDS", default=0.0, help="what each answer takes"
    )
    server.add_argument("--key", default=_DEFAULT.key, help="API key")
    server.add_argument("--secret", default=_DEFAULT.secret, help="API secret")
    server.add_argument(
        "--languages", metavar="CODES", default=",".join(_DEFAULT.languages), help="active ones"
    )

    tickets = parser.add_argument_group("tickets")
    tickets.add_argument("--tickets", type=int, metavar="N", default=_DEFAULT.tickets, help="how many")
    tickets.add_argument(
        "--seed", type=int, metavar="N", default=_DEFAULT.seed, help="another one, other tickets"
    )
    tickets.add_argument(
        "--days", type=float, metavar="N", default=_DEFAULT.days, help="how far back they go"
    )
    tickets.add_argument(
        "--end",
        type=_instant,
        metavar="INSTANT",
        help="up to when, e.g. 2026-01-01T00:00:00+00:00 (default: now)",
    )
    tickets.add_argument(
        "--first-id", type=int, metavar="ID", default=_DEFAULT.first_id, help="of the oldest"
    )
    tickets.add_argument("--id-step", type=int, metavar="N", default=1, help="mean distance between two ids")
    tickets.add_argument(
        "--per-second", type=int, metavar="N", default=1, help="tickets that share a createdAt"
    )
    tickets.add_argument("--oddities", action="store_true", help='false, "" and unknown properties in places')

    lists = parser.add_argument_group("what the documents leave open")
    lists.add_argument("--order", choices=get_args(Order), default=_DEFAULT.order, help="of lists")
    lists.add_argument(
        "--filter-timezone", metavar="ZONE", default="UTC", help="in which date filters are read"
    )
    lists.add_argument("--answer-timezone", metavar="ZONE", default="UTC", help="of the times in answers")
    lists.add_argument(
        "--bounds", choices=("inclusive", "exclusive"), default="inclusive", help="of the date filters"
    )
    lists.add_argument("--since-id-inclusive", action="store_true", help="since_id also gives that ticket")
    lists.add_argument("--count-reads-email", action="store_true", help="count.json heeds the filter email")
    lists.add_argument(
        "--messages-do-not-touch", action="store_true", help="a message leaves isAnswered and updatedAt alone"
    )
    lists.add_argument(
        "--message-page-size", type=int, metavar="N", help="of lists of messages, whatever limit says"
    )
    lists.add_argument(
        "--messages-ignore-page", action="store_true", help="of messages, the first page comes always"
    )
    lists.add_argument(
        "--ignored-properties", metavar="NAMES", default="", help="what a client's writes leave as it is"
    )
    lists.add_argument(
        "--same-touches-tickets", action="store_true", help="a PUT that changes nothing sets updatedAt"
    )

    quota = parser.add_argument_group("quota")
    quota.add_argument(
        "--quota",
        type=_limits,
        metavar="N/N/N",
        default="300/3000/12000",
        help="calls in each window, or: off",
    )
    quota.add_argument(
        "--window-seconds",
        type=_seconds,
        metavar="S/S/S",
        default="300/3600/86400",
        help="length of each window",
    )
    quota.add_argument(
        "--burst-limit", type=int, metavar="N", default=20, help="calls in any second; 0: no limit"
    )
    quota.add_argument(
        "--negative-remaining", action="store_true", help="a refused call reads -1 as what remains"
    )
    quota.add_argument("--retry-after", choices=get_args(RetryAfter), default="none", help="header of a 429")

    churn = parser.add_argument_group("other people, before each call (0.1: before every tenth)")
    churn.add_argument("--churn-inserts", type=float, metavar="N", default=0.0, help="tickets added")
    churn.add_argument("--churn-changes", type=float, metavar="N", default=0.0, help="tickets changed")
    churn.add_argument("--churn-deletes", type=float, metavar="N", default=0.0, help="tickets deleted")
    parser.add_argument("--fault", type=_fault, action="append", default=[], help=argparse.SUPPRESS)
    return parser


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        # A switch that is off, or an option that its help explains, needs no "(default: …)".
        return action.help if action.default in {None, False} else super()._get_help_string(action)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _limits(text: str) -> tuple[int, int, int]:
    if text == "off":
        return NO_LIMITS
    short, middle, long = map(int, text.split("/"))
    return short, middle, long


def _seconds(text: str) -> tuple[float, float, float]:
    short, middle, long = map(float, text.split("/"))
    return short, middle, long


def _fault(text: str) -> Fault:
    kind, *options = text.split(",")
    try:
        values = dict(option.split("=", 1) for option in options)
        return msgspec.convert({"kind": kind, **values}, Fault, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


if __name__ == "__main__":
    main()
