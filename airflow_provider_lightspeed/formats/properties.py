"""The properties that this version knows, and what an object has besides them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: The properties of an object, each with those of the object that it holds.
Shape = Mapping[str, "Shape"]
#: Where a value is: a property, a property of the object that it holds, and so on.
Path = tuple[str, ...]

_SCALAR: Shape = {}


def _shape(*names: str) -> Shape:
    return dict.fromkeys(names, _SCALAR)


_RELATION: Shape = {"resource": _shape("id", "url", "link")}

#: A ticket (vendor page "Ticket").
TICKET: Shape = {
    **_shape("id", "createdAt", "updatedAt", "isAnswered", "isClosed", "isTodo", "subject", "memo"),
    **_shape("doNotifyAnswered"),
    "language": _shape("id", "code", "locale", "title"),
    "customer": _RELATION,
    "messages": _RELATION,
}
#: A ticket whose messages are there, not their address.
TICKET_WITH_MESSAGES: Shape = {**TICKET, "messages": _SCALAR}
#: A message of a ticket (vendor page "TicketMessage").
MESSAGE: Shape = _shape("id", "createdAt", "updatedAt", "from", "message")


def shape_of(ticket: Mapping[str, Any]) -> Shape:
    """Return the shape that a ticket should have."""
    return TICKET_WITH_MESSAGES if isinstance(ticket.get("messages"), list) else TICKET


def is_missing(value: Any) -> bool:
    """Whether a value stands for null. The API writes ``false`` and ``""`` for it too (seen in live responses)."""
    return value is None or value is False or value == ""


def unknown(item: Mapping[str, Any], shape: Shape, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield what an object has besides the properties of a shape, each with its path.

    A relation that is no object is unknown as a whole, unless it stands for null.
    """
    for name, value in item.items():
        inner = shape.get(name)
        if inner is None:
            yield (*path, name), value
        elif inner and isinstance(value, dict):
            if not value.keys() <= inner.keys() or any(inner.values()):
                yield from unknown(value, inner, (*path, name))
        elif inner and not is_missing(value):
            yield (*path, name), value


def nested(found: Iterable[tuple[Path, Any]]) -> dict[str, Any]:
    """Return an object with these values at their paths."""
    made: dict[str, Any] = {}
    for (*parents, name), value in found:
        holder = made
        for parent in parents:
            holder = holder.setdefault(parent, {})
        holder[name] = value
    return made


def replaced(item: Mapping[str, Any], path: Path, *value: Any) -> dict[str, Any]:
    """Return an object with another value at a path; with none, without that property."""
    name, *inner = path
    copy = dict(item)
    if inner:
        copy[name] = replaced(item[name], tuple(inner), *value)
    elif value:
        (copy[name],) = value
    else:
        del copy[name]
    return copy
