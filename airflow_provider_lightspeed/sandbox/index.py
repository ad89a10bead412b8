"""Sorted arrays of ``rank << 32 | id``: an index that costs 8 bytes a ticket, a million being nothing unusual."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

_ID_BITS = 32
_ID_MASK = (1 << _ID_BITS) - 1


def id_of(key: int) -> int:
    """Return the id in a key."""
    return key & _ID_MASK


def rank_of(key: int) -> int:
    """Return the rank in a key."""
    return key >> _ID_BITS


class Index:
    """Ids in the order of their ranks."""

    __slots__ = ("keys",)

    def __init__(self, entries: Iterable[tuple[int, int]] = ()) -> None:
        """Take (id, rank) pairs in any order."""
        self.keys = array("Q", sorted([rank << _ID_BITS | number for number, rank in entries]))

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, number: int, rank: int) -> None:
        """Insert an id in order."""
        insort(self.keys, rank << _ID_BITS | number)

    def remove(self, number: int, rank: int) -> None:
        """Take an id out."""
        del self.keys[bisect_left(self.keys, rank << _ID_BITS | number)]

    def find(self, number: int) -> int | None:
        """Return the key of an id, where ids rise with ranks."""
        keys = self.keys
        # Most ids follow one another: look first where this one is then. Pages in no order need 250 of them.
        place = number - id_of(keys[0]) if keys else 0
        if not 0 <= place < len(keys) or id_of(keys[place]) != number:
            place = self.from_id(number, inclusive=True)
        return keys[place] if place < len(keys) and id_of(keys[place]) == number else None

    def from_rank(self, rank: int) -> int:
        """Return the place of the first key of at least this rank."""
        return bisect_left(self.keys, rank << _ID_BITS)

    def from_id(self, number: int, *, inclusive: bool) -> int:
        """Return the place of the first id over (or at) this one, where ids rise with ranks."""
        bisect = bisect_left if inclusive else bisect_right
        return bisect(self.keys, number, key=id_of)
