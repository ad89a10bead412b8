"""Sends requests over HTTP with aiohttp; decides nothing."""

from __future__ import annotations

import aiohttp
from yarl import URL

from airflow_provider_lightspeed.api.answers import Answer
from airflow_provider_lightspeed.api.client import Send
from airflow_provider_lightspeed.api.errors import LightspeedConnectionError


class AsyncTransport:
    """One kept-alive session."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=True)

    async def send(self, send: Send) -> Answer:
        """Send, and read the whole answer."""
        try:
            async with self._session.request(
                send.method,
                URL(send.url, encoded=True),
                headers=send.headers,
                data=send.body,
                timeout=aiohttp.ClientTimeout(total=None, connect=send.timeout, sock_read=send.timeout),
                allow_redirects=False,
            ) as response:
                body = b""
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > send.max_body:
                        raise LightspeedConnectionError(
                            f"the answer is larger than {send.max_body} bytes", retryable=False
                        )
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, headers, body)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _failure(error) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def _failure(error: Exception) -> LightspeedConnectionError:
    untrusted = isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL)
    never_connected = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return LightspeedConnectionError(
        f"no complete answer from the shop ({type(error).__name__})",
        sent=not never_connected,
        retryable=not untrusted,
    )
