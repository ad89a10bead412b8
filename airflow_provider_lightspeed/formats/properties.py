"""The properties that this version knows, and what an object has besides them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any


class Shape(dict[str, "Shape"]):
    """The properties of an object, each with those of the object that it holds."""

    @cached_property
    def objects(self) -> list[tuple[str, Shape]]:
        """The properties that hold an object."""
        return [(name, inner) for name, inner in self.items() if inner]


#: Where a value is: a property, a property of the object that it holds, and so on.
Path = tuple[str, ...]

#: Values with their paths.
Found = list[tuple[Path, Any]]

_SCALAR = Shape()


def _shape(*names: str) -> Shape:
    return Shape(dict.fromkeys(names, _SCALAR))


_RELATION = Shape(resource=_shape("id", "url", "link"))

#: A ticket (vendor page "Ticket").
TICKET = Shape(
    _shape(
        "id",
        "createdAt",
        "updatedAt",
        "isAnswered",
        "isClosed",
        "isTodo",
        "subject",
        "memo",
        "doNotifyAnswered",
    ),
    language=_shape("id", "code", "locale", "title"),
    customer=_RELATION,
    messages=_RELATION,
)
#: A ticket whose messages are there, not their address.
TICKET_WITH_MESSAGES = Shape(TICKET, messages=_SCALAR)
#: A message of a ticket (vendor page "TicketMessage").
MESSAGE = _shape("id", "createdAt", "updatedAt", "from", "message")


def shape_of(ticket: Mapping[str, Any]) -> Shape:
    """Return the shape that a ticket should have."""
    return TICKET_WITH_MESSAGES if isinstance(ticket.get("messages"), list) else TICKET


def is_missing(value: Any) -> bool:
    """Whether a value stands for null. The API writes ``false`` and ``""`` for it too (seen in live responses)."""
    return value is None or value is False or value == ""


def unknown(item: Mapping[str, Any], shape: Shape) -> Found:
    """Return what an object has besides the properties of a shape, each with its path.

    A relation that is no object is unknown as a whole, unless it stands for null.
    """
    found: Found = []
    if not item.keys() <= shape.keys():
        found += [((name,), value) for name, value in item.items() if name not in shape]
    for name, inner in shape.objects:
        value = item.get(name)
        if isinstance(value, dict):
            if inner.objects or not value.keys() <= inner.keys():
                found += [((name, *path), one) for path, one in unknown(value, inner)]
        elif not is_missing(value):
            found.append(((name,), value))
    return found


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
