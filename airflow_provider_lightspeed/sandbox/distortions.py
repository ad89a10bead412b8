"""Options for shops whose responses are not what a client expects, and how such a shop writes a ticket."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from airflow_provider_lightspeed.sandbox.tickets import Document

BeyondDepth = Literal["refused", "empty"]
Switches = Literal["boolean", "text", "number", "digit"]
Texts = Literal["kept", "trimmed", "escaped"]
Unreadable = Literal["surrogate", "bytes", "no-date", "zero-date"]

_SWITCHES: Mapping[Switches, tuple[object, object]] = {
    "text": ("false", "true"),
    "number": (0, 1),
    "digit": ("0", "1"),
}
_SWITCH_NAMES = ("isAnswered", "isClosed", "isTodo", "doNotifyAnswered")
_NEW = {"priority": "high", "sla": {"hours": 24, "breached": False}}


@dataclass(frozen=True, kw_only=True)
class Distortions:
    """Responses that no document rules out. The default is an honest shop."""

    page_limit: int = 250
    """The most rows in one list response, whatever ``limit`` says."""
    page_depth: int | None = None
    """Pages that start beyond this many rows are not served (default: all pages are)."""
    beyond_depth: BeyondDepth = "refused"
    """Such a page is refused with a 422, or empty."""
    left_out: tuple[int, ...] = ()
    """Ids that are left out of their page after ``limit`` is applied. Counts and GET include them."""
    left_out_every: int = 0
    """Also leave out each ticket whose id is a multiple of this."""
    hidden: tuple[int, ...] = ()
    """Ids that no list and no count includes. GET still returns them."""
    repeated_every: int = 0
    """Tickets whose id is a multiple of this fill two rows of a list, as after a join. Counts count them once."""
    late_every: int = 0
    """Tickets whose id is a multiple of this become visible late, after tickets with higher ids."""
    late_seconds: float = 5.0
    """They become visible this long after their ``createdAt``."""

    count_cap: int | None = None
    """No count is higher than this."""
    count_lag: int = 0
    """Counts lack the latest writes, this many. At the start they lack the newest tickets."""
    replica_lag: int = 0
    """Every other read is answered by a replica that lacks the latest writes, this many. At the start it lacks the
    newest tickets."""

    aliases: Mapping[int, int] = field(default_factory=dict)
    """GET and PUT of the first id act on the second, and return it, as for merged tickets."""
    put_204: bool = False
    """A PUT is answered with 204 and no body."""
    texts: Texts = "kept"
    """What the shop does to the texts that a client writes: white space trimmed, or HTML escaped."""

    switches: Switches = "boolean"
    """How responses write true: ``true``, ``"true"``, ``1`` or ``"1"``."""
    unreadable: Mapping[int, Unreadable] = field(default_factory=dict)
    """Ids of tickets with a value that cannot be read, and which: ``surrogate`` (half a pair in ``subject``), ``bytes``
    (there, not UTF-8), ``no-date`` (null as ``createdAt``) or ``zero-date`` (``-0001-11-30T00:00:00+00:00``)."""
    new_properties: bool = False
    """Tickets, their relations and messages have properties that no document mentions."""
    link_scheme: Literal["https", "http"] = "https"
    """The scheme of each ``link``."""

    def __post_init__(self) -> None:
        check_choices(self)
        if unknown := set(self.unreadable.values()) - set(get_args(Unreadable)):
            raise ValueError(
                f"Unknown unreadable {sorted(unknown)}: choose from {', '.join(get_args(Unreadable))}"
            )
        if self.page_limit < 1:
            raise ValueError("page_limit must be >= 1")
        counts = (self.page_depth, self.left_out_every, self.repeated_every, self.late_every, self.count_cap)
        if min(number or 0 for number in (*counts, self.count_lag, self.replica_lag, self.late_seconds)) < 0:
            raise ValueError("page_depth, …_every, count_cap, …_lag and late_seconds must be >= 0")

    def is_left_out(self, ticket_id: int) -> bool:
        """Return whether a ticket is missing in its page."""
        return ticket_id in self.left_out or is_multiple(ticket_id, self.left_out_every)

    @property
    def rewrites_tickets(self) -> bool:
        """Whether tickets are written in another way than an honest shop does."""
        return bool(
            self.switches != "boolean"
            or self.unreadable
            or self.new_properties
            or self.link_scheme != "https"
        )


def check_choices(options: object) -> None:
    """Check each option that has a choice of values.

    :raises ValueError: it has another one.
    """
    for name, kind in get_type_hints(type(options)).items():
        value = getattr(options, name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise ValueError(f"Unknown {name} {value!r}: choose from {', '.join(get_args(kind))}")


def is_multiple(ticket_id: int, every: int) -> bool:
    """Return whether an option for every so many tickets (0: for none) holds for this one."""
    return every > 0 and ticket_id % every == 0


def rewrite_ticket(text: str, options: Distortions) -> bytes:
    """Return a ticket's JSON as this shop writes it.

    :param text: as an honest shop writes it.
    """
    document: Document = json.loads(text)
    if options.switches != "boolean":
        values = _SWITCHES[options.switches]
        document |= {name: values[document[name]] for name in _SWITCH_NAMES}
    if options.new_properties:
        document = with_new_properties(document)
    if options.link_scheme != "https":
        _replace_links(document, options.link_scheme)
    flaw = options.unreadable.get(document["id"])
    match flaw:
        case "surrogate":
            document["subject"] = "caf\ud83d"
        case "no-date":
            document["createdAt"] = None
        case "zero-date":
            document["createdAt"] = "-0001-11-30T00:00:00+00:00"
    # PHP's json_encode escapes all but ASCII, too.
    written = json.dumps(document, separators=(",", ":")).encode()
    return written.replace(b'"subject":"', b'"subject":"caf\xe9 ', 1) if flaw == "bytes" else written


def with_new_properties(document: Document) -> Document:
    """Return a ticket or message with properties that no document mentions, in its relations too."""
    relations = {
        name: {**value, **_NEW}
        for name, value in document.items()
        if name != "messages" and isinstance(value, dict)
    }
    return {**document, **relations, **_NEW}


def change_text(text: str, how: Texts) -> str:
    """Return what the shop keeps of a text that a client writes."""
    match how:
        case "trimmed":
            return text.strip()
        case "escaped":
            return html.escape(text)
    return text


def _replace_links(value: Any, scheme: str) -> None:
    for name, part in value.items():
        if name == "link":
            value[name] = part.replace("https://", f"{scheme}://")
        elif isinstance(part, dict):
            _replace_links(part, scheme)
