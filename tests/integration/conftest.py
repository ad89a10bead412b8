"""A shop to call, and the connection to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from demo.s3_server import S3Server
from tests.integration.sensor_runs import Variables


@pytest.fixture(scope="session", autouse=True)
def no_caller_in_user_agents() -> Iterator[None]:
    """Each client of Airflow looks at the source of all functions on its stack for it: a quarter of a second here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AwsGenericHook, "_get_caller", lambda *_: "Tests", raising=False)
        yield


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A shop of 600 tickets without limits, which ``lightspeed_default`` leads to."""
    config = ShopConfig(
        tickets=600,
        end=datetime(2026, 6, 1, tzinfo=UTC),
        days=60,
        limits=NO_LIMITS,
        burst_limit=0,
        order="newest",
    )
    with Sandbox(config) as shop:
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
        yield shop


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what was logged since the last call, each line once.

    From Airflow 3.1 on, operators have a log of their own, on the terminal. Before, their lines are in both places.
    """
    caplog.set_level(logging.INFO)

    def read() -> str:
        terminal = capfd.readouterr().out
        is_in_both = any(record.name.startswith("airflow.task.operators") for record in caplog.records)
        text = caplog.text + ("" if is_in_both else terminal)
        caplog.clear()
        return text

    return read


@pytest.fixture
def aws(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ``aws_default`` to the S3 server."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", s3_server.airflow_connection())


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Variables:
    """Airflow's Variables, empty."""
    variables = Variables()
    for module in ("_variables", "sensors.state"):
        monkeypatch.setattr(f"airflow_provider_lightspeed.{module}.Variable", variables)
    return variables
