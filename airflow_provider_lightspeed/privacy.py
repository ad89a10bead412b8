"""What leaves the shop: fields that are dropped, and fields that only keep who is the same as whom. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
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
_HASHABLE = ("customer", "subject", "memo")
_EXTRA = "extra."
_SHORTEST_KEY = 16


class Privacy:
    """Drops and hashes fields of tickets.

    Names are the API's or the columns'. ``extra`` is every property that this version does not know,
    ``extra.NAME`` one of them. A name that cannot be one is refused: a slip must not let a field through.

    :param exclude: fields to drop.
    :param hashed: fields to replace by a keyed SHA-256 (HMAC): the same customer has the same hash, in every export
        with the same key, and nobody without the key finds out who it is by trying all ids.
    :param key: the key; needed to hash.
    :raises LightspeedConfigurationError: if a field is unknown or can't be hashed, or the key is missing or short.
    """

    def __init__(self, exclude: Iterable[str] = (), hashed: Iterable[str] = (), key: str = "") -> None:
        self.exclude = frozenset(_read("exclude_fields", name) for name in exclude)
        self.hashed = frozenset(_read("hash_fields", name) for name in hashed)
        for name in sorted(self.hashed):
            if name not in _HASHABLE and not name.startswith(_EXTRA):
                raise LightspeedConfigurationError(
                    f"hash_fields: {name} can't be hashed: use {', '.join(_HASHABLE)} or {_EXTRA}NAME"
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
        return {
            name: self._hash(name, value) if self._is_in(name, self.hashed) else value
            for name, value in ticket.items()
            if not self._is_in(name, self.exclude)
        }

    @staticmethod
    def _is_in(name: str, fields: frozenset[str]) -> bool:
        if name in _KNOWN:
            return name in fields
        return name != "id" and ("extra" in fields or _EXTRA + name in fields)

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
    name = _ALIASES.get(name, name)
    if name in _KNOWN or name == "extra" or (name.startswith(_EXTRA) and name != _EXTRA):
        return name
    hint = "; tickets can't do without it" if name == "id" else ""
    raise LightspeedConfigurationError(
        f"{argument}: {name!r} is no field{hint}. Fields: {', '.join(_KNOWN)}, extra, {_EXTRA}NAME"
    )
