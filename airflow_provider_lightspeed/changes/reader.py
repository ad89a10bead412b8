"""Reads the log of changes, for tasks that load it elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_lightspeed._arguments import parse_text
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.changes.files import FORMATS
from airflow_provider_lightspeed.changes.log import ChangeLog
from airflow_provider_lightspeed.changes.store import Store
from airflow_provider_lightspeed.formats import Layout
from airflow_provider_lightspeed.formats.columns import Columns


def read_changes(
    s3_prefix: str, after: int = 0, *, aws_conn_id: str | None = "aws_default"
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all change files after the one with number ``after``, in order.

    Each row has the number of its file in ``_seq``. Rows come as they are read, so nothing large is in memory. Keep the
    highest ``_seq`` where you keep the rows, in one transaction, and pass it the next time.

    :param s3_prefix: where ``LightspeedTicketChangesToS3Operator`` writes.
    :param after: number of the last file that was read; 0 for all.
    :param aws_conn_id: connection to S3.
    :raises LightspeedChangesLostError: (while going through) if a file is missing: retention has removed what comes after
        the number. Start over from ``current``.
    :raises LightspeedConfigurationError: (while going through) if the log ends before the number, which is then from
        another prefix.
    """
    from airflow_provider_lightspeed.s3.client import connect, s3_errors

    with s3_errors(f"read {s3_prefix}"):
        log = open_log(connect(aws_conn_id), s3_prefix)
        yield from read_after(log, after)


def read_after(log: ChangeLog, after: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a log."""
    _, end, _ = log.ends()
    if after > end:
        raise LightspeedConfigurationError(
            f"after={after} is beyond the end of {log.address}, which is change file {end}. The number is from another "
            "prefix; a new prefix starts at 1. Load it into a new table, and begin with after=0"
        )
    for commit in log.commits(after):
        yield from log.rows(commit.seq)
        after = commit.seq
    if after < end:
        raise log.lost(after + 1)


def open_log(client: Any, s3_prefix: str) -> ChangeLog:
    """Return the log below a prefix, to be read.

    :raises LightspeedConfigurationError: if there is none.
    """
    bucket, prefix = parse_prefix(s3_prefix)
    store = Store(client, bucket, prefix, {})
    for make in FORMATS.values():
        # Readers take the columns of the file; those of this layout are for writers.
        log = ChangeLog(store, make(Columns(Layout(flatten=True))))
        if log.exists():
            return log
    raise LightspeedConfigurationError(
        f"there is no log of changes below {s3_prefix}: LightspeedTicketChangesToS3Operator has not run yet, or "
        "writes elsewhere"
    )


def parse_prefix(s3_prefix: str, s3_bucket: str | None = None) -> tuple[str, str]:
    """Return the bucket and the prefix, without a slash at its end.

    :raises LightspeedConfigurationError: if one of them is missing.
    """
    from airflow_provider_lightspeed.s3.client import full_address, parse_s3_uri

    s3_prefix = parse_text("s3_prefix", s3_prefix)
    address = full_address("s3_prefix", s3_prefix.strip(), s3_bucket)
    if address.rstrip("/").count("/") < 3:
        raise LightspeedConfigurationError(
            f"s3_prefix {s3_prefix!r} needs a folder in the bucket, such as s3://bucket/lightspeed/shop_nl/"
        )
    # A folder may be written with or without the slash at its end.
    return parse_s3_uri(address.removesuffix("/"))
