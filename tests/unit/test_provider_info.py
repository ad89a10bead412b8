"""What Airflow reads is what its schema allows, and names what is there."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import airflow
import jsonschema

from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.provider_info import HOOK_CLASS, get_provider_info


def test_it_follows_the_schemas_of_airflow() -> None:
    (place,) = [Path(part) for part in airflow.__path__ if Path(part, "provider_info.schema.json").exists()]
    jsonschema.validate(get_provider_info(), json.loads((place / "provider_info.schema.json").read_text()))
    form = json.loads((place / "customized_form_field_behaviours.schema.json").read_text())
    jsonschema.validate(LightspeedHook.get_ui_field_behaviour(), form)


def test_its_modules_exist() -> None:
    info = get_provider_info()
    named = [
        name
        for kind in ("hooks", "operators", "sensors", "triggers")
        for entry in info[kind]
        for name in entry["python-modules"]
    ]
    named += [entry["python-module"] for entry in info["transfers"]]
    for name in named:
        importlib.import_module(name)
    module, _, hook = HOOK_CLASS.rpartition(".")
    assert getattr(importlib.import_module(module), hook) is LightspeedHook
