"""What the reference pages need to know of our docstrings: their little reStructuredText, and what operators inherit."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth):`~?\.*(?P<path>[\w.]+)`")
_LONE_COLONS = re.compile(r"(?m)^::\n")


class RstInDocstrings(griffe.Extension):
    """Names instead of roles; what is indented after ``::`` is code in Markdown by itself."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = _ROLE.sub(lambda role: f"`{role['path'].rpartition('.')[2]}`", obj.docstring.value)
            obj.docstring.value = _LONE_COLONS.sub("", text).replace("::\n", ":\n")


class InheritedArguments(griffe.Extension):
    """An operator that hands ``**kwargs`` on to another of ours shows that one's arguments as its own."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        for module in pkg.modules.values():
            self.on_package(pkg=module)
        for cls in pkg.classes.values():
            own = cls.members.get("__init__")
            if isinstance(own, griffe.Function) and "kwargs" in own.parameters:
                self._inherit(own.parameters, cls)

    @staticmethod
    def _inherit(parameters: griffe.Parameters, cls: griffe.Class) -> None:
        rest = parameters["kwargs"]
        del parameters["kwargs"]
        for base in cls.mro():
            for parameter in base.parameters:
                if parameter.name not in parameters and parameter.name not in {"self", "kwargs"}:
                    parameters.add(parameter)
        parameters.add(rest)
