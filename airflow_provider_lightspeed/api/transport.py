"""Sends requests over HTTP with requests; decides nothing."""

from __future__ import annotations

import ssl
import time

import requests
import urllib3

from airflow_provider_lightspeed.api.errors import LightspeedConnectionError
from airflow_provider_lightspeed.api.network import ca_bundle, proxy_for
from airflow_provider_lightspeed.api.responses import Response
from airflow_provider_lightspeed.api.sansio import Send


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Know no redirects: requests would read the body of one that we refuse, whatever its size."""


class Transport:
    """Kept-alive connections to one shop. Threads may share it."""

    def __init__(self, base_url: str) -> None:
        self._session = _Session()
        # No .netrc, which would put other credentials in the place of ours.
        self._session.trust_env = False
        self._session.verify = ca_bundle()
        self._session.proxies = {"all": proxy_for(base_url) or ""}
        self._session.mount(base_url, requests.adapters.HTTPAdapter(pool_maxsize=8))

    def send(self, send: Send) -> Response:
        """Send, and read the whole response as it came (it may be compressed)."""
        deadline, body = time.monotonic() + send.longest, bytearray()
        try:
            with self._session.request(
                send.method, send.url, data=send.body, headers=send.headers, timeout=send.timeout, stream=True
            ) as response:
                while chunk := response.raw.read1(256 * 1024, decode_content=False):
                    body += chunk
                    send.check(len(body), overdue=time.monotonic() > deadline)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Response(response.status_code, headers, body)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _failure(send, error) from None

    def close(self) -> None:
        self._session.close()


def _failure(send: Send, error: Exception) -> LightspeedConnectionError:
    reason = getattr(next(iter(error.args), None), "reason", error)
    if isinstance(reason, urllib3.exceptions.ProxyError):
        # Through a proxy, urllib3 wraps whatever breaks, also after the request was sent.
        reason = reason.original_error
    if isinstance(reason, urllib3.exceptions.SSLError) and reason.args:
        reason = reason.args[0]
    untrusted = isinstance(reason, ssl.SSLCertVerificationError) or isinstance(error, ValueError)
    never = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    connected = not isinstance(reason, never) and not _tunnel_refused(reason)
    return send.failed(reason, sent=connected and not untrusted, retryable=not untrusted)


def _tunnel_refused(reason: object) -> bool:
    """Say whether the proxy would not open a way to the shop: http.client has no class of its own for it."""
    return type(reason) is OSError and str(reason).startswith("Tunnel connection failed")
