"""A gateway before a shop: it answers some calls itself, with what is not the shop's word."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from airflow_provider_lightspeed.sandbox import Sandbox

PAGE = b"<html><body><h1>404 Not Found</h1></body></html>"
NOT_FOUND = json.dumps({"error": {"code": 404, "message": "Resource not found."}}).encode()
NO_LANGUAGE = json.dumps({"error": {"code": 404, "message": "Unknown or inactive language."}}).encode()


@contextmanager
def gateway(sandbox: Sandbox, answer: Callable[[str, str], bytes | None]) -> Generator[str]:
    """Yield its address.

    :param answer: for a method and a path, the body of a 404; None to pass the call on.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_call(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = 404, answer(self.command, self.path)
            if content is None:
                onward = http.client.HTTPConnection(sandbox.url.removeprefix("http://"))
                onward.request(self.command, self.path, body, dict(self.headers))
                response = onward.getresponse()
                status, content = response.status, response.read()
                onward.close()
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = handle_call  # ruff: ignore[mixed-case-variable-in-class-scope] - the names that http.server looks for

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
