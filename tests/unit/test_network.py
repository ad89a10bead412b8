"""Proxies and trusted authorities, as the environment names them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path

import certifi
import pytest

from airflow_provider_lightspeed.api.async_transport import AsyncTransport
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.network import ca_bundle, proxy_for, tls_context
from airflow_provider_lightspeed.api.transport import Transport

SHOP = "https://api.webshopapp.com/en/tickets.json"
PROXY = "http://user:word@proxy.example:3128"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_there_is_no_proxy_unless_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_for(SHOP) is None
    monkeypatch.setenv("HTTP_PROXY", PROXY)  # for the other scheme
    assert proxy_for(SHOP) is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("given", "taken"), [(PROXY, PROXY), ("proxy.example:3128", "http://proxy.example:3128")]
)
def test_a_proxy_may_be_named_with_or_without_its_scheme(
    name: str, given: str, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, given)
    assert proxy_for(SHOP) == taken


def test_the_proxy_of_the_scheme_goes_before_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://other.example:1")
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    assert proxy_for(SHOP) == PROXY


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1:8100/x", "https://localhost/x", "https://[::1]:1/x", "https://inside.example:8443/x"],
)
def test_this_machine_and_what_no_proxy_names_are_asked_directly(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert proxy_for(url) is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    "given",
    [
        "socks5://ada:lovelace@proxy.example:1080",
        "socks5h://proxy.example:1080",
        "ftp://proxy.example:1",
        "http://ada:love#lace@proxy.example:3128",
        "http://ada:12#lovelace@proxy.example:3128",
        "http://ada:12/lovelace@proxy.example:3128",
        "ada:12?lovelace@proxy.example:3128",
        "http://ada:%E2%82%AC@proxy.example:3128",
        "http://",
        "http://:3128",
        "http://proxy.example:99999",
        "http://proxy.example:port",
        "http://[::1:3128",
        "http://proxy example:3128",
        "http://proxy..example:3128",
        f"http://{'proxy' * 20}.example:3128",
    ],
)
def test_a_proxy_that_cannot_be_used(name: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, given)
    for connect in (proxy_for, Transport, AsyncTransport):
        with pytest.raises(LightspeedConfigurationError, match=rf"^{name} ") as caught:
            connect(SHOP)
        assert not re.search(r"ada|lovelace|proxy\.example", str(caught.value), re.IGNORECASE)
    assert proxy_for("https://127.0.0.1:8100/x") is None
    monkeypatch.setenv("NO_PROXY", "webshopapp.com")
    assert proxy_for(SHOP) is None


@pytest.mark.parametrize(
    "given",
    [
        "https://proxy.example",
        "http://[::1]:3128/",
        "HTTP://u%40x:p%23w@proxy.example:3128",
        "http://10.0.0.1:1/x",
    ],
)
def test_a_proxy_that_both_transports_can_use(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", given)
    assert proxy_for(SHOP) == given


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_environment_may_name_the_authorities(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert ca_bundle("https://localhost") == certifi.where()
    own = tmp_path / "ca.pem"
    own.write_bytes(Path(certifi.where()).read_bytes())
    monkeypatch.setenv(name, str(own))
    assert ca_bundle("https://localhost") == str(own)
    monkeypatch.setenv(name, "")
    assert ca_bundle("https://localhost") == certifi.where()


@pytest.mark.parametrize("content", [None, "no certificate"])
@pytest.mark.parametrize("load", [ca_bundle, tls_context])
def test_authorities_that_cannot_be_read_are_an_error_of_configuration(
    content: str | None, load: Callable[[str], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    why = "cannot be read" if content else "does not exist"
    with pytest.raises(LightspeedConfigurationError, match=rf"^SSL_CERT_FILE names .*ca\.pem', which {why}"):
        load(SHOP)
    load("http://127.0.0.1:8100")  # which needs none


def test_plain_http_has_nothing_to_check() -> None:
    assert tls_context("http://127.0.0.1:8100") is None


def test_authorities_may_be_a_file_or_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = tls_context(SHOP)
    assert context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    known = len(context.get_ca_certs())
    assert known > 50
    one = tmp_path / "one.pem"
    one.write_text(ssl.DER_cert_to_PEM_cert(context.get_ca_certs(binary_form=True)[0]))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(one))  # which OpenSSL itself does not read
    context = tls_context(SHOP)
    assert context
    assert len(context.get_ca_certs()) == 1
    # Of a directory, authorities are read when a certificate names one.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    context = tls_context(SHOP)
    assert context
    assert (context.verify_mode, context.get_ca_certs()) == (ssl.CERT_REQUIRED, [])
