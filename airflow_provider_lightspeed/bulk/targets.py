"""Tickets as users name them, read into a plan."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from airflow_provider_lightspeed._arguments import Bytes, parse_id_text, parse_ticket_ids
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.responses import NOT_JSON
from airflow_provider_lightspeed.api.tickets import Ticket, parse_ticket_id
from airflow_provider_lightspeed.bulk.job import Plan, version_of

#: Outcomes in a receipt that say: this ticket was changed, or is to be.
_TAKEN = frozenset({"planned", "closed", "updated"})
#: Keys of task results that lead to an object with tickets, and such that hold ids.
_ADDRESSES = ("receipt", "uri")
_ID_LISTS = ("ticket_ids", "closed", "updated")
_NOTHING_CHANGED = "No ticket was changed."
_OWN_RECEIPT = (
    "Give each mapped instance a receipt of its own, for example with {{ ti.map_index }} in receipt_s3_key"
)
_GZIP = b"\x1f\x8b"
_NOT_GZIP = (zlib.error, OSError, EOFError)


def read_targets(value: Any, fetch: Callable[[str], bytes], shop: str) -> Plan:
    """Read which tickets are meant, each once.

    :param value: whatever ``parse_ticket_ids`` takes; an ``s3://`` address of a receipt, an export or a list of ids;
        or the result of a sensor, an export, or another bulk change.
    :param fetch: returns the bytes at an ``s3://`` address.
    :param shop: a hash of the shop that the connection leads to.
    :raises LightspeedConfigurationError: if anything in it is not an id, or a receipt is that of another shop or task.
    """
    if isinstance(value, str) and value.strip().startswith("{"):
        value = parse_id_text(value)
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping | Bytes):
        value = list(value)
        if any(isinstance(item, Mapping) for item in value):
            # The results of a mapped task.
            return {key: change for item in value for key, change in read_targets(item, fetch, shop).items()}
    reported: list[int] = []
    if isinstance(value, Mapping):
        address = next((value[key] for key in _ADDRESSES if value.get(key)), None)
        ids = next((value[key] for key in _ID_LISTS if key in value), None)
        if address and ids is not None:
            reported = parse_ticket_ids(ids)
        value = address or (value if ids is None else ids)
    if isinstance(value, str) and value.strip().startswith("s3://"):
        plan = parse_lines(fetch(value), value, shop)
        if lost := set(reported) - plan.keys():
            raise LightspeedConfigurationError(
                f"{value} lacks {len(lost)} of the {len(reported)} tickets that the result names, so another task has "
                f"replaced this receipt. {_NOTHING_CHANGED} {_OWN_RECEIPT}"
            )
        return plan
    return dict.fromkeys(parse_ticket_ids(value))


def parse_lines(data: bytes, name: str, shop: str) -> Plan:
    """Read tickets from JSON Lines: a receipt, an export, or one id a line; also one JSON list of ids. May be gzipped.

    Of a receipt, only the tickets that were changed, may have been, or are planned to be, are taken. With each comes
    when it was changed last, so that what has changed since is found out.

    :param name: for the error.
    :param shop: as above. A receipt of an earlier version does not name its shop.
    """
    try:
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
        if data.lstrip().startswith(b"["):
            return dict.fromkeys(parse_ticket_ids(msgspec.json.decode(data)))
        lines = [msgspec.json.decode(line) for line in data.splitlines() if line.strip()]
        receipt = [line for line in lines if isinstance(line, dict) and "outcome" in line]
        if any(line.get("shop", shop) != shop for line in receipt):
            raise LightspeedConfigurationError(
                f"{name} is a receipt of another shop. {_NOTHING_CHANGED} {_OWN_RECEIPT}. If the shop's API key or "
                "address was replaced since, pass the ids instead"
            )
        return dict(_entries(lines))
    except (*NOT_JSON, *_NOT_GZIP, KeyError, TypeError) as error:
        raise LightspeedConfigurationError(
            f"{name} is neither a receipt nor an export nor a list of ticket ids ({type(error).__name__})"
        ) from error


def _entries(lines: Iterable[Any]) -> Iterable[tuple[int, str | None]]:
    for line in lines:
        if not isinstance(line, dict):
            yield parse_ticket_id(line), None
        elif "outcome" not in line:
            yield parse_ticket_id(line["id"]), version_of(_ticket(line)) if "updatedAt" in line else None
        elif line["outcome"] in _TAKEN or line.get("maybe_changed"):
            # In a receipt, nothing for updatedAt means that it is not known.
            known = line["updatedAt"] is not None
            yield parse_ticket_id(line["id"]), version_of(_ticket(line)) if known else None


def _ticket(line: Any) -> Ticket:
    return line  # type: ignore[no-any-return]
