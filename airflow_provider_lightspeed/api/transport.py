"""Sends requests over HTTP with requests; decides nothing."""

from __future__ import annotations

import http.client
import re
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from airflow_provider_lightspeed.api.errors import LightspeedConnectionError
from airflow_provider_lightspeed.api.network import ca_bundle, proxy_for
from airflow_provider_lightspeed.api.responses import Response
from airflow_provider_lightspeed.api.sansio import Send

#: More interim responses than this before a final one are not HTTP.
_MAX_INTERIM = 20
_NO_BODY = {204, 304}
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ([0-9]{3})")


class _FinalResponse(http.client.HTTPResponse):
    """A final response whose length is beyond doubt.

    http.client itself takes an interim response other than 100 for the final one, and the final one then for the
    response to the next request on the connection. It believes the first of two lengths.
    """

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MAX_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]  # unknown to typeshed
            if status >= 200:
                return version, status, reason
            if status == 101:
                break
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("no final response")

    def begin(self) -> None:
        super().begin()
        lengths = {value.strip() for value in self.headers.get_all("content-length", [])}
        if (
            self.headers.defects
            or len(lengths) > 1
            or not all(re.fullmatch(r"[0-9]+", one) for one in lengths)
        ):
            raise http.client.HTTPException("broken framing")
        encodings = [value.strip().lower() for value in self.headers.get_all("transfer-encoding", [])]
        if encodings not in ([], ["chunked"]) or (encodings and self.version == 10):
            raise http.client.HTTPException("broken framing")
        if (encodings and lengths) or (self.status in _NO_BODY and (encodings or lengths - {"0"})):
            # What follows on this connection may be a part of this response.
            self.will_close = True


class _NotConnected(urllib3.exceptions.NewConnectionError):
    """No connection was made, so that nothing was sent. Its cause says why."""


class _Connecting:
    def connect(self) -> None:
        # The name is looked up, TCP and TLS shake hands and the proxy opens a tunnel in here, and nothing is sent before.
        try:
            super().connect()  # type: ignore[misc]  # of the connection beside which it stands
        except Exception as error:
            raise _NotConnected(self, type(error).__name__) from error  # type: ignore[arg-type]  # it is one


class _Connection(_Connecting, urllib3.connection.HTTPConnection):
    response_class = _FinalResponse


class _TLSConnection(_Connecting, urllib3.connection.HTTPSConnection):
    response_class = _FinalResponse


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def proxy_manager_for(self, proxy: str, **options: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Know no redirects: requests would read the body of one that we refuse, whatever its size."""


class Transport:
    """Kept-alive connections to one shop. Threads may share it."""

    def __init__(self, base_url: str) -> None:
        self._session = _Session()
        # No .netrc, which would replace our credentials.
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.verify = ca_bundle(base_url)
        self._session.proxies = {"all": proxy_for(base_url) or ""}
        self._session.mount(base_url, _Adapter(pool_maxsize=8))

    def send(self, send: Send) -> Response:
        """Send, and read the complete response as it came (it may be compressed)."""
        deadline, body = time.monotonic() + send.longest, bytearray()
        request = requests.PreparedRequest()
        try:
            # Apart from the session, which would add headers of its own.
            request.prepare(send.method, send.url, send.headers, data=send.body)
            with self._session.send(request, timeout=send.timeout, stream=True) as response:
                while chunk := response.raw.read1(256 * 1024, decode_content=False):
                    body += chunk
                    send.check(len(body), overdue=time.monotonic() > deadline)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Response(response.status_code, headers, body, send.host)
        except requests.exceptions.InvalidURL as error:
            raise send.not_connected(error, untrusted=True) from None
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raise _failure(send, error) from None

    def close(self) -> None:
        self._session.close()


def _failure(send: Send, error: Exception) -> LightspeedConnectionError:
    reason = getattr(next(iter(error.args), None), "reason", error)
    if isinstance(reason, urllib3.exceptions.ProxyError):
        # Through a proxy, urllib3 wraps whatever breaks, also after the request was sent.
        reason = reason.original_error
    if not isinstance(reason, _NotConnected):
        return send.broken(reason)
    cause = reason.__cause__ or reason
    # Python raises a ValueError for a certificate that does not verify, and for an invalid host.
    untrusted = isinstance(cause, ValueError)
    refused = _TUNNEL_REFUSED.match(str(cause))
    return send.not_connected(cause, untrusted=untrusted, proxy_status=int(refused[1]) if refused else None)
