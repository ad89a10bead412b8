"""The API's endpoints: a request to a shop becomes a response. No sockets, no quota, no credentials here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from airflow_provider_lightspeed.sandbox.bodies import read_properties
from airflow_provider_lightspeed.sandbox.distortions import change_text, rewrite_ticket, with_new_properties
from airflow_provider_lightspeed.sandbox.lists import count_list, is_visible, list_page
from airflow_provider_lightspeed.sandbox.properties import read_ticket
from airflow_provider_lightspeed.sandbox.quota import Quota
from airflow_provider_lightspeed.sandbox.shop import MissingError, Query, Shop
from airflow_provider_lightspeed.sandbox.tickets import (
    Document,
    Message,
    Ticket,
    message_document,
    write_ticket,
)
from airflow_provider_lightspeed.sandbox.wire import ApiError, Reply, Request
from airflow_provider_lightspeed.sandbox.zones import parse_zone, read_wall_clock

_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")

_Endpoint = Callable[..., Reply]


class Endpoints:
    """Answers the API's calls from one shop.

    Where the documents are silent: a write's properties that are read-only or unknown are ignored, values of
    the wrong kind are a 422, a body without its envelope a 400. A new ticket needs a subject; any customer
    will do. In filters, a malformed number or date is a 422, an empty one as good as none; ``limit`` and
    ``page`` say nothing to a count. Lists of messages take ``limit`` (unless ``message_page_size`` is set), ``page``
    (unless ``messages_ignore_page`` is) and ``since_id``; their count takes none of these.
    """

    def __init__(self, shop: Shop, quota: Quota) -> None:
        self._shop = shop
        self._quota = quota
        self._filter_zone = parse_zone(shop.config.filter_timezone)
        ticket, message = r"/tickets/(\d{1,9})", r"/messages/(\d{1,15})"
        routes: dict[str, dict[str, _Endpoint]] = {
            r"/tickets\.json": {"GET": self._list, "POST": self._create},
            r"/tickets/count\.json": {"GET": self._count},
            rf"{ticket}\.json": {"GET": self._get, "PUT": self._update, "DELETE": self._delete},
            rf"{ticket}/messages\.json": {"GET": self._list_messages, "POST": self._create_message},
            rf"{ticket}/messages/count\.json": {"GET": self._count_messages},
            rf"{ticket}{message}\.json": {
                "GET": self._get_message,
                "PUT": self._update_message,
                "DELETE": self._delete_message,
            },
            r"/account/ratelimit\.json": {"GET": self._rate_limit},
            r"/shop\.json": {"GET": self._describe_shop},
        }
        self._routes = [(re.compile(path), methods) for path, methods in routes.items()]

    def answer(self, request: Request) -> Reply:
        """Run a request.

        :raises ApiError: the API refuses it.
        """
        for path, methods in self._routes:
            if found := path.fullmatch(request.path):
                if request.method not in methods:
                    raise ApiError(405, "Method not allowed.")
                try:
                    return methods[request.method](request, *map(int, found.groups()))
                except MissingError:
                    raise ApiError(404, "Resource not found.") from None
                except ValueError as error:
                    raise ApiError(422, f"Invalid data input. {error}") from None
        raise ApiError(404, "Resource not found.")

    # Tickets

    def _list(self, request: Request) -> Reply:
        tickets = list_page(self._shop, self._query(request.query))
        return Reply(body=b'{"tickets":[%b]}' % b",".join(map(self._write, tickets)))

    def _count(self, request: Request) -> Reply:
        query = self._query(request.query)
        if not self._shop.config.count_reads_email:
            query = msgspec.structs.replace(query, email=None)
        return _reply("count", count_list(self._shop, query))

    def _get(self, _: Request, ticket_id: int) -> Reply:
        ticket = self._shop.get(self._alias(ticket_id))
        if not is_visible(self._shop, ticket):
            raise MissingError(f"ticket {ticket_id}")
        return self._one(ticket)

    def _create(self, request: Request) -> Reply:
        fields = self._read(request)
        if not fields.get("subject"):
            raise ValueError("A ticket needs a subject.")
        return self._one(self._shop.create(fields, by=self._shop.config.key), status=201)

    def _update(self, request: Request, ticket_id: int) -> Reply:
        fields = self._read(request)
        ticket = self._shop.update(self._alias(ticket_id), fields, by=self._shop.config.key)
        return Reply(status=204) if self._shop.config.put_204 else self._one(ticket)

    def _read(self, request: Request) -> dict[str, Any]:
        given = read_properties(request, "ticket")
        ignored = self._shop.config.ignored_properties
        fields = read_ticket({name: value for name, value in given.items() if name not in ignored})
        return {
            name: self._kept(value) if name in {"subject", "memo"} else value
            for name, value in fields.items()
        }

    def _delete(self, _: Request, ticket_id: int) -> Reply:
        self._shop.delete(ticket_id, by=self._shop.config.key)
        return Reply(status=204)

    def _one(self, ticket: Ticket, status: int = 200) -> Reply:
        return Reply(status=status, body=b'{"ticket":%b}' % self._write(ticket))

    def _write(self, ticket: Ticket) -> bytes:
        text = write_ticket(ticket, self._shop.answer_zone)
        options = self._shop.config
        return rewrite_ticket(text, options) if options.rewrites_tickets else text.encode()

    def _alias(self, ticket_id: int) -> int:
        return self._shop.config.aliases.get(ticket_id, ticket_id)

    def _kept(self, text: str) -> str:
        return change_text(text, self._shop.config.texts)

    # Messages

    def _list_messages(self, request: Request, ticket_id: int) -> Reply:
        query = self._query(request.query)
        size = self._shop.config.message_page_size or query.limit
        first = 0 if self._shop.config.messages_ignore_page else (query.page - 1) * size
        messages = [message for message in self._shop.messages(ticket_id) if message.id > query.since_id]
        page = [self._message(message) for message in messages[first : first + size]]
        return _reply("ticketMessages", page)

    def _count_messages(self, _: Request, ticket_id: int) -> Reply:
        return _reply("count", len(self._shop.messages(ticket_id)))

    def _get_message(self, _: Request, ticket_id: int, message_id: int) -> Reply:
        message = self._shop.message(ticket_id, message_id)
        return _reply("ticketMessage", self._message(message))

    def _create_message(self, request: Request, ticket_id: int) -> Reply:
        properties = read_properties(request, "ticketMessage")
        author = properties.get("from", "shop")
        if author not in {"shop", "customer"}:
            raise ValueError("from must be shop or customer.")
        message = self._shop.add_message(
            ticket_id,
            self._kept(_text(properties)),
            author="customer" if author == "customer" else "shop",
            by=self._shop.config.key,
        )
        return _reply("ticketMessage", self._message(message), status=201)

    def _update_message(self, request: Request, ticket_id: int, message_id: int) -> Reply:
        text = self._kept(_text(read_properties(request, "ticketMessage")))
        message = self._shop.update_message(ticket_id, message_id, text)
        return _reply("ticketMessage", self._message(message))

    def _delete_message(self, _: Request, ticket_id: int, message_id: int) -> Reply:
        self._shop.delete_message(ticket_id, message_id)
        return Reply(status=204)

    def _message(self, message: Message) -> Document:
        document = message_document(message, self._shop.answer_zone)
        return with_new_properties(document) if self._shop.config.new_properties else document

    # The shop

    def _rate_limit(self, _: Request) -> Reply:
        return _reply("accountRatelimit", self._quota.document())

    def _describe_shop(self, _: Request) -> Reply:
        return _reply(
            "shop",
            {
                "id": 1000 + self._shop.config.seed,
                "status": "active",
                "isB2b": False,
                "subDomain": "sandbox",
                "mainDomain": "sandbox.example.com",
                "email": "shop@example.com",
                "languages": list(self._shop.config.languages),
            },
        )

    def _query(self, query: Mapping[str, str]) -> Query:
        instants = {
            field: read_wall_clock(query[name], self._filter_zone)
            for field, name in (("created_min", "created_at_min"), ("created_max", "created_at_max"))
            if query.get(name)
        }
        limit = _number(query, "limit", 50)
        return Query(
            email=query.get("email") or None,
            since_id=_number(query, "since_id", 0),
            page=max(1, _number(query, "page", 1)),
            limit=limit if limit > 0 else 50,
            **instants,
        )


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if not text:
        return default
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError(f"{name} must be a whole number.")
    return int(text)


def _text(properties: Mapping[str, object]) -> str:
    text = properties.get("message")
    if not isinstance(text, str) or not text:
        raise ValueError("A message needs a text.")
    return text


def _reply(envelope: str, content: Any, status: int = 200) -> Reply:
    return Reply(status=status, body=msgspec.json.encode({envelope: content}))
