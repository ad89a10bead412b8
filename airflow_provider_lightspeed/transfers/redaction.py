"""Which fields leave the shop: some are dropped, some are replaced by a hash. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.formats.properties import (
    MESSAGE,
    TICKET,
    Path,
    Shape,
    is_missing,
    replaced,
    shape_of,
    unknown,
)

_KNOWN = tuple(name for name in TICKET if name != "id")
_MESSAGE = "messages."
_KNOWN_OF_MESSAGES = tuple(name for name in MESSAGE if name != "id")
#: A relation's address holds its id, so the id can only go together with it.
_ALIASES = {
    "created_at": "createdAt",
    "updated_at": "updatedAt",
    "is_answered": "isAnswered",
    "is_closed": "isClosed",
    "is_todo": "isTodo",
    "do_notify_answered": "doNotifyAnswered",
    "customer_id": "customer",
}
_HASHABLE = ("customer", "subject", "memo", "messages.message")
_EXTRA = "extra."
_HASHABLE_NAMES = (*_HASHABLE, f"{_EXTRA}NAME", f"{_MESSAGE}{_EXTRA}NAME")
_SHORTEST_KEY = 16
#: Tells the derived key from the hashes: those are in the files.
_DIGESTS = b"digests"
#: For `Redaction.needed`.
MESSAGES_ASKED_FOR = ("messages", "include_messages asks for what exclude_fields leaves out: messages")
_WHERE_TO_SET_THE_KEY = (
    "Set it in the Lightspeed connection's extra hash_secret, or in the Airflow Variable lightspeed_hash_secret, or name "
    "another Variable with hash_secret_variable"
)


class Redaction:
    """Drops and hashes fields of tickets.

    Names are the API's or the columns'. ``extra`` is every property that this version does not know, also inside
    ``language`` and ``customer``. ``extra.NAME`` is one of them, such as ``extra.phone`` or
    ``extra.customer.resource.embedded``; ``extra.customer`` is all inside ``customer``. ``messages.NAME`` is a field
    of each message, ``messages.extra`` what a message has besides. Any other name is refused, also one inside an
    unknown property: a typo must not let a field through.

    :param exclude: fields to drop.
    :param hashed: fields to replace by a keyed SHA-256 (HMAC): the same customer has the same hash in every export
        with the same key, and without the key the customer can't be found by trying all ids.
    :param key: the key; needed to hash.
    :param key_variable: Airflow Variable that the task names for the key, for the error.
    :param needed: properties that can't be dropped, each with the error.
    :raises LightspeedConfigurationError: if a field is unknown, needed or can't be hashed, or the key is missing or
        short.
    """

    def __init__(
        self,
        exclude: Iterable[str] = (),
        hashed: Iterable[str] = (),
        key: str = "",
        *,
        key_variable: str | None = None,
        needed: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.exclude = frozenset(_read("exclude_fields", name) for name in _listed("exclude_fields", exclude))
        for name, why in needed:
            if not self.exclude.isdisjoint({name, _EXTRA + name}):
                raise LightspeedConfigurationError(why)
        if "extra" in self.exclude:
            self.exclude |= {_MESSAGE + "extra"}
        as_given = {
            _read("hash_fields", name, _HASHABLE_NAMES): name for name in _listed("hash_fields", hashed)
        }
        self.hashed = frozenset(as_given)
        if any(name.startswith(_MESSAGE) for name in self.exclude | self.hashed):
            # Messages inside their relation, which this version does not know, would hold the field too.
            self.exclude |= {f"{_EXTRA}messages"}
        for name in sorted(self.hashed):
            if name not in _HASHABLE and not name.removeprefix(_MESSAGE).startswith(_EXTRA):
                raise LightspeedConfigurationError(
                    f"hash_fields: {as_given[name]!r} can't be hashed. Fields that can: {', '.join(_HASHABLE_NAMES)}"
                )
        remedy = _WHERE_TO_SET_THE_KEY
        if key_variable:
            remedy = f"Set the Airflow Variable {key_variable!r} (hash_secret_variable)"
        if self.hashed and not key:
            raise LightspeedConfigurationError(f"hash_fields needs a key, and none is set. {remedy}")
        if self.hashed and len(key) < _SHORTEST_KEY:
            raise LightspeedConfigurationError(
                f"the key of hash_fields has {len(key)} characters and needs {_SHORTEST_KEY}: from hashes with a "
                f"short key the ids can be guessed. {remedy}"
            )
        self._key = key.encode()

    @property
    def name(self) -> tuple[list[str], list[str], str]:
        """Identifies this redaction, and differs with another key. It does not contain the key."""
        return sorted(self.exclude), sorted(self.hashed), self._digest("") if self.hashed else ""

    def digest_key(self, secret: str) -> bytes:
        """Return a key for digests of tickets as the shop sent them; empty if nothing is dropped or hashed.

        Without a key, what is dropped or hashed could be found from such a digest by trying.

        :param secret: to derive the key from if no field is hashed.
        """
        if not self.exclude and not self.hashed:
            return b""
        return hashlib.blake2b(self._key or secret.encode(), digest_size=32, person=_DIGESTS).digest()

    @property
    def text_columns(self) -> frozenset[str]:
        """The columns that hold a hash in place of a number."""
        return frozenset({"customer_id"} if "customer" in self.hashed else ())

    def apply(self, ticket: dict[str, Any]) -> dict[str, Any]:
        """Return the ticket without what is to stay in the shop."""
        if not self.exclude and not self.hashed:
            return ticket
        kept = self._apply(ticket, shape_of(ticket), "")
        messages = kept.get("messages")
        if isinstance(messages, list):
            kept["messages"] = [self._apply(message, MESSAGE, _MESSAGE) for message in messages]
        return kept

    def _apply(self, item: dict[str, Any], shape: Shape, prefix: str) -> dict[str, Any]:
        kept = dict(item)
        for name, value in item.items():
            if name in shape:
                kept = self._applied(kept, (name,), value, {prefix + name})
        for path, value in unknown(kept, shape):
            # ``extra``, ``extra.customer``, ``extra.customer.resource``, …
            named = {
                f"{prefix}extra",
                *(f"{prefix}{_EXTRA}{'.'.join(path[:end])}" for end in range(1, len(path) + 1)),
            }
            kept = self._applied(kept, path, value, named)
        return kept

    def _applied(self, item: dict[str, Any], path: Path, value: Any, named: set[str]) -> dict[str, Any]:
        """Drop or hash what is at a path, if one of its names says so."""
        if not named.isdisjoint(self.exclude):
            return replaced(item, path)
        if not named.isdisjoint(self.hashed):
            return replaced(item, path, self._hash(path, value))
        return item

    def _hash(self, path: Path, value: Any) -> Any:
        if is_missing(value):
            return value
        if path == ("customer",):
            resource = value.get("resource") if isinstance(value, dict) else None
            number = resource.get("id") if isinstance(resource, dict) else None
            # The address of the customer, which holds the id, goes with it.
            return {"resource": {"id": self._digest(str(number)) if number else False}}
        return self._digest(
            value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()
        )

    def _digest(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _listed(argument: str, names: Any) -> list[str]:
    """Return the names of fields.

    :raises LightspeedConfigurationError: if they are no list, such as the text that a template renders to.
    """
    if isinstance(names, Iterable) and not isinstance(names, str | bytes):
        listed = list(names)
        if all(isinstance(name, str) for name in listed):
            return listed
    raise LightspeedConfigurationError(
        f"{argument} must be a list of fields, such as ['subject', 'memo'], got {names!r}. A template renders to text: "
        "render one for each field, or set render_template_as_native_obj=True in the DAG"
    )


def _read(argument: str, name: str, allowed: Sequence[str] = ()) -> str:
    prefix = _MESSAGE if name.startswith(_MESSAGE) else ""
    known = _KNOWN_OF_MESSAGES if prefix else _KNOWN
    inner = name.removeprefix(prefix)
    inner = _ALIASES.get(inner, inner)
    hint = ""
    if inner.startswith(_EXTRA):
        steps = inner.removeprefix(_EXTRA).split(".")
        redactable = _redactable(steps, MESSAGE if prefix else TICKET)
        if redactable == inner:
            return prefix + inner
        if redactable == "id":
            inner = "id"
        elif redactable.startswith(_EXTRA):
            hint = f": only the complete property `{prefix}{redactable}` can be excluded or hashed"
        elif redactable and (not allowed or prefix + redactable in allowed):
            hint = f": use `{prefix}{redactable}`"
    elif inner in known or inner == "extra":
        return prefix + inner
    if inner == "id":
        hint = f": {'messages' if prefix else 'tickets'} always keep it"
    fields = allowed or [
        *_KNOWN,
        *(_MESSAGE + field for field in _KNOWN_OF_MESSAGES),
        "extra",
        f"{_EXTRA}NAME",
    ]
    which = "Fields that can be hashed" if allowed else "Fields"
    raise LightspeedConfigurationError(
        f"{argument}: {name!r} is not a field{hint}. {which}: {', '.join(fields)}"
    )


def _redactable(steps: Sequence[str], shape: Shape) -> str:
    """Return the name that covers what these steps after ``extra.`` lead to; empty if a step is empty.

    It is ``extra.`` with the steps if they end at an object that can hold unknown properties, or at the first
    unknown step: `unknown` finds nothing deeper. Otherwise it is a shorter name.
    """
    if not all(steps):
        return ""
    first = _ALIASES.get(steps[0], steps[0])
    if first != steps[0] and first in shape:
        return first
    for depth, step in enumerate(steps, 1):
        if step not in shape:
            return _EXTRA + ".".join(steps[:depth])
        shape = shape[step]
        if not shape:
            return first
    return _EXTRA + ".".join(steps)
