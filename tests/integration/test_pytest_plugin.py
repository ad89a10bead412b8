"""The pytest plugin as users have it: in a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

_USERS_TESTS = """
import os

import pytest
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook

VARIABLE = "AIRFLOW_CONN_LIGHTSPEED_DEFAULT"


def test_the_shop_is_empty_and_the_connection_leads_to_it(lightspeed_sandbox):
    assert LightspeedHook().count_tickets() == 0
    (number,) = lightspeed_sandbox.add_tickets(1, subject="Where is my order?")
    assert [ticket["id"] for ticket in LightspeedHook().iter_tickets()] == [number]
    assert lightspeed_sandbox.url in os.environ[VARIABLE]


def test_what_was_there_is_there_again():
    assert os.environ[VARIABLE] == "as it was"


@pytest.mark.lightspeed_shop(conn_id="my_shop", tickets=300, order="oldest")
def test_a_shop_to_measure(lightspeed_sandbox):
    numbers = [ticket["id"] for ticket in LightspeedHook("my_shop").iter_tickets()]
    assert len(numbers) == 300
    assert numbers == sorted(numbers)
    assert os.environ[VARIABLE] == "as it was"


@pytest.mark.lightspeed_shop(ticket=300)
def test_a_slip(lightspeed_sandbox):
    pass
"""

_LIGHT = """
import sys


def test_nothing_is_loaded_that_was_not_asked_for():
    assert "airflow_provider_lightspeed.pytest_plugin" in sys.modules
    assert not {"airflow", "aiohttp", "requests", "msgspec", "airflow_provider_lightspeed.sandbox"} & sys.modules.keys()
"""


def test_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(_USERS_TESTS)
    done = _pytest(tmp_path, "--strict-markers", AIRFLOW_CONN_LIGHTSPEED_DEFAULT="as it was")
    assert "unexpected keyword argument 'ticket'" in done
    assert "3 passed, " in done
    assert ", 1 error in" in done


def test_a_plain_pytest_stays_as_light_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(_LIGHT)
    # Another plugin that Airflow brings may be older than this pytest.
    assert "1 passed" in _pytest(tmp_path, "-W", "error", "-p", "no:anyio")


@pytest.mark.in_all
def test_the_tests_of_the_docs_pass() -> None:
    # Whoever copies them may have an Airflow of their own, which they must leave alone.
    theirs = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////no/such/folder/airflow.db"}
    assert "3 passed" in _pytest(PROJECT / "example_tests", **theirs)


def _pytest(directory: Path, *options: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, *options, directory],
        cwd=directory,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr
