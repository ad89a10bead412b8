"""The verdicts on failures, and the conversation that carries them out, with neither socket nor sleep."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api import errors, retries
from airflow_provider_lightspeed.api.answers import Answer
from airflow_provider_lightspeed.api.conversation import Conversation, Read, Send, Sleep
from airflow_provider_lightspeed.api.retries import VERDICTS, Failure, Verdict, backoff, classify
from airflow_provider_lightspeed.api.settings import ClientSettings
from airflow_provider_lightspeed.api.tickets import (
    Request,
    create_ticket,
    delete_ticket,
    get_ticket,
    list_tickets,
    update_ticket,
)

ERROR = json.dumps({"error": {"code": 404, "message": "Resource not found."}}).encode()


def answer(status: int = 200, body: bytes = b'{"ticket": {"id": 7}}', **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


DROPPED = errors.LightspeedConnectionError("dropped")
UNREACHED = errors.LightspeedConnectionError("no connection", sent=False)


class World:
    """Carries out what a conversation wishes, with a clock of its own and the replies given."""

    def __init__(self, *replies: Any, seconds_a_call: float = 0.0, **options: Any) -> None:
        self.now = 1_000.0
        self.replies = list(replies)
        self.seconds_a_call = seconds_a_call
        self.slept: list[float] = []
        self.conversation = Conversation(
            ClientSettings("http://localhost", "key", "secret", **options), clock=lambda: self.now
        )

    def call(self, request: Request, **options: float) -> Any:
        exchange = self.conversation.exchange(request, **options)
        reply: Any = None
        while True:
            try:
                wish = exchange.send(reply)
            except StopIteration as end:
                return end.value
            if isinstance(wish, Sleep):
                self.now += wish.seconds
                self.slept.append(wish.seconds)
                reply = None
            elif isinstance(wish, Read):
                reply = wish.carry_out()
            else:
                assert isinstance(wish, Send)
                self.now += self.seconds_a_call
                reply = self.replies.pop(0)


def test_every_failure_of_every_method_has_a_verdict() -> None:
    assert set(VERDICTS) == {"GET", "PUT", "DELETE", "POST"}
    for verdicts in VERDICTS.values():
        assert set(verdicts) == set(Failure)
    assert not {Verdict.UNKNOWN} & set(VERDICTS["GET"].values())


def test_a_creation_is_sent_again_only_where_it_surely_did_not_happen() -> None:
    again = {
        failure for failure, verdict in VERDICTS["POST"].items() if verdict in {Verdict.RETRY, Verdict.WAIT}
    }
    assert again == {Failure.NOT_CONNECTED, Failure.REFUSED_FOR_NOW}


def test_classify_knows_every_error() -> None:
    assert classify(errors.LightspeedConnectionError("", retryable=False)) is Failure.TOO_LARGE
    assert classify(errors.LightspeedConnectionError("", retryable=False, sent=False)) is Failure.UNTRUSTED
    assert classify(errors.LightspeedError("anything")) is Failure.REFUSED


@given(st.integers(1, 2_000), st.floats(0, 1))
def test_backoff_has_full_jitter_and_a_cap(tries: int, chance: float) -> None:
    tries = min(tries, 1_000)
    assert 0 <= backoff(tries, chance) <= min(retries.LONGEST_BACKOFF, 0.5 * 2 ** (tries - 1))
    assert backoff(tries, 0.0) == 0


def test_a_deletion_whose_answer_was_lost_and_that_then_finds_404_has_succeeded() -> None:
    assert World(DROPPED, answer(404, ERROR)).call(delete_ticket(7)) is None
    assert World(answer(503, b""), answer(404, ERROR)).call(delete_ticket(7)) is None


@pytest.mark.parametrize("first", [[], [UNREACHED], [answer(429, b"", retry_after="0")]])
def test_a_404_is_no_success_where_no_try_can_have_deleted(first: list[Any]) -> None:
    with pytest.raises(errors.LightspeedNotFoundError):
        World(*first, answer(404, ERROR)).call(delete_ticket(7))


def test_a_page_of_a_proxy_with_404_is_no_proof_of_a_deletion() -> None:
    world = World(DROPPED, answer(404, b"<html>"), answer(204, b""))
    assert world.call(delete_ticket(7)) is None
    assert world.replies == []


def test_an_unknown_outcome_names_what_may_exist() -> None:
    with pytest.raises(
        errors.LightspeedUnknownOutcomeError, match=r"^POST /tickets.json: .* may or may not exist"
    ):
        World(DROPPED).call(create_ticket({"subject": "x"}))


@pytest.mark.parametrize(("asked", "least", "most"), [("7", 7, 7), ("3600", 60, 60), ("0", 0, 0.5)])
def test_a_503_may_say_when_to_come_back(asked: str, least: float, most: float) -> None:
    world = World(answer(503, b"", retry_after=asked), answer())
    world.call(get_ticket(7))
    assert least <= sum(world.slept) <= most


def test_no_call_is_tried_for_longer_than_the_cap_on_time() -> None:
    world = World(*[DROPPED] * 9, seconds_a_call=250)
    with pytest.raises(errors.LightspeedConnectionError):
        world.call(get_ticket(7))
    assert len(world.replies) == 6  # three tries of 250 s


@pytest.mark.parametrize(
    "retry_after", [{}, {"retry_after": "0"}, {"retry_after": "Thu, 01 Jan 1970 00:00:00 GMT"}]
)
def test_refusals_are_neither_hammered_nor_put_up_with_for_ever(retry_after: dict[str, str]) -> None:
    world = World(*[answer(429, b"", **retry_after)] * 20)
    with pytest.raises(errors.LightspeedRateLimitError):
        world.call(get_ticket(7))
    assert len(world.replies) == 20 - retries.MAX_REFUSALS
    assert sum(world.slept) > 1


def test_a_long_retry_after_is_an_exhausted_quota() -> None:
    with pytest.raises(errors.LightspeedQuotaExhausted, match="Retry-After"):
        World(answer(429, b"", retry_after="3600")).call(get_ticket(7))


def test_the_calls_a_second_never_exhaust_the_quota() -> None:
    world = World(*[answer()] * 7, max_wait=0, calls_per_second=3)
    for _ in range(7):
        world.call(get_ticket(7))
    assert sum(world.slept) == pytest.approx(2)


def test_secret_and_content_are_in_no_repr() -> None:
    exchange = Conversation(ClientSettings("http://localhost", "thekey", "thesecret")).exchange(
        create_ticket({"subject": "private"})
    )
    send = next(exchange)
    assert isinstance(send, Send)
    for hidden in ("thekey", "thesecret", "Basic", "private"):
        assert hidden not in repr(send)


def test_announce_says_how_many_calls_and_how_long(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(
        answer(
            200,
            b'{"tickets": []}',
            x_ratelimit_limit="300/3000/12000",
            x_ratelimit_remaining="100/2000/9000",
            x_ratelimit_reset="60/600/6000",
        )
    )
    world.call(list_tickets())
    world.conversation.announce(4_000, "Closing 4000 tickets")
    assert caplog.messages[-1] == (
        "Closing 4000 tickets takes 4000 calls, about 61 min. Quota: 100 of 300 calls left in 5 minutes, "
        "2000 of 3000 calls left in 1 hour, 9000 of 12000 calls left in 1 day"
    )


@pytest.mark.parametrize(
    ("replies", "sent"),
    [([answer(429, b"", Retry_After="30")], False), ([DROPPED], True), ([UNREACHED], False)],
)
def test_nothing_is_sent_after_the_moment_that_its_caller_has_named(replies: list[Any], sent: bool) -> None:
    world = World(*replies, seconds_a_call=5.0)
    request = update_ticket(7, {"isClosed": True})
    with pytest.raises(errors.LightspeedTooLate) as caught:
        world.call(request, send_before=1_004.0)
    assert caught.value.sent is sent
    assert not world.replies
