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


def format_of(key: str) -> str:
    """Choose the format for a key: by its ending, else ``jsonl``."""
    for ending in _ENDINGS:
        key = key.removesuffix(ending)
    return next((name for name in FORMATS if key.endswith(f".{name}")), "jsonl")


def compression_of(key: str, file_format: str) -> str:
    """Choose the compression for a key: by its ending. Parquet compresses inside the file, with zstd."""
    if file_format == "parquet":
        return "zstd"
    return next((name for ending, name in _ENDINGS.items() if key.endswith(ending)), "none")
