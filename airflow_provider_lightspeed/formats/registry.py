"""The formats there are. A further one is one module with a `Format`, and one line in `FORMATS`."""

from __future__ import annotations

from importlib import import_module

from airflow_provider_lightspeed.formats.base import Format, FormatError, Layout

#: Where each format is; loaded only when it is used.
FORMATS = {
    "jsonl": "airflow_provider_lightspeed.formats.jsonl:JsonLines",
    "csv": "airflow_provider_lightspeed.formats.csv:Csv",
    "parquet": "airflow_provider_lightspeed.formats.parquet:Parquet",
}

#: What readers (Athena, Spark, DuckDB, …) make of a key's end.
_ENDINGS = {".gz": "gzip", ".zst": "zstd"}


def make_format(layout: Layout) -> Format:
    """Return the format for a layout.

    :raises FormatError: if there is no such format, or it cannot have this layout.
    """
    if layout.file_format not in FORMATS:
        raise FormatError(f"unknown file_format {layout.file_format!r}: use {', '.join(FORMATS)}")
    module, _, name = FORMATS[layout.file_format].partition(":")
    made: Format = getattr(import_module(module), name)(layout)
    return made


def choose(key: str, file_format: str | None = None, compression: str | None = None) -> tuple[str, str]:
    """Choose format and compression for a key: by its ending, as far as they are not given.

    Without an ending that says it, it is ``jsonl`` without compression. Parquet compresses inside the file, with zstd.

    :raises FormatError: if the ending says something else than what is given: readers go by it.
    """
    name, packed = key, None
    for ending, method in _ENDINGS.items():
        if key.endswith(ending):
            name, packed = key.removesuffix(ending), method
    named = next((known for known in FORMATS if name.endswith(f".{known}")), None)
    chosen = file_format or named or "jsonl"
    if named and named != chosen:
        raise FormatError(
            f"the key {key!r} has the ending of {named}, but file_format is {chosen!r}. Readers choose the format "
            "by the ending: correct one of the two"
        )
    if chosen == "parquet":
        if packed:
            raise FormatError(
                f"the key {key!r} has the ending of {packed}, but Parquet is compressed inside the file: leave "
                "that ending out"
            )
        return chosen, compression or "zstd"
    contradicts = compression != packed if packed else named and compression != "none"
    if compression and contradicts:
        raise FormatError(
            f"the key {key!r} has the ending of {packed or named}, but compression is {compression!r}. "
            "Readers choose by the ending: correct one of the two"
        )
    return chosen, compression or packed or "none"
