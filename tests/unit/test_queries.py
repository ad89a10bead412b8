"""A ticket's conversation is read whole, or said not to be, whatever its list makes of ``limit`` and ``page``."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api.errors import LightspeedIncompleteListError, LightspeedNotFoundError
from airflow_provider_lightspeed.api.queries import ticket_messages
from airflow_provider_lightspeed.api.tickets import Request

#: More than any conversation of these tests has.
ALL = 10_000


@dataclass
class Shop:
    """One conversation, and what its list makes of ``limit`` and ``page``.

    :param page_size: messages in a page whatever ``limit`` says; None: ``limit`` is heeded.
    :param inserts: how likely a message is written before a call is answered.
    :param deletes: how likely one is deleted.
    """

    messages: int
    page_size: int | None = None
    ignores_page: bool = False
    newest_first: bool = False
    inserts: float = 0.0
    deletes: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ids = list(range(1, self.messages + 1))
        self.ever = set(self.ids)
        self.next_id = self.messages + 1

    def answer(self, request: Request) -> Any:
        if self.chance.random() < self.inserts:
            self.ids.append(self.next_id)
            self.ever.add(self.next_id)
            self.next_id += 1
        if self.ids and self.chance.random() < self.deletes:
            self.ids.remove(self.chance.choice(self.ids))
        assert (request.method, request.body) == ("GET", None)
        if request.path == "tickets/7/messages/count.json":
            self.calls.append("count")
            assert (request.query, request.envelope) == ({}, "count")
            return len(self.ids)
        assert request.path == "tickets/7/messages.json"
        assert (request.query["limit"], request.envelope) == (250, "ticketMessages")
        page = int(request.query.get("page", 1))
        self.calls.append(str(page))
        size = self.page_size or 250
        start = 0 if self.ignores_page else (page - 1) * size
        ids = self.ids[::-1] if self.newest_first else self.ids
        return [{"id": number, "message": f"Private {number}"} for number in ids[start : start + size]]

    def read(self) -> list[int]:
        """Read the conversation, and return the ids.

        :raises LightspeedIncompleteListError: if the client does.
        """
        reading = ticket_messages(7)
        answer: Any = None
        while True:
            try:
                request = reading.send(answer)
            except StopIteration as end:
                return [message["id"] for message in end.value]
            answer = self.answer(request)


@pytest.mark.parametrize(
    ("messages", "page_size", "calls"),
    [
        # limit is heeded
        (0, None, "1"),
        (49, None, "1"),
        (50, None, "1 count 1"),
        (51, None, "1 count"),
        (120, None, "1 count"),
        (249, None, "1 count"),
        (250, None, "1 count 1"),
        (251, None, "1 count 2 1"),
        (500, None, "1 count 2 1"),
        (501, None, "1 count 2 3 1 2"),
        # limit is ignored, for the default size or another
        (49, 50, "1"),
        (50, 50, "1 count 1"),
        (51, 50, "1 count 2 1"),
        (120, 50, "1 count 2 3 1 2"),
        (120, 100, "1 count 2 1"),
        # all comes in one answer
        (49, ALL, "1"),
        (400, ALL, "1 count 1"),
        (777, ALL, "1 count"),
    ],
)
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_quiet_conversation_is_read_whole_at_this_cost(
    messages: int, page_size: int | None, calls: str, newest_first: bool
) -> None:
    shop = Shop(messages, page_size, newest_first=newest_first)
    assert shop.read() == (shop.ids[::-1] if newest_first else shop.ids)
    assert " ".join(shop.calls) == calls


@pytest.mark.parametrize(
    ("messages", "page_size", "calls"),
    [
        (49, 50, "1"),
        (50, 50, "1 count 1"),
        (120, None, "1 count"),
        (250, None, "1 count 1"),
        (777, ALL, "1 count"),
    ],
)
def test_a_shop_that_ignores_page_is_put_up_with_while_a_page_holds_all(
    messages: int, page_size: int | None, calls: str
) -> None:
    shop = Shop(messages, page_size, ignores_page=True)
    assert shop.read() == shop.ids
    assert " ".join(shop.calls) == calls


@pytest.mark.parametrize(("messages", "page_size", "seen"), [(51, 50, 50), (120, 50, 50), (251, None, 250)])
def test_a_list_that_is_cut_and_ignores_page_is_an_error_that_tells_no_text(
    messages: int, page_size: int | None, seen: int
) -> None:
    shop = Shop(messages, page_size, ignores_page=True)
    with pytest.raises(LightspeedIncompleteListError) as caught:
        shop.read()
    assert (caught.value.seen, caught.value.expected) == (seen, messages)
    assert str(caught.value) == (
        "the messages of ticket 7 can't be read and counted to the same number: their list ignores limit and page, or "
        f"changes too fast ({seen} messages read, {messages} expected)"
    )
    assert shop.calls == ["1", "count", "2"] * 3


def test_a_message_that_comes_between_is_no_error() -> None:
    shop = Shop(60)
    reading = ticket_messages(7)
    first = shop.answer(reading.send(None))
    shop.ids.append(61)
    count = shop.answer(reading.send(first))
    request = reading.send(count)
    for _ in range(2):
        request = reading.send(shop.answer(request))
    with pytest.raises(StopIteration) as end:
        reading.send(shop.answer(request))
    assert [message["id"] for message in end.value.value] == shop.ids
    assert shop.calls == ["1", "count", "2", "1", "count"]


def until_the_count() -> Generator[Request, Any, Any]:
    """Begin to read a conversation, up to the request for its count."""
    shop, reading = Shop(60), ticket_messages(7)
    counting = reading.send(shop.answer(next(reading)))
    assert counting.path.endswith("count.json")
    return reading


def not_found(*, gone: bool = True) -> LightspeedNotFoundError:
    return LightspeedNotFoundError(
        status=404, message="Resource not found.", method="GET", path="/x", gone=gone
    )


def test_a_count_that_is_not_there_is_no_deleted_ticket_unless_the_list_is_not_either() -> None:
    reading = until_the_count()
    assert reading.throw(not_found()).path == "tickets/7/messages.json"
    with pytest.raises(LightspeedNotFoundError):
        reading.throw(not_found())

    reading = until_the_count()
    reading.throw(not_found())
    with pytest.raises(
        LightspeedIncompleteListError, match=r"7 can't be counted: .* not found \(60 messages read\)"
    ):
        reading.send([])

    reading, error = until_the_count(), not_found(gone=False)
    with pytest.raises(LightspeedNotFoundError) as caught:
        reading.throw(error)
    assert caught.value is error


def test_a_full_page_that_shows_a_message_twice_is_full() -> None:
    reading = ticket_messages(7)
    next(reading)
    assert reading.send([{"id": 1}, *({"id": number} for number in range(1, 50))]).path.endswith("count.json")


def shops(most: int = 700, **churn: st.SearchStrategy[float]) -> st.SearchStrategy[Shop]:
    return st.builds(
        Shop,
        st.integers(0, most),
        st.sampled_from([None, 50, 100, 200, 250, ALL]),
        ignores_page=st.booleans(),
        newest_first=st.booleans(),
        chance=st.integers(0, 2**32).map(random.Random),
        **churn,
    )


@given(shops(inserts=st.sampled_from([0.0, 0.1, 0.5])))
def test_no_message_is_missing_while_others_come(shop: Shop) -> None:
    check(shop)


@given(shops(deletes=st.sampled_from([0.1, 0.3, 0.8, 1.0])))
@example(Shop(51, 50, deletes=1.0, chance=random.Random(0)))
@example(Shop(52, 50, ignores_page=True, deletes=1.0, chance=random.Random(3)))
def test_no_message_is_missing_while_others_go(shop: Shop) -> None:
    check(shop)


@given(shops(most=260, inserts=st.sampled_from([0.2, 0.5]), deletes=st.sampled_from([0.2, 0.5])))
def test_no_message_is_missing_while_others_come_and_go(shop: Shop) -> None:
    check(shop)


def check(shop: Shop) -> None:
    """Read a conversation: each message that existed all through is there, each once; or an error says otherwise."""
    before = set(shop.ids)
    quiet = shop.inserts == shop.deletes == 0
    cut = shop.ignores_page and len(before) > (shop.page_size or 250)
    try:
        found = shop.read()
    except LightspeedIncompleteListError:
        assert cut or not quiet
        return
    assert not (cut and quiet)
    assert len(found) == len(set(found))
    assert before & set(shop.ids) <= set(found) <= shop.ever
