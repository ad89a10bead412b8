"""Up to which ticket a sensor has delivered."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lightspeed._airflow import AirflowException, Variable
from airflow_provider_lightspeed._variables import read_variable
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.new_tickets import Cursor, PollResult, TicketId

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Context

# How many runs are remembered, in case one of them is cleared: of the newest, as many as have delivered so many tickets.
_RUNS_KEPT = 100
_IDS_KEPT = 10_000


class DeliveredRun(msgspec.Struct, frozen=True, array_like=True):
    """What a run has delivered.

    :param ticket_ids: None: all from ``since_id`` (exclusive) to ``max_id``.
    """

    since_id: int
    max_id: int
    ticket_ids: list[int] | None = None

    @property
    def read_from(self) -> int:
        """Return the id above which its tickets are."""
        return min([self.since_id, *(ticket_id - 1 for ticket_id in self.ticket_ids or ())])

    def includes(self, ticket_id: int) -> bool:
        """Return whether a ticket with an id over ``since_id`` was delivered."""
        if self.ticket_ids is None:
            return ticket_id <= self.max_id
        return ticket_id in self.ticket_ids


class _Stored(msgspec.Struct, omit_defaults=True):
    """What the Variable holds.

    :param cursor: which tickets are done.
    :param since_id: in place of a cursor: all tickets up to this id are done. Users may set it.
    :param runs: what the latest runs have delivered, by run id.
    :param user: run id and map index of the mapped task instance that used it last.
    """

    cursor: Cursor | None = None
    since_id: TicketId | None = None
    runs: dict[str, DeliveredRun] = {}
    user: tuple[str, int] | None = None


class SensorState:
    """The state of one sensor over its runs, in the Airflow Variable `name`.

    XComs of earlier runs would not do: they are found by logical date, which manual and asset-triggered runs of
    Airflow 3 lack; and the task state store belongs to one run.

    :param conn_id: connection to the shop. Together with DAG and task it names the state, not a mapped position.
    :param email: the customer's address. Each has a state of its own.
    :param state_name: replaces both.
    :param is_cleared: whether a user has cleared the task instance.
    :raises LightspeedConfigurationError: if the Variable holds something else, or another instance of a mapped task
        uses it.
    :raises AirflowException: if Airflow cannot read or write its Variables.
    """

    def __init__(
        self,
        context: Context,
        *,
        conn_id: str,
        email: str | None = None,
        state_name: str | None = None,
        is_cleared: bool = False,
    ) -> None:
        ti = context["ti"]
        task = f"lightspeed_new_tickets.{ti.dag_id}.{ti.task_id}"
        customer = "" if email is None else f".{hashlib.sha256(email.encode()).hexdigest()[:8]}"
        self.name = f"{task}.{state_name or conn_id + customer}"
        self._run_id = ti.run_id
        self._user = (ti.run_id, ti.map_index) if ti.map_index is not None and ti.map_index >= 0 else None
        self._is_cleared = is_cleared
        # The name was another one in early versions.
        self._old_name = task if self._user is None else f"{task}.{self._user[1]}"
        self._stored = _Stored()
        self._read()
        if self.cursor is None:
            self._take_over()
        if self._user not in {None, self._stored.user}:
            self._stored.user = self._user
            self._save()

    @property
    def cursor(self) -> Cursor | None:
        """Which tickets are done; None before the first run."""
        return self._stored.cursor

    def delivered(self) -> DeliveredRun | None:
        """Return what this very run has delivered already, if it was cleared or died since."""
        return self._stored.runs.get(self._run_id)

    def initialise(self, cursor: Cursor) -> Cursor:
        """Set and return the start of the very first run, unless another has set one by now."""
        self._read()
        if self._stored.cursor is None:
            self._stored.cursor = cursor
            self._save()
        return self._stored.cursor

    def recognise(self, cursor: Cursor) -> None:
        """Record of which shop the cursor is: the key is another one, or was not recorded yet."""
        self._stored.cursor = cursor
        self._save()

    def forget(self) -> None:
        """Start over: the shop is another one."""
        self._stored = _Stored(user=self._user)
        self._save()

    def settle(self, polled: Cursor, after: Cursor) -> None:
        """Record the cursor after a poll that delivers nothing, unless another run has delivered since."""
        if polled != after:
            self._read()
            if self.cursor == polled:
                self._stored.cursor = after
                self._save()

    def advance(self, result: PollResult, polled: Cursor, after: Cursor) -> bool:
        """Record what this run delivers, and return True: unless another run has done so since the poll.

        A Variable can't be locked. But a poll may take minutes while the shop fails, and what is read here has to be
        right for a few milliseconds only.

        :param polled: the cursor that the poll started from.
        :param after: the cursor behind the delivery.
        """
        self._read()
        if self.cursor != polled or self._run_id in self._stored.runs:
            return False
        self._stored.cursor = after
        self._stored.runs[self._run_id] = DeliveredRun(result.since_id, result.max_id, result.ticket_ids)
        self._save()
        return True

    def _read(self) -> None:
        text = read_variable(
            self.name,
            unknown=f"which tickets are new. Nothing was delivered, and the Variable {self.name!r} is as it was",
        )
        self._stored = _decode(self.name, text) or _Stored()
        used_by = self._stored.user
        if (
            self._user
            and used_by
            and used_by[0] == self._run_id
            and used_by != self._user
            and not self._is_cleared
        ):
            raise LightspeedConfigurationError(
                f"the mapped instances {used_by[1]} and {self._user[1]} of this task would share one state, the "
                f"Airflow Variable {self.name!r}, and so lose tickets to each other: they have the same connection "
                "and customer. Give each a state_name"
            )

    def _take_over(self) -> None:
        old = _decode(self._old_name, Variable.get(self._old_name, None))
        if old is not None and old.cursor is not None:
            self._stored = old
            self._save()
            Variable.delete(self._old_name)

    def _save(self) -> None:
        runs = list(self._stored.runs.items())[-_RUNS_KEPT:]
        room = _IDS_KEPT - sum(len(run.ticket_ids or ()) for _, run in runs)
        while room < 0 and len(runs) > 1:
            room += len(runs.pop(0)[1].ticket_ids or ())
        self._stored.runs = dict(runs)
        text = msgspec.json.encode(self._stored).decode()
        Variable.set(self.name, text)
        # Airflow 3.0 to 3.2 only log that it could not be written.
        if Variable.get(self.name, None) != text:
            raise AirflowException(
                f"Airflow could not store the Variable {self.name!r}, which holds which tickets are done. Nothing was "
                "delivered. Let Airflow retry"
            )


def _decode(name: str, text: str | None) -> _Stored | None:
    if text is None:
        return None
    try:
        stored = msgspec.json.decode(text, type=_Stored | None) or _Stored()
    except msgspec.DecodeError as error:
        raise LightspeedConfigurationError(
            f"the Airflow Variable {name!r} is not the state of this sensor ({error}). It is left as it is. Delete "
            'it to start over, or set it to the id after which to continue, such as {"since_id": 4711}'
        ) from None
    if stored.cursor is None and stored.since_id is not None:
        stored.cursor = Cursor(stored.since_id)
    stored.since_id = None
    return stored
