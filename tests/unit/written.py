"""Tickets as a format writes them, and back to plain bytes."""

from __future__ import annotations

import gzip
from typing import Any

import zstandard

from airflow_provider_lightspeed.formats import Layout, make_format


def write(pages: list[list[dict[str, Any]]], **layout: Any) -> bytes:
    made = make_format(Layout(**layout))
    return b"".join(made.finish([made.encode(page) for page in pages]))


def unpack(data: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.decompress(data)
    if compression == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data
