"""What is known of each ticket, and what a scan shows to be new, changed and gone. Pure."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import IO, Any, NamedTuple

import msgspec

from airflow_provider_lightspeed.changes.fingerprint import VERSION, fingerprint, raw_fingerprints

#: ``created`` of a ticket whose time cannot be read: never old enough to be left out of a recent scan.
_NO_DATE = 2**63 - 1
_SEEN, _UNLISTED = 1, 2
#: So many tickets may change or go in any scope: a share of a few tickets is no number.
_FLOOR = 25
#: Bytes of the check sum, and what tells this layout from others.
_DIGEST, _LAYOUT = 16, b"columns"
_BLOCK = 1024 * 1024
_COLUMNS = ("ids", "created", "fingerprints", "raw", "flags")


class Entry(NamedTuple):
    """What is known of one ticket.

    :ivar created: seconds since 1970.
    :ivar raw: fingerprint of the last response with this content; 0 where none was seen.
    """

    id: int
    created: int
    fingerprint: int
    raw: int = 0


def entry_of(row: Mapping[str, Any], raw: int = 0) -> Entry:
    """Return what is to be known of a ticket, from its row."""
    created = row["created_at"]
    return Entry(row["id"], _NO_DATE if created is None else int(created.timestamp()), fingerprint(row), raw)


class Known:
    """All tickets of a shop as the log has them, by id: 33 bytes each."""

    def __init__(self) -> None:
        self.ids = array("q")
        self.created = array("q")
        self.fingerprints = array("Q")
        self.raw = array("Q")
        self.flags = array("B")

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, ticket_id: int) -> int:
        """Return where a ticket is; -1 if it is not known."""
        index = bisect_left(self.ids, ticket_id)
        return index if index < len(self.ids) and self.ids[index] == ticket_id else -1

    def __contains__(self, ticket_id: int) -> bool:
        return self.index(ticket_id) >= 0

    def __getitem__(self, index: int) -> Entry:
        return Entry(self.ids[index], self.created[index], self.fingerprints[index], self.raw[index])

    def put(self, entries: Iterable[Entry]) -> None:
        """Take entries in place of those with the same id; of two with one id, the last."""
        new = Known()
        for entry in entries:
            index = self.index(entry.id)
            if index < 0:
                new.append(entry)
            else:
                self.created[index] = entry.created
                self.fingerprints[index] = entry.fingerprint
                self.raw[index] = entry.raw
        new.sort()
        self._insert(new)

    def append(self, entry: Entry, flags: int = 0) -> None:
        """Add an entry at the end, for `sort` to bring to its place."""
        self.ids.append(entry.id)
        self.created.append(entry.created)
        self.fingerprints.append(entry.fingerprint)
        self.raw.append(entry.raw)
        self.flags.append(flags)

    def sort(self) -> None:
        """Bring all entries into the order of ids; of two with one id, the last one stays."""
        if all(first > second for first, second in pairwise(self.ids)):
            for name in _COLUMNS:
                getattr(self, name).reverse()  # the list came newest first
        elif not all(first < second for first, second in pairwise(self.ids)):
            order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
            keep = [i for i, j in pairwise(order) if self.ids[i] != self.ids[j]] + order[-1:]
            for name in _COLUMNS:
                column = getattr(self, name)
                setattr(self, name, array(column.typecode, (column[i] for i in keep)))

    def remove(self, ticket_ids: Iterable[int]) -> None:
        """Forget tickets."""
        gone = sorted(index for ticket_id in set(ticket_ids) if (index := self.index(ticket_id)) >= 0)
        if not gone:
            return
        for name in _COLUMNS:
            column = getattr(self, name)
            kept = array(column.typecode)
            for before, index in pairwise([-1, *gone, len(column)]):
                kept.extend(column[before + 1 : index])
            setattr(self, name, kept)

    def is_unlisted(self, ticket_id: int) -> bool:
        """Say whether the last scan found that the shop has this ticket and does not list it."""
        index = self.index(ticket_id)
        return index >= 0 and bool(self.flags[index] & _UNLISTED)

    def set_unlisted(self, ticket_ids: Iterable[int]) -> None:
        """Note that the shop has tickets that it does not list."""
        for ticket_id in ticket_ids:
            if (index := self.index(ticket_id)) >= 0:
                self.flags[index] |= _UNLISTED

    def highest_created_before(self, instant: datetime) -> int:
        """Return the highest id of a ticket created before an instant; 0 if there is none."""
        cutoff = int(instant.timestamp())
        for index in range(len(self.ids) - 1, -1, -1):
            if self.created[index] < cutoff:
                return self.ids[index]
        return 0

    def above(self, ticket_id: int) -> int:
        """Count the tickets with a greater id."""
        return len(self.ids) - bisect_left(self.ids, ticket_id + 1)

    def sample(self, count: int) -> list[Entry]:
        """Return some entries, spread evenly from the oldest to the newest."""
        last = len(self.ids) - 1
        indexes = sorted({round(i * last / max(1, count - 1)) for i in range(count)}) if last >= 0 else []
        return [self[index] for index in indexes]

    def write(self, out: IO[bytes], **about: Any) -> None:
        """Write it for `read`, with a check sum and without a second copy of it.

        :param about: plain values that go with it.
        """
        self.flags = array("B", self.flags.tobytes().translate(_WITHOUT_SEEN))
        head = msgspec.msgpack.encode({**about, "tickets": len(self), "version": VERSION})
        parts: list[bytes | array[int]] = [len(head).to_bytes(8), head]
        parts += [getattr(self, name) for name in _COLUMNS]
        digest = hashlib.blake2b(digest_size=_DIGEST, person=_LAYOUT)
        for part in parts:
            digest.update(part)
        out.write(digest.digest())
        for part in parts:
            out.write(part)

    @classmethod
    def read(cls, body: IO[bytes]) -> tuple[Known, dict[str, Any]] | None:
        """Read it, with the values that went with it; None if it is damaged, or another version's."""
        expected, digest = body.read(_DIGEST), hashlib.blake2b(digest_size=_DIGEST, person=_LAYOUT)
        # First: a damaged length would ask for more memory than there is.
        while block := body.read(_BLOCK):
            digest.update(block)
        if digest.digest() != expected:
            return None
        body.seek(_DIGEST)
        about = msgspec.msgpack.decode(body.read(int.from_bytes(body.read(8))))
        tickets = about.pop("tickets")
        if about.pop("version") != VERSION:
            return None
        known = cls()
        for name in _COLUMNS:
            column = getattr(known, name)
            column.frombytes(body.read(tickets * column.itemsize))
        return known, about

    def _insert(self, new: Known) -> None:
        # A column at a time: no second copy of all of it.
        places = [bisect_left(self.ids, ticket_id) for ticket_id in new.ids]
        for name in _COLUMNS:
            column, added = getattr(self, name), getattr(new, name)
            if not places or places[0] == len(self.flags):
                column.extend(added)
                continue
            merged = array(column.typecode)
            before = 0
            for place, value in zip(places, added, strict=True):
                merged.extend(column[before:place])
                merged.append(value)
                before = place
            merged.extend(column[before:])
            setattr(self, name, merged)


_WITHOUT_SEEN = bytes(flag & ~_SEEN for flag in range(256))


class Comparison:
    """Compares a scan with what is known.

    :param after_id: the scan shows the tickets with a greater id.
    :param row: the columns of a ticket, as they are written.
    :param raw_key: key of the fingerprints of responses.
    """

    def __init__(
        self,
        known: Known,
        after_id: int,
        row: Callable[[Mapping[str, Any]], dict[str, Any]],
        raw_key: bytes = b"",
    ) -> None:
        known.flags = array("B", known.flags.tobytes().translate(_WITHOUT_SEEN))
        self._known = known
        self._after_id = after_id
        self._row = row
        self._raw_fingerprint = raw_fingerprints(raw_key)
        self._replayed: frozenset[int] = frozenset()
        #: Tickets that are new or changed.
        self.found = Known()

    def see(self, ticket: Mapping[str, Any]) -> dict[str, Any] | None:
        """Take note of a ticket as the shop has it; return its row if it is new or changed.

        Of a ticket that the list shows again, the first time counts.
        """
        known = self._known
        raw = self._raw_fingerprint(ticket)
        index = known.index(ticket["id"])
        if index >= 0:
            if known.flags[index] & _SEEN:
                return None
            known.flags[index] = _SEEN
            if known.raw[index] == raw:
                return None
        elif ticket["id"] in self._replayed:
            return None
        row = self._row(ticket)
        entry = entry_of(row, raw)
        if index >= 0 and known.fingerprints[index] == entry.fingerprint:
            known.raw[index] = raw
            return None
        self.found.append(entry)
        return row

    def replay(self, unchanged: Iterable[int], found: Iterable[Entry]) -> None:
        """Take note of what an earlier try has seen."""
        for ticket_id in unchanged:
            self.mark_present(ticket_id)
        for entry in found:
            self.mark_present(entry.id)
            self.found.append(entry)

    def end_replay(self) -> None:
        """Begin to see: the list may show some of what was replayed again."""
        self._replayed = frozenset(self.found.ids)

    def mark_present(self, ticket_id: int) -> None:
        """Take note that the shop has a ticket, whatever it is like."""
        if (index := self._known.index(ticket_id)) >= 0:
            self._known.flags[index] |= _SEEN

    def absent(self) -> list[int]:
        """Return the known tickets of the scope that the scan has not shown."""
        known = self._known
        start = bisect_left(known.ids, self._after_id + 1)
        return [known.ids[index] for index in range(start, len(known)) if not known.flags[index] & _SEEN]


@dataclass(frozen=True)
class Limits:
    """How much of a scope may change in one scan before a person must confirm it.

    :param max_deleted: share of the scope that may be gone, with those gone since the last full scan.
    :param max_updated: share of the scope that may be changed.
    :param accept_deleted: so many may be gone, whatever the share.
    """

    max_deleted: float = 0.01
    max_updated: float = 0.5
    accept_deleted: int | None = None

    def too_many_deleted(self, gone: int, earlier: int, scope: int) -> str:
        """Return why so many tickets may not count as gone; empty if they may.

        :param gone: in this scan.
        :param earlier: in recent scans since the last full one.
        :param scope: how many known tickets the scan covers.
        """
        if not gone or (self.accept_deleted is not None and gone <= self.accept_deleted):
            return ""
        allowed = max(_FLOOR, int(self.max_deleted * scope))
        if gone + earlier <= allowed:
            return ""
        before = f", after {earlier} since the last full scan" if earlier else ""
        return (
            f"{gone} of {scope} tickets are gone from the shop's list{before}; at most {allowed} are allowed "
            f"(max_deleted={self.max_deleted:g})"
        )

    def too_many_updated(self, updated: int, scope: int) -> str:
        """Return why so many tickets may not count as changed; empty if they may."""
        allowed = max(_FLOOR, int(self.max_updated * scope))
        if updated <= allowed:
            return ""
        return f"{updated} of {scope} tickets have changed; at most {allowed} are allowed (max_updated={self.max_updated:g})"
