"""Create, change, delete and answer the support tickets of a shop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_lightspeed._airflow import BaseOperator
from airflow_provider_lightspeed._arguments import (
    parse_choice,
    parse_flag,
    parse_text,
    record_passed,
    require_rendered,
)
from airflow_provider_lightspeed._checkpoint import SendGuard
from airflow_provider_lightspeed.api.errors import (
    LightspeedConfigurationError,
    LightspeedError,
    LightspeedUnknownOutcomeError,
)
from airflow_provider_lightspeed.api.values import is_same_text, parse_id
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed, fail_without_retry
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.bulk import BulkTicketsOperator

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Context
    from airflow_provider_lightspeed.api.tickets import Ticket

#: The switches of a ticket, by the API's names, and the arguments that set them.
_FLAGS = {
    "isClosed": "is_closed",
    "isAnswered": "is_answered",
    "isTodo": "is_todo",
    "doNotifyAnswered": "do_notify_answered",
}
#: Seconds before each search for a ticket whose response was lost: the shop may still be creating it.
_SEARCHES = (0.0, 2.0, 5.0)


class CreateTicketOperator(BaseOperator):
    """Create a support ticket.

    Returns the ticket of the shop's response.

    If the response is lost, the ticket may or may not exist, and a second ticket would reach the customer. So the call is
    never repeated, not even by a retry of Airflow. On Airflow 3.3 this also holds if the worker was killed, or
    ``execution_timeout`` ended, during the call: the next try fails, or searches, until you have checked the shop and
    clear the task. Older versions keep nothing between tries, so the next try may send it again: set ``retries=0`` there.

    :param subject: subject of the ticket (templated).
    :param customer_id: id of the customer whom the ticket is about (templated).
    :param memo: note that only the merchant sees (templated).
    :param on_unknown_outcome: what to do if the response was lost. ``fail`` (default) fails at once. ``search`` looks for
        a ticket of this customer with this subject, newer than all tickets before the call. The shop may have trimmed
        or escaped the subject. If there is exactly one, the task succeeds with it; otherwise it fails. ``search`` takes
        about two calls before the call itself.
    :param lightspeed_conn_id: connection to the shop (templated).
    :raises LightspeedTaskFailed: (no retry) if the credentials or arguments are wrong, or the response was lost: the
        ticket may exist.
    """

    template_fields: Sequence[str] = ("lightspeed_conn_id", "subject", "customer_id", "memo")
    ui_color = "#e3f0f9"

    @record_passed
    def __init__(
        self,
        *,
        subject: str,
        customer_id: int | str,
        memo: str = "",
        on_unknown_outcome: Literal["fail", "search"] = "fail",
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.subject = subject
        self.customer_id = customer_id
        self.memo = memo
        self.on_unknown_outcome = on_unknown_outcome
        self.lightspeed_conn_id = lightspeed_conn_id

    @fail_without_retry()
    def execute(self, context: Context) -> dict[str, Any]:
        """Create the ticket."""
        require_rendered(self, "subject", "lightspeed_conn_id")
        require_rendered(self, "memo", may_be_empty=True)
        subject, memo = parse_text("subject", self.subject), parse_text("memo", self.memo)
        customer = _parse_customer_id(self.customer_id)
        parse_choice("on_unknown_outcome", self.on_unknown_outcome, "fail", "search")
        hook = LightspeedHook(self.lightspeed_conn_id)
        mark = SendGuard(context)
        if (earlier := mark.earlier()) is not None:
            ticket = self._find(hook, earlier.get("newest"), _sent_before("the ticket", "the shop"))
        else:
            hook.get_conn()  # a connection that is missing must not count as sent
            newest = hook.newest_ticket_id() if self.on_unknown_outcome == "search" else None
            try:
                with mark.sending(newest=newest):
                    ticket = hook.create_ticket({
                        "subject": subject,
                        "customer": customer,
                        "memo": memo,
                    })
            except LightspeedUnknownOutcomeError as error:
                ticket = self._find(hook, newest, error)
        self.log.info("Created ticket %d", ticket["id"])
        return dict(ticket)

    def _find(self, hook: LightspeedHook, newest: int | None, error: LightspeedUnknownOutcomeError) -> Ticket:
        """Find a ticket that may have been created.

        :param newest: id of the newest ticket before the call.
        :param error: what is known.
        :raises LightspeedTaskFailed: if it is not to be searched, or not surely found: no other try may create another.
        """
        if self.on_unknown_outcome == "fail" or newest is None:
            raise LightspeedTaskFailed(str(error)) from None
        try:
            found = self._search(hook, newest)
        except Exception as trouble:  # ruff: ignore[blind-except] - whatever it is, a retry would post again
            # The text has all that an error of the provider says. Any other keeps its traceback.
            raise LightspeedTaskFailed(
                f"{str(error).rstrip('.')}. Looking for it failed too: {trouble}"
            ) from (None if isinstance(trouble, LightspeedError) else trouble)
        if found is None:
            raise LightspeedTaskFailed(str(error)) from None
        self.log.warning("The response was lost, but the ticket is in the shop: ticket %d", found["id"])
        return found

    def _search(self, hook: LightspeedHook, newest: int) -> Ticket | None:
        for pause in _SEARCHES:
            time.sleep(pause)
            found = [ticket for ticket in hook.iter_tickets(since_id=newest) if self._is_it(ticket)]
            if found:
                return found[0] if len(found) == 1 else None
        return None

    def _is_it(self, ticket: Ticket) -> bool:
        customer: Any = ticket.get("customer")
        resource = customer.get("resource") if isinstance(customer, dict) else None
        whose = resource.get("id") if isinstance(resource, dict) else None
        return parse_id(whose) == _parse_customer_id(self.customer_id) and is_same_text(
            str(ticket.get("subject") or ""), parse_text("subject", self.subject)
        )


class ReplyToTicketOperator(BaseOperator):
    """Add a message to a ticket's conversation. The shop may mail it to the customer.

    Returns the message of the shop's response, without its text.

    A call whose response was lost is never repeated. On Airflow 3.3 this also holds if the worker was killed, or
    ``execution_timeout`` ended, during the call: the next try fails, until you have checked the shop and clear the task.
    Older versions keep nothing between tries, so the next try may send it again: set ``retries=0`` there.

    :param ticket_id: which ticket (templated).
    :param message: the text (templated).
    :param lightspeed_conn_id: connection to the shop (templated).
    :raises LightspeedTaskFailed: (no retry) if the credentials or arguments are wrong, or the response was lost: the
        message may have been posted.
    """

    template_fields: Sequence[str] = ("lightspeed_conn_id", "ticket_id", "message")
    ui_color = "#e3f0f9"

    @record_passed
    def __init__(
        self,
        *,
        ticket_id: int | str,
        message: str,
        lightspeed_conn_id: str = LightspeedHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ticket_id = ticket_id
        self.message = message
        self.lightspeed_conn_id = lightspeed_conn_id

    @fail_without_retry()
    def execute(self, context: Context) -> dict[str, Any]:
        """Post the message."""
        require_rendered(self, "ticket_id", "message", "lightspeed_conn_id")
        text = parse_text("message", self.message)
        hook, mark = LightspeedHook(self.lightspeed_conn_id), SendGuard(context)
        hook.get_conn()  # a connection that is missing must not count as sent
        try:
            if mark.earlier() is not None:
                raise _sent_before("the message", f"ticket {self.ticket_id} in the shop")
            with mark.sending():
                posted = hook.create_ticket_message(self.ticket_id, text)
        except LightspeedUnknownOutcomeError as error:
            raise LightspeedTaskFailed(str(error)) from None
        self.log.info("Posted message %s to ticket %s", posted.get("id"), self.ticket_id)
        # A text to a customer does not belong in Airflow's database.
        return {name: value for name, value in posted.items() if name != "message"}


def _parse_customer_id(value: int | str) -> int:
    """Read the id of a customer.

    :raises LightspeedConfigurationError: if it is none.
    """
    number = parse_id(value.strip() if isinstance(value, str) else value)
    if number is None:
        raise LightspeedConfigurationError(f"customer_id must be a customer's id, got {value!r}")
    return number


def _sent_before(what: str, where: str) -> LightspeedUnknownOutcomeError:
    """Build the error for what an earlier try may have sent, with what to do."""
    return LightspeedUnknownOutcomeError(
        f"an earlier try of this task sent {what} and ended before the response came, so it may or may not exist. "
        f"Look at {where}. If {what} is missing, clear the task (or delete the task's state {SendGuard.KEY!r}), and it is "
        f"sent again. If {what} is there, mark the task as successful"
    )


class UpdateTicketsOperator(BulkTicketsOperator):
    """Change properties of support tickets: those named by ``ticket_ids``, or open ones chosen by criteria.

    The task first makes a plan, with the time of each ticket's last change, and refuses it if it is larger than allowed.
    Then it reads each ticket again and writes it at most once, with only the properties that differ. A ticket that fails
    does not stop the others. If the quota is used up, the task defers until it is back.

    Returns, and pushes to XCom also when it fails, ``{"updated", "already", "missing", "changed"}`` with lists of ids,
    ``"failed"`` with the reason for each id (as text), ``"dry_run"``, ``"calls"``, ``"shop"`` (a hash that identifies
    it), ``"criteria"`` if they chose, and ``"receipt"`` and ``"receipt_sha256"`` if there is one.

    :param ticket_ids: which tickets (templated): a list of ids or an XComArg of one; text such as ``1,2,3`` or
        ``[1, 2]``; the ``s3://`` address of a receipt, an export, or a list of ids; or the result of a sensor, an
        export or another bulk change. An empty list is a success.
    :param created_before: tickets created before this instant, with a zone (templated).
    :param updated_before: tickets not changed since this instant (templated).
    :param only_answered: tickets that the shop has answered.
    :param include_todo: also tickets that are marked as to do (default: criteria leave them out).
    :param customer_email: tickets of the customer with this address (templated). Not ``email``: that is
        Airflow's own argument, the address that it notifies of a failure.
    :param language: tickets in this language, by its two-letter code (templated).
    :param where: tickets for which this function of the ticket (a dict) is true.
    :param is_closed: close the tickets, or reopen them.
    :param is_answered: mark them as answered, or not.
    :param is_todo: mark them as to do, or not.
    :param do_notify_answered: whether the shop notifies the customer of an answer.
    :param subject: new subject (templated).
    :param memo: new note, which only the merchant sees (templated).
    :param max_tickets: refuse the plan if it has more tickets than this (default: 1000). Required with
        ``customer_email``.
    :param max_share: refuse the plan if criteria choose more than this part of the open tickets (default: 0.5). It does
        not apply with ``customer_email``.
    :param if_changed: what to do with a ticket that changed after planning: ``skip`` it (default), ``overwrite`` (or
        delete) it anyway, or skip it and ``fail`` at the end. A receipt or export has the time of planning. Plain ids
        are planned when the task starts if they are more than a page, otherwise when they are read.
    :param on_failure: ``fail`` the task at the end if tickets failed (default), or ``warn`` in its log.
    :param dry_run: report which tickets would be changed; write nothing.
    :param receipt_s3_key: ``s3://`` address for the plan and the outcome of each ticket, as JSON Lines (templated).
        Each run and each mapped instance needs its own: put ``{{ run_id }}`` and ``{{ ti.map_index }}`` in it.
        Before Airflow 3.3 so does each try: ``{{ ti.try_number }}``.
        It cannot be an address that ``ticket_ids`` are read from.
    :param encrypt: whether S3 encrypts the receipt with its own key.
    :param kms_key_id: KMS key with which S3 encrypts the receipt (templated).
    :param acl_policy: canned ACL of the receipt (templated).
    :param lightspeed_conn_id: connection to the shop (templated).
    :param aws_conn_id: connection to S3 (templated).
    :raises LightspeedTaskFailed: (no retry) if the plan is refused, or an argument or the credentials are wrong.
    :raises LightspeedTicketsFailed: if some tickets failed. A retry changes only those.
    """

    template_fields: Sequence[str] = (*BulkTicketsOperator.template_fields, "subject", "memo")

    @record_passed
    def __init__(
        self,
        *,
        is_closed: bool | None = None,
        is_answered: bool | None = None,
        is_todo: bool | None = None,
        do_notify_answered: bool | None = None,
        subject: str | None = None,
        memo: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.is_closed = is_closed
        self.is_answered = is_answered
        self.is_todo = is_todo
        self.do_notify_answered = do_notify_answered
        self.subject = subject
        self.memo = memo

    def _properties(self) -> Mapping[str, bool | str]:
        require_rendered(self, *_FLAGS.values())
        require_rendered(self, "subject", "memo", may_be_empty=True)
        flags = {name: getattr(self, argument) for name, argument in _FLAGS.items()}
        properties: dict[str, bool | str] = {
            name: parse_flag(_FLAGS[name], value) for name, value in flags.items() if value is not None
        }
        properties |= {
            name: parse_text(name, text)
            for name, text in (("subject", self.subject), ("memo", self.memo))
            if text is not None
        }
        if not properties:
            raise LightspeedConfigurationError("nothing to change was given, such as is_todo=True")
        return properties


class CloseTicketsOperator(UpdateTicketsOperator):
    """Close support tickets. Those that are closed already are left alone.

    Returns what :class:`UpdateTicketsOperator` returns, with ``"closed"`` for ``"updated"``, and takes its arguments.
    """

    changed_key: ClassVar[Literal["updated", "closed", "deleted"]] = "closed"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(is_closed=True, **kwargs)


class DeleteTicketsOperator(BulkTicketsOperator):
    """Delete support tickets, for good: there is no way back.

    Returns what :class:`UpdateTicketsOperator` returns, with ``"deleted"`` for ``"updated"``, and takes its arguments
    except the properties.

    :param max_tickets: refuse the plan if it has more tickets than this (default: 1000). Required with criteria.
    """

    changed_key: ClassVar[Literal["updated", "closed", "deleted"]] = "deleted"

    def _properties(self) -> None:
        return None
