"""What the process's environment says about the network; the same for both transports."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.settings import is_loopback

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_HOST = re.compile(r"[\w.:%-]+")


def proxy_for(url: str) -> str | None:
    """Return the proxy that ``HTTPS_PROXY`` and its kin name for an address; None for loopback, always.

    :raises LightspeedConfigurationError: if it is no proxy that both transports can use.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_loopback(parts.hostname) or proxy_bypass(parts.netloc):
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"
    if not _is_usable(address):
        name = f"{parts.scheme.upper()}_PROXY" if proxies.get(parts.scheme) else "ALL_PROXY"
        raise LightspeedConfigurationError(
            f"{name} is not the address of a proxy that the provider can use. Write http://host:port or "
            "http://user:password@host:port, with %23 for # in the password, %2F for / and %40 for @. SOCKS is not "
            "supported. Or name the shop's host in NO_PROXY. The address is not shown, because it may have a password"
        )
    return address


def _is_usable(proxy: str) -> bool:
    """Return whether an address is that of an HTTP proxy."""
    try:
        parts = urlsplit(proxy)
        # Reading the port checks it. Both transports send user and password in this encoding.
        _, host = parts.port, parts.hostname or ""
        unquote(f"{parts.username}{parts.password}").encode("latin-1")
        host.encode("idna")
    except ValueError:
        return False
    # A password with one of / ? # ends the host too early.
    is_cut = "@" in f"{parts.path}{parts.query}{parts.fragment}"
    return parts.scheme in {"http", "https"} and _HOST.fullmatch(host) is not None and not is_cut


def ca_bundle(url: str) -> str:
    """Return where the trusted authorities are: a file, or a directory.

    Certifi's, or those that ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE`` or ``SSL_CERT_FILE`` name.

    :param url: the shop's address. Plain http needs no authorities, and so no such file.
    :raises LightspeedConfigurationError: if the file that is named cannot be used.
    """
    name = next((name for name in _BUNDLES if os.environ.get(name)), None)
    if name is None or urlsplit(url).scheme != "https":
        return certifi.where()
    bundle = os.environ[name]
    try:
        _load(bundle)
    except OSError as error:
        why = (
            "which does not exist"
            if not Path(bundle).exists()
            else f"which cannot be read ({type(error).__name__})"
        )
        raise LightspeedConfigurationError(
            f"{name} names the file of trusted authorities {bundle!r}, {why}. Without it, no certificate can be verified"
        ) from None
    return bundle


def tls_context(url: str) -> ssl.SSLContext | None:
    """Return what checks the shop's certificate; None for plain http.

    :raises LightspeedConfigurationError: as for `ca_bundle`.
    """
    return _load(ca_bundle(url)) if urlsplit(url).scheme == "https" else None


def _load(bundle: str) -> ssl.SSLContext:
    if Path(bundle).is_dir():
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
