"""Eight bytes that stand for a ticket: equal as long as no column that is written has changed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

#: Goes up when the same row gets another fingerprint; states of another version are rebuilt from the rows.
VERSION = 1

#: Columns that do not count. ``extra`` has what this version does not know: a new property on every ticket is no
#: update of every ticket. ``messages`` are fetched after the fingerprint has shown a change.
_NOT_COUNTED = frozenset({"id", "op", "_seq", "_changed_after", "_changed_by", "messages", "extra"})

_encoder = msgspec.json.Encoder(order="sorted")


def fingerprint(row: Mapping[str, Any]) -> int:
    """Return the fingerprint of a row: of its columns as they are written, so a file gives the same one back.

    Times are instants in UTC here, however the shop wrote them, and relations have no addresses any more. A missing
    value, an empty text and ``false`` are alike, since the shop writes one for the other.

    :param row: column names and values, from a ticket or from a file; times as datetimes or as the file has them.
    """
    data = _encoder.encode({name: row[name] for name in row if name not in _NOT_COUNTED and row[name]})
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def raw_fingerprints(key: bytes = b"") -> Callable[[Mapping[str, Any]], int]:
    """Return a function that returns a fingerprint of a ticket as the response has it.

    Equal means unchanged, and costs a quarter of building the row. Different means nothing: the offset of a time, the
    scheme of a link, an unknown property or the key may be all that differs.

    :param key: keeps what the row leaves out or hashes from being found by trying.
    """
    empty = hashlib.blake2b(key=key, digest_size=8)

    def raw_fingerprint(ticket: Mapping[str, Any]) -> int:
        digest = empty.copy()
        digest.update(msgspec.json.encode(ticket))
        return int.from_bytes(digest.digest())

    return raw_fingerprint
