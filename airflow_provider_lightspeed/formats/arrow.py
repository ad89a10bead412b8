"""pyarrow, which only Parquet needs."""

from __future__ import annotations

import os

_DEFAULT_POOL = "ARROW_DEFAULT_MEMORY_POOL"


def prepare_arrow() -> None:
    """Import pyarrow so that it frees memory at once: its own allocators keep it, and a worker has other tasks.

    :raises ModuleNotFoundError: if the extra ``parquet`` is not installed.
    """
    is_free = _DEFAULT_POOL not in os.environ
    if is_free:
        # Python's setting does not reach Parquet's writer. Arrow reads this when it first needs memory.
        os.environ[_DEFAULT_POOL] = "system"
    try:
        import pyarrow as pa

        pa.default_memory_pool()
    finally:
        if is_free:
            del os.environ[_DEFAULT_POOL]
    pa.set_memory_pool(pa.system_memory_pool())
