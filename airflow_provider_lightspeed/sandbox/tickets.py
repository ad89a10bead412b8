"""Tickets, messages and customers, and how the API writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import tzinfo
from typing import Any, Literal

import msgspec

from airflow_provider_lightspeed.sandbox.rng import mix
from airflow_provider_lightspeed.sandbox.zones import write_instant

Document = dict[str, Any]
"""A ticket or message with the API's own property names."""

Author = Literal["customer", "shop"]

#: What stands where something else is expected: ``false`` for a time, a text or a relation that is not there, ``""`` for
#: a number, and a part of a relation's resource that no document mentions.
Oddity = Literal["updatedAt", "subject", "memo", "messages", "language", "customer", "embedded"]


class Ticket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A ticket; instants are epoch seconds, None is what the API writes as ``false``."""

    id: int
    created_at: int
    updated_at: int
    is_answered: bool = False
    is_closed: bool = False
    is_todo: bool = False
    subject: str = ""
    memo: str = ""
    do_notify_answered: bool = False
    language: str | None = "us"
    customer: int | None = None
    extra: Mapping[str, Any] | None = None
    """Properties that no document mentions."""
    oddity: Oddity | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a ticket's conversation."""

    id: int
    created_at: int
    updated_at: int | None = None
    author: Author = "shop"
    text: str = ""


# PHP's json_encode escapes all but ASCII, too.
_quote = json.JSONEncoder(separators=(",", ":")).encode

_HOST = "https://api.shoplightspeed.com"

_LANGUAGES = {
    code: _quote({"id": number, "code": code, "locale": locale, "title": title})
    for code, number, locale, title in (
        ("us", 18, "en_US", "English (US)"),
        ("en", 2, "en_GB", "English"),
        ("nl", 1, "nl_NL", "Nederlands"),
        ("de", 3, "de_DE", "Deutsch"),
        ("fr", 4, "fr_FR", "Français"),
    )
}

LANGUAGES = tuple(_LANGUAGES)

_FLAGS = ("false", "true")


def write_ticket(ticket: Ticket, zone: tzinfo) -> str:
    """Return the ticket as JSON."""
    plain = _write_plainly(ticket, zone)
    return _write_oddly(plain, ticket) if ticket.oddity else plain


def _write_oddly(plain: str, ticket: Ticket) -> str:
    document: Document = json.loads(plain)
    match ticket.oddity:
        case "updatedAt" if ticket.updated_at == ticket.created_at:
            document["updatedAt"] = False
        case "subject" | "memo" | "messages" as name if name == "messages" or not document[name]:
            document[name] = False
        case "language" if ticket.language:
            document["language"]["id"] = ""
        case "customer" if ticket.customer is None:
            document["customer"] = {"resource": {"id": "", "url": "", "link": ""}}
        case "embedded" if ticket.customer is not None:
            embedded = {"customer": {"id": ticket.customer, "email": email_of(ticket.customer)}}
            document["customer"]["resource"]["embedded"] = embedded
    return _quote(document)


def _write_plainly(ticket: Ticket, zone: tzinfo) -> str:
    # By hand: a list page holds 250 of them.
    number = ticket.id
    code = ticket.language or "en"
    language = _LANGUAGES[code] if ticket.language else "false"
    customer = "false"
    if ticket.customer is not None:
        url = f"customers/{ticket.customer}"
        customer = (
            f'{{"resource":{{"id":{ticket.customer},"url":"{url}","link":"{_HOST}/{code}/{url}.json"}}}}'
        )
    extra = "," + _quote(ticket.extra)[1:-1] if ticket.extra else ""
    return (
        f'{{"id":{number},"createdAt":"{write_instant(ticket.created_at, zone)}",'
        f'"updatedAt":"{write_instant(ticket.updated_at, zone)}","isAnswered":{_FLAGS[ticket.is_answered]},'
        f'"isClosed":{_FLAGS[ticket.is_closed]},"isTodo":{_FLAGS[ticket.is_todo]},'
        f'"subject":{_quote(ticket.subject)},"memo":{_quote(ticket.memo)},'
        f'"doNotifyAnswered":{_FLAGS[ticket.do_notify_answered]},"language":{language},"customer":{customer},'
        f'"messages":{{"resource":{{"id":false,"url":"tickets/{number}/messages",'
        f'"link":"{_HOST}/{code}/tickets/{number}/messages.json"}}}}{extra}}}'
    )


def ticket_document(ticket: Ticket, zone: tzinfo) -> Document:
    """Return the ticket as a client reads it."""
    document: Document = json.loads(write_ticket(ticket, zone))
    return document


def message_document(message: Message, zone: tzinfo) -> Document:
    """Return the message as the API writes it: where it was never updated, with null or false."""
    never = False if message.id % 3 == 0 else None
    return {
        "id": message.id,
        "createdAt": write_instant(message.created_at, zone),
        "updatedAt": never if message.updated_at is None else write_instant(message.updated_at, zone),
        "from": message.author,
        "message": message.text,
    }


_FIRST_NAMES = ("anna", "sanne", "joost", "lukas", "emma", "noor", "mehmet", "chloe", "finn", "zoe", "pieter")
_LAST_NAMES = ("devries", "jansen", "mueller", "smith", "okafor", "bakker", "schmidt", "dubois", "yilmaz")


def email_of(customer: int) -> str:
    """Return the address of a customer."""
    bits = mix(0, customer)
    first = _FIRST_NAMES[bits % len(_FIRST_NAMES)]
    last = _LAST_NAMES[(bits >> 8) % len(_LAST_NAMES)]
    return f"{first}.{last}.{customer}@example.{'org' if bits & 1 << 20 else 'com'}"


def customer_with(email: str) -> int | None:
    """Return the customer with this address; the case of letters does not matter."""
    digits = email.partition("@")[0].rpartition(".")[2]
    if not (digits.isascii() and digits.isdigit()) or email_of(int(digits)) != email.lower():
        return None
    return int(digits)
