"""Create and change the support tickets of a shop."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lightspeed.api.errors import (
    LightspeedAuthenticationError,
    LightspeedConfigurationError,
    LightspeedError,
    LightspeedNotFoundError,
    LightspeedQuotaExhausted,
)
from airflow_provider_lightspeed.arguments import parse_ticket_ids
from airflow_provider_lightspeed.exceptions import LightspeedTicketsFailed, fail_without_retry
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_SHOWN = 5


class CreateTicketOperator(BaseOperator):
    """Create a support ticket.

    Returns the ticket as the shop answers it.

    :param subject: subject of the ticket (templated).
    :param customer_id: id of the customer whom the ticket is about (templated).
    :param memo: note that only the merchant sees (templated).
    :param lightspeed_conn_id: connection to the shop (templated).
    :raises LightspeedTaskFailed: (no retry) if the credentials or arguments are wrong.
    :raises LightspeedUnknownOutcomeError: if the answer was lost: the ticket may exist now. Set ``retries=0``
        where a second ticket would be worse than none.
    """

    template_fields: Sequence[str] = ("subject", "customer_id", "memo", "lightspeed_conn_id")
    ui_color = "#e3f0f9"

    def __init__(
        self,
        *,
        subject: str,
        customer_id: int | str,
        memo: str = "",
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.subject = subject
        self.customer_id = customer_id
        self.memo = memo
        self.lightspeed_conn_id = lightspeed_conn_id

    @fail_without_retry()
    def execute(self, context: Context) -> dict[str, Any]:  # ruff: ignore[unused-method-argument] - Airflow passes it
        """Create the ticket."""
        if not str(self.customer_id).strip().isdecimal():
            raise LightspeedConfigurationError(
                f"customer_id must be a customer's id, got {self.customer_id!r}"
            )
        ticket = LightspeedHook(self.lightspeed_conn_id).create_ticket({
            "subject": self.subject,
            "customer": int(self.customer_id),
            "memo": self.memo,
        })
        self.log.info("Created ticket %d", ticket["id"])
        return dict(ticket)


class UpdateTicketsOperator(BaseOperator):
    """Change properties of support tickets.

    Each ticket is read first, and only what differs is written: a ticket that is as wanted already is left alone.
    One ticket that fails does not stop the others.

    Returns, and leaves as XCom also when it fails, ``{"updated", "already", "missing"}`` with lists of ids,
    ``"failed"`` with the reason for each id (as text), ``"dry_run"`` and ``"calls"``.

    :param ticket_ids: which tickets (templated): a list of ids or an XComArg of one, text such as ``1,2,3`` or
        ``[1, 2]``, or what :class:`~airflow_provider_lightspeed.sensors.tickets.NewTicketSensor` returns. An empty
        list is a success.
    :param is_closed: whether they are to be closed.
    :param is_answered: whether they are to count as answered.
    :param is_todo: whether they are to be marked as to do.
    :param do_notify_answered: whether the customer is to be told of an answer.
    :param subject: their subject (templated).
    :param memo: their note for the merchant (templated).
    :param dry_run: read the tickets and report which would be changed; write nothing.
    :param max_tickets: refuse to touch any if there are more than this.
    :param lightspeed_conn_id: connection to the shop (templated).
    :raises LightspeedTaskFailed: (no retry) if an id is none, there are more than ``max_tickets``, nothing is to be
        changed, or the credentials are wrong.
    :raises LightspeedTicketsFailed: if some tickets failed. A retry finds the others done, and does not write them.
    """

    template_fields: Sequence[str] = ("ticket_ids", "subject", "memo", "lightspeed_conn_id")
    ui_color = "#e3f0f9"

    #: Under which name the changed tickets are reported.
    changed_key: ClassVar[str] = "updated"

    def __init__(
        self,
        *,
        ticket_ids: Any,
        is_closed: bool | None = None,
        is_answered: bool | None = None,
        is_todo: bool | None = None,
        do_notify_answered: bool | None = None,
        subject: str | None = None,
        memo: str | None = None,
        dry_run: bool = False,
        max_tickets: int = 1000,
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ticket_ids = ticket_ids
        self.is_closed = is_closed
        self.is_answered = is_answered
        self.is_todo = is_todo
        self.do_notify_answered = do_notify_answered
        self.subject = subject
        self.memo = memo
        # Operators have a method dry_run(), for `airflow tasks test --dry-run`.
        self.only_plan = dry_run
        self.max_tickets = max_tickets
        self.lightspeed_conn_id = lightspeed_conn_id

    @fail_without_retry()
    def execute(self, context: Context) -> dict[str, Any]:
        """Change the tickets."""
        ids = parse_ticket_ids(self.ticket_ids)
        wanted = self._wanted()
        if len(ids) > self.max_tickets:
            raise LightspeedConfigurationError(
                f"{len(ids)} tickets are more than max_tickets={self.max_tickets}; no ticket was touched. "
                f"If that many are meant, set max_tickets={len(ids)}"
            )
        hook = LightspeedHook(self.lightspeed_conn_id)
        outcome: dict[str, Any] = {
            self.changed_key: [],
            "already": [],
            "missing": [],
            "failed": {},
            "dry_run": self.only_plan,
            "calls": 0,
        }
        self.log.info("%s %d tickets: %s", "Would change" if self.only_plan else "Changing", len(ids), wanted)
        with _pushed_on_failure(context, outcome):
            try:
                for ticket_id in ids:
                    self._change(hook, ticket_id, wanted, outcome)
            finally:
                self._report(hook, outcome)
            _complain(outcome["failed"], len(ids))
        return outcome

    def _wanted(self) -> dict[str, bool | str]:
        properties = {
            "isClosed": self.is_closed,
            "isAnswered": self.is_answered,
            "isTodo": self.is_todo,
            "doNotifyAnswered": self.do_notify_answered,
            "subject": self.subject,
            "memo": self.memo,
        }
        wanted = {name: value for name, value in properties.items() if value is not None}
        if not wanted:
            raise LightspeedConfigurationError("nothing to change was given, such as is_todo=True")
        return wanted

    def _change(
        self, hook: LightspeedHook, ticket_id: int, wanted: Mapping[str, bool | str], outcome: dict[str, Any]
    ) -> None:
        try:
            ticket = hook.get_ticket(ticket_id)
            differing = {name: value for name, value in wanted.items() if not _is(ticket.get(name), value)}
            if differing and not self.only_plan:
                hook.update_ticket(ticket_id, differing)
            outcome[self.changed_key if differing else "already"].append(ticket_id)
        except LightspeedNotFoundError as error:
            # A language that the shop lacks is answered 404 too, and would make every ticket "missing".
            if "language" in error.message.lower():
                raise LightspeedConfigurationError(str(error)) from error
            outcome["missing"].append(ticket_id)
        except (LightspeedAuthenticationError, LightspeedConfigurationError, LightspeedQuotaExhausted):
            # The others would end the same way.
            raise
        except LightspeedError as error:
            self.log.warning("Ticket %d failed: %s", ticket_id, error)
            outcome["failed"][str(ticket_id)] = str(error)

    def _report(self, hook: LightspeedHook, outcome: dict[str, Any]) -> None:
        client = hook.get_conn()
        outcome["calls"] = client.calls
        self.log.info(
            "%d %s%s, %d already so, %d missing, %d failed; %d calls; %s",
            len(outcome[self.changed_key]),
            "would be " if self.only_plan else "",
            self.changed_key,
            len(outcome["already"]),
            len(outcome["missing"]),
            len(outcome["failed"]),
            client.calls,
            client.quota,
        )


class CloseTicketsOperator(UpdateTicketsOperator):
    """Close support tickets. Those that are closed already are left alone.

    Returns what :class:`UpdateTicketsOperator` returns, with ``"closed"`` for ``"updated"``.

    :param ticket_ids: which tickets (templated), see :class:`UpdateTicketsOperator` as for ``dry_run``,
        ``max_tickets``, ``lightspeed_conn_id`` and what is raised.
    """

    changed_key: ClassVar[str] = "closed"

    def __init__(self, *, ticket_ids: Any, **kwargs: Any) -> None:
        super().__init__(ticket_ids=ticket_ids, is_closed=True, **kwargs)


def _is(current: Any, wanted: bool | str) -> bool:
    # ``false`` stands for null almost anywhere, and so for an empty text.
    return bool(current) is wanted if isinstance(wanted, bool) else (current or "") == wanted


@contextmanager
def _pushed_on_failure(context: Context, outcome: dict[str, Any]) -> Generator[None]:
    """Leave the outcome as XCom: when a task fails, Airflow has no result to push, and it matters the most then."""
    try:
        yield
    except Exception:
        if "ti" in context:
            context["ti"].xcom_push(key="return_value", value=outcome)
        raise


def _complain(failed: Mapping[str, str], total: int) -> None:
    if not failed:
        return
    shown = "; ".join(f"{ticket_id}: {reason}" for ticket_id, reason in list(failed.items())[:_SHOWN])
    more = "; …" if len(failed) > _SHOWN else ""
    raise LightspeedTicketsFailed(f"{len(failed)} of {total} tickets failed: {shown}{more}", failed)
