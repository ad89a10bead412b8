"""Where a walk can resume: one kind of cursor for each kind of walk.

A cursor is a value. `msgspec.to_builtins` makes plain JSON of it, `msgspec.convert` reads it back.
"""

from __future__ import annotations

from typing import Annotated, TypedDict

import msgspec

from airflow_provider_lightspeed.api.paging.timezone import FilterZone


class ReaderState(msgspec.Struct, frozen=True):
    """What a reader has learned, whatever the kind of walk.

    :param zone: zone of the date filters.
    :param seen: tickets read so far.
    :param longest: rows of the longest response: what a page of this shop holds.
    :param boundary: the walk proves all tickets up to this id.
    """

    zone: FilterZone
    seen: int
    longest: int
    boundary: int


class OldestFirstCursor(msgspec.Struct, frozen=True, tag="oldest_first"):
    """Resume above the last ticket.

    :param inclusive: whether ``since_id`` shows the ticket that it names.
    """

    reader: ReaderState
    last: int
    inclusive: bool


class NewestFirstCursor(msgspec.Struct, frozen=True, tag="newest_first"):
    """Resume below the chain of tickets without a gap.

    :param top: highest id of the chain, if what is above it has to be asked for again.
    :param bottom: lowest id of the chain.
    :param depth: position of its last row in the list, from 1.
    :param drift: rows by which deletions move the list up from one call to the next.
    """

    reader: ReaderState
    top: int | None
    bottom: int
    depth: int
    drift: float


class KnownTicket(TypedDict):
    """What tells a ticket's place in a list, by the API's own names."""

    id: int
    createdAt: str


class SampleCursor(msgspec.Struct, frozen=True, tag="sample"):
    """Resume the sampling of creation times that comes before slices.

    :param depth: rows read.
    :param newest: id and ``createdAt`` of the newest ticket.
    :param seconds: a selection of the creation times, ascending.
    :param regular: whether all pages were full.
    """

    reader: ReaderState
    depth: int
    newest: KnownTicket | None
    seconds: list[int]
    regular: bool


class SliceCursor(msgspec.Struct, frozen=True, tag="slices"):
    """Resume at a slice of creation time.

    :param regular: whether all pages of the sample were full.
    :param slices: where those to come end, in seconds; None: never.
    :param start: local time at which the next slice starts.
    :param offset: seconds by which the filters' local time is ahead of UTC, as assumed.
    :param recent: ids and creation times of the last tickets.
    :param newest: the highest ids read.
    """

    reader: ReaderState
    regular: bool
    slices: list[int | None]
    start: int | None
    offset: int
    recent: list[Annotated[list[int], msgspec.Meta(min_length=2, max_length=2)]]
    newest: list[int]


Cursor = OldestFirstCursor | NewestFirstCursor | SampleCursor | SliceCursor
