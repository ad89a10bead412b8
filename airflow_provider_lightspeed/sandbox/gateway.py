"""All that happens to a call between the socket and a shop: credentials, quota, faults, churn, the record."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Sequence

import msgspec

from airflow_provider_lightspeed.sandbox.backend import ShopBackend
from airflow_provider_lightspeed.sandbox.calls import Call, CallLog, arrival
from airflow_provider_lightspeed.sandbox.config import ShopConfig
from airflow_provider_lightspeed.sandbox.faults import Fault, apply_fault
from airflow_provider_lightspeed.sandbox.wire import ApiError, Reply, Request, error_reply

# Two hosts in the real world; here each cluster is also a path, so that one port can stand in for both.
CLUSTERS = ("us1", "eu1")

_ADDRESS = re.compile(rf"(?:/(?:{'|'.join(CLUSTERS)}))?/([^/]+)(/.+)")


class Gateway:
    """Serves one or more shops, distinguished by their credentials."""

    def __init__(self, configs: Sequence[ShopConfig], clock: Callable[[], float] = time.time) -> None:
        credentials = [(config.key, config.secret) for config in configs]
        if len(set(credentials)) < len(credentials):
            raise ValueError("Each shop needs a key and secret of its own")
        self.backends = tuple(ShopBackend(config, clock) for config in configs)
        self.calls = CallLog()
        self._by_credentials = dict(zip(credentials, self.backends, strict=True))
        self._by_key = {backend.config.key: backend for backend in self.backends}

    def reset(self) -> None:
        """Forget calls and faults and give back the quota, in all shops; tickets stay."""
        self.calls.clear()
        for backend in self.backends:
            backend.clear_faults()
            backend.reset_quota()

    def answer(self, request: Request, authorization: str) -> tuple[Reply, float]:
        """Return the response to a call, and the seconds until it is due."""
        at, monotonic = arrival()
        key, secret = _read_credentials(authorization)
        backend = self._by_credentials.get((key, secret))
        fault = None
        delay = 0.0
        if backend is None:
            reply = self._refuse_stranger(request, key)
        elif wait := backend.quota.take():
            message = "Too many requests in this time period. Try again later."
            reply = _with_headers(_error(429, message, request), backend.quota.headers(refused_for=wait))
        else:
            fault = backend.faults.pick(request.method, request.path)
            reply = _with_headers(_serve(backend, request, fault), backend.quota.headers())
            delay = backend.config.latency + (fault.delay if fault else 0.0)
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
        backend = self._by_key.get(key)
        return _with_headers(reply, backend.quota.headers()) if backend else reply


def _serve(backend: ShopBackend, request: Request, fault: Fault | None) -> Reply:
    backend.churner.step()
    if fault is None:
        return _answer(backend, request)
    reply = _answer(backend, request) if fault.needs_answer else Reply()
    return apply_fault(fault, reply, request)


def _answer(backend: ShopBackend, request: Request) -> Reply:
    address = _ADDRESS.fullmatch(request.path)
    if address is None or address[1] not in backend.config.languages:
        return _error(404, "Unknown or inactive language.", request)
    try:
        return backend.answer(msgspec.structs.replace(request, path=address[2]))
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
