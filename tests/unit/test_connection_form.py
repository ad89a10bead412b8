"""The connection form, as each version of Airflow builds it: 3.2 and newer from the provider info, others from the hook."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.provider_info import CONNECTION_FIELDS, CONNECTION_TYPE


@pytest.fixture
def form_2() -> Any:
    """The extra fields as Airflow 2.11 binds them in its form."""
    import wtforms

    widgets = LightspeedHook.get_connection_form_widgets()
    return type("Form", (wtforms.Form,), widgets)


@pytest.mark.airflow(before="3.0")
def test_airflow_2_takes_the_form_without_complaint(caplog: pytest.LogCaptureFixture) -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert CONNECTION_TYPE in manager.hooks
    prefix = f"extra__{CONNECTION_TYPE}__"
    names = {name.removeprefix(prefix) for name in manager.connection_form_widgets if name.startswith(prefix)}
    assert names == CONNECTION_FIELDS.keys()
    assert manager.connection_form_widgets[f"{prefix}app_token"].is_sensitive
    assert manager.field_behaviours[CONNECTION_TYPE]["relabeling"] == {
        "host": "Host",
        "port": "Port",
        "login": "API key",
        "password": "API secret",
    }
    assert "lightspeed" not in caplog.text.lower()


@pytest.mark.airflow(before="3.0")
@pytest.mark.parametrize(("cluster", "fits"), [("", True), ("us1", True), ("eu1", True), ("us2", False)])
def test_airflow_2_checks_the_cluster(form_2: Any, cluster: str, fits: bool) -> None:
    from werkzeug.datastructures import MultiDict

    assert form_2(MultiDict({"cluster": cluster})).validate() is fits


@pytest.mark.airflow(before="3.0")
def test_airflow_2_shows_label_and_help(form_2: Any) -> None:
    for field in form_2():
        assert field.label.text == CONNECTION_FIELDS[field.name]["label"]
        assert field.description == CONNECTION_FIELDS[field.name]["description"]


@pytest.mark.airflow(since="3.1")  # 3.0 shows own fields only where the FAB provider is installed
def test_airflow_3_shows_label_help_and_choices() -> None:
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    (form,) = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == CONNECTION_TYPE]
    assert form.standard_fields is not None
    assert form.standard_fields.login is not None
    assert form.standard_fields.login.title == "API key"
    assert form.standard_fields.url_schema is not None
    assert form.standard_fields.url_schema.hidden
    assert form.extra_fields is not None
    assert form.extra_fields.keys() == CONNECTION_FIELDS.keys()
    for name, field in form.extra_fields.items():
        assert field["schema"]["title"] == CONNECTION_FIELDS[name]["label"]
        assert field["description"] == CONNECTION_FIELDS[name]["description"]
        assert field["schema"].get("format") == CONNECTION_FIELDS[name]["schema"].get("format")
    assert {"us1", "eu1"} <= set(form.extra_fields["cluster"]["schema"]["enum"])
