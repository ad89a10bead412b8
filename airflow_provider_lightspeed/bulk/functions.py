"""Describe a function so that two versions of it differ, also between processes."""

from __future__ import annotations

from datetime import date, time, timedelta
from functools import partial
from inspect import getattr_static
from types import CodeType
from typing import Any

#: Types whose ``repr`` is the same in each process.
_PLAIN = (str, bytes, int, float, complex, type(None), type(...), date, time, timedelta)


def describe(value: object) -> Any:
    """Return a value whose ``repr`` changes with the code of a function: its instructions, constants and defaults.

    Its place in a file, its closure and the functions that it calls do not count. For other objects, the code of
    ``__call__`` counts; without code, the name.
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, CodeType):
        # Not by marshal: it contains the file's path and line numbers, and cannot write all constants.
        return value.co_code, value.co_exceptiontable, value.co_names, describe(value.co_consts)
    if isinstance(value, tuple | list):
        return type(value).__name__, [describe(item) for item in value]
    if isinstance(value, set | frozenset):
        return "set", sorted(repr(describe(item)) for item in value)
    if isinstance(value, dict):
        return "dict", [(describe(key), describe(item)) for key, item in value.items()]
    if isinstance(value, partial):
        return "partial", describe(value.func), describe(value.args), describe(value.keywords)
    name = getattr(value, "__qualname__", type(value).__qualname__)
    function = value if hasattr(value, "__code__") else getattr_static(type(value), "__call__", None)
    code = getattr(function, "__code__", None)
    if code is None:
        return name
    defaults = getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)
    return name, describe(code), describe(defaults)
