"""A client for the sandbox's control calls, for programs in another process. Standard library and msgspec only."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from airflow_provider_lightspeed.sandbox.calls import Call
from airflow_provider_lightspeed.sandbox.faults import Fault
from airflow_provider_lightspeed.sandbox.shop import Change
from airflow_provider_lightspeed.sandbox.tickets import Author, Document

_TIMEOUT = 30.0
#: A sandbox is near, whatever proxy the environment names.
_open = build_opener(ProxyHandler({})).open

T = TypeVar("T")


class SandboxControl:
    """What :class:`Sandbox` offers, over HTTP.

    :param url: the sandbox's address, such as ``http://127.0.0.1:8100``.
    :param key: the shop, where there are several (default: the first one).
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"Not an address of a sandbox: {url!r}")
        self._url = url.rstrip("/")
        self._query = f"?{urlencode({'key': key})}" if key else ""

    def state(self) -> dict[str, Any]:
        """Return the shops, their sizes and quotas, and the number of calls."""
        return self._call("GET", "state", dict[str, Any])

    def calls(self) -> list[Call]:
        """Return every call to the API since the start or the last reset."""
        return self._call("GET", "calls", dict[str, list[Call]])["calls"]

    def tickets(self) -> dict[int, Document]:
        """Return every live ticket by id, oldest first."""
        return self._documents("tickets")

    def deleted(self) -> dict[int, Document]:
        """Return every deleted ticket by id, as it was last."""
        return self._documents("deleted")

    def ticket(self, ticket_id: int) -> Document:
        """Return a live ticket."""
        return self._call("GET", f"tickets/{ticket_id}", dict[str, Document])["ticket"]

    def history(self, ticket_id: int) -> list[Change]:
        """Return what has happened to a ticket since the shop opened."""
        return self._call("GET", f"history/{ticket_id}", dict[str, list[Change]])["history"]

    def add_tickets(self, count: int = 1, **properties: object) -> list[int]:
        """Let customers open tickets, and return their ids."""
        body = {"count": count, "properties": properties}
        return self._call("POST", "tickets", dict[str, list[int]], body)["ids"]

    def update_ticket(self, ticket_id: int, **properties: object) -> Document:
        """Change a ticket as the shop's staff does."""
        return self._call("PATCH", f"tickets/{ticket_id}", dict[str, Document], properties)["ticket"]

    def delete_ticket(self, ticket_id: int) -> None:
        """Delete a ticket as the shop's staff does."""
        self._call("DELETE", f"tickets/{ticket_id}", dict[str, Any])

    def add_message(self, ticket_id: int, text: str, author: Author = "customer") -> Document:
        """Let the customer (or ``author="shop"``) write."""
        body = {"text": text, "author": author}
        return self._call("POST", f"tickets/{ticket_id}/messages", dict[str, Document], body)["message"]

    def configure(self, **options: object) -> None:
        """Change options while the shop serves: those of :class:`Distortions`, and ``answer_timezone``."""
        self._call("PATCH", "options", dict[str, Any], options)

    def inject(self, *faults: Fault) -> None:
        """Let calls to come meet faults."""
        self._call("POST", "faults", dict[str, Any], {"faults": faults})

    def use_quota(self, calls: int) -> None:
        """Use up calls as another program with the same key would."""
        self._call("POST", "quota", dict[str, Any], {"calls": calls})

    def reset(self) -> None:
        """Forget calls and faults and give back the quota, in all shops; tickets stay."""
        self._call("POST", "reset", dict[str, Any])

    def _documents(self, what: str) -> dict[int, Document]:
        documents = self._call("GET", what, dict[str, list[Document]])["tickets"]
        return {document["id"]: document for document in documents}

    def _call(self, method: str, path: str, answer: type[T], body: object = None) -> T:
        address = f"{self._url}/_sandbox/{quote(path)}{self._query}"
        content = None if body is None else msgspec.json.encode(body)
        request = Request(address, content, {"Content-Type": "application/json"}, method=method)  # ruff: ignore[suspicious-url-open-usage] - http(s) is checked above
        try:
            with _open(request, timeout=_TIMEOUT) as response:
                return msgspec.json.decode(response.read(), type=answer)
        except HTTPError as error:
            with error:
                message = msgspec.json.decode(error.read())["error"]["message"]
            raise ValueError(f"{method} {path}: {message}") from None
