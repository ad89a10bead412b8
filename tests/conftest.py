"""What any test may ask for, and how much the tests do.

`make test` leaves out tests that are marked ``in_all``, unless their file is named, and those that search draw fewer
examples than in `make test-all`, which CI runs: ``HYPOTHESIS_PROFILE=all pytest``. ``HYPOTHESIS_PROFILE=long`` draws many
times as many, ``few`` so few that they can be run often. `tests/drawing.py` says the same to tests without Hypothesis.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from uuid import uuid4

import botocore.session
import pytest
from hypothesis import HealthCheck, settings
from packaging.version import Version

from demo.isolation import stay_on_this_machine
from demo.s3_server import S3Server
from tests.drawing import PROFILE

# Before anything imports Airflow, which reads these once: no test may read or touch the Airflow of whoever runs it.
for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "_AIRFLOW"))]:
    del os.environ[_name]
stay_on_this_machine()
_AIRFLOW_HOME = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ["AIRFLOW_HOME"] = _AIRFLOW_HOME.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] = "False"
# boto reads its description of S3 for each session, and each hook of Airflow has a session of its own.
botocore.session.create_loader = cache(botocore.session.create_loader)
_AIRFLOW_VERSION = Version(version("apache-airflow"))

_COMMON = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
# The same examples every time, so that a run that lands is a run that can be repeated.
settings.register_profile("ordinary", max_examples=100, derandomize=True, **_COMMON)
settings.register_profile("all", max_examples=100, derandomize=True, **_COMMON)
settings.register_profile("few", max_examples=10, derandomize=True, **_COMMON)
settings.register_profile("long", max_examples=5_000, **_COMMON)
settings.load_profile(PROFILE)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "airflow(since, before): only for these versions of Airflow; docs/versions.md says why"
    )
    config.addinivalue_line(
        "markers", "in_all: takes long for what it adds: for `make test-all`, not `make test`"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if PROFILE != "ordinary" or any(".py" in argument for argument in config.args):
        return
    left_out = [item for item in items if item.get_closest_marker("in_all")]
    items[:] = [item for item in items if not item.get_closest_marker("in_all")]
    config.hook.pytest_deselected(items=left_out)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("airflow"):
        since, before = marker.kwargs.get("since", "0"), marker.kwargs.get("before", "99")
        if not Version(since) <= _AIRFLOW_VERSION < Version(before):
            pytest.skip(f"for Airflow {since} up to (not including) {before}, this is {_AIRFLOW_VERSION}")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server: `endpoint`, `access_key`, `secret_key`, `client()`, `airflow_connection()`."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> Iterator[str]:
    """The name of a new, empty bucket on that server."""
    name = f"test-{uuid4().hex}"
    client = s3_server.client()
    client.create_bucket(Bucket=name)
    yield name
    # Each bucket takes some of the server's volumes, of which there are few.
    for item in client.list_objects_v2(Bucket=name).get("Contents", []):
        client.delete_object(Bucket=name, Key=item["Key"])
    client.delete_bucket(Bucket=name)
