"""The shop: its tickets, the lists over them, and who changed what. No HTTP here."""

from __future__ import annotations

import copy
import time
from array import array
from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any

import msgspec

from airflow_provider_lightspeed.sandbox.catalogue import MESSAGES_PER_TICKET, Catalogue
from airflow_provider_lightspeed.sandbox.config import ShopConfig
from airflow_provider_lightspeed.sandbox.index import Index, id_of, rank_of
from airflow_provider_lightspeed.sandbox.rng import mix
from airflow_provider_lightspeed.sandbox.tickets import (
    Author,
    Document,
    Message,
    Ticket,
    customer_with,
    message_document,
    ticket_document,
)
from airflow_provider_lightspeed.sandbox.zones import parse_zone, write_instant


class MissingError(LookupError):
    """There is no such ticket or message."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What a list asks for; instants are epoch seconds."""

    email: str | None = None
    since_id: int = 0
    created_min: int | None = None
    created_max: int | None = None
    page: int = 1
    limit: int = 50


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change that had an effect: the properties that it changed, before and after."""

    at: str
    by: str
    method: str
    before: Document
    after: Document


class Shop:
    """All of one shop's state. Safe to use from several threads.

    Unchanged tickets are not stored: the catalogue makes them again at each read.
    """

    def __init__(self, config: ShopConfig, *, clock: Callable[[], float] = time.time) -> None:
        self.configure(config)
        self.followers: list[Callable[[Ticket | None, Ticket | None], None]] = []
        """Called with each ticket before and after a write."""
        self._clock = clock
        self._lock = RLock()
        end = int(clock() if config.end is None else config.end.timestamp())
        self._catalogue = Catalogue(config, end)
        self._by_age = Index(self._catalogue.ids_and_times())
        self._by_rank: Index | None = None
        self._by_customer: dict[int, Index] = {}
        self._touched: dict[int, Ticket] = {}
        self._deleted: dict[int, Ticket] = {}
        self._messages: dict[int, list[Message]] = {}
        self._history: dict[int, list[Change]] = {}
        self._last_id = id_of(self._by_age.keys[-1]) if self._by_age else config.first_id - 1
        self._last_message_id = (self._last_id + 1) * MESSAGES_PER_TICKET

    def configure(self, config: ShopConfig) -> None:
        """Take other options. Those of the tickets at the start have no effect any more."""
        self.config = config
        self.answer_zone = parse_zone(config.answer_timezone)

    def now(self) -> float:
        """Return the time in this shop, in epoch seconds."""
        return self._clock()

    # What the API does

    def find(self, query: Query) -> list[Ticket]:
        """Return one page of a list, in the shop's order."""
        with self._lock:
            index, begin, end = self._matching(query)
            keys = index.keys
            if self.config.order not in {"oldest", "newest"}:
                keys = self._ranked(index, begin, end)
                begin, end = 0, len(keys)
            skipped = (query.page - 1) * query.limit
            if self.config.order in {"newest", "last_change"}:
                end = max(begin, end - skipped)
                page = keys[max(begin, end - query.limit) : end][::-1]
            else:
                begin = min(end, begin + skipped)
                page = keys[begin : min(end, begin + query.limit)]
            if keys is index.keys:
                return [self._ticket(key) for key in page]
            return [self._live(id_of(key)) for key in page]

    def count(self, query: Query) -> int:
        """Return the length of a full list."""
        with self._lock:
            _, begin, end = self._matching(query)
            return end - begin

    def get(self, ticket_id: int) -> Ticket:
        """Return a live ticket.

        :raises MissingError: there is none with this id.
        """
        with self._lock:
            return self._live(ticket_id)

    def create(self, fields: Mapping[str, Any], *, by: str) -> Ticket:
        """Add a ticket. Ids and times of creation go up together, so it is never older than the newest."""
        with self._lock:
            now = int(self._clock())
            newest = rank_of(self._by_age.keys[-1]) if self._by_age else 0
            asked = fields.get("created_at")
            if asked is not None and asked < newest:
                raise ValueError(f"createdAt lies before the newest ticket's ({self._instant(newest)})")
            created_at = max(now, newest) if asked is None else asked
            self._last_id += 1
            ticket = Ticket(**{
                **fields,
                "id": self._last_id,
                "created_at": created_at,
                "updated_at": created_at,
            })
            self._messages[ticket.id] = []
            self._store(None, ticket)
            self._note(ticket.id, by, "POST", {}, self.document(ticket))
            return ticket

    def update(self, ticket_id: int, fields: Mapping[str, Any], *, by: str) -> Ticket:
        """Change a ticket. Where everything is so already, nothing happens; as a rule ``updatedAt`` stays, too.

        :raises MissingError: there is no such ticket.
        """
        with self._lock:
            old = self._live(ticket_id)
            new = msgspec.structs.replace(old, **fields)
            is_same = new == old
            if is_same and not self.config.same_touches_tickets:
                return old
            new = self._stamped(new)
            self._store(old, new)
            if is_same:
                return new
            self._note_difference(old, new, by, "PUT")
            return new

    def delete(self, ticket_id: int, *, by: str) -> None:
        """Delete a ticket.

        :raises MissingError: there is no such ticket.
        """
        with self._lock:
            ticket = self._live(ticket_id)
            self._store(ticket, None)
            self._deleted[ticket_id] = ticket
            self._note(ticket_id, by, "DELETE", self.document(ticket), {})

    def messages(self, ticket_id: int) -> list[Message]:
        """Return a ticket's conversation, oldest first.

        :raises MissingError: there is no such ticket.
        """
        with self._lock:
            ticket = self._live(ticket_id)
            if ticket_id in self._messages:
                return list(self._messages[ticket_id])
            return self._catalogue.messages(self._catalogue.ticket(ticket_id, ticket.created_at))

    def message(self, ticket_id: int, message_id: int) -> Message:
        """Return one message.

        :raises MissingError: there is no such ticket or message.
        """
        for message in self.messages(ticket_id):
            if message.id == message_id:
                return message
        raise MissingError(f"message {message_id} of ticket {ticket_id}")

    def add_message(
        self, ticket_id: int, text: str, *, author: Author = "shop", by: str, method: str = "POST"
    ) -> Message:
        """Add to a ticket's conversation.

        :raises MissingError: there is no such ticket.
        """
        with self._lock:
            old = self._live(ticket_id)
            self._last_message_id += 1
            now = max(int(self._clock()), old.created_at)
            message = Message(id=self._last_message_id, created_at=now, author=author, text=text)
            self._messages[ticket_id] = [*self.messages(ticket_id), message]
            new = old
            if self.config.messages_touch_tickets:
                new = self._stamped(msgspec.structs.replace(old, is_answered=author == "shop"))
                self._store(old, new)
            self._note_difference(old, new, by, method, message=message_document(message, self.answer_zone))
            return message

    def update_message(self, ticket_id: int, message_id: int, text: str) -> Message:
        """Change the text of a message.

        :raises MissingError: there is no such ticket or message.
        """
        with self._lock:
            old = self.message(ticket_id, message_id)
            if old.text == text:
                return old
            new = msgspec.structs.replace(old, text=text, updated_at=max(int(self._clock()), old.created_at))
            self._messages[ticket_id] = [new if m.id == message_id else m for m in self.messages(ticket_id)]
            return new

    def delete_message(self, ticket_id: int, message_id: int) -> None:
        """Delete a message.

        :raises MissingError: there is no such ticket or message.
        """
        with self._lock:
            self.message(ticket_id, message_id)
            self._messages[ticket_id] = [m for m in self.messages(ticket_id) if m.id != message_id]

    # What customers do

    def receive(self, fields: Mapping[str, Any], *, by: str) -> Ticket:
        """Add a ticket with a customer's first message; what the fields leave open is made up."""
        with self._lock:
            made_up = msgspec.structs.asdict(self._catalogue.newcomer(self._last_id + 1))
            ticket = self.create({**made_up, "created_at": None, **fields}, by=by)
            self._last_message_id += 1
            text = self._catalogue.messages(ticket)[0].text
            self._messages[ticket.id] = [
                Message(id=self._last_message_id, created_at=ticket.created_at, author="customer", text=text)
            ]
            return ticket

    # The truth

    def document(self, ticket: Ticket) -> Document:
        """Return a ticket as the API returns it."""
        return ticket_document(ticket, self.answer_zone)

    def ids(self) -> list[int]:
        """Return the ids of all live tickets, oldest first."""
        with self._lock:
            return [id_of(key) for key in self._by_age.keys]

    def id_at(self, place: int) -> int:
        """Return the id of the live ticket at a place, counted from the oldest."""
        with self._lock:
            return id_of(self._by_age.keys[place])

    def tickets(self) -> dict[int, Document]:
        """Return every live ticket by id, oldest first."""
        with self._lock:
            return {id_of(key): self.document(self._ticket(key)) for key in self._by_age.keys}

    def ticket(self, ticket_id: int) -> Document:
        """Return a live ticket.

        :raises MissingError: there is none with this id.
        """
        return self.document(self.get(ticket_id))

    def deleted(self) -> dict[int, Document]:
        """Return every deleted ticket by id, as it was last."""
        with self._lock:
            return {number: self.document(ticket) for number, ticket in self._deleted.items()}

    def history(self, ticket_id: int) -> list[Change]:
        """Return what has happened to a ticket since the shop opened."""
        with self._lock:
            return list(self._history.get(ticket_id, ()))

    def __len__(self) -> int:
        with self._lock:
            return len(self._by_age)

    # Copies

    def copy(self) -> Shop:
        """Return a shop that begins as this one is now. Conversations and history stay shared."""
        with self._lock:
            twin = copy.copy(self)
            twin._lock, twin.followers = RLock(), []
            twin._by_age, twin._touched = copy.deepcopy(self._by_age), dict(self._touched)
            twin._by_rank, twin._by_customer = None, {}
            return twin

    def newest(self, count: int) -> list[Ticket]:
        """Return the newest tickets, the oldest of them first."""
        with self._lock:
            return [self._ticket(key) for key in self._by_age.keys[max(0, len(self) - count) :]]

    def apply(self, old: Ticket | None, new: Ticket | None) -> None:
        """Repeat a write that another shop has done."""
        with self._lock:
            self._store(old, new)

    # Inside

    def _matching(self, query: Query) -> tuple[Index, int, int]:
        index = self._by_age if query.email is None else self._of_customer(customer_with(query.email))
        begin, end = 0, len(index)
        if query.since_id > 0:
            begin = index.from_id(query.since_id, inclusive=self.config.since_id_inclusive)
        if query.created_min is not None:
            begin = max(begin, index.from_rank(query.created_min + (not self.config.min_inclusive)))
        if query.created_max is not None:
            end = index.from_rank(query.created_max + self.config.max_inclusive)
        return index, begin, max(begin, end)

    def _of_customer(self, customer: int | None) -> Index:
        if customer is None:
            return Index()
        if customer not in self._by_customer:
            self._by_customer[customer] = Index(
                (number, rank_of(key))
                for key in self._by_age.keys
                if self._customer(number := id_of(key)) == customer
            )
        return self._by_customer[customer]

    def _customer(self, ticket_id: int) -> int | None:
        touched = self._touched.get(ticket_id)
        return touched.customer if touched else self._catalogue.customer(ticket_id)

    def _ranked(self, index: Index, begin: int, end: int) -> array[int]:
        if end - begin < len(self._by_age):
            part = (self._ticket(key) for key in index.keys[begin:end])
            return Index((ticket.id, self._rank(ticket)) for ticket in part).keys
        if self._by_rank is None:
            everything = (self._ticket(key) for key in self._by_age.keys)
            self._by_rank = Index((ticket.id, self._rank(ticket)) for ticket in everything)
        return self._by_rank.keys

    def _rank(self, ticket: Ticket) -> int:
        if self.config.order == "unordered":
            return mix(self.config.seed, ticket.id) >> 32
        return ticket.updated_at

    def _live(self, ticket_id: int) -> Ticket:
        key = self._by_age.find(ticket_id)
        if key is None:
            raise MissingError(f"ticket {ticket_id}")
        return self._ticket(key)

    def _ticket(self, key: int) -> Ticket:
        number = id_of(key)
        return self._touched.get(number) or self._catalogue.ticket(number, rank_of(key))

    def _stamped(self, ticket: Ticket) -> Ticket:
        return msgspec.structs.replace(ticket, updated_at=max(int(self._clock()), ticket.updated_at))

    def _store(self, old: Ticket | None, new: Ticket | None) -> None:
        if old is not None:
            self._touched.pop(old.id, None)
            if self._by_rank is not None:
                self._by_rank.remove(old.id, self._rank(old))
            if old.customer in self._by_customer:
                self._by_customer[old.customer].remove(old.id, old.created_at)
        if new is not None:
            self._touched[new.id] = new
            if self._by_rank is not None:
                self._by_rank.add(new.id, self._rank(new))
            if new.customer in self._by_customer:
                self._by_customer[new.customer].add(new.id, new.created_at)
        if old is None and new is not None:
            self._by_age.add(new.id, new.created_at)
        if new is None and old is not None:
            self._by_age.remove(old.id, old.created_at)
        for follower in self.followers:
            follower(old, new)

    def _note_difference(self, old: Ticket, new: Ticket, by: str, method: str, **also: Document) -> None:
        before, after = self.document(old), self.document(new)
        changed = [name for name in after if after[name] != before[name] and name != "updatedAt"]
        self._note(
            new.id,
            by,
            method,
            {name: before[name] for name in changed},
            {name: after[name] for name in changed} | also,
        )

    def _note(self, ticket_id: int, by: str, method: str, before: Document, after: Document) -> None:
        change = Change(
            at=self._instant(int(self._clock())), by=by, method=method, before=before, after=after
        )
        self._history.setdefault(ticket_id, []).append(change)

    def _instant(self, instant: int) -> str:
        return write_instant(instant, self.answer_zone)
