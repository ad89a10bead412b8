"""What the process's environment says about the network; the same for both transports."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from airflow_provider_lightspeed.api.settings import is_loopback


def proxy_for(url: str) -> str | None:
    """Return the proxy that ``HTTPS_PROXY`` and its kin name for an address; None for loopback, always."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_loopback(parts.hostname) or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def ca_bundle() -> str:
    """Return where the trusted authorities are: a file, or a directory.

    Certifi's, or those that ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE`` or ``SSL_CERT_FILE`` name.
    """
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    return next((os.environ[name] for name in names if os.environ.get(name)), certifi.where())


def tls_context(url: str) -> ssl.SSLContext | None:
    """Return what checks the shop's certificate; None for plain http."""
    if urlsplit(url).scheme != "https":
        return None
    bundle = ca_bundle()
    if Path(bundle).is_dir():
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
