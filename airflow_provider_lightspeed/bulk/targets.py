"""Tickets as users name them, read into a plan."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec

from airflow_provider_lightspeed._arguments import Bytes, parse_id_text, parse_ticket_ids
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.responses import NOT_JSON
from airflow_provider_lightspeed.api.tickets import Ticket, parse_ticket_id
from airflow_provider_lightspeed.api.wording import counted
from airflow_provider_lightspeed.bulk.job import Plan, version_of

#: Outcomes in a receipt that say: this ticket was changed, or is to be.
_TAKEN = frozenset({"planned", "closed", "updated"})
#: Keys of task results that lead to an object with tickets, and such that hold ids.
_ADDRESSES = ("receipt", "uri")
#: Key of a task result that identifies the receipt of this run.
DIGEST_KEY = "receipt_sha256"
_ID_LISTS = ("ticket_ids", "closed", "updated")
_NOTHING_CHANGED = "No ticket was changed in this try."
_OWN_RECEIPT = (
    "Give each mapped instance a receipt of its own, for example with {{ ti.map_index }} in receipt_s3_key"
)
_OWN_ADDRESS = (
    "Give each run and each mapped instance its own address in receipt_s3_key, for example with {{ run_id }} and "
    "{{ ti.map_index }}, and plan again. To undo what the result names, pass its ids"
)
_OWN_SHOP = (
    "expand() with ticket_ids and lightspeed_conn_id combines each result with each shop: put the tasks of a shop into a "
    "mapped task group instead. If the connections lead to one shop by different API keys or addresses, pass the ids alone, "
    "or the uri of the export"
)
#: The hash of a shop, as results of tasks have it.
_SHOP = re.compile(r"[0-9a-f]{16}")
_GZIP = b"\x1f\x8b"
_NOT_GZIP = (zlib.error, OSError, EOFError)


def read_targets(value: Any, fetch: Callable[[str], bytes], shop: str) -> Plan:
    """Read which tickets are meant, each once.

    :param value: whatever ``parse_ticket_ids`` takes; an ``s3://`` address of a receipt, an export or a list of ids;
        or the result of a sensor, an export, or another bulk change.
    :param fetch: returns the bytes at an ``s3://`` address.
    :param shop: a hash of the shop that the connection leads to.
    :raises LightspeedConfigurationError: if anything in it is not an id, or a receipt is that of another shop, task
        or run.
    """
    if isinstance(value, str) and value.strip().startswith("{"):
        value = parse_id_text(value)
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping | Bytes):
        value = list(value)
        if any(isinstance(item, Mapping) for item in value):
            # The results of a mapped task.
            return {key: change for item in value for key, change in read_targets(item, fetch, shop).items()}
    reported: list[int] = []
    digest = None
    if isinstance(value, Mapping):
        named = value.get("shop", shop)
        # A dict of your own may name its shop in another way.
        if named != shop and _SHOP.fullmatch(str(named)):
            raise LightspeedConfigurationError(
                f"ticket_ids is the result of another shop than that of lightspeed_conn_id. {_NOTHING_CHANGED} {_OWN_SHOP}"
            )
        address = next((value[key] for key in _ADDRESSES if value.get(key)), None)
        # What a plan would delete is still there.
        lists = (*_ID_LISTS, "deleted") if value.get("dry_run") is True else _ID_LISTS
        ids = next((value[key] for key in lists if key in value), None)
        if address and ids is not None:
            reported = parse_ticket_ids(ids)
        if value.get("receipt"):
            digest = value.get(DIGEST_KEY)
        value = address or (value if ids is None else ids)
    if isinstance(value, str) and value.strip().lower().startswith("s3://"):
        data = fetch(value)
        if digest is not None and digest != receipt_digest(data):
            raise LightspeedConfigurationError(
                f"{value} is not the receipt of this result: another run or mapped instance has replaced it, or it "
                f"was not written. {_NOTHING_CHANGED} {_OWN_ADDRESS}"
            )
        plan = parse_lines(data, value, shop)
        # Results of earlier versions have no digest.
        if lost := set(reported) - plan.keys():
            raise LightspeedConfigurationError(
                f"{value} lacks {len(lost)} of the {counted(len(reported), 'ticket')} that the result names, so another task has "
                f"replaced this receipt. {_NOTHING_CHANGED} {_OWN_RECEIPT}"
            )
        return plan
    return dict.fromkeys(parse_ticket_ids(value))


def receipt_digest(data: bytes) -> str:
    """Return what tells a receipt from others at the same address: the first 16 digits of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


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
            continue
        if "outcome" not in line:
            is_known = "updatedAt" in line
        elif line["outcome"] in _TAKEN or line.get("maybe_changed"):
            is_known = line["updatedAt"] is not None
        else:
            continue
        yield parse_ticket_id(line["id"]), version_of(cast("Ticket", line)) if is_known else None
