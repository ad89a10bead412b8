"""All that happens to a call between the socket and a shop: credentials, quota, faults, churn, the record."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Sequence

import msgspec

from airflow_provider_lightspeed.sandbox.calls import Call, CallLog, arrival
from airflow_provider_lightspeed.sandbox.config import ShopConfig
from airflow_provider_lightspeed.sandbox.desk import Desk
from airflow_provider_lightspeed.sandbox.faults import Fault, spoil
from airflow_provider_lightspeed.sandbox.wire import ApiError, Reply, Request, error_reply

# Two hosts in the real world; here each cluster is also a path, so that one port can stand in for both.
CLUSTERS = ("us1", "eu1")

_ADDRESS = re.compile(rf"(?:/(?:{'|'.join(CLUSTERS)}))?/([^/]+)(/.+)")


class Gateway:
    """Serves one or more shops, told apart by their credentials."""

    def __init__(self, configs: Sequence[ShopConfig], clock: Callable[[], float] = time.time) -> None:
        credentials = [(config.key, config.secret) for config in configs]
        if len(set(credentials)) < len(credentials):
            raise ValueError("Each shop needs a key and secret of its own")
        self.desks = tuple(Desk(config, clock) for config in configs)
        self.calls = CallLog()
        self._by_credentials = dict(zip(credentials, self.desks, strict=True))
        self._by_key = {desk.config.key: desk for desk in self.desks}

    def reset(self) -> None:
        """Forget calls and faults and give back the quota, in all shops; tickets stay."""
        self.calls.clear()
        for desk in self.desks:
            desk.clear_faults()
            desk.reset_quota()

    def answer(self, request: Request, authorization: str) -> tuple[Reply, float]:
        """Return the answer to a call, and the seconds until it is due."""
        at, monotonic = arrival()
        key, secret = _read_credentials(authorization)
        desk = self._by_credentials.get((key, secret))
        fault = None
        delay = 0.0
        if desk is None:
            reply = self._refuse_stranger(request, key)
        elif wait := desk.quota.take():
            message = "Too many requests in this time period. Try again later."
            reply = _with_headers(_error(429, message, request), desk.quota.headers(refused_for=wait))
        else:
            fault = desk.faults.pick(request.method, request.path)
            reply = _with_headers(_serve(desk, request, fault), desk.quota.headers())
            delay = desk.config.latency + (fault.delay if fault else 0.0)
        self.calls.add(
            Call(
                at=at,
                monotonic=monotonic,
                key=key,
                method=request.method,
                path=request.path,
                query=request.query,
                body=request.body.decode("utf-8", "replace"),
                status=0 if reply.connection == "dropped" else reply.status,
                fault=fault.kind if fault else None,
            )
        )
        return reply, delay

    def _refuse_stranger(self, request: Request, key: str) -> Reply:
        reply = _error(401, "Could not authenticate you.", request)
        desk = self._by_key.get(key)
        return _with_headers(reply, desk.quota.headers()) if desk else reply


def _serve(desk: Desk, request: Request, fault: Fault | None) -> Reply:
    desk.churner.step()
    if fault is None:
        return _carry_out(desk, request)
    reply = _carry_out(desk, request) if fault.needs_answer else Reply()
    return spoil(fault, reply, request)


def _carry_out(desk: Desk, request: Request) -> Reply:
    address = _ADDRESS.fullmatch(request.path)
    if address is None or address[1] not in desk.config.languages:
        return _error(404, "Unknown or inactive language.", request)
    try:
        return desk.endpoints.answer(msgspec.structs.replace(request, path=address[2]))
    except ApiError as error:
        return _error(error.status, error.message, request)


def _error(status: int, message: str, request: Request) -> Reply:
    return error_reply(status, message, method=request.method, path=request.path)


def _with_headers(reply: Reply, headers: dict[str, str]) -> Reply:
    return msgspec.structs.replace(reply, headers={**reply.headers, **headers})


def _read_credentials(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        decoded = ""
    key, _, secret = decoded.partition(":")
    return (key, secret) if scheme.lower() == "basic" else ("", "")
