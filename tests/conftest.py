"""What any test may ask for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from uuid import uuid4

import pytest

from demo.s3_server import S3Server

# Before anything imports Airflow, which reads these once: no test may read or touch the Airflow of whoever runs it.
for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "_AIRFLOW"))]:
    del os.environ[_name]
_AIRFLOW_HOME = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ["AIRFLOW_HOME"] = _AIRFLOW_HOME.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] = "False"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server: `endpoint`, `access_key`, `secret_key`, `client()`, `airflow_connection()`."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """The name of a new, empty bucket on that server."""
    name = f"test-{uuid4().hex}"
    s3_server.client().create_bucket(Bucket=name)
    return name
