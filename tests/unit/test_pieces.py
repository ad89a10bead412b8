"""Large JSON read piece by piece is what it would be in one go, and so is what is no JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api import pieces
from airflow_provider_lightspeed.api.pieces import decode

_TEXT = st.text('ab"\\[]{},:é😀\n\x00', max_size=8)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)
_LISTS = st.fixed_dictionaries({
    "tickets": st.lists(st.dictionaries(_TEXT, _VALUES, max_size=4), max_size=5),
})


def _outcome(read: Any, body: bytes) -> Any:
    try:
        return repr(read(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "no JSON"


def _both(body: bytes) -> tuple[Any, Any]:
    return _outcome(lambda body: decode(body, at_once=0), body), _outcome(msgspec.json.decode, body)


@given(_LISTS | _VALUES, st.booleans(), st.sampled_from([None, 1]))
@example({"tickets": [None, {"a": 1}]}, False, None)
@example({"tickets": [{"a": 1}], "others": [None]}, False, None)
@example({"tickets": [{"a": 1}], "tickets ": [{"a": 1}]}, False, None)
@example({"tickets": {"tickets": [{"a": 1}]}}, False, None)
@example([[{"a": 1}, 2], [3]], False, None)
def test_as_in_one_go(value: Any, is_ascii: bool, indent: int | None) -> None:
    ours, plain = _both(json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode())
    assert ours == plain != "no JSON"


@given(_LISTS, st.data())
def test_what_is_no_json_is_none_in_pieces_either(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        if data.draw(st.booleans()):
            del body[place : place + data.draw(st.integers(1, 5))]
        else:
            body[place : place + 1] = data.draw(
                st.sampled_from([b'"', b"{", b"}", b"[", b"]", b"\\", b",", b"\xff"])
            )
        if not body:
            return
    ours, plain = _both(bytes(body))
    assert ours == plain


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b'{"tickets":[{}',
        b'{"tickets":[{}]}{}',
        b'{"tickets":[{},]}',
        b"0}",
        b'{"tickets":[-{}]}',
        b'{"tickets":[0.{}]}',
    ],
)
def test_no_json(body: bytes) -> None:
    assert _both(body) == ("no JSON", "no JSON")


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        ({"tickets": [{"a": {"b": [{}]}, "c": '"}]\\'}, {}, {"d": []}]}, 6),
        ({"tickets": [1, 2]}, 0),
        ([{"a": 1}], 0),
    ],
)
def test_other_threads_get_their_turn_between_the_objects_of_a_list(
    value: Any, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[float] = []
    monkeypatch.setattr(pieces.time, "sleep", turns.append)
    assert decode(json.dumps(value).encode(), at_once=0) == value
    assert turns == [0] * steps
