"""What leaves the shop: fields that are dropped, and fields that only keep who is the same as whom. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Container, Iterable
from typing import Any

import msgspec

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError

_KNOWN = (
    "createdAt",
    "updatedAt",
    "isAnswered",
    "isClosed",
    "isTodo",
    "doNotifyAnswered",
    "subject",
    "memo",
    "language",
    "customer",
    "messages",
)
_MESSAGE = "messages."
_KNOWN_OF_MESSAGES = ("createdAt", "updatedAt", "from", "message")
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
_SHORTEST_KEY = 16


class Redaction:
    """Drops and hashes fields of tickets.

    Names are the API's or the columns'. ``extra`` is every property that this version does not know,
    ``extra.NAME`` one of them; ``messages.NAME`` is a field of each message, ``messages.extra`` what it has besides.
    A name that cannot be one is refused: a slip must not let a field through.

    :param exclude: fields to drop.
    :param hashed: fields to replace by a keyed SHA-256 (HMAC): the same customer has the same hash, in every export
        with the same key, and nobody without the key finds out who it is by trying all ids.
    :param key: the key; needed to hash.
    :raises LightspeedConfigurationError: if a field is unknown or can't be hashed, or the key is missing or short.
    """

    def __init__(self, exclude: Iterable[str] = (), hashed: Iterable[str] = (), key: str = "") -> None:
        self.exclude = frozenset(_read("exclude_fields", name) for name in exclude)
        if "extra" in self.exclude:
            self.exclude |= {_MESSAGE + "extra"}
        self.hashed = frozenset(_read("hash_fields", name) for name in hashed)
        for name in sorted(self.hashed):
            if name not in _HASHABLE and not name.removeprefix(_MESSAGE).startswith(_EXTRA):
                raise LightspeedConfigurationError(
                    f"hash_fields: {name} can't be hashed: use {', '.join(_HASHABLE)}, {_EXTRA}NAME or "
                    f"{_MESSAGE}{_EXTRA}NAME"
                )
        if self.hashed and len(key) < _SHORTEST_KEY:
            raise LightspeedConfigurationError(
                f"hash_fields needs a key of at least {_SHORTEST_KEY} characters; ids can be guessed from a weak one"
            )
        self._key = key.encode()

    @property
    def name(self) -> tuple[list[str], list[str], str]:
        """What tells it from another: also from one with another key, without telling the key."""
        return sorted(self.exclude), sorted(self.hashed), self._digest("") if self.hashed else ""

    @property
    def text_columns(self) -> frozenset[str]:
        """The columns that hold a hash in place of a number."""
        return frozenset({"customer_id"} if "customer" in self.hashed else ())

    def apply(self, ticket: dict[str, Any]) -> dict[str, Any]:
        """Return the ticket without what is to stay in the shop."""
        if not self.exclude and not self.hashed:
            return ticket
        kept = self._apply(ticket, _KNOWN)
        messages = kept.get("messages")
        if isinstance(messages, list):
            kept["messages"] = [self._apply(message, _KNOWN_OF_MESSAGES, _MESSAGE) for message in messages]
        return kept

    def _apply(self, item: dict[str, Any], known: Container[str], prefix: str = "") -> dict[str, Any]:
        def is_in(name: str, fields: frozenset[str]) -> bool:
            if name in known:
                return prefix + name in fields
            return name != "id" and not fields.isdisjoint((f"{prefix}extra", f"{prefix}{_EXTRA}{name}"))

        return {
            name: self._hash(name, value) if is_in(name, self.hashed) else value
            for name, value in item.items()
            if not is_in(name, self.exclude)
        }

    def _hash(self, name: str, value: Any) -> Any:
        if value is None or value is False or value == "":
            return value
        if name == "customer":
            resource = value.get("resource") if isinstance(value, dict) else None
            number = resource.get("id") if isinstance(resource, dict) else None
            # The address of the customer, which holds the id, goes with it.
            return {"resource": {"id": self._digest(str(number)) if number else False}}
        return self._digest(
            value if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()
        )

    def _digest(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _read(argument: str, name: str) -> str:
    of_message = name.startswith(_MESSAGE)
    known = _KNOWN_OF_MESSAGES if of_message else _KNOWN
    inner = name.removeprefix(_MESSAGE)
    inner = _ALIASES.get(inner, inner)
    if inner in known or inner == "extra" or (inner.startswith(_EXTRA) and inner != _EXTRA):
        return _MESSAGE + inner if of_message else inner
    hint = f"; {'messages' if of_message else 'tickets'} can't do without it" if inner == "id" else ""
    fields = [*_KNOWN, *(_MESSAGE + field for field in _KNOWN_OF_MESSAGES), "extra", f"{_EXTRA}NAME"]
    raise LightspeedConfigurationError(f"{argument}: {name!r} is no field{hint}. Fields: {', '.join(fields)}")
