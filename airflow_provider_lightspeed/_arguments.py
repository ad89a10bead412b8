"""Arguments as users and templates write them, read into values. Pure functions."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from inspect import Parameter, signature
from math import isfinite
from operator import index
from typing import Any, ParamSpec, SupportsIndex, TypeVar

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.tickets import TicketFilter, parse_ticket_id
from airflow_provider_lightspeed.api.wording import first_few

#: What a window that is empty after rendering means.
NO_DATA_INTERVAL = (
    "this run has no data interval (manual and asset-triggered runs of Airflow 3 have none). "
    "Use CronDataIntervalTimetable, or give explicit bounds"
)
#: Iterables of small numbers, which are no ids.
Bytes = bytes | bytearray | memoryview
#: One address. What it may look like beyond this is the shop's to decide.
_EMAIL = re.compile(r"[^@\s,;]+@[^@\s,;]+")

P = ParamSpec("P")
T = TypeVar("T")


def record_passed(init: Callable[P, None]) -> Callable[P, None]:
    """Let a constructor of an operator note which arguments it was passed, for :func:`passed_names`.

    An attribute alone does not show that: a native template, or an XCom that a mapped task gets, may be None.
    """
    # Where None is the default it may mean "not passed"; where it is not, it can only be a value that is missing.
    never_none = {
        name
        for name, parameter in signature(init).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY and parameter.default is not None
    }

    @wraps(init)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        init(*args, **kwargs)
        operator: Any = args[0]
        # A mapped operator is constructed when it runs. None is then the value of an XCom, not a choice of the author.
        # The attribute is Airflow's; if it is ever gone, None is refused everywhere.
        is_mapped = getattr(operator, "_BaseOperator__from_mapped", True)
        passed = {
            name for name, value in kwargs.items() if value is not None or is_mapped or name in never_none
        }
        operator._passed_names = getattr(operator, "_passed_names", frozenset()) | passed

    return wrapper


def passed_names(operator: object, *names: str) -> tuple[str, ...]:
    """Return those of the names that the operator was passed: as arguments, by default_args or by mapping.

    A plain None means "not passed" where it is the default, but not in a mapped task.
    """
    passed: frozenset[str] = operator._passed_names  # type: ignore[attr-defined] # set by record_passed
    return tuple(name for name in names if name in passed)


def require_rendered(operator: object, *names: str, hint: str = "", may_be_empty: bool = False) -> None:
    """Refuse arguments that were passed, but have no value: a missing value must not turn a narrow choice into a wide one.

    :param names: attributes with the names of their arguments.
    :param hint: what that means, or what to do.
    :param may_be_empty: whether an empty text is a value.
    :raises LightspeedConfigurationError: naming the first of them.
    """
    for name in passed_names(operator, *names):
        value = getattr(operator, name)
        if is_unrendered(value) and not (may_be_empty and _is_blank(value)):
            raise LightspeedConfigurationError(
                f"{name} is empty after rendering (got {value!r})" + (hint and f": {hint}")
            )


def parse_text(name: str, value: Any) -> str:
    """Read a text. A native template makes a number or a switch of some texts; nothing else is one.

    Without this, ``str()`` of a list, or of the results of a mapped task, would reach a customer.

    :raises LightspeedConfigurationError: if it is no text. The error does not show the value, which may be private.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if type(value) in {int, bool} or (type(value) is float and isfinite(value)):
        return str(value)
    raise LightspeedConfigurationError(
        f"{name} must be a text, got {type(value).__name__}. The result of a mapped task is a list: join its texts, or "
        "map this task over them"
    )


def parse_conn_id(value: Any) -> str:
    """Read the id of the connection to the shop, without the blanks that a list or a person leaves around it.

    :raises LightspeedConfigurationError: if it is missing: that must not lead to another shop.
    """
    if is_unrendered(value):
        raise LightspeedConfigurationError(
            f"lightspeed_conn_id is empty after rendering (got {value!r}): give the id of the connection to the shop"
        )
    return parse_text("lightspeed_conn_id", value).strip()


def parse_flag(name: str, value: Any) -> bool:
    """Read a switch; a text such as a template, which is not rendered there, is none.

    :raises LightspeedConfigurationError: if it is neither True nor False.
    """
    if not isinstance(value, bool):
        raise LightspeedConfigurationError(f"{name} must be True or False, got {value!r}")
    return value


def parse_number(name: str, value: Any) -> int:
    """Read a number of tickets; NumPy's and pandas' integers are some, too.

    :raises LightspeedConfigurationError: if it is no whole number.
    """
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        return index(value)
    raise LightspeedConfigurationError(f"{name} must be a whole number, got {value!r}")


def parse_choice(name: str, value: T, *allowed: T) -> T:
    """Read an argument of which only some values mean something.

    :raises LightspeedConfigurationError: naming them, if it is another one.
    """
    if value not in allowed:
        raise LightspeedConfigurationError(
            f"{name} must be one of {', '.join(sorted(map(str, allowed)))}, got {value!r}"
        )
    return value


def is_unrendered(value: object) -> bool:
    """Return whether a value is what a template renders to when the run has no such value."""
    return value is None or (isinstance(value, str) and value.strip() in {"", "None"})


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def parse_instant(name: str, value: datetime | str | None) -> datetime | None:
    """Read an instant from ISO 8601 text or a datetime (pendulum's are); None is no bound.

    :param name: of the argument, for the error.
    :raises LightspeedConfigurationError: if it has no zone, is no instant, or is what a template
        renders to when a run has no data interval: that must not mean "no bound".
    """
    if value is None:
        return None
    given = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, datetime):
        instant = value
    else:
        text = str(value).strip()
        if is_unrendered(text):
            raise LightspeedConfigurationError(f"{name} is empty after rendering: {NO_DATA_INTERVAL}")
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            raise LightspeedConfigurationError(
                f"{name} must be an ISO 8601 instant such as 2026-01-31T00:00:00+00:00, got {given}"
            ) from None
    if instant.utcoffset() is None:
        raise LightspeedConfigurationError(
            f"{name} must be an instant with a zone, got {given}; add an offset such as +00:00"
        )
    # A plain one, of whatever kind it was: msgspec encodes no subclass of datetime.
    return datetime.fromisoformat(instant.isoformat())


def parse_ticket_filter(
    *,
    since_id: int | str | None = None,
    created_from: datetime | str | None = None,
    created_to: datetime | str | None = None,
    email: str | None = None,
) -> TicketFilter:
    """Read which tickets are meant.

    :raises LightspeedConfigurationError: if one of them cannot be read, or the window is empty or reversed.
    """
    if email is not None and (not isinstance(email, str) or is_unrendered(email) or email != email.strip()):
        # The address itself is personal data, and stays out of logs.
        raise LightspeedConfigurationError(
            "the customer's e-mail address must be text without blanks around it, and not empty. For all customers, "
            "leave it out"
        )
    # A shop may ignore a filter that it cannot read, such as "null" or "nan", and then list the tickets of all customers.
    if email is not None and not _EMAIL.fullmatch(email):
        raise LightspeedConfigurationError(
            "the customer's e-mail address must be one address, such as name@example.com, with exactly one @ and no "
            "blank, comma or semicolon. For several customers, map the task over them"
        )
    return TicketFilter(
        since_id=None if since_id is None else _parse_since_id(since_id),
        created_from=parse_instant("created_from", created_from),
        created_to=parse_instant("created_to", created_to),
        email=email,
    )


def parse_ticket_ids(value: Any) -> list[int]:
    """Read ticket ids, each once, in the order given.

    :param value: ids (ints or their decimal text), one id, text such as ``1,2,3`` or ``[1, 2]``, or a mapping
        with ``ticket_ids``, as a sensor returns it; also as the text that a template makes of any of these.
    :raises LightspeedConfigurationError: if anything in it is not an id, naming the first few.
    """
    if isinstance(value, str):
        value = parse_id_text(value)
    if isinstance(value, Mapping):
        if "ticket_ids" not in value:
            raise LightspeedConfigurationError(
                f"a mapping of ticket ids needs the key 'ticket_ids', got {sorted(map(str, value))}"
            )
        value = value["ticket_ids"]
    if isinstance(value, int):
        value = [value]
    if isinstance(value, str | Bytes) or not isinstance(value, Iterable):
        raise LightspeedConfigurationError(f"ticket_ids must be a list of ticket ids, got {value!r}")
    ids: dict[int, None] = {}
    wrong: list[str] = []
    for item in value:
        try:
            ids[parse_ticket_id(item)] = None
        except LightspeedConfigurationError:
            wrong.append(repr(item))
    if wrong:
        raise LightspeedConfigurationError(
            f"ticket ids must be positive whole numbers without leading zeros, got {first_few(wrong)} ({len(wrong)} wrong). "
            "No ticket was changed"
        )
    return list(ids)


def _parse_since_id(value: int | str) -> int:
    text = str(value).strip()
    if not (text.isascii() and text.isdigit()):
        raise LightspeedConfigurationError(f"since_id must be a ticket id (or 0), got {value!r}")
    return int(text)


def parse_id_text(text: str) -> Any:
    """Read what a template has made of ticket ids: ``1,2,3``, or a list or mapping as JSON or Python write it.

    :raises LightspeedConfigurationError: if it is empty or no such text.
    """
    text = text.strip()
    if is_unrendered(text):
        raise LightspeedConfigurationError("ticket_ids is empty after rendering; an empty list is written []")
    if not text.startswith(("[", "(", "{")):
        return [part.strip() for part in text.split(",")]
    # A template writes a list as Python does, with single quotes.
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    raise LightspeedConfigurationError(f"ticket_ids cannot be read as a list: {text[:80]!r}")
