"""Sends requests over HTTP with aiohttp; decides nothing."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
from yarl import URL

from airflow_provider_lightspeed.api.network import proxy_for, tls_context
from airflow_provider_lightspeed.api.responses import Response
from airflow_provider_lightspeed.api.sansio import Send


class AsyncTransport:
    """One session with one shop. Made outside the event loop: reading certificates takes a while."""

    def __init__(self, base_url: str) -> None:
        self._proxy = proxy_for(base_url)
        self._tls = tls_context(base_url)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, send: Send) -> Response:
        """Send, and read the complete response as it came (it may be compressed)."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # A connection for each call: aiohttp takes what arrives on an idle one for the next response. A trigger
                # polls too rarely to find one open.
                connector=aiohttp.TCPConnector(force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
            # aiohttp would automatically send again on a stale connection, without a trace in quota and log.
            self._session._retry_connection = False
        body = bytearray()
        try:
            async with self._session.request(
                send.method,
                URL(send.url, encoded=True),
                headers=send.headers,
                data=send.body,
                timeout=aiohttp.ClientTimeout(send.longest, connect=send.timeout, sock_read=send.timeout),
                allow_redirects=False,
                proxy=self._proxy,
                ssl=self._tls or True,
            ) as response:
                while chunk := await self._read(response, send.timeout):
                    body += chunk
                    send.check(len(body))
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Response(response.status, headers, body, send.host)
        except aiohttp.ClientHttpProxyError as error:
            raise send.not_connected(error, proxy_status=error.status) from None
        except (aiohttp.InvalidURL, aiohttp.ClientConnectorCertificateError) as error:
            reason = getattr(error, "certificate_error", error)
            untrusted = isinstance(reason, ssl.SSLCertVerificationError | aiohttp.InvalidURL)
            raise send.not_connected(reason, untrusted=untrusted) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise send.not_connected(error) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise send.broken(error) from None

    @staticmethod
    async def _read(response: aiohttp.ClientResponse, timeout: float) -> bytes:
        # aiohttp forgets its own time-out where a body is malformed and the connection ends.
        async with asyncio.timeout(timeout):
            return await response.content.readany()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
