"""``python -m airflow_provider_lightspeed.sandbox``: a local shop until Ctrl-C. Its options are the fields of `ShopConfig`."""

from __future__ import annotations

import argparse
import inspect
import re
import signal
import sys
import threading
from collections.abc import Container, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from airflow_provider_lightspeed.sandbox.config import NO_LIMITS, ShopConfig
from airflow_provider_lightspeed.sandbox.distortions import Distortions
from airflow_provider_lightspeed.sandbox.faults import Fault, FaultKind
from airflow_provider_lightspeed.sandbox.server import Sandbox

_FIELD = re.compile(r'^    (\w+): [^\n]+\n    """(.+?)"""', re.M | re.S)

_EPILOG = f"""\
Lists are written 300/3000/12000 or en,nl; names with values 2546=2547,2548=2549 or inserts=0.5,deletes=1.
No limits: --limits off --burst-limit 0

faults:
  --fault KIND[,NAME=VALUE...]   may be given several times

  KIND is one of {", ".join(get_args(FaultKind))}.
  NAMEs: method=PUT, path=REGEX, after=N (let N calls pass), times=N (0: without end; default 1),
  probability=0.1, applied=true (done, but the response is lost), delay=SECONDS, retry_after=TEXT.
  Example: --fault 503,times=0,probability=0.05 --fault drop,method=PUT,applied=true
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sandbox until a signal ends it."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    try:
        sandbox = Sandbox(ShopConfig(**options), host=host, port=port)
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
API       {sandbox.url}/en/tickets.json (or /us1/en/… and /eu1/en/…, as on a cluster)
control   {sandbox.url}/_sandbox/state

Try it:
  curl -u {sandbox.key}:{sandbox.secret} '{sandbox.url}/en/tickets.json?limit=2'

From Airflow:
  export AIRFLOW_CONN_LIGHTSPEED_DEFAULT='{sandbox.airflow_connection()}'

"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_lightspeed.sandbox",
        usage="%(prog)s [options]",
        description="A local shop that speaks the API of Lightspeed eCom: to try the provider, and to test your DAGs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--host", default="127.0.0.1", help="The address to listen on.")
    parser.add_argument("--port", type=int, default=8100, help="0 finds a free one and prints it.")
    _add_options(
        parser.add_argument_group("the shop"), ShopConfig, {field.name for field in fields(Distortions)}
    )
    _add_options(parser.add_argument_group("dishonest responses (default: an honest shop)"), Distortions)
    return parser


def _add_options(parser: argparse._ArgumentGroup, options: type, without: Container[str] = ()) -> None:
    kinds, texts = get_type_hints(options), _field_docs(options)
    for field in fields(options):
        if field.name in without:
            continue
        flag, kind = f"--{field.name.replace('_', '-')}", kinds[field.name]
        text = f"{texts[field.name]}{_default(field.default)}".replace("%", "%%")
        if field.name == "faults":
            parser.add_argument(
                "--fault", type=_fault, action="append", dest="faults", help=argparse.SUPPRESS
            )
        elif kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        else:
            choices = get_args(kind) if get_origin(kind) is Literal else None
            read = partial(_value, kind)
            parser.add_argument(flag, type=read, choices=choices, metavar=None if choices else "…", help=text)


def _default(value: object) -> str:
    if value in {None, False, MISSING, ()}:
        return ""
    shown = "/".join(map(str, value)) if isinstance(value, tuple) else "yes" if value is True else value
    return f" (default: {shown})"


def _field_docs(options: type) -> dict[str, str]:
    """Return what the docstring below each field says."""
    found = _FIELD.findall(inspect.getsource(options))
    return {name: " ".join(text.replace("``", "").split()) for name, text in found}


def _value(kind: Any, text: str, given: str = "") -> Any:
    if text == "off":
        return NO_LIMITS
    if get_origin(kind) is Literal:
        return text  # argparse names the choices
    value: object = text
    try:
        if is_dataclass(kind) or get_origin(kind) is Mapping:
            value = _pairs(kind, text)
        elif get_origin(kind) is tuple:
            value = re.split(r"[,/]", text)
        return msgspec.convert(value, kind, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise argparse.ArgumentTypeError(f"{given or repr(text)}: {error}") from None


def _pairs(kind: Any, text: str) -> dict[str, str]:
    if wrong := [pair for pair in text.split(",") if "=" not in pair]:
        raise ValueError(f"{wrong[0]!r} is not NAME=VALUE")
    pairs = dict(pair.split("=", 1) for pair in text.split(","))
    if is_dataclass(kind) and (unknown := pairs.keys() - {field.name for field in fields(kind)}):
        raise ValueError(f"unknown names {sorted(unknown)}")
    return pairs


def _fault(text: str) -> Fault:
    kind, *options = text.split(",")
    if kind not in get_args(FaultKind):
        raise argparse.ArgumentTypeError(f"unknown kind {kind!r}: use {', '.join(get_args(FaultKind))}")
    return _value(Fault, ",".join([f"kind={kind}", *options]), given=repr(text))  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
