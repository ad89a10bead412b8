"""The connection as the hook reads it. No call is made here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.exceptions import AirflowNotFoundException

from airflow_provider_lightspeed._airflow import AirflowException, AirflowFailException
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook

SECRET = "not-a-real-secret-at-all"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_connection(**fields: Any) -> None:
        connection = {"conn_type": "lightspeed", "login": "key-of-the-shop", "password": SECRET, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(connection))

    return set_connection


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({}, "https://api.shoplightspeed.com/"),
        ({"extra": {"cluster": "eu1"}}, "https://api.webshopapp.com/"),
        ({"extra": {"cluster": ""}}, "https://api.shoplightspeed.com/"),
        ({"host": "api.example.com"}, "https://api.example.com"),
        ({"host": "https://api.example.com/shop/"}, "https://api.example.com/shop/"),
        ({"host": "127.0.0.1", "schema": "http", "port": 8100}, "http://127.0.0.1:8100"),
        ({"host": "http://127.0.0.1:8100", "port": 1}, "http://127.0.0.1:8100"),
        ({"host": "http://[::1]", "port": 8100}, "http://[::1]:8100"),
        ({"host": "http://shop.example.com", "extra": {"allow_http": True}}, "http://shop.example.com"),
    ],
)
def test_addresses(connect: Any, fields: dict[str, Any], address: str) -> None:
    connect(**fields)
    assert LightspeedHook().get_conn().settings.base_url == address


def test_argument_over_extra_over_default(connect: Any) -> None:
    connect(extra={"language": "nl", "timeout": "12.5", "quota_reserve": ""})
    settings = LightspeedHook(timeout=3).get_conn().settings
    assert (settings.language, settings.timeout, settings.quota_reserve) == ("nl", 3, 0)


def test_numbers_may_be_text(connect: Any) -> None:
    connect(extra={"quota_reserve": "0.25", "calls_per_second": "5"})
    settings = LightspeedHook().get_conn().settings
    assert (settings.quota_reserve, settings.calls_per_second) == (0.25, 5)


def test_the_test_button_of_airflow_2_names_fields_in_its_own_way(connect: Any) -> None:
    connect(
        host="http://shop.example.com",
        extra={"extra__lightspeed__language": "nl", "extra__lightspeed__allow_http": "y"},
    )
    assert LightspeedHook().get_conn().settings.url("x") == "http://shop.example.com/nl/x"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"login": ""}, "API key"),
        ({"password": ""}, "API secret"),
        ({"extra": {"cluster": "us2"}}, "unknown cluster 'us2': use us1 or eu1"),
        ({"extra": {"langauge": "en"}}, "unknown extra langauge: known are cluster, language"),
        ({"extra": {"language": "eng"}}, "language must be two"),
        ({"extra": {"timeout": "soon"}}, "timeout must be a number"),
        ({"extra": {"timeout": int("9" * 400)}}, "timeout must be a number"),
        ({"extra": {"quota_reserve": 1}}, "quota_reserve"),
        ({"extra": {"cluster": 1}}, "cluster must be a text, got int"),
        ({"extra": {"language": 5}}, "language must be a text, got int"),
        ({"extra": {"filter_timezone": 5}}, "filter_timezone must be a text, got int"),
        ({"extra": {"filter_timezone": ["UTC"]}}, "filter_timezone must be a text, got list"),
        ({"extra": {"app_token": 12345}}, "app_token must be a text, got int$"),
        ({"extra": {"filter_timezone": "Mars"}}, "filter_timezone"),
        ({"host": "http://shop.example.com"}, "allow_http"),
        ({"host": "ftp://shop.example.com"}, "http.*, got 'ftp://shop.example.com'$"),
        # As it was given; with a port of its own field, as it was put together.
        ({"host": "shop example"}, "must be an address .*, got 'shop example'$"),
        ({"host": "shop.example/a b "}, "no address has: 'shop.example/a b '$"),
        ({"host": "shop.example", "port": 99999}, "must be an address .*, got 'https://shop.example:99999'$"),
    ],
)
def test_what_cannot_be_right(connect: Any, fields: dict[str, Any], complaint: str) -> None:
    connect(**fields)
    with pytest.raises(LightspeedConfigurationError, match=complaint) as caught:
        LightspeedHook().get_conn()
    assert str(caught.value).startswith("connection 'lightspeed_default': ")
    assert SECRET not in str(caught.value)
    assert LightspeedHook().test_connection() == (False, str(caught.value))


def test_an_extra_that_is_not_json_is_not_taken_for_an_empty_one(connect: Any) -> None:
    connect(extra="{not json")
    # Airflow 3.0 and 3.1 say that there is no such connection; on the others it is for us to notice.
    with pytest.raises((LightspeedConfigurationError, AirflowNotFoundException)):
        LightspeedHook().get_conn()


class Variables:
    """Airflow's Variables, of which some reads fail: Airflow says then that there is none.

    :param failing: numbers of the reads that fail.
    """

    def __init__(self, failing: range, **texts: str) -> None:
        self.texts = texts
        self._failing = failing
        self._reads = 0

    def get(self, name: str, default: Any) -> Any:
        self._reads += 1
        return default if self._reads in self._failing else self.texts.get(name, default)

    def set(self, name: str, value: str) -> None:
        self.texts[name] = value

    def delete(self, name: str) -> None:
        del self.texts[name]


class WithoutDatabase(Variables):
    """As in a plain Python shell, or while Airflow's API server is down."""

    def set(self, name: str, value: str) -> None:
        raise ImportError("cannot import name 'SUPERVISOR_COMMS'")


@pytest.mark.parametrize("name", ["lightspeed_hash_secret", "other"])
@pytest.mark.parametrize("failing", [0, 1, 2, 3, 4])
def test_a_key_that_cannot_be_read_at_the_moment_is_not_missing(
    connect: Any, monkeypatch: pytest.MonkeyPatch, name: str, failing: int
) -> None:
    connect()
    variables = Variables(range(1, failing + 1), **{name: "a-key-of-some-length"})
    monkeypatch.setattr("airflow_provider_lightspeed._variables.Variable", variables)
    hook, variable = LightspeedHook(), None if name == "lightspeed_hash_secret" else name
    # The reads are: the key, the check, the key, the check.
    if failing <= 1:
        assert hook.get_hash_secret(variable) == "a-key-of-some-length"
    else:
        with pytest.raises(AirflowException, match=f"^Airflow cannot read .*whether {name!r}") as caught:
            hook.get_hash_secret(variable)
        assert not isinstance(caught.value, AirflowFailException)
    assert list(variables.texts) == [name]


@pytest.mark.parametrize("kind", [Variables, WithoutDatabase])
def test_a_key_that_is_missing_is_an_empty_text(
    connect: Any, monkeypatch: pytest.MonkeyPatch, kind: type[Variables]
) -> None:
    connect()
    monkeypatch.delenv("AIRFLOW_CTX_TASK_ID", raising=False)
    variables = kind(range(0))
    monkeypatch.setattr("airflow_provider_lightspeed._variables.Variable", variables)
    assert not LightspeedHook().get_hash_secret()
    assert not variables.texts


def test_a_task_that_cannot_check_for_a_key_is_retried(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connect()
    monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "export")
    monkeypatch.setattr("airflow_provider_lightspeed._variables.Variable", WithoutDatabase(range(0)))
    with pytest.raises(AirflowException, match=r"^Airflow cannot read") as caught:
        LightspeedHook().get_hash_secret()
    assert not isinstance(caught.value, AirflowFailException)


def test_credentials_are_masked(connect: Any) -> None:
    from airflow_provider_lightspeed._airflow import redact

    connect(extra={"app_token": "token-of-the-shop"})
    settings = LightspeedHook().get_conn().settings
    for secret in (SECRET, "token-of-the-shop", settings.key, settings.password, settings.authorization):
        assert secret not in str(redact(f"so {secret} it is"))
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("conn_id", [None, "", "  ", "None", "\n"])
def test_a_missing_connection_id_says_so(connect: Any, conn_id: Any) -> None:
    connect()
    with pytest.raises(LightspeedConfigurationError, match="lightspeed_conn_id is empty after rendering"):
        LightspeedHook(conn_id).get_conn()
    works, why = LightspeedHook(conn_id).test_connection()
    assert (works, "lightspeed_conn_id is empty" in why) == (False, True)


def test_blanks_around_a_connection_id_are_no_part_of_it(connect: Any) -> None:
    connect(extra={"hash_secret": "sixteen characters or more"})
    hook = LightspeedHook(" lightspeed_default\n")
    assert hook.get_hash_secret() == "sixteen characters or more"
    hook.get_conn()
    assert hook.lightspeed_conn_id == "lightspeed_default"
