"""What a scan has done so far, for the next try."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from airflow_provider_lightspeed._checkpoint import SavedState
from airflow_provider_lightspeed.api.paging import Cursor
from airflow_provider_lightspeed.changes.coverage import Coverage
from airflow_provider_lightspeed.changes.records import Identity
from airflow_provider_lightspeed.s3.staging import Chunk


class Progress(SavedState, kw_only=True):
    """What a scan has done so far: plain JSON, some kilobytes.

    :ivar observation: id of the scan.
    :ivar identity: of the shop and the layout; progress of another one is of no use.
    :ivar base: the change file that it began after, and `coverage` as it was then.
    :ivar cursor: where reading the list resumes; None: at its beginning.
    :ivar expected: about how many tickets the list has; None: not known yet.
    :ivar parts: what is staged: tickets seen, rows of those that are new or changed.
    :ivar ended: when the last ticket was read; None: the list is not read yet.
    :ivar gone: tickets that the shop does not have any more, and `unlisted` those that it has and does not list.
    :ivar unnamed: whether the list has malformed tickets whose id can't be read.
    """

    observation: str
    identity: Identity
    scan: Literal["recent", "full"]
    after_id: int
    started: datetime
    base: int
    coverage: Coverage
    cursor: Cursor | None = None
    expected: int | None = None
    parts: list[Chunk] = msgspec.field(default_factory=list)
    ended: datetime | None = None
    gone: list[int] = msgspec.field(default_factory=list)
    unlisted: list[int] = msgspec.field(default_factory=list)
    unnamed: bool = False
    calls: int = 0
