"""The state of a task, kept where its next try finds it; and deferral."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Self

import msgspec

from airflow_provider_lightspeed.api.errors import LightspeedError, LightspeedUnknownOutcomeError

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import BaseOperator, Context

log = logging.getLogger(__name__)

#: Key in a saved state: which tries of the task may use it. Its text stays: after an update of the provider, the next try
#: must know what an earlier one has sent.
_GENERATION = "life"


class SavedState(msgspec.Struct):
    """What a try keeps for the next one: plain JSON, some kilobytes."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        # Lists instead of tuples: Airflow's store keeps JSON values only.
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return plain

    @classmethod
    def from_json(cls, state: Mapping[str, Any] | None) -> Self | None:
        """Read it; None for nothing, or for what another version wrote."""
        try:
            return None if state is None else msgspec.convert(state, cls)
        except msgspec.ValidationError:
            return None


class Checkpoint:
    """The state of one task instance, which outlives its workers, tries and deferrals.

    The task state store of Airflow 3.3 keeps it. Older versions have none, and neither has a context in a test: nothing
    is kept then, and the next try starts over.

    The store keeps its values when a task succeeds, when it fails for good, and when it is cleared. Clearing asks for
    another run, which may be weeks later: what was saved before does not count then.

    :param context: as ``execute`` gets it.
    :param key: name of the state in the store. An Airflow administrator sees it.
    :param outlives_clear: whether a task that is cleared resumes too.
    """

    def __init__(
        self,
        context: Context | Mapping[str, Any],
        key: str = "lightspeed_checkpoint",
        *,
        outlives_clear: bool = False,
    ) -> None:
        self._store: Any = context.get("task_state_store")
        self._key = key
        self._generation = {} if outlives_clear else {_GENERATION: clear_generation(context)}

    @property
    def is_persistent(self) -> bool:
        """Whether the next try will find what is saved."""
        return self._store is not None

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last; None if there is nothing, or the task was cleared since."""
        return self._read(is_current=True)

    def load_abandoned(self) -> dict[str, Any] | None:
        """Return what was saved last if the task was cleared since, to clean up after it."""
        return self._read(is_current=False)

    def _read(self, *, is_current: bool) -> dict[str, Any] | None:
        state = None if self._store is None else self._store.get(self._key)
        if not isinstance(state, dict) or (self._generation.items() <= state.items()) is not is_current:
            return None
        return {name: value for name, value in state.items() if name != _GENERATION}

    def save(self, state: Mapping[str, Any]) -> None:
        """Save a state; it replaces the one before.

        :param state: plain JSON values. Airflow warns above 64 KiB (``[state_store] max_value_storage_bytes``).
        """
        if self._store is not None:
            self._store.set(self._key, {**state, **self._generation})

    def clear(self) -> None:
        """Delete the state: the task is done, or no later try can use it."""
        if self._store is not None:
            self._store.delete(self._key)


def clear_generation(context: Context | Mapping[str, Any]) -> list[int | str | None]:
    """Return a value (plain JSON) that stays the same over the tries of a task instance until it is cleared.

    Clearing adds the used tries to ``max_tries``. A run that is deleted and created again starts at another instant.
    A task that is cleared while it runs keeps both: Airflow retries it.
    """
    instance, run = context.get("ti"), context.get("dag_run")
    started = getattr(run, "start_date", None)
    return [getattr(instance, "max_tries", None), started.isoformat() if started else None]


def digest(*values: object) -> str:
    """Return twelve characters that stand for some values."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


def task_key(context: Context | Mapping[str, Any]) -> str:
    """Name the task instance, the same in each try; empty without one."""
    instance: Any = context.get("ti")
    if instance is None:
        return ""
    return digest(instance.dag_id, instance.run_id, instance.task_id, instance.map_index)


def mapped_instance(context: Context | Mapping[str, Any]) -> tuple[str, int] | None:
    """Name the mapped task in its run, and say which instance of it this is; None if it is not mapped."""
    instance: Any = context.get("ti")
    index = getattr(instance, "map_index", None)
    if not isinstance(index, int) or index < 0:
        return None
    return digest(instance.dag_id, instance.run_id, instance.task_id), index


def task_generation(operator: BaseOperator, context: Context | Mapping[str, Any]) -> str:
    """Name the tries of the task instance until it succeeds or is cleared; empty without one.

    A try may be killed after its last step, before Airflow records its success. Only this shows the next try that the
    task did not succeed.
    """
    key = task_key(context)
    return digest(key, operator.retries, *clear_generation(context)) if key else ""


class SendGuard:
    """Records a POST before it is sent, so that no later try sends it again, even if the worker is killed.

    The record stays after a success, since a worker may be killed before Airflow records that. Clearing the task asks
    for another run: earlier records do not count then. Without the store of Airflow 3.3, nothing is recorded.
    """

    KEY = "lightspeed_sent"

    def __init__(self, context: Context) -> None:
        self._checkpoint = Checkpoint(context, self.KEY)

    def earlier(self) -> dict[str, Any] | None:
        """Return the record of an earlier try; None if nothing was sent since the task was cleared."""
        return self._checkpoint.load()

    @contextmanager
    def sending(self, **notes: Any) -> Generator[None]:
        """Record that a POST is sent; delete the record if it was surely not sent.

        :param notes: for a later try, plain JSON.
        """
        self._checkpoint.save(notes)
        try:
            yield
        except LightspeedUnknownOutcomeError:
            raise
        except LightspeedError:
            try:
                self._checkpoint.clear()
            except Exception as trouble:  # ruff: ignore[blind-except] - the first error is the one to raise
                log.warning(
                    "Nothing was sent, but the task's state %r could not be deleted (%s: %s). The next try finds it and "
                    "sends nothing: delete it, or clear the task",
                    self.KEY,
                    type(trouble).__name__,
                    trouble,
                )
            raise


def defer_until(
    operator: BaseOperator,
    until: datetime,
    method_name: str,
    state: Mapping[str, Any] | None = None,
    *,
    reason: str,
) -> NoReturn:
    """Free the worker slot, and resume at an instant, perhaps on another worker.

    :param until: an instant with a zone.
    :param method_name: method of the operator, called as ``method(context, event, state=…)``.
    :param state: plain JSON values. It travels with the deferral, so that any version of Airflow has it.
    :param reason: why the task waits, for the log.
    :raises TaskDeferred: always.
    """
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger

    operator.log.info(
        "Deferred until %s UTC (in %.0f s): %s. The worker slot is free until then",
        f"{until.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        max(0.0, (until - datetime.now(UTC)).total_seconds()),
        reason,
    )
    operator.defer(
        trigger=DateTimeTrigger(moment=until),
        method_name=method_name,
        kwargs={"state": None if state is None else dict(state)},
    )
