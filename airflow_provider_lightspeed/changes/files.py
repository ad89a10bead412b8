"""Change files and ``current`` as Parquet or JSON Lines: rows with the columns of an export, and those of a change."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Protocol

import msgspec

from airflow_provider_lightspeed.formats.columns import Columns

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

#: Size in memory at which rows become a row group.
_ROW_GROUP_BYTES = 4 * 1024 * 1024
_ROWS_AT_ONCE = 5_000
_GZIP_LEVEL = 1
_INSTANTS = ("_changed_after", "_changed_by", "created_at", "updated_at")


class ChangeFormat(Protocol):
    """How change files and ``current`` are written and read."""

    suffix: str
    content_type: str

    def write(self, rows: Iterable[Row], out: IO[bytes]) -> None:
        """Write a change file."""

    def read(self, file: IO[bytes]) -> Iterator[Row]:
        """Go through the rows of a change file, or of ``current``."""

    def select(self, file: IO[bytes], ids: Collection[int]) -> Iterator[Row]:
        """Go through the rows of some tickets."""

    def merge(self, current: IO[bytes] | None, changes: Sequence[IO[bytes]], out: IO[bytes]) -> None:
        """Write ``current`` as it is after change files.

        :param current: as it was before; None if there was none.
        :param changes: change files in their order.
        """


class ParquetChanges:
    """Parquet. ``current`` is merged by row group, so memory does not grow with the shop.

    :raises ModuleNotFoundError: if the extra ``parquet`` is not installed.
    """

    suffix = ".parquet"
    content_type = "application/vnd.apache.parquet"

    def __init__(self, columns: Columns) -> None:
        from airflow_provider_lightspeed.formats.arrow import prepare_arrow
        from airflow_provider_lightspeed.formats.parquet import arrow_type

        prepare_arrow()
        import pyarrow as pa

        instant = pa.timestamp("us", tz="UTC")
        changed = [("_seq", pa.int64()), ("_changed_after", instant), ("_changed_by", instant)]
        fields = [(column.name, arrow_type(column)) for column in columns.all]
        self._change = pa.schema([("op", pa.string()), *changed, *fields])
        self._current = pa.schema([*changed, *fields])

    def write(self, rows: Iterable[Row], out: IO[bytes]) -> None:
        """Write a change file."""
        import pyarrow as pa

        with _RowGroups(out, self._change) as groups:
            for batch in _batches(rows):
                groups.add(pa.Table.from_pylist(batch, schema=self._change))

    def read(self, file: IO[bytes]) -> Iterator[Row]:
        """Go through the rows."""
        for batch in _batches_of(file):
            yield from batch.to_pylist()

    def select(self, file: IO[bytes], ids: Collection[int]) -> Iterator[Row]:
        """Go through the rows of some tickets."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(sorted(ids), pa.int64())
        for batch in _batches_of(file):
            yield from batch.filter(pc.is_in(batch.column("id"), value_set=wanted)).to_pylist()

    def merge(self, current: IO[bytes] | None, changes: Sequence[IO[bytes]], out: IO[bytes]) -> None:
        """Write ``current`` as it is after change files."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        files = [pq.ParquetFile(file) for file in changes]
        ids = [file.read(["id"]).column("id").combine_chunks() for file in files]

        def not_in(table: pa.Table, later: Sequence[Any]) -> pa.Table:
            for gone in later:
                table = table.filter(pc.invert(pc.is_in(table.column("id"), value_set=gone)))
            return table

        with _RowGroups(out, self._current) as groups:
            if current is not None:
                before = pq.ParquetFile(current)
                for group in range(before.num_row_groups):
                    groups.add(_conform(not_in(before.read_row_group(group), ids), self._current))
            for number, file in enumerate(files):
                for group in range(file.num_row_groups):
                    rows = not_in(file.read_row_group(group), ids[number + 1 :])
                    groups.add(_conform(rows.filter(pc.not_equal(rows.column("op"), "D")), self._current))


class _RowGroups:
    """Writes tables as row groups of about the same size."""

    def __init__(self, out: IO[bytes], schema: pa.Schema) -> None:
        self._out = out
        self._schema = schema
        self._gathered: list[pa.Table] = []
        self._size = 0

    def __enter__(self) -> _RowGroups:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(self._out, self._schema, compression="zstd")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._write()
        self._writer.close()

    def add(self, table: pa.Table) -> None:
        """Add rows."""
        if table.num_rows:
            self._gathered.append(table)
            self._size += table.nbytes
        if self._size >= _ROW_GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        if self._gathered:
            self._writer.write_table(pa.concat_tables(self._gathered), row_group_size=10**9)
            self._gathered, self._size = [], 0
            pa.default_memory_pool().release_unused()


def _batches_of(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    read = pq.ParquetFile(file)
    # PyArrow 18 and older, which official constraints pin, fail if there is no row group.
    if read.num_row_groups:
        yield from read.iter_batches(_ROWS_AT_ONCE)


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring a table to the columns of this version; one that an earlier version did not know is null."""
    import pyarrow as pa

    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


class JsonLinesChanges:
    """JSON Lines in one gzip member, with the same columns."""

    suffix = ".jsonl.gz"
    content_type = "application/x-ndjson"

    def __init__(self, columns: Columns) -> None:
        self._names = ("op", "_seq", "_changed_after", "_changed_by", *columns.names)

    def write(self, rows: Iterable[Row], out: IO[bytes]) -> None:
        """Write a change file."""
        encode = msgspec.json.Encoder().encode_lines
        with _gzip(out) as packed:
            for batch in _batches(rows):
                packed.write(encode([{name: row.get(name) for name in self._names} for row in batch]))

    def read(self, file: IO[bytes]) -> Iterator[Row]:
        """Go through the rows, times as instants."""
        return map(_row, _lines(file))

    def select(self, file: IO[bytes], ids: Collection[int]) -> Iterator[Row]:
        """Go through the rows of some tickets."""
        return (_row(line) for line in _lines(file) if _read_id(line).id in ids)

    def merge(self, current: IO[bytes] | None, changes: Sequence[IO[bytes]], out: IO[bytes]) -> None:
        """Write ``current`` as it is after change files."""
        latest: dict[int, int] = {}
        for number, file in enumerate(changes):
            latest |= dict.fromkeys((_read_id(line).id for line in _lines(file)), number)
            file.seek(0)
        with _gzip(out) as packed:
            for line in _lines(current) if current is not None else ():
                if _read_id(line).id not in latest:
                    packed.write(line)
            for number, file in enumerate(changes):
                for line in _lines(file):
                    row = msgspec.json.decode(line)
                    if latest[row["id"]] == number and row.pop("op") != "D":
                        packed.write(msgspec.json.encode(row) + b"\n")


class _Id(msgspec.Struct):
    id: int


_read_id: Callable[[bytes], _Id] = msgspec.json.Decoder(_Id).decode


def _row(line: bytes) -> Row:
    row: Row = msgspec.json.decode(line)
    for name in _INSTANTS:
        if row.get(name):
            row[name] = datetime.fromisoformat(row[name])
    return row


def _gzip(out: IO[bytes]) -> gzip.GzipFile:
    return gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
        yield from unpacked


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


FORMATS: Mapping[str, Callable[[Columns], ChangeFormat]] = {
    "parquet": ParquetChanges,
    "jsonl": JsonLinesChanges,
}
