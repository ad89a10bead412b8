"""From an Airflow connection to a shop's tickets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_lightspeed._airflow import AirflowNotFoundException, BaseHook, mask_secret
from airflow_provider_lightspeed._arguments import parse_conn_id, parse_ticket_filter
from airflow_provider_lightspeed._variables import read_variable
from airflow_provider_lightspeed.api import tickets as api
from airflow_provider_lightspeed.api.errors import LightspeedError, LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.api.queries import newest_ticket, ticket_messages
from airflow_provider_lightspeed.api.tickets import Ticket, TicketMessage
from airflow_provider_lightspeed.api.wording import counted
from airflow_provider_lightspeed.provider_info import (
    CONNECTION_FIELDS,
    CONNECTION_TYPE,
    HOOK_NAME,
    UI_FIELD_BEHAVIOUR,
)

if TYPE_CHECKING:
    from airflow_provider_lightspeed._airflow import Connection
    from airflow_provider_lightspeed.api.client import LightspeedClient
    from airflow_provider_lightspeed.api.probe import ShopReport
    from airflow_provider_lightspeed.api.rate_limit import Quota


_NOT_VISIBLE = (
    "there is no connection {conn_id!r}, or it is not visible here. In a plain Python shell, Airflow 3 reads connections "
    "from environment variables and secrets backends, not from its database: run `airflow connections test {conn_id}`, "
    "use the test button, or set AIRFLOW_CONN_{name}"
)


class LightspeedHook(BaseHook):
    """Read and change the support tickets of a Lightspeed eCom shop.

    Tickets are plain dicts with the API's own property names. Every option is taken from the argument, else
    from the connection's extra, else from its default.

    :param lightspeed_conn_id: the connection: login is the API key, password the API secret.
    :param cluster: ``us1`` (default) or ``eu1``; a host in the connection overrides it.
    :param language: two-letter code of one of the shop's languages (default ``en``).
    :param filter_timezone: IANA name of the zone in which the shop reads date filters, if known. It is tried first,
        which saves calls.
    :param quota_reserve: share of each quota window that is left to other programs, 0 to 0.9 (default 0).
    :param timeout: seconds to wait for a connection, and for each part of a response (default 30). A complete response
        may take ten times as long, and a call up to six attempts.
    :param max_wait: seconds to sleep at most until quota comes back (default 60).
    :param calls_per_second: speed limit, 0 for none (default 20).

    Each method that calls the shop raises a subclass of
    :class:`~airflow_provider_lightspeed.api.errors.LightspeedError`: ``LightspeedConfigurationError`` for what can
    be known to be wrong beforehand, ``LightspeedAuthenticationError`` for wrong credentials,
    ``LightspeedNotFoundError`` for a ticket that is not there (its ``gone`` is False if the 404 may come from a proxy,
    not from the API), ``LightspeedQuotaExhaustedError`` for a quota that is used up for longer than
    ``max_wait``.
    """

    conn_name_attr = "lightspeed_conn_id"
    default_conn_name = "lightspeed_default"
    conn_type = CONNECTION_TYPE
    hook_name = HOOK_NAME

    def __init__(
        self,
        lightspeed_conn_id: str = default_conn_name,
        *,
        cluster: str | None = None,
        language: str | None = None,
        filter_timezone: str | None = None,
        quota_reserve: float | None = None,
        timeout: float | None = None,
        max_wait: float | None = None,
        calls_per_second: float | None = None,
    ) -> None:
        super().__init__()
        self.lightspeed_conn_id = lightspeed_conn_id
        self._arguments: dict[str, str | float | None] = {
            "cluster": cluster,
            "language": language,
            "filter_timezone": filter_timezone,
            "quota_reserve": quota_reserve,
            "timeout": timeout,
            "max_wait": max_wait,
            "calls_per_second": calls_per_second,
        }

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Build the extra fields of the connection form for Airflow before 3.2."""
        from flask_appbuilder.fieldwidgets import (  # type: ignore[import-not-found]  # not part of Airflow 3
            BS3PasswordFieldWidget,
            BS3TextFieldWidget,
        )
        from wtforms import BooleanField, PasswordField, StringField  # type: ignore[import-untyped]
        from wtforms.validators import Optional, any_of  # type: ignore[import-untyped]

        widgets: dict[str, Any] = {}
        for name, definition in CONNECTION_FIELDS.items():
            label, description, schema = definition["label"], definition["description"], definition["schema"]
            if "boolean" in schema["type"]:
                widgets[name] = BooleanField(label, description=description)
            elif schema.get("format") == "password":
                widgets[name] = PasswordField(label, description=description, widget=BS3PasswordFieldWidget())
            else:
                # Airflow 3.0 and 3.1 make a drop-down of any_of; 2.11 knows none, and checks what is typed.
                rules = [Optional(), any_of(schema["enum"])] if "enum" in schema else []
                widgets[name] = StringField(
                    label, rules, description=description, widget=BS3TextFieldWidget()
                )
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Say how the fixed fields of the connection form look, for Airflow before 3.2."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    def get_conn(self) -> LightspeedClient:
        """Return the client of the shop, always the same one.

        :raises LightspeedConfigurationError: if the connection or an argument cannot be right.
        """
        return self._client

    @cached_property
    def _client(self) -> LightspeedClient:
        # Loaded here: DAG files are parsed every few seconds, and make no calls.
        from airflow_provider_lightspeed.api.client import LightspeedClient
        from airflow_provider_lightspeed.hooks.connection import mask_credentials, read_settings
        from airflow_provider_lightspeed.hooks.metrics import AirflowMetrics

        connection = self._connection()
        settings = read_settings(connection, connection.extra_dejson, self._arguments)
        mask_credentials(settings)
        return LightspeedClient(settings, metrics=AirflowMetrics(self.lightspeed_conn_id))

    def _connection(self) -> Connection:
        self.lightspeed_conn_id = parse_conn_id(self.lightspeed_conn_id)
        return self.get_connection(self.lightspeed_conn_id)

    def get_hash_secret(self, variable: str | None = None) -> str:
        """Return the secret with which personal fields are hashed; empty if there is none.

        It is the connection's extra ``hash_secret``, else the Airflow Variable ``lightspeed_hash_secret``.

        :param variable: Airflow Variable that holds it instead.
        :raises AirflowException: if Airflow cannot read its Variables at the moment. Let Airflow retry.
        """
        extra = {} if variable else self._connection().extra_dejson
        key = str(extra.get("hash_secret") or _read_secret(variable or "lightspeed_hash_secret") or "")
        if key:
            mask_secret(key)
        return key

    def iter_tickets(
        self,
        *,
        since_id: int | str | None = None,
        created_from: datetime | str | None = None,
        created_to: datetime | str | None = None,
        email: str | None = None,
    ) -> Iterator[Ticket]:
        """Yield all tickets that match, each exactly once, in no guaranteed order.

        Arguments are checked at once. Pages are requested as you iterate.

        :param since_id: only tickets with a greater id.
        :param created_from: only tickets created at or after this instant (with a zone).
        :param created_to: only tickets created before this instant (with a zone).
        :param email: only tickets of the customer with this e-mail address.
        :raises LightspeedIncompleteListError: (while you iterate) if the list cannot be proven complete.
        """
        wanted = parse_ticket_filter(
            since_id=since_id, created_from=created_from, created_to=created_to, email=email
        )
        return self.get_conn().iter_tickets(wanted)

    def count_tickets(
        self,
        *,
        since_id: int | str | None = None,
        created_from: datetime | str | None = None,
        created_to: datetime | str | None = None,
        email: str | None = None,
    ) -> int:
        """Count the tickets that match.

        Without a filter this is one call. With one, it reads the list of tickets (one call for 250): the shop's own
        count reads dates in an undocumented zone, and ignores the e-mail address.

        :param since_id: see :meth:`iter_tickets`, as for the other arguments.
        """
        if since_id is created_from is created_to is email is None:
            return self.get_conn().call(api.count_tickets())
        tickets = self.iter_tickets(
            since_id=since_id, created_from=created_from, created_to=created_to, email=email
        )
        return sum(1 for _ in tickets)

    def newest_ticket_id(self) -> int:
        """Return the greatest ticket id of the shop (0: there are no tickets), whatever the order of its lists.

        It takes two calls where lists are newest first, four where they are oldest first, a few more otherwise.
        """
        return self.get_conn().run(newest_ticket())

    def get_ticket(self, ticket_id: int | str) -> Ticket:
        """Return one ticket.

        :param ticket_id: its id, as a number or its text.
        """
        return self.get_conn().call(api.get_ticket(api.parse_ticket_id(ticket_id)))

    def create_ticket(self, properties: Mapping[str, Any]) -> Ticket:
        """Create a ticket and return it.

        :param properties: by the API's names: ``subject``, ``memo``, ``customer`` (an id), ``isAnswered``,
            ``isTodo``, ``isClosed``, ``doNotifyAnswered``.
        :raises LightspeedUnknownOutcomeError: if the response was lost: the ticket may exist now.
        """
        return self.get_conn().call(api.create_ticket(properties))

    def update_ticket(self, ticket_id: int | str, properties: Mapping[str, Any]) -> Ticket:
        """Change the given properties of a ticket, and no others; return it.

        If the shop confirms the change without the ticket (204), one more call reads it.

        :param ticket_id: its id, as a number or its text.
        :param properties: by the API's names, see :meth:`create_ticket`.
        :raises LightspeedWrongTicketError: if the response is about another ticket.
        """
        number, client = api.parse_ticket_id(ticket_id), self.get_conn()
        return client.call(api.update_ticket(number, properties)) or client.call(api.get_ticket(number))

    def close_ticket(self, ticket_id: int | str) -> Ticket:
        """Close a ticket and return it.

        :param ticket_id: its id, as a number or its text.
        """
        return self.update_ticket(ticket_id, {"isClosed": True})

    def delete_ticket(self, ticket_id: int | str) -> None:
        """Delete a ticket, for good.

        :param ticket_id: its id, as a number or its text.
        """
        self.get_conn().call(api.delete_ticket(api.parse_ticket_id(ticket_id)))

    def iter_ticket_messages(self, ticket_id: int | str) -> Iterator[TicketMessage]:
        """Yield the messages of a ticket's conversation, each once.

        One call for up to 49 messages, two or three for more that fit one response, two for each of several pages.

        :param ticket_id: its id, as a number or its text.
        :raises LightspeedIncompleteListError: (while you iterate) if fewer or more can be read than the shop counts.
        """
        number = api.parse_ticket_id(ticket_id)
        return self._iter_messages(number)

    def _iter_messages(self, ticket_id: int) -> Iterator[TicketMessage]:
        yield from self.get_conn().run(ticket_messages(ticket_id))

    def create_ticket_message(
        self, ticket_id: int | str, message: str, from_: Literal["shop", "customer"] = "shop"
    ) -> TicketMessage:
        """Add a message to a ticket's conversation and return it. The shop may mail it to the customer.

        :param ticket_id: its id, as a number or its text.
        :param message: its text.
        :param from_: in whose name it is written.
        :raises LightspeedUnknownOutcomeError: if the response was lost: the message may exist now.
        """
        properties = {"message": message, "from": from_}
        return self.get_conn().call(api.create_message(api.parse_ticket_id(ticket_id), properties))

    def quota(self) -> Quota | None:
        """Return what is left of the quota, from the last response. Makes a call if there was none yet."""
        client = self.get_conn()
        if client.quota is None:
            self.count_tickets()
        return client.quota

    def probe(self) -> ShopReport:
        """Find out how this shop behaves where the API's documents say nothing. At most 20 calls, which only read.

        ``print`` the report, or read one result: ``report["order of lists"]``.
        """
        from airflow_provider_lightspeed.api.probe import probe_shop

        return probe_shop(self.get_conn())

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection with one call; return whether it works, and the error or the number of tickets and the quota."""
        try:
            count = self.count_tickets()
        except AirflowNotFoundException:
            return False, _NOT_VISIBLE.format(
                conn_id=self.lightspeed_conn_id, name=self.lightspeed_conn_id.upper()
            )
        except LightspeedQuotaExhaustedError as error:
            return False, f"Not tested: {error.reason}. Test again at {error.until:%Y-%m-%d %H:%M:%S} UTC"
        except LightspeedError as error:
            return False, str(error)
        client = self.get_conn()
        return True, (
            f"{client.settings.base_url} answers in language {client.settings.language!r}: {counted(count, 'ticket')}; "
            f"quota: {client.quota or 'not known'}"
        )


def _read_secret(variable: str) -> str | None:
    return read_variable(variable, unknown=f"whether {variable!r} holds the key for hash_fields")
