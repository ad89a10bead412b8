"""The S3 server that the other tests stand on is as strict as they take it to be."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from botocore.exceptions import ClientError

from demo.s3_server import S3Server


def _error_code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_a_wrong_secret_is_refused(s3_server: S3Server, s3_bucket: str) -> None:
    with pytest.raises(ClientError) as error:
        s3_server.client(secret_key="wrong").list_objects_v2(Bucket=s3_bucket)
    assert _error_code(error) == "SignatureDoesNotMatch"


def test_a_missing_bucket_is_not_made_on_the_way(s3_server: S3Server) -> None:
    with pytest.raises(ClientError) as error:
        s3_server.client().put_object(Bucket="no-such-bucket", Key="key", Body=b"")
    assert _error_code(error) == "NoSuchBucket"


def test_a_conditional_write_does_not_replace(s3_server: S3Server, s3_bucket: str) -> None:
    s3 = s3_server.client()
    s3.put_object(Bucket=s3_bucket, Key="key", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=s3_bucket, Key="key", Body=b"second", IfNoneMatch="*")
    assert _error_code(error) == "PreconditionFailed"
    assert s3.get_object(Bucket=s3_bucket, Key="key")["Body"].read() == b"first"


def test_a_browser_can_look_into_a_bucket(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.client().put_object(Bucket=s3_bucket, Key="tickets/all.jsonl", Body=b"first")
    folder = f"{s3_server.files(s3_bucket)}tickets/"
    assert "all.jsonl" in requests.get(folder, headers={"Accept": "text/html"}, timeout=30).text
    assert requests.get(f"{folder}all.jsonl", timeout=30).content == b"first"


def test_data_survive_a_kill(tmp_path: Path) -> None:
    with S3Server(tmp_path) as server:
        server.wait_until_ready()
        server.client().create_bucket(Bucket="lasting")
        server.client().put_object(Bucket="lasting", Key="key", Body=b"still here")
        server.kill()
        server.start()
        server.wait_until_ready()
        assert server.client().get_object(Bucket="lasting", Key="key")["Body"].read() == b"still here"
