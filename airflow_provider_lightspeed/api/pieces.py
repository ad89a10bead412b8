"""Large JSON read piece by piece: the decoder keeps the interpreter to itself while it works, an event loop's too."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec

#: Bytes that are decoded in one go in less time than it matters: about 2 ms.
AT_ONCE = 1024 * 1024

_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
_OPENING = b"[{"
#: How deep the objects of a list lie: ``{"tickets": [{…}, …]}``.
_DEPTH = 2


def decode(body: bytes | bytearray, at_once: int = AT_ONCE) -> Any:
    """Decode JSON as `msgspec.json.decode` does; the objects of a list in a large body one by one.

    :param at_once: what is not larger is decoded in one go.
    :raises msgspec.DecodeError: it is not JSON.
    :raises UnicodeDecodeError: it is not UTF-8.
    """
    if len(body) <= at_once:
        return msgspec.json.decode(body)
    pieces, rest = _cut(body)
    data = msgspec.json.decode(rest)
    holders = (
        [key for key, value in data.items() if value == [None] * len(pieces)]
        if isinstance(data, dict)
        else []
    )
    if not pieces or len(holders) != 1:
        return msgspec.json.decode(body)
    data[holders[0]] = objects = []
    for piece in pieces:
        objects.append(msgspec.json.decode(piece))
        _let_others_on()
    return data


def _cut(body: bytes | bytearray) -> tuple[list[memoryview], bytes]:
    """Cut out the objects of the lists, and return them and what is left, with a null in the place of each.

    Both are JSON if and only if the body is.
    """
    view = memoryview(body)
    pieces: list[memoryview] = []
    rest: list[bytes | memoryview] = []
    depth = begin = kept = 0
    for match in _STRING_OR_BRACKET.finditer(body):
        first = body[match.start()]
        if first == ord('"'):
            continue
        if first in _OPENING:
            if depth == _DEPTH and first == ord("{"):
                begin = match.start()
                rest += [view[kept:begin], b"null"]
            depth += 1
        else:
            depth -= 1
            if depth == _DEPTH and first == ord("}"):
                kept = match.end()
                pieces.append(view[begin:kept])
                _let_others_on()
    rest.append(view[kept:])
    return pieces, b"".join(rest)


def _let_others_on() -> None:
    # Otherwise another thread gets the interpreter after 5 ms, and an event loop needs it twice for a step.
    time.sleep(0)
