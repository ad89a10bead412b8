"""The shop's log, and what one task has asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from airflow_provider_lightspeed.sandbox import Call
from chaos.scenarios import LANGUAGES, MAX_WAIT, QUOTA_RESERVE, Scenario

#: This many seconds before the quota is back, the rest of the wait is longer than a task may wait.
_SURELY_TOO_LONG = MAX_WAIT + 3.0


def calls_of(task: str, calls: Sequence[Call]) -> list[Call]:
    """Return the calls of a task."""
    return [call for call in calls if call.path.startswith(f"/{LANGUAGES[task]}/")]


def repeated_writes(calls: Sequence[Call]) -> int:
    """Count the writes to a ticket after the shop has confirmed one.

    The ticket's history does not show them: a write that changes nothing leaves no trace.
    """
    done: set[str] = set()
    again = 0
    for call in calls:
        if call.method in {"PUT", "DELETE"}:
            again += call.path in done
            if _is_success(call):
                done.add(call.path)
    return again


def repeated_reads(calls: Sequence[Call]) -> int:
    """Count the lists that were requested again after the shop had sent them."""
    requested = Counter(
        (call.path, *sorted(call.query.items()))
        for call in calls
        if call.method == "GET" and call.query and _is_success(call)
    )
    return requested.total() - len(requested)


def closing_met_the_reserve(scenario: Scenario, calls: Sequence[Call]) -> bool:
    """Return whether a write met the reserve long before the reset, and another one was made after it.

    :param calls: of all tasks, which share the quota. Only `close` writes.
    """
    seconds, limit = scenario.shop.window_seconds[0], scenario.shop.limits[0]
    used: Counter[int] = Counter()
    met_in = None
    for call in calls:
        window = int(call.at // seconds)
        if call.status != 429 or call.fault is not None:
            used[window] += 1
        if call.method != "PUT":
            continue
        if met_in is not None and window > met_in:
            return True
        is_used_up = limit - used[window] <= limit * QUOTA_RESERVE
        if is_used_up and call.fault is None and (window + 1) * seconds - call.at > _SURELY_TOO_LONG:
            met_in = window
    return False


def _is_success(call: Call) -> bool:
    return call.status in {200, 204} and call.fault in {None, "slow"}
