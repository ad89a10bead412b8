"""Wait for new support tickets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow_provider_lightspeed._airflow import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow_provider_lightspeed._arguments import parse_ticket_filter, record_passed, require_rendered
from airflow_provider_lightspeed.api.errors import (
    LightspeedAuthenticationError,
    LightspeedConfigurationError,
    LightspeedError,
)
from airflow_provider_lightspeed.api.retry import is_transient
from airflow_provider_lightspeed.api.tickets import Ticket
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed, fail_without_retry
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.new_tickets import FailedEvent, PollResult, digest, fingerprint, read_event
from airflow_provider_lightspeed.sensors.state import DeliveredRun, SensorState

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Context

# The trigger ends by itself when the sensor's time is up. Airflow's own limit is for a triggerer that is down.
_GRACE = 60.0
# No further poll can change these.
_FINAL = (
    LightspeedAuthenticationError,
    LightspeedConfigurationError,
    AirflowFailException,
    AirflowSkipException,
)
# What `soft_fail` is about in poke and reschedule mode.
_SOFT = (AirflowSensorTimeout, AirflowFailException, AirflowSkipException)


class NewTicketSensor(BaseSensorOperator):
    """Wait until there are new support tickets, and return their ids.

    It means the same in ``poke`` and ``reschedule`` mode and deferred. One call a look while nothing is new.

    Returns ``{"ticket_ids", "count", "since_id", "max_id"}``, ids ascending; ``max_id`` is the greatest id that
    was looked at, from where the next run goes on.

    With ``since_id``, new means a greater id, and no state is kept. Without it, the sensor goes on where its last
    success ended, over scheduled, manual and asset-triggered runs of every Airflow version. It keeps that in the
    Airflow Variable ``lightspeed_new_tickets.<dag_id>.<task_id>`` (for a mapped task with ``.<map_index>``):
    look at it under Admin > Variables, delete it to start anew. A run that is cleared or retried after its success
    hands over the same tickets again, of the last 100 runs. Runs that overlap take turns:
    ``max_active_tis_per_dag`` is 1, unless you set it.

    A shop that does not answer, or a quota that is used up, is waited for, up to ``timeout``; wrong credentials or
    arguments fail the task at once, without a retry; anything else fails the try, or with ``silent_fail`` is
    waited for too.

    :param since_id: only tickets with a greater id (templated).
    :param customer_email: only tickets of the customer with this e-mail address (templated). It is not named
        ``email``, since that is Airflow's own: whom to tell of a failure.
    :param min_tickets: how many new tickets to wait for.
    :param where: which tickets count; called on the worker with each new ticket, at each look where anything has
        changed. Those that do not count are dealt with too, once the sensor has handed others over.
    :param start: what the very first run counts as new: ``latest``, what comes after its first look, or
        ``earliest``, every ticket of the shop.
    :param deferrable: wait in the triggerer, which takes no worker slot, whatever the ``mode``
        (default: ``[operators] default_deferrable``). ``exponential_backoff`` does not apply there.
    :param lightspeed_conn_id: connection to the shop (templated).
    :raises LightspeedTaskFailed: (no retry) if the credentials or arguments are wrong.
    :raises LightspeedError: (retried, or passed over with ``silent_fail``) if the shop refuses for another reason,
        or its list cannot be read completely.
    """

    template_fields: Sequence[str] = ("since_id", "customer_email", "lightspeed_conn_id")
    ui_color = "#e9f9e3"

    @record_passed
    def __init__(
        self,
        *,
        since_id: int | str | None = None,
        customer_email: str | None = None,
        min_tickets: int = 1,
        where: Callable[[Ticket], bool] | None = None,
        start: Literal["latest", "earliest"] = "latest",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        if since_id is None:
            # So that no two runs poll at once: the state has no lock.
            kwargs.setdefault("max_active_tis_per_dag", 1)
        super().__init__(**kwargs)
        self.since_id = since_id
        self.customer_email = customer_email
        self.min_tickets = min_tickets
        self.where = where
        self.start = start
        self.deferrable = deferrable
        self.lightspeed_conn_id = lightspeed_conn_id
        self._interval = self.poke_interval
        self._deadline: float | None = None
        self._new_since: int | None = None
        self._seen: str | None = None

    @cached_property
    def _hook(self) -> LightspeedHook:
        # One for all polls: it remembers what is left of the quota.
        return LightspeedHook(self.lightspeed_conn_id)

    def execute(self, context: Context) -> Any:
        """Wait, here or in the triggerer."""
        self._deadline = time.time() + self.timeout
        return super().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral. ``soft_fail`` means the same as in the other modes."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSkipException as skip:
            # Airflow skips here for any AirflowException, be it one of `where` that is gone at the next try.
            cause = skip.__cause__
            if self.soft_fail and isinstance(cause, AirflowException) and not isinstance(cause, _SOFT):
                raise cause from None
            raise

    @fail_without_retry()
    def execute_complete(self, context: Context, event: Any) -> Any:
        """Poll again, as the trigger asks.

        :raises ValueError: if the trigger sent something else.
        """
        message = read_event(event)
        if isinstance(message, FailedEvent):
            raise LightspeedTaskFailed(f"{message.kind}: {message.message}")
        self._deadline = message.deadline
        return super().execute(context)

    @fail_without_retry()
    def poke(self, context: Context) -> PokeReturnValue:
        """Poll for new tickets once. A deferrable sensor defers if there are not enough."""
        try:
            result = self._poll_once(context)
        except Exception as error:
            if not self._waits_after(error):
                raise
            self.log.warning("No response to this poll: %s", error)
            result = PokeReturnValue(False)
        if not result:
            # A poll before the quota allows it would be at the cost of the other programs on the key.
            until_quota = self._hook.get_conn().estimate(1).total_seconds()
            self.poke_interval = max(self._interval, min(until_quota, self.timeout))
            if self.deferrable:
                self._defer()
        return result

    def _waits_after(self, error: Exception) -> bool:
        if isinstance(error, LightspeedError) and is_transient(error):
            return True
        # Airflow itself does this in the other modes; here it would sleep on the worker.
        return self.deferrable and self.silent_fail and not isinstance(error, _FINAL)

    def _defer(self) -> NoReturn:
        from airflow_provider_lightspeed.triggers.tickets import NewTicketTrigger

        now = time.time()
        deadline = now + self.timeout if self._deadline is None else self._deadline
        if now > deadline:
            raise AirflowSensorTimeout(f"No new tickets within the timeout of {self.timeout:.0f} s")
        self.defer(
            trigger=NewTicketTrigger(
                lightspeed_conn_id=self.lightspeed_conn_id,
                since_id=self._new_since,
                customer_email=self.customer_email,
                min_tickets=self.min_tickets,
                poke_interval=self._interval,
                first_poll_at=now + self.poke_interval,
                deadline=deadline,
                seen=self._seen,
            ),
            method_name=self.execute_complete.__name__,
            timeout=timedelta(seconds=deadline - now + _GRACE),
        )

    def _poll_once(self, context: Context) -> PokeReturnValue:
        if self.start not in {"latest", "earliest"}:
            raise LightspeedConfigurationError(f"start must be 'latest' or 'earliest', got {self.start!r}")
        require_rendered(
            self,
            "since_id",
            "customer_email",
            "where",
            "lightspeed_conn_id",
            hint="leave it out if it is not wanted",
        )
        tickets = parse_ticket_filter(since_id=self.since_id, email=self.customer_email)
        if tickets.since_id is not None:
            return self._to_poke_value(self._poll(tickets.since_id))
        return self._poll_from_state(context)

    def _poll_from_state(self, context: Context) -> PokeReturnValue:
        state = SensorState(context)
        if (before := state.delivered()) is not None:
            return self._replay(before)
        if state.since_id is None:
            state.initialise(self._hook.newest_ticket_id() if self.start == "latest" else 0)
            self.log.info("First run: tickets after id %d count as new", state.since_id)
        poll = self._poll(state.since_id or 0)
        result = self._to_poke_value(poll)
        if result and not state.advance(poll, keep_ids=self.where is not None):
            self.log.info("Another run has delivered tickets meanwhile: polling again")
            return PokeReturnValue(False)
        return result

    def _replay(self, before: DeliveredRun) -> PokeReturnValue:
        self.log.info("This run has delivered tickets before: returning those that still exist")
        existing = [
            ticket["id"]
            for ticket in self._hook.iter_tickets(since_id=before.since_id, email=self.customer_email)
            if before.includes(ticket["id"])
        ]
        return PokeReturnValue(True, PollResult(before.since_id, sorted(existing), before.max_id).result())

    def _poll(self, since_id: int) -> PollResult:
        self._new_since, self._seen = since_id, None
        tickets = list(self._hook.iter_tickets(since_id=since_id, email=self.customer_email))
        poll = PollResult.of(tickets, since_id, self.where)
        # Without `where`, only their number counts.
        self._seen = digest({t["id"]: fingerprint(t) for t in tickets}) if self.where else None
        return poll

    def _to_poke_value(self, poll: PollResult) -> PokeReturnValue:
        self.log.info(
            "%d new tickets since %d; %s", len(poll.ticket_ids), poll.since_id, self._hook.get_conn().quota
        )
        if len(poll.ticket_ids) < self.min_tickets:
            return PokeReturnValue(False)
        return PokeReturnValue(True, poll.result())
