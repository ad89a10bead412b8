"""Airflow finds the provider by itself and has nothing to complain about."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from demo.world import World

pytestmark = pytest.mark.in_all


def _airflow(here: World, *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [Path(sysconfig.get_path("scripts"), "airflow"), *arguments, "--output", "json"],
        env=here.airflow.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    # Python's own warnings, in which older versions of Airflow speak of themselves, are not logged with a level.
    assert re.search(r"\bwarning\b", done.stdout + done.stderr, re.IGNORECASE) is None
    # Airflow 3.0 logs to the standard output.
    rows: list[dict[str, Any]] = json.loads(done.stdout[done.stdout.index("[{") :])
    return rows


def test_the_provider_is_listed(here: World) -> None:
    listed = [row["package_name"] for row in _airflow(here, "providers", "list")]
    assert "airflow-provider-lightspeed" in listed


def test_the_hook_is_listed(here: World) -> None:
    (hook,) = [row for row in _airflow(here, "providers", "hooks") if row["connection_type"] == "lightspeed"]
    assert hook["class"] == "airflow_provider_lightspeed.hooks.lightspeed.LightspeedHook"
    assert hook["hook_name"] == "Lightspeed eCom"
    assert hook["package_name"] == "airflow-provider-lightspeed"
