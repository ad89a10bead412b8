"""What an export has done so far, and what of it the next try finds."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec

from airflow_provider_lightspeed._checkpoint import Checkpoint, SavedState
from airflow_provider_lightspeed.api.paging import Cursor
from airflow_provider_lightspeed.api.wording import counted
from airflow_provider_lightspeed.s3.staging import Chunk

#: Airflow takes some seconds to start a task again; they pass while the quota is still used up.
RESTART_MARGIN = timedelta(seconds=3)


class Progress(SavedState):
    """What an export has done so far: plain JSON, some kilobytes.

    :ivar export: id of the export, also in the object's metadata.
    :ivar job: what is exported where and how; progress of another job is of no use.
    :ivar cursor: where the list is read on; None: from its beginning.
    :ivar seen_ids: tickets that are written, and that the list from the cursor on may show again.
    :ivar chunks: the staged parts.
    :ivar format_state: the format's state after them.
    :ivar quarantine: the staged part with malformed tickets.
    :ivar rejected: how many these are.
    :ivar upload: id of the multipart upload that a killed try may have left open.
    :ivar expected: about how many tickets there are; None: not asked yet; 0: unknown.
    :ivar stalls: windows of the quota in a row in which the export did not move.
    :ivar not_before: when the quota is back.
    """

    export: str
    job: str
    cursor: Cursor | None = None
    seen_ids: list[int] = msgspec.field(default_factory=list)
    chunks: list[Chunk] = msgspec.field(default_factory=list)
    format_state: list[int] = msgspec.field(default_factory=list)
    upload: str = ""
    quarantine: Chunk | None = None
    rejected: int = 0
    tickets: int = 0
    min_id: int | None = None
    max_id: int | None = None
    calls: int = 0
    without_messages: int = 0
    expected: int | None = None
    stalls: int = 0
    not_before: datetime | None = None

    @classmethod
    def start(cls, job: str) -> Progress:
        """Start a new export."""
        return cls(uuid4().hex[:12], job)

    @classmethod
    def of_object(cls, metadata: dict[str, str]) -> Progress:
        """Return the progress of the export that published an object, from the object's metadata."""
        numbers = {
            name.replace("-", "_"): int(metadata[name])
            for name in ("tickets", "min-id", "max-id", "calls", "rejected")
            if name in metadata
        }
        return cls(metadata["export"], metadata["job"], **numbers)  # type: ignore[arg-type]

    @property
    def staged(self) -> list[Chunk]:
        """All staged parts."""
        return [*self.chunks, *([self.quarantine] if self.quarantine else [])]


class SavedProgress:
    """The progress that the next try finds.

    :param checkpoint: keeps it, if Airflow has a store.
    :ivar state: as it was saved last, plain JSON.
    """

    def __init__(self, checkpoint: Checkpoint, progress: Progress) -> None:
        self._checkpoint = checkpoint
        self.save(progress)

    def save(self, progress: Progress) -> None:
        """Save all that is staged and read."""
        self._put(progress.to_json())

    def note_upload(self, upload: str) -> None:
        """Save the id of the multipart upload that publishes the object."""
        self._put({**self.state, "upload": upload})

    def note_quota(self, until: datetime) -> None:
        """Save when the quota is back."""
        self._put({**self.state, "not_before": until.isoformat()})

    def reset(self) -> None:
        """Save that the export starts over, with the same id: its object may be there."""
        self._put(Progress(self.state["export"], self.state["job"]).to_json())

    @property
    def is_useful(self) -> bool:
        """Whether the next try has less to do."""
        return self._checkpoint.is_persistent and bool(self.state["chunks"] or self.state["cursor"])

    @property
    def summary(self) -> str:
        """What the next try does."""
        if self.is_useful:
            return f"progress is kept ({counted(self.state['tickets'], 'ticket')}), and the next try resumes there"
        return "nothing is kept, and the next try starts over"

    def _put(self, state: dict[str, Any]) -> None:
        self.state = state
        self._checkpoint.save(state)
