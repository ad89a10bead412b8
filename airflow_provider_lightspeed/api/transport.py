"""Sends requests over HTTP with urllib3; decides nothing."""

from __future__ import annotations

import ssl
import time
from typing import Any

import urllib3
from urllib3 import exceptions

from airflow_provider_lightspeed.api.answers import Answer
from airflow_provider_lightspeed.api.client import Send
from airflow_provider_lightspeed.api.environment import proxy_for, tls_context
from airflow_provider_lightspeed.api.errors import LightspeedConnectionError

#: Kept-alive connections; see the operators' parallel work.
_CONNECTIONS = 8
_CHUNK = 256 * 1024


class Transport:
    """Kept-alive connections to one shop. Threads may share it."""

    def __init__(self, base_url: str) -> None:
        pool: dict[str, Any] = {"maxsize": _CONNECTIONS, "ssl_context": tls_context(base_url)}
        if proxy := proxy_for(base_url):
            pool["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=urllib3.util.parse_url(proxy).auth)
        self._pool = urllib3.ProxyManager(proxy, **pool) if proxy else urllib3.PoolManager(**pool)

    def send(self, send: Send) -> Answer:
        """Send, and read the whole answer as it came (it may be compressed)."""
        deadline = time.monotonic() + send.longest
        body = bytearray()
        try:
            options: dict[str, Any] = {"timeout": send.timeout, "redirect": False, "retries": False}
            with self._pool.request(
                send.method, send.url, send.body, headers=send.headers, preload_content=False, **options
            ) as response:
                while chunk := response.read1(_CHUNK, decode_content=False):
                    body += chunk
                    send.check(len(body), overdue=time.monotonic() > deadline)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, headers, bytes(body))
        except (exceptions.HTTPError, OSError) as error:
            raise _failure(send, error) from None

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()


def _failure(send: Send, error: Exception) -> LightspeedConnectionError:
    cause = error.original_error if isinstance(error, exceptions.ProxyError) else error
    reason = cause.args[0] if isinstance(cause, exceptions.SSLError) and cause.args else cause
    untrusted = isinstance(reason, ssl.SSLCertVerificationError | exceptions.LocationValueError)
    unconnected = isinstance(cause, exceptions.NewConnectionError | exceptions.ConnectTimeoutError)
    sent = not (untrusted or unconnected or cause is not error)
    return send.failed(reason, sent=sent, retryable=not untrusted)
