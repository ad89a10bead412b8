"""Sends requests over HTTP with requests; decides nothing."""

from __future__ import annotations

import requests
import urllib3
from requests.adapters import HTTPAdapter

from airflow_provider_lightspeed.api.answers import Answer
from airflow_provider_lightspeed.api.client import Send
from airflow_provider_lightspeed.api.errors import LightspeedConnectionError

#: Calls that may be under way at once; see the operators' parallel work.
_CONNECTIONS = 8


class Transport:
    """One kept-alive session."""

    def __init__(self) -> None:
        self._session = requests.Session()
        # Keeps requests from putting a .netrc entry in the place of our header.
        self._session.auth = lambda request: request
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))

    def send(self, send: Send) -> Answer:
        """Send, and read the whole answer."""
        try:
            with self._session.request(
                send.method,
                send.url,
                headers=dict(send.headers),
                data=send.body,
                timeout=send.timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                body = response.raw.read(send.max_body + 1, decode_content=True)
                headers = {name.lower(): value for name, value in response.headers.items()}
                status = response.status_code
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _failure(error) from error
        if len(body) > send.max_body:
            raise LightspeedConnectionError(
                f"the answer is larger than {send.max_body} bytes", retryable=False
            )
        return Answer(status, headers, body)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _failure(error: Exception) -> LightspeedConnectionError:
    reason = getattr(error.args[0] if error.args else None, "reason", error)
    never_connected = isinstance(error, requests.exceptions.ConnectTimeout) or isinstance(
        reason, urllib3.exceptions.NewConnectionError
    )
    retryable = not isinstance(error, requests.exceptions.SSLError | requests.exceptions.InvalidURL)
    name = type(reason).__name__
    return LightspeedConnectionError(
        f"no complete answer from the shop ({name})", sent=not never_connected, retryable=retryable
    )
