"""The shop's log, and what one task has asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from airflow_provider_lightspeed.sandbox import Call
from chaos.worlds import MAX_WAIT, QUOTA_RESERVE, TASKS, World

#: So many seconds before the quota is back, what is left of the wait for it is surely more than a task may wait.
_SURELY_TOO_LONG = MAX_WAIT + 3.0


def calls_of(task: str, calls: Sequence[Call]) -> list[Call]:
    """Return the calls of a task."""
    return [call for call in calls if call.path.startswith(f"/{TASKS[task]}/")]


def made_again(calls: Sequence[Call]) -> int:
    """Count the writes to a ticket after the shop has once said that it is done.

    Its history would not show them: what changes nothing leaves no trace there.
    """
    done: set[str] = set()
    again = 0
    for call in calls:
        if call.method in {"PUT", "DELETE"}:
            again += call.path in done
            if _is_answered_well(call):
                done.add(call.path)
    return again


def asked_again(calls: Sequence[Call]) -> int:
    """Count the lists that were asked for after the shop had once sent them."""
    asked = Counter(
        (call.path, *sorted(call.query.items()))
        for call in calls
        if call.method == "GET" and call.query and _is_answered_well(call)
    )
    return asked.total() - len(asked)


def closing_met_the_reserve(world: World, calls: Sequence[Call]) -> bool:
    """Tell whether a write was told that no quota is left for long, and another one was made when it was back.

    :param calls: of all tasks, who share the quota. Only `close` writes.
    """
    seconds, limit = world.shop.window_seconds[0], world.shop.limits[0]
    used: Counter[int] = Counter()
    told_in = None
    for call in calls:
        window = int(call.at // seconds)
        if call.status != 429 or call.fault is not None:
            used[window] += 1
        if call.method != "PUT":
            continue
        if told_in is not None and window > told_in:
            return True
        is_used_up = limit - used[window] <= limit * QUOTA_RESERVE
        if is_used_up and call.fault is None and (window + 1) * seconds - call.at > _SURELY_TOO_LONG:
            told_in = window
    return False


def _is_answered_well(call: Call) -> bool:
    return call.status in {200, 204} and call.fault in {None, "slow"}
