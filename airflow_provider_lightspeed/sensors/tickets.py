"""Wait for new support tickets."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
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
from airflow_provider_lightspeed._arguments import (
    parse_choice,
    parse_conn_id,
    parse_flag,
    parse_number,
    parse_text,
    parse_ticket_filter,
    record_passed,
    require_rendered,
)
from airflow_provider_lightspeed.api.errors import (
    LightspeedConfigurationError,
    LightspeedError,
    LightspeedPermanentError,
)
from airflow_provider_lightspeed.api.queries import NewTickets, new_tickets
from airflow_provider_lightspeed.api.retry import is_transient
from airflow_provider_lightspeed.api.tickets import RejectedTicket, Ticket, TicketFilter
from airflow_provider_lightspeed.api.wording import counted
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed, fail_without_retry
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.new_tickets import (
    Cursor,
    FailedEvent,
    PollResult,
    Seen,
    cursor_in,
    digest,
    first_cursor,
    read_event,
)
from airflow_provider_lightspeed.sensors.state import DeliveredRun, SensorState

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Context

# Undecorated: Airflow warns of a call to `execute` from inside, or refuses it (`allow_nested_operators=False`).
_sense = inspect.unwrap(BaseSensorOperator.execute)

# The trigger ends at the sensor's timeout. Airflow's own limit is for a triggerer that is down.
_GRACE = 60.0
# No further poll can change these.
_FINAL = (LightspeedPermanentError, AirflowFailException, AirflowSkipException)
# What `soft_fail` is about in poke and reschedule mode.
_SOFT = (AirflowSensorTimeout, AirflowFailException, AirflowSkipException)


class NewTicketSensor(BaseSensorOperator):
    """Wait until there are new support tickets, and return their ids.

    All modes (``poke``, ``reschedule``, deferrable) behave the same. A poll is one API call while nothing is new, two
    in the 15 minutes after a new ticket.

    Returns ``{"ticket_ids", "count", "since_id", "max_id", "shop"}``, ids ascending. ``since_id`` is the greatest id delivered
    before, ``max_id`` the greatest id that is done now.

    With ``since_id``, every ticket with a greater id is new, and no state is kept. Without it, the sensor continues
    after its last success, over scheduled, manual and asset-triggered runs of every Airflow version. Its cursor is in
    the Airflow Variable ``lightspeed_new_tickets.<dag_id>.<task_id>.<lightspeed_conn_id>``; delete it to start over.
    The cursor belongs to DAG, task, shop and ``customer_email``, also in a mapped task. If the connection leads to
    another shop, the sensor notices and starts over; a rotated key changes nothing. A ticket that becomes visible late,
    up to 15 minutes after tickets with greater ids, is delivered too. A run that is cleared or retried after its
    success returns the same tickets again. Runs that overlap take turns: ``max_active_tis_per_dag`` is 1, unless you
    set it.

    While the shop does not respond or the quota is used up, the sensor waits, up to ``timeout``. Wrong credentials or
    arguments fail the task at once, without a retry. Any other error fails the try; with ``silent_fail`` the sensor
    waits instead.

    :param since_id: only tickets with a greater id (templated).
    :param customer_email: only tickets of the customer with this e-mail address (templated). Not
        ``email``: that is Airflow's own argument, the address that it notifies of a failure.
    :param min_tickets: how many new tickets to wait for.
    :param max_tickets: maximum number of tickets to return, lowest ids first. The next run returns the others.
    :param where: which tickets count; called on the worker with each new ticket, at each poll that finds a change.
        Tickets that do not count are done too, as soon as the sensor has returned others, or 100 newer ones do not
        count either. A malformed ticket does not count until it is readable; without ``where`` it does.
    :param start: what the very first run counts as new: ``latest`` (tickets after its first poll) or ``earliest``
        (every ticket of the shop).
    :param state_name: replaces the connection and ``customer_email`` in the name of the Variable (templated). Mapped
        instances with the same connection and customer need it.
    :param deferrable: wait in the triggerer, which takes no worker slot, whatever the ``mode``
        (default: ``[operators] default_deferrable``). ``exponential_backoff`` does not apply there.
    :param lightspeed_conn_id: connection to the shop (templated).
    :raises LightspeedTaskFailed: (no retry) if the credentials or arguments are wrong, or the Variable is unreadable.
    :raises AirflowException: (retried) if Airflow cannot read or store its Variables. Nothing is delivered.
    :raises LightspeedError: (retried, or ignored with ``silent_fail``) if the shop refuses for another reason,
        or its list cannot be read completely.
    """

    template_fields: Sequence[str] = ("lightspeed_conn_id", "since_id", "customer_email", "state_name")
    ui_color = "#e9f9e3"

    @record_passed
    def __init__(
        self,
        *,
        since_id: int | str | None = None,
        customer_email: str | None = None,
        min_tickets: int = 1,
        max_tickets: int = 10_000,
        where: Callable[[Ticket], bool] | None = None,
        start: Literal["latest", "earliest"] = "latest",
        state_name: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        if since_id is None and "max_active_tis_per_dag" not in (kwargs.get("default_args") or {}):
            # So that no two runs poll at once: the state has no lock.
            kwargs.setdefault("max_active_tis_per_dag", 1)
        super().__init__(**kwargs)
        self.since_id = since_id
        self.customer_email = customer_email
        self.min_tickets = min_tickets
        self.max_tickets = max_tickets
        self.where = where
        self.start = start
        self.state_name = state_name
        self.deferrable = deferrable
        self.lightspeed_conn_id = lightspeed_conn_id
        self._interval = self.poke_interval
        self._deadline: float | None = None
        self._cursor: Cursor | None = None
        self._seen: str | None = None

    @cached_property
    def _hook(self) -> LightspeedHook:
        # One for all polls: it remembers what is left of the quota.
        return LightspeedHook(self.lightspeed_conn_id)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral. ``soft_fail`` means the same as in the other modes."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSkipException as skip:
            # Airflow skips here for any AirflowException, also for one that `where` raised and that a retry may not meet.
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
        return _sense(self, context)

    @fail_without_retry()
    def poke(self, context: Context) -> PokeReturnValue:
        """Poll for new tickets once. A deferrable sensor defers if there are not enough."""
        if self._deadline is None:
            self._deadline = time.time() + self.timeout
        try:
            delivered = self._poll_once(context)
        except Exception as error:
            if not self._waits_after(error):
                raise
            self.log.warning("This poll failed, and the sensor waits for the next one: %s", error)
            delivered = None
        if delivered is not None:
            # Ids alone would say nothing in another shop, or name tickets of other customers there.
            shop = self._hook.get_conn().settings.shop
            return PokeReturnValue(True, {**delivered.result(), "shop": shop})
        # A poll before the quota allows it would be at the cost of the other programs on the key.
        until_quota = self._hook.get_conn().estimate(1).total_seconds()
        self.poke_interval = max(self._interval, min(until_quota, self.timeout))
        if self.deferrable:
            self._defer(self._deadline)
        return PokeReturnValue(False)

    def _waits_after(self, error: Exception) -> bool:
        if isinstance(error, LightspeedError) and is_transient(error):
            return True
        # Airflow itself does this in the other modes; here it would sleep on the worker.
        return self.deferrable and self.silent_fail and not isinstance(error, _FINAL)

    def _defer(self, deadline: float) -> NoReturn:
        from airflow_provider_lightspeed.triggers.tickets import NewTicketTrigger

        now = time.time()
        if now > deadline:
            raise AirflowSensorTimeout(f"No new tickets within the timeout of {self.timeout:.0f} s")
        self.log.info(
            "Next poll in %.0f s; the sensor waits until %s UTC",
            self.poke_interval,
            f"{datetime.fromtimestamp(deadline, UTC):%Y-%m-%d %H:%M:%S}",
        )
        self.defer(
            trigger=NewTicketTrigger(
                lightspeed_conn_id=self.lightspeed_conn_id,
                cursor=self._cursor,
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

    def _poll_once(self, context: Context) -> PollResult | None:
        self._check_arguments()
        tickets = parse_ticket_filter(since_id=self.since_id, email=self.customer_email)
        if tickets.since_id is None:
            return self._poll_from_state(context)
        result, _ = self._poll(Cursor(tickets.since_id))
        return result

    def _check_arguments(self) -> None:
        parse_choice("start", self.start, "latest", "earliest")
        for name in ("min_tickets", "max_tickets"):
            setattr(self, name, parse_number(name, getattr(self, name)))
        parse_flag("deferrable", self.deferrable)
        if self.where is not None and not callable(self.where):
            raise LightspeedConfigurationError(f"where must be a function of a ticket, got {self.where!r}")
        if self.max_tickets < max(self.min_tickets, 1):
            raise LightspeedConfigurationError(
                f"max_tickets ({self.max_tickets}) must be at least 1 and at least min_tickets ({self.min_tickets})"
            )
        self.lightspeed_conn_id = parse_conn_id(self.lightspeed_conn_id)
        require_rendered(
            self,
            "since_id",
            "customer_email",
            "where",
            "state_name",
            hint="leave it out if you do not need it",
        )
        for name in ("customer_email", "state_name"):
            if (value := getattr(self, name)) is not None:
                setattr(self, name, parse_text(name, value).strip())

    def _poll_from_state(self, context: Context) -> PollResult | None:
        state = SensorState(
            context,
            conn_id=self.lightspeed_conn_id,
            email=self.customer_email,
            state_name=self.state_name,
            is_cleared=(getattr(context["ti"], "max_tries", None) or 0) > (self.retries or 0),
        )
        self._check_shop(state)
        if (before := state.delivered()) is not None:
            return self._replay(before)
        cursor = state.cursor or state.initialise(self._first_cursor())
        result, after = self._poll(cursor)
        if result is None:
            state.settle(cursor, after)
            return None
        if not state.advance(result, cursor, after):
            self.log.info("Another run has delivered tickets meanwhile: polling again")
            return None
        return result

    def _check_shop(self, state: SensorState) -> None:
        cursor, client = state.cursor, self._hook.get_conn()
        if cursor is None or cursor.shop == client.settings.shop:
            return
        found = client.run(cursor_in(client.settings.shop, cursor))
        if found is not None:
            if cursor.shop is not None:
                self.log.info(
                    "Connection %r has another key of the same shop: continuing", self.lightspeed_conn_id
                )
            state.recognise(found)
        else:
            self.log.warning(
                "Connection %r leads to another shop than before (key and tickets differ): starting over with "
                "start=%r. The state is in the Variable %s",
                self.lightspeed_conn_id,
                self.start,
                state.name,
            )
            state.forget()

    def _first_cursor(self) -> Cursor:
        client = self._hook.get_conn()
        cursor = client.run(first_cursor(self.start, client.settings.shop))
        if self.start == "latest":
            self.log.info("First run: tickets after id %d count as new", cursor.since_id)
        return cursor

    def _replay(self, before: DeliveredRun) -> PollResult:
        self.log.info("This run has delivered tickets before: returning those that still exist")
        existing = self._existing(before)
        if before.ticket_ids is not None and len(existing) < len(before.ticket_ids):
            # A list that lacks tickets is believed only twice.
            existing |= self._existing(before)
        return PollResult(before.since_id, sorted(existing), before.max_id)

    def _existing(self, before: DeliveredRun) -> set[int]:
        tickets = TicketFilter(before.read_from, email=self.customer_email)
        pages = self._hook.get_conn().iter_pages(tickets, keep_malformed=True)
        return {
            ticket_id
            for page in pages
            for ticket_id in [*(row["id"] for row in page.tickets), *(row.id for row in page.rejected)]
            if ticket_id is not None and before.includes(ticket_id)
        }

    def _poll(self, cursor: Cursor) -> tuple[PollResult | None, Cursor]:
        """Return what to deliver, if it is enough, and the cursor after the poll."""
        self._cursor, self._seen = cursor, None
        now = time.time()
        poll = self._read(cursor)
        new = cursor.new(poll.kept)
        count = sum(seen.counts for seen in new.values())
        quota = self._hook.get_conn().quota or "quota unknown"
        self.log.info("%s after id %d; %s", counted(count, "new ticket"), cursor.max_id, quota)
        if count < self.min_tickets:
            self._cursor = cursor.settled(poll.kept, now, poll.page_size)
            # Without `where`, only their number counts.
            self._seen = digest(self._cursor.new(poll.kept)) if self.where else None
            return None, self._cursor
        if count > self.max_tickets:
            self.log.warning(
                "Returning the first %d of %d new tickets (max_tickets); the next runs return the others. To read many "
                "tickets, use LightspeedTicketsToS3Operator",
                self.max_tickets,
                count,
            )
        return cursor.deliver(new, self.max_tickets, poll.page_size)

    def _read(self, cursor: Cursor) -> NewTickets[Seen]:
        def keep(ticket: Ticket | RejectedTicket) -> Seen:
            if self.where is None:
                return Seen.of(ticket)
            if isinstance(ticket, RejectedTicket):
                # What cannot be read cannot be chosen.
                self.log.warning("Did not call `where` with ticket %s, %s", ticket.id, ticket.reason)
                return Seen.of(ticket, counts=False)
            return Seen.of(ticket, cursor.is_new(ticket["id"]) and bool(self.where(ticket)))

        question = new_tickets(
            cursor.since_id,
            keep,
            email=self.customer_email,
            is_known=lambda ticket_id: not cursor.is_new(ticket_id),
        )
        return self._hook.get_conn().run(question)
