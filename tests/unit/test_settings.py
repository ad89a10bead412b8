"""The settings of a client: what is refused, and what is logged."""

from __future__ import annotations

import hashlib
import math
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.settings import CLUSTERS, ClientSettings, is_loopback


def make(base_url: str = CLUSTERS["eu1"], **options: Any) -> ClientSettings:
    return ClientSettings(base_url, **{"key": "thekey", "secret": "thesecret", **options})


@pytest.mark.parametrize(
    "url",
    [
        *CLUSTERS.values(),
        "https://shop.example:8443/base/",
        "http://127.0.0.1:8100",
        "http://localhost",
        "http://[::1]:1",
        "http://127.8.8.8",
    ],
)
def test_good_addresses(url: str) -> None:
    assert make(url).url("tickets.json") == f"{url.rstrip('/')}/en/tickets.json"


def test_a_shop_is_told_from_others_without_its_secrets() -> None:
    shop = make().shop
    assert make(secret="another", language="nl", timeout=3.0).shop == shop  # as after a secret was replaced
    assert make(CLUSTERS["eu1"].rstrip("/")).shop == shop
    apps = {make(app_token=token).shop for token in ("one", "two")}
    assert len({shop, make(CLUSTERS["us1"]).shop, make(key="anotherkey").shop, *apps}) == 5
    assert "thekey" not in shop
    assert len(shop) == 16


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.webshopapp.com",
        "ftp://shop.example",
        "https://",
        "https://shop.example/?x=1",
        "https://shop.example/#x",
        "https://shop.example:port",
        "https://shop.example:99999",
        "https://[::1",
        "https://shop example",
        "https://shop.example/a b",
        "https://shop.example\n.evil.example",
        "https://shöp.example",
        "https://shop.example\\.evil.example",
    ],
)
def test_bad_addresses(url: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match="host"):
        make(url)


@pytest.mark.parametrize(
    "host",
    ["shop.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "2130706433"],
)
def test_plain_http_is_for_this_machine_only(host: str) -> None:
    with pytest.raises(LightspeedConfigurationError, match="plain http"):
        make(f"http://{host}")
    make(f"http://{host}", allow_http=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://thekey:thesecret@shop.example",
        "thekey:thesecret@shop.example",
        "ftp://x:thesecret@y",
        "http://127.0.0.1\\@evil.example",
    ],
)
def test_an_address_with_credentials_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(
        LightspeedConfigurationError, match=r"^the host must not carry credentials: "
    ) as raised:
        make(url)
    assert "thesecret" not in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "values", "words"),
    [
        ("key", [""], "the API key (login) and the API secret (password) must both be given"),
        ("secret", [""], "the API key (login) and the API secret (password) must both be given"),
        ("key", [" thekey", "the:key"], "the API key or the API secret has a blank before or after it"),
        ("secret", ["thesecret\n"], "the API key or the API secret has a blank before or after it"),
        ("language", ["EN", "en\n", "../x", ""], "language must be two lower-case letters"),
        ("filter_timezone", ["Europe/Nowhere", "../etc/passwd", ""], "filter_timezone must be an IANA name"),
        ("quota_reserve", [-0.1, 0.91, math.nan], "quota_reserve must be from 0.0 to 0.9"),
        (
            "timeout",
            [0, -1, 3_601, math.nan, math.inf],
            "timeout must be more than 0 and at most 3600 seconds",
        ),
        ("max_wait", [-1, math.nan], "max_wait must not be negative"),
        (
            "calls_per_second",
            [-1, 0.5, 1_001, math.nan, math.inf],
            "calls_per_second must be from 1 to 1000, or 0",
        ),
        ("max_body", [0], "max_body must be at least 1 byte"),
    ],
)
def test_values_out_of_range_are_refused_by_name_without_naming_the_secret(
    wrong: str, values: list[Any], words: str
) -> None:
    for value in values:
        with pytest.raises(LightspeedConfigurationError) as raised:
            make(**{wrong: value})
        assert str(raised.value).startswith(words)
        assert "thesecret" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("quota_reserve", [0.0, 0.9]),
        ("timeout", [0.1, 3_600]),
        ("max_wait", [0]),
        ("calls_per_second", [0, 1, 1_000]),
        ("max_body", [1]),
    ],
)
def test_the_ends_of_each_range_are_taken(name: str, values: list[float]) -> None:
    assert [getattr(make(**{name: value}), name) for value in values] == values


def test_limits_that_hold_where_nothing_is_said() -> None:
    settings = make()
    assert settings.max_body == 16 * 1024 * 1024
    assert (settings.max_wait, settings.timeout, settings.calls_per_second) == (60, 30, 20)


def test_credentials() -> None:
    assert b64decode(make().authorization.removeprefix("Basic ")) == b"thekey:thesecret"


def test_credentials_of_an_app() -> None:
    password = hashlib.md5(b"thetokenthesecret").hexdigest()  # ruff: ignore[hashlib-insecure-hash-function] - the API's own
    assert (
        b64decode(make(app_token="thetoken").authorization.removeprefix("Basic "))
        == f"thekey:{password}".encode()
    )
    assert make(app_token="").password == "thesecret"


def test_repr_hides_what_is_secret() -> None:
    settings = make(app_token="thetoken")
    for hidden in ("thekey", "thesecret", "thetoken", settings.password):
        assert hidden not in repr(settings) + str(settings)


@given(st.text())
def test_no_host_breaks_the_check(host: str) -> None:
    is_loopback(host)
    try:
        made = make(f"http://{host}")
    except LightspeedConfigurationError:
        return
    assert made.url("x")
