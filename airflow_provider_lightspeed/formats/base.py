"""What a format is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from airflow_provider_lightspeed.formats.compression import COMPRESSIONS, Compression


class FormatError(ValueError):
    """A file cannot be laid out like this."""


@dataclass(frozen=True)
class Layout:
    """How a file is to look.

    :param file_format: name of the format.
    :param compression: ``gzip``, ``zstd`` or ``none``.
    :param flatten: columns with types instead of the API's own objects. Formats with columns always have it.
    :param include_messages: whether there is a column for each ticket's conversation.
    :param exclude: the API's properties that are left out; ``messages.NAME`` are those of messages.
    :param text: columns that hold text, whatever they are by nature (their values were hashed).
    :param escape_formulas: whether CSV puts an apostrophe before what a spreadsheet would run as a formula.
    :param csv_bom: whether CSV starts with a byte order mark, which tells Excel that it is UTF-8.
    """

    file_format: str = "jsonl"
    compression: str = "none"
    flatten: bool = False
    include_messages: bool = False
    exclude: frozenset[str] = frozenset()
    text: frozenset[str] = frozenset()
    escape_formulas: bool = True
    csv_bom: bool = False


class Format(ABC):
    """Tickets to bytes, page by page.

    All that `encode` and `flush` return, one after another, in memory or in staged parts, is turned into the file by
    `finish`. An export can stop after any `flush`, and another process with a format of the same layout continues
    from the `state` of that moment.
    """

    content_type: ClassVar[str]

    def __init__(self, layout: Layout) -> None:
        if layout.compression not in COMPRESSIONS:
            raise FormatError(f"unknown compression {layout.compression!r}: use {', '.join(COMPRESSIONS)}")
        self.layout = layout

    @abstractmethod
    def encode(self, tickets: Sequence[dict[str, Any]]) -> bytes:
        """Encode a page of tickets, and return what is ready of it and the pages before."""

    def flush(self) -> bytes:
        """Return the rest of the pages so far."""
        return b""

    @property
    def state(self) -> list[int]:
        """What another process needs to continue: a few numbers."""
        return []

    def resume(self, state: list[int]) -> None:
        """Continue after the parts of another process.

        :param state: after its last part; empty to start over.
        """
        if state:
            raise FormatError(f"{self.layout.file_format} has no state to resume from")

    @abstractmethod
    def fields(self) -> dict[str, str]:
        """Return the type of each field of a row, by its name."""

    @abstractmethod
    def finish(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Turn chunks, in which all that was returned is in order, into the file's bytes."""


class LineFormat(Format):
    """A text format: a head, and then lines."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._begin()

    @abstractmethod
    def lines(self, tickets: Sequence[dict[str, Any]]) -> bytes:
        """Return a page's lines."""

    def head(self) -> bytes:
        """Return what comes before the first line."""
        return b""

    @property
    def state(self) -> list[int]:
        """The state of the compression."""
        return self._compression.state

    def encode(self, tickets: Sequence[dict[str, Any]]) -> bytes:
        """Encode a page."""
        return self._compression.compress(self.lines(tickets))

    def flush(self) -> bytes:
        """Flush the compression."""
        return self._compression.flush()

    def resume(self, state: list[int]) -> None:
        """Start the file again, and take over the state of the parts."""
        self._begin()
        if state:
            self._compression.state = state

    def _begin(self) -> None:
        self._compression: Compression = COMPRESSIONS[self.layout.compression]()
        self._start = self._compression.start(self.head())

    def finish(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Put the start, the chunks and the end one after another."""
        yield self._start
        yield from chunks
        yield self._compression.finish()
