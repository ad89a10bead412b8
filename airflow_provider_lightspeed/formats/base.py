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
    :param flatten: columns with types in place of the API's own objects. Formats with columns always have it.
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

    What `encode` returns for several pages may be put one after another, in memory or in a staged object; `finish`
    makes the file of it. So an export can stop after any page, and go on elsewhere: with another object of the same
    layout, which is given what was `pending`.

    :ivar pending: what was encoded and not yet returned.
    """

    content_type: ClassVar[str]

    def __init__(self, layout: Layout) -> None:
        if layout.compression not in COMPRESSIONS:
            raise FormatError(f"unknown compression {layout.compression!r}: use {', '.join(COMPRESSIONS)}")
        self.layout = layout
        self.pending = b""

    @abstractmethod
    def encode(self, tickets: Sequence[dict[str, Any]]) -> bytes:
        """Encode a page of tickets, and return what is ready of it and the pages before."""

    @abstractmethod
    def fields(self) -> dict[str, str]:
        """Return the type of each field of a row, by its name."""

    @abstractmethod
    def finish(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Turn chunks, in which all that was returned lies in order, into the file's bytes, with what is pending."""


class LineFormat(Format):
    """A text format: a head, and then lines. The same lines give the same bytes, in whatever pages they come."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._compression: Compression = COMPRESSIONS[layout.compression]()

    @abstractmethod
    def lines(self, tickets: Sequence[dict[str, Any]]) -> bytes:
        """Return a page's lines."""

    def head(self) -> bytes:
        """Return what comes before the first line."""
        return b""

    def encode(self, tickets: Sequence[dict[str, Any]]) -> bytes:
        """Encode a page, and return the blocks that are full."""
        blocks, self.pending = self._compression.blocks(self.pending + self.lines(tickets))
        return blocks

    def finish(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Put head, blocks and what is pending one after another."""
        head = self.head()
        is_empty = not head
        if head:
            yield self._compression.compress(head)
        for chunk in chunks:
            is_empty = is_empty and not chunk
            yield chunk
        if self.pending or is_empty:
            # A gzip file without a member is no gzip file.
            yield self._compression.compress(self.pending)
