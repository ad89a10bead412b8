"""Proxies before a shop or a store: they answer some calls themselves."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from airflow_provider_lightspeed.sandbox import Sandbox

PAGE = b"<html><body><h1>404 Not Found</h1></body></html>"
NOT_FOUND = json.dumps({"error": {"code": 404, "message": "Resource not found."}}).encode()
NO_LANGUAGE = json.dumps({"error": {"code": 404, "message": "Unknown or inactive language."}}).encode()


#: Headers for one connection, and those that the proxy writes itself.
_HOP = {"Connection", "Transfer-Encoding", "Date", "Server"}


@contextmanager
def gateway(sandbox: Sandbox, answer: Callable[[str, str], bytes | None]) -> Generator[str]:
    """Yield the address of a gateway before a shop.

    :param answer: for a method and a path, the body of a 404; None to pass the call on.
    """

    def rule(method: str, path: str, _: Mapping[str, str]) -> tuple[int, bytes] | None:
        body = answer(method, path)
        return None if body is None else (404, body)

    with proxy(sandbox.url, rule) as address:
        yield address


#: For a method, a path, headers and a body, the path and the headers with which a call is passed on.
Onward = Callable[[str, str, Mapping[str, str], bytes], tuple[str, Mapping[str, str]]]


@contextmanager
def proxy(
    address: str,
    rule: Callable[[str, str, Mapping[str, str]], tuple[int, bytes] | None],
    onward: Onward = lambda _method, path, headers, _body: (path, headers),
    instead: Callable[[str, str], tuple[int, bytes] | None] = lambda _method, _path: None,
) -> Generator[str]:
    """Yield the address of a proxy before a server.

    :param rule: for a method, a path and headers, the status and body to answer; None to pass the call on.
    :param instead: for a method and a path, what to answer in place of what the server has answered; None for that.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_call(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answered, headers = rule(self.command, self.path, self.headers), {}
            if answered is None:
                server = http.client.HTTPConnection(address.removeprefix("http://"))
                path, sent = onward(self.command, self.path, self.headers, body)
                server.request(self.command, path, body, dict(sent))
                response = server.getresponse()
                answered = response.status, response.read()
                headers = {name: value for name, value in response.getheaders() if name not in _HOP}
                if self.command != "HEAD":
                    headers.pop("Content-Length", None)
                server.close()
                other = instead(self.command, self.path)
                answered, headers = (answered, headers) if other is None else (other, {})
            status, content = answered
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204 and "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_call  # ruff: ignore[mixed-case-variable-in-class-scope] - the names that http.server looks for

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
