"""Compression in pieces that may be put one after another: gzip members, zstd frames. No clock and no name in them."""

from __future__ import annotations

import gzip
from typing import Protocol

# Level 6 takes three times as long for a tenth less.
_GZIP_LEVEL = 1
_ZSTD_LEVEL = 3


class Compression(Protocol):
    """Compresses a piece by itself."""

    def compress(self, data: bytes, /) -> bytes:
        """Return a piece that can be read alone, or after others."""


class NoCompression:
    """Leaves bytes as they are."""

    def compress(self, data: bytes, /) -> bytes:
        """Return the data."""
        return data


class Gzip:
    """gzip members."""

    def compress(self, data: bytes, /) -> bytes:
        """Return one member."""
        return gzip.compress(data, _GZIP_LEVEL, mtime=0)


class Zstd:
    """zstd frames.

    :raises ModuleNotFoundError: if the extra ``zstd`` is not installed.
    """

    def __init__(self) -> None:
        try:
            import zstandard
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "compression 'zstd' needs zstandard: pip install 'airflow-provider-lightspeed[zstd]'"
            ) from error
        self._compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)

    def compress(self, data: bytes, /) -> bytes:
        """Return one frame."""
        return self._compressor.compress(data)


COMPRESSIONS: dict[str, type[Compression]] = {"gzip": Gzip, "zstd": Zstd, "none": NoCompression}
