"""What the process's environment says about the network; the same for both transports."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.settings import is_loopback

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def proxy_for(url: str) -> str | None:
    """Return the proxy that ``HTTPS_PROXY`` and its kin name for an address; None for loopback, always."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_loopback(parts.hostname) or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


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
