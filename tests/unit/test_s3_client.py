"""What S3 answers about a receipt or a list of ids: whether another try may help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.exceptions import LightspeedStorageError
from airflow_provider_lightspeed.transfers.s3_files import S3Files


class _Failing:
    """A client whose calls all end alike."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _: str) -> Callable[..., Any]:
        def call(**_: Any) -> Any:
            raise self._error

        return call


def _refused(status: int | None, code: str) -> Exception:
    metadata = {} if status is None else {"HTTPStatusCode": status}
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": metadata}
    return ClientError(response, "AnyOperation")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((_refused(status, "Final"), LightspeedConfigurationError) for status in (301, 401, 403, 404)),
        (_refused(400, "RequestTimeout"), LightspeedStorageError),
        (_refused(429, "SlowDown"), LightspeedStorageError),
        (_refused(503, "SlowDown"), LightspeedStorageError),
        (_refused(None, "Unknown"), LightspeedStorageError),
        (EndpointConnectionError(endpoint_url="http://s3"), LightspeedStorageError),
    ],
)
def test_only_what_stays_so_is_final(error: Exception, expected: type[Exception]) -> None:
    files = S3Files("aws_default")
    files._made = _Failing(error)
    with pytest.raises(expected, match="read s3://bucket/key"):
        files.read("s3://bucket/key")
    with pytest.raises(expected, match="write s3://bucket/key"):
        files.write("s3://bucket/key", b"")
