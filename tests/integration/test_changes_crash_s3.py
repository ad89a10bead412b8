"""The crash machine of the log of changes, on a real S3 server: it judges the conditions of each write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings

from airflow_provider_lightspeed.changes import scan as scan_module
from airflow_provider_lightspeed.s3 import staging as staging_module
from demo.s3_server import S3Server
from tests.drawing import drawn
from tests.unit.changes_world import check_delete, check_write
from tests.unit.test_changes_crash import Crashes


class Objects(dict[str, tuple[bytes, dict[str, str]]]):
    """What a server has: bytes and user metadata, by key. What is changed here is changed there."""

    def __init__(self, server: S3OnServer) -> None:
        self.server = server
        super().__init__(server.read_all())

    def __setitem__(self, key: str, value: tuple[bytes, dict[str, str]]) -> None:
        self.server.client.put_object(**self.server.at(key), Body=value[0], Metadata=value[1])

    def pop(self, key: str, default: Any = None) -> Any:
        self.server.client.delete_object(**self.server.at(key))
        self.server.there.pop(key, None)
        return super().pop(key, default)


class S3OnServer:
    """A real client, disturbed before and after each request like the store in memory.

    :ivar there: the keys that the server has, with the numbers of the change files up to which they go.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket
        self.folder = f"{uuid4().hex}/"
        self.exceptions = client.exceptions
        self.disturb: Callable[[str], None] = lambda _: None
        self.there: dict[str, str | None] = {}
        self._read: dict[str, tuple[object, tuple[bytes, dict[str, str]]]] = {}

    def at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.folder + key}

    @property
    def objects(self) -> Objects:
        return Objects(self)

    def read_all(self) -> dict[str, tuple[bytes, dict[str, str]]]:
        """Return all objects; one that has not changed since is not read again."""
        before, self._read = self._read, {}
        for key, version in self._list(""):
            if before.get(key, ("", None))[0] != version:
                found = self.client.get_object(**self.at(key))
                before[key] = (version, (found["Body"].read(), found["Metadata"]))
            self._read[key] = before[key]
        return {key: content for key, (_, content) in self._read.items()}

    def _list(self, prefix: str, after: str = "") -> Iterator[tuple[str, object]]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.folder + prefix, StartAfter=self.folder + after
        )
        for page in pages:
            for item in page.get("Contents", []):
                yield item["Key"].removeprefix(self.folder), (item["ETag"], item["LastModified"])

    def put_object(self, **given: Any) -> Any:
        key, metadata = given["Key"], given.get("Metadata", {})
        self.disturb(f"before put {key}")
        answer = self.client.put_object(**(given | self.at(key)))
        check_write(key, metadata, self.there)
        self.there[key] = metadata.get("seq")
        self.disturb(f"after put {key}")
        return answer

    def get_object(self, **given: Any) -> Any:
        self.disturb(f"before get {given['Key']}")
        return self.client.get_object(**self.at(given["Key"]))

    def head_object(self, **given: Any) -> Any:
        self.disturb(f"before head {given['Key']}")
        return self.client.head_object(**self.at(given["Key"]))

    def delete_object(self, **given: Any) -> None:
        self.disturb(f"before delete {given['Key']}")
        check_delete(given["Key"], self.there)
        self.client.delete_object(**self.at(given["Key"]))
        self.there.pop(given["Key"], None)

    def get_paginator(self, _: str) -> Any:
        return self

    def paginate(self, **given: Any) -> Iterator[Any]:
        self.disturb(f"before list {given['Prefix']}")
        yield {
            "Contents": [{"Key": key} for key, _ in self._list(given["Prefix"], given.get("StartAfter", ""))]
        }


class CrashesOnServer(Crashes):
    def teardown(self) -> None:
        if hasattr(self, "world"):
            for key in self.world.s3.objects:
                self.world.s3.client.delete_object(**self.world.s3.at(key))


@pytest.fixture(autouse=True)
def server(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = s3_server.client()
    monkeypatch.setattr(CrashesOnServer, "store", staticmethod(lambda: S3OnServer(client, s3_bucket)))
    monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 2)
    monkeypatch.setattr(staging_module, "_AT_ONCE", 1)


TestCrashes = CrashesOnServer.TestCase
# A request takes a thousand times as long as in memory.
TestCrashes.settings = settings(stateful_step_count=10, max_examples=drawn(3, 5))
