"""Control from another process: what `Sandbox` offers, as plain JSON under ``/_sandbox/``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lightspeed.sandbox.faults import Fault
from airflow_provider_lightspeed.sandbox.wire import Reply, Request, error_reply

if TYPE_CHECKING:
    from airflow_provider_lightspeed.sandbox.backend import ShopBackend
    from airflow_provider_lightspeed.sandbox.gateway import Gateway

PREFIX = "/_sandbox/"

_ITEM = re.compile(r"(\w+)(?:/(\d+))?(?:/(\w+))?")


class Control:
    """Answers control calls. ``?key=`` chooses the shop; without it, it is the first one."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def answer(self, request: Request) -> Reply:
        """Run a control call; mistakes come back as errors in the API's form."""
        try:
            content = self._dispatch(request)
        except LookupError as error:
            return _refusal(404, f"There is no {error}", request)
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            return _refusal(422, str(error), request)
        return Reply(body=msgspec.json.encode(content))

    def _dispatch(self, request: Request) -> Any:
        item = _ITEM.fullmatch(request.path.removeprefix(PREFIX))
        if item is None:
            raise LookupError(request.path)
        what, number, part = item.groups()
        backend = self._backend(request)
        body: dict[str, Any] = msgspec.json.decode(request.body, type=dict[str, Any]) if request.body else {}
        ticket_id = int(number or 0)
        match request.method, what, number is not None, part:
            case "GET", "state", False, None:
                return self._state()
            case "GET", "calls", False, None:
                return {"calls": self._gateway.calls.all()}
            case "GET", "tickets", False, None:
                return {"tickets": list(backend.shop.tickets().values())}
            case "POST", "tickets", False, None:
                return {"ids": backend.add_tickets(body.get("count", 1), **body.get("properties", {}))}
            case "GET", "deleted", False, None:
                return {"tickets": list(backend.shop.deleted().values())}
            case "GET", "tickets", True, None:
                return {"ticket": backend.shop.ticket(ticket_id)}
            case "PATCH", "tickets", True, None:
                return {"ticket": backend.update_ticket(ticket_id, **body)}
            case "DELETE", "tickets", True, None:
                backend.delete_ticket(ticket_id)
            case "GET", "history", True, None:
                return {"history": backend.shop.history(ticket_id)}
            case "POST", "tickets", True, "messages":
                return {"message": backend.add_message(ticket_id, **body)}
            case "PATCH", "options", False, None:
                backend.configure(**body)
            case "POST", "faults", False, None:
                backend.inject(*msgspec.convert(body.get("faults"), list[Fault]))
            case "POST", "quota", False, None:
                backend.use_quota(int(body["calls"]))
            case "POST", "reset", False, None:
                self._gateway.reset()
            case _:
                raise LookupError(f"{request.method} {request.path}")
        return {}

    def _backend(self, request: Request) -> ShopBackend:
        key = request.query.get("key")
        for backend in self._gateway.backends:
            if key in {None, backend.config.key}:
                return backend
        raise LookupError(f"shop with the key {key}")

    def _state(self) -> dict[str, Any]:
        return {
            "shops": [
                {
                    "key": backend.config.key,
                    "tickets": len(backend.shop),
                    "deleted": len(backend.shop.deleted()),
                    "order": backend.config.order,
                    "quota": backend.quota.document(),
                }
                for backend in self._gateway.backends
            ],
            "calls": self._gateway.calls.count(),
        }


def _refusal(status: int, message: str, request: Request) -> Reply:
    return error_reply(status, message, method=request.method, path=request.path)
