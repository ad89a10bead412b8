"""The options of a shop are documented, and each is a flag of the command."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from airflow_provider_lightspeed.sandbox import Distortions, ShopConfig
from airflow_provider_lightspeed.sandbox.__main__ import _parser

TESTING = (Path(__file__).parents[3] / "docs" / "testing.md").read_text()


@pytest.mark.parametrize("option", [field.name for field in fields(Distortions)])
def test_each_dishonest_option_is_in_the_docs(option: str) -> None:
    assert f"`{option}" in TESTING


@pytest.mark.parametrize("option", [field.name for field in fields(ShopConfig)])
def test_each_option_is_a_flag_with_a_help_text(option: str) -> None:
    flag = "--fault" if option == "faults" else f"--{option.replace('_', '-')}"
    actions = {name: action for action in _parser()._actions for name in action.option_strings}
    assert actions[flag].help
