"""What a task has done so far, kept where its next try finds it; and letting go of the worker for a while."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_lightspeed.api.errors import LightspeedError, LightspeedUnknownOutcomeError

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import BaseOperator, Context


class Checkpoint:
    """The state of one task instance: it outlives the worker and its tries, and a deferral.

    It lies in the task state store of Airflow 3.3. Older versions have none, and neither has a context that was
    made by hand: nothing is kept then, and the next try starts again.

    The store does not forget when a task succeeds. So :meth:`clear` at the end, else a task that is cleared in
    the web interface would go on from the end of its last run, in place of starting afresh.

    :param context: as ``execute`` gets it.
    :param key: name of the state in the store. An Airflow administrator sees it.
    """

    def __init__(self, context: Context | Mapping[str, Any], key: str = "lightspeed_checkpoint") -> None:
        self._store: Any = context.get("task_state_store")
        self._key = key

    @property
    def is_persistent(self) -> bool:
        """Whether the next try will find what is saved."""
        return self._store is not None

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last; None if there is nothing."""
        state = None if self._store is None else self._store.get(self._key)
        return state if isinstance(state, dict) else None

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep this in place of what was saved before.

        :param state: plain JSON values. Airflow warns above 64 KiB (``[state_store] max_value_storage_bytes``).
        """
        if self._store is not None:
            self._store.set(self._key, dict(state))

    def clear(self) -> None:
        """Forget it: the task is done, or its state is of no use any more."""
        if self._store is not None:
            self._store.delete(self._key)


def clear_generation(context: Context | Mapping[str, Any]) -> list[int | str | None]:
    """Tell the tries of a task instance until somebody clears it from those after; plain JSON.

    Clearing adds the tries that were used up to ``max_tries``. A run that is deleted and made anew starts at another
    instant.
    """
    instance, run = context.get("ti"), context.get("dag_run")
    started = getattr(run, "start_date", None)
    return [getattr(instance, "max_tries", None), started.isoformat() if started else None]


class SendGuard:
    """Notes before a POST that it is sent, so that no later try sends it again, whatever became of the worker.

    It stays after a success, since a worker may be killed before Airflow has noted that. Who clears the task wants it
    to run again: a mark of before then counts no more. Without the store of Airflow 3.3, nothing is noted.
    """

    KEY = "lightspeed_sent"

    def __init__(self, context: Context) -> None:
        self._checkpoint = Checkpoint(context, self.KEY)
        self._life = clear_generation(context)

    def earlier(self) -> dict[str, Any] | None:
        """Return what an earlier try has noted; None if none was sent since the task was cleared."""
        state = self._checkpoint.load()
        return state if state and state.get("life") == self._life else None

    @contextmanager
    def sending(self, **notes: Any) -> Generator[None]:
        """Note that something is sent; forget it if that surely did not happen.

        :param notes: for a later try, plain JSON.
        """
        self._checkpoint.save({**notes, "life": self._life})
        try:
            yield
        except LightspeedUnknownOutcomeError:
            raise
        except LightspeedError:
            self._checkpoint.clear()
            raise


def defer_until(
    operator: BaseOperator, until: datetime, method_name: str, state: Mapping[str, Any] | None = None
) -> NoReturn:
    """Let go of the worker, and go on at an instant, perhaps on another worker.

    :param until: an instant with a zone.
    :param method_name: method of the operator, called as ``method(context, event, state=…)``.
    :param state: plain JSON values. It travels with the deferral, so that any version of Airflow has it.
    :raises TaskDeferred: always; this is how Airflow is told.
    """
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger

    operator.defer(
        trigger=DateTimeTrigger(moment=until),
        method_name=method_name,
        kwargs={"state": None if state is None else dict(state)},
    )
