"""Faults to inject: which call they hit, and what they do to its response."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from threading import Lock
from typing import Literal, get_args

import msgspec

from airflow_provider_lightspeed.sandbox.rng import generator
from airflow_provider_lightspeed.sandbox.wire import HTML, Reply, Request, error_reply

FaultKind = Literal[
    "429",
    "500",
    "502",
    "503",
    "504",
    "drop",
    "cut-off",
    "error-200",
    "broken-json",
    "html-200",
    "empty-200",
    "no-key",
    "slow",
    "html-403",
    "empty-list",
    "103",
]

# These change a real response, so there has to be one.
_NEED_AN_ANSWER = frozenset({"cut-off", "broken-json", "no-key", "slow", "empty-list", "103"})

_MESSAGES = {
    "429": "Too many requests in this time period. Try again later.",
    "500": "Internal server error.",
    "503": "Service unavailable.",
    "504": "Gateway timeout.",
}

_BLOCKED = b"<html><head><title>403 Forbidden</title></head><body><h1>Request blocked</h1></body></html>\n"
_LIST = re.compile(r"/(tickets|messages)\.json$")
_HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


@dataclass(frozen=True)
class Fault:
    """A fault and the calls it hits.

    :param kind: an error status; ``drop`` (the connection ends without a response), ``cut-off`` (half a body),
        ``error-200`` (an ``error`` key in a 200), ``broken-json``, ``html-200``, ``empty-200``,
        ``no-key`` (an object without the key that belongs there), ``slow`` (a good response after ``delay``),
        ``html-403`` (a firewall's page), ``empty-list`` (a list, and only a list, without its rows), ``103`` (an interim
        response, 103 Early Hints, before the good one).
    :param method: only calls with this method (empty: any).
    :param path: only calls whose path holds a match of this regular expression (empty: any).
    :param after: let this many matching calls pass first.
    :param times: hit this many calls (0: without end).
    :param probability: hit a matching call with this chance, drawn with the shop's seed.
    :param applied: the shop does what was asked before the fault hides it.
    :param delay: seconds to wait before the fault shows.
    :param retry_after: a ``Retry-After`` header to send along.
    """

    kind: FaultKind
    _: KW_ONLY
    method: str = ""
    path: str = ""
    after: int = 0
    times: int = 1
    probability: float = 1.0
    applied: bool = False
    delay: float = 0.0
    retry_after: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"Unknown fault {self.kind!r}: choose from {', '.join(get_args(FaultKind))}")
        re.compile(self.path)

    def matches(self, method: str, path: str) -> bool:
        """Return whether this fault can hit a call."""
        is_list = method == "GET" and _LIST.search(path) is not None
        return (
            self.method in {"", method}
            and re.search(self.path, path) is not None
            and (is_list or self.kind != "empty-list")
        )

    @property
    def needs_answer(self) -> bool:
        """Whether the shop has to run the request before this fault shows."""
        return self.applied or self.kind in _NEED_AN_ANSWER


class Faults:
    """The faults waiting for their calls. Safe to use from several threads."""

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        self._lock = Lock()
        self._chance = generator(seed, "faults")
        self._waiting: list[tuple[Fault, _Tally]] = []
        self.inject(faults)

    def inject(self, faults: Iterable[Fault]) -> None:
        """Add faults after those already there."""
        with self._lock:
            self._waiting.extend((fault, _Tally()) for fault in faults)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._waiting.clear()

    def pick(self, method: str, path: str) -> Fault | None:
        """Return the fault that hits this call, if any: the first one waiting that matches."""
        with self._lock:
            for fault, tally in self._waiting:
                if not fault.matches(method, path):
                    continue
                tally.seen += 1
                if tally.seen <= fault.after or (fault.times and tally.hit >= fault.times):
                    continue
                if self._chance.random() < fault.probability:
                    tally.hit += 1
                    return fault
        return None


class _Tally(msgspec.Struct):
    seen: int = 0
    hit: int = 0


def apply_fault(fault: Fault, reply: Reply, request: Request) -> Reply:
    """Return what the client gets to see instead of the reply."""
    headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    match fault.kind:
        case "429" | "500" | "503" | "504":
            changed = error_reply(
                int(fault.kind), _MESSAGES[fault.kind], method=request.method, path=request.path
            )
        case "502":
            changed = Reply(status=502, body=_HTML, content_type=HTML)
        case "drop":
            changed = msgspec.structs.replace(reply, connection="dropped")
        case "cut-off":
            changed = msgspec.structs.replace(reply, connection="cut")
        case "error-200":
            refusal = error_reply(500, "Internal server error.", method=request.method, path=request.path)
            changed = msgspec.structs.replace(refusal, status=200)
        case "broken-json":
            changed = msgspec.structs.replace(reply, body=reply.body[: len(reply.body) // 2])
        case "html-200":
            changed = Reply(body=_HTML, content_type=HTML)
        case "empty-200":
            changed = Reply()
        case "no-key":
            changed = Reply(status=reply.status, body=b"{}")
        case "html-403":
            changed = Reply(status=403, body=_BLOCKED, content_type=HTML)
        case "empty-list":
            changed = msgspec.structs.replace(reply, body=_without_rows(reply.body))
        case "103":
            changed = msgspec.structs.replace(reply, early_hints=True)
        case "slow":
            changed = reply
    return msgspec.structs.replace(changed, headers={**changed.headers, **headers})


def _without_rows(body: bytes) -> bytes:
    envelopes = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.encode(dict.fromkeys(envelopes, ()))
