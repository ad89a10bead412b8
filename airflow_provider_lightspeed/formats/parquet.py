"""Tickets as Parquet, with real types."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_lightspeed.formats.arrow import prepare_arrow
from airflow_provider_lightspeed.formats.base import Format, Layout
from airflow_provider_lightspeed.formats.columns import Column, Columns

if TYPE_CHECKING:
    import pyarrow as pa

#: Size in memory at which rows become a row group, of which writing takes some eight times as much: some 50,000
#: tickets, enough to scan well. Files of larger groups are not smaller.
_ROW_GROUP_BYTES = 4 * 1024 * 1024


class Parquet(Format):
    """Parquet. A page is staged as an Arrow stream, since Parquet files can't be put one after another.

    :raises ModuleNotFoundError: if the extra ``parquet`` is not installed.
    """

    content_type = "application/vnd.apache.parquet"

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        try:
            prepare_arrow()
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "file_format 'parquet' needs pyarrow: pip install 'airflow-provider-lightspeed[parquet]'"
            ) from error
        import pyarrow as pa

        self._columns = Columns(layout)
        self._schema = pa.schema([(column.name, arrow_type(column)) for column in self._columns.all])

    def fields(self) -> dict[str, str]:
        """Return the columns."""
        return self._columns.fields

    def encode(self, tickets: Sequence[dict[str, Any]]) -> bytes:
        """Encode a page as an Arrow stream."""
        import pyarrow as pa

        if not tickets:
            return b""
        columns = zip(*(self._columns.row(ticket).values() for ticket in tickets), strict=True)
        batch = pa.RecordBatch.from_arrays(
            [pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)],
            schema=self._schema,
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(
            sink, self._schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
        ) as stream:
            stream.write_batch(batch)
        encoded: bytes = sink.getvalue().to_pybytes()
        return encoded

    def finish(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Write the pages' rows as row groups."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        codec = self.layout.compression
        with pq.ParquetWriter(_Passing(sink), self._schema, compression=codec) as writer:
            for rows in self._row_groups(chunks):
                writer.write_table(pa.Table.from_batches(rows, self._schema), row_group_size=10**9)
                rows.clear()  # or they stay until the next ones are there
                pa.default_memory_pool().release_unused()
                yield sink.getvalue()
                sink.seek(0)
                sink.truncate()
        yield sink.getvalue()

    def _row_groups(self, chunks: Iterable[bytes]) -> Iterator[list[pa.RecordBatch]]:
        gathered: list[pa.RecordBatch] = []
        size = 0
        for chunk in chunks:
            for batch in _batches(chunk):
                gathered.append(batch)
                size += batch.nbytes
                if size >= _ROW_GROUP_BYTES:
                    yield gathered
                    gathered, size = [], 0
        if gathered:
            yield gathered


class _Passing(io.RawIOBase):
    """A file of which only the newest bytes are kept. Arrow asks where it is, and never goes back."""

    def __init__(self, sink: io.BytesIO) -> None:
        super().__init__()
        self._sink = sink
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        size = self._sink.write(data)
        self._position += size
        return size


def _batches(chunk: bytes) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    source = pa.BufferReader(chunk)
    while source.tell() < source.size():
        with pa.ipc.open_stream(source) as stream:
            yield from stream


def arrow_type(column: Column) -> pa.DataType:
    import pyarrow as pa

    if column.kind == "messages":
        return pa.list_(pa.struct([(inner.name, arrow_type(inner)) for inner in column.inner]))
    return {
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "json": pa.string(),
        "instant": pa.timestamp("us", tz="UTC"),
    }[column.kind]
