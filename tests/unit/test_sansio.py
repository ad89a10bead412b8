"""The sans-IO core, with neither socket nor sleep: the test performs its effects."""

from __future__ import annotations

import gzip
import json
import logging
import re
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from airflow_provider_lightspeed.api import errors, retry
from airflow_provider_lightspeed.api.client import AsyncLightspeedClient, LightspeedClient
from airflow_provider_lightspeed.api.paging import Page
from airflow_provider_lightspeed.api.responses import Response
from airflow_provider_lightspeed.api.sansio import Decode, Metrics, SansIOClient, Send, Sleep
from airflow_provider_lightspeed.api.settings import ClientSettings
from airflow_provider_lightspeed.api.tickets import (
    Request,
    TicketFilter,
    create_ticket,
    delete_ticket,
    get_ticket,
    list_tickets,
    update_ticket,
)

ERROR = json.dumps({"error": {"code": 404, "message": "Resource not found."}}).encode()


def answer(status: int = 200, body: bytes = b'{"ticket": {"id": 7}}', **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


DROPPED = errors.LightspeedConnectionError("dropped")
UNREACHED = errors.LightspeedConnectionError("no connection", sent=False)


class World:
    """Performs effects, with a clock of its own and the replies given."""

    def __init__(
        self, *replies: Any, seconds_a_call: float = 0.0, metrics: Metrics | None = None, **options: Any
    ) -> None:
        self.now = 1_000.0
        self.replies = list(replies)
        self.seconds_a_call = seconds_a_call
        self.slept: list[float] = []
        self.sent: list[Send] = []
        self.pages: list[Page] = []
        self.core = SansIOClient(
            ClientSettings("http://localhost", "key", "secret", **options),
            metrics=metrics,
            clock=lambda: self.now,
        )

    def call(self, request: Request, **options: float) -> Any:
        return self.end_of(self.core.call_flow(request, **options))

    def end_of(self, flow: Generator[Any, Any, Any]) -> Any:
        """Run each action, and return what comes of it all; pages are kept."""
        reply: Any = None
        while True:
            try:
                effect = flow.send(reply)
            except StopIteration as end:
                return end.value
            reply = None
            if isinstance(effect, Page):
                self.pages.append(effect)
            elif isinstance(effect, Sleep):
                self.now += effect.seconds
                self.slept.append(effect.seconds)
            elif isinstance(effect, Decode):
                reply = effect.perform()
            else:
                assert isinstance(effect, Send)
                self.sent.append(effect)
                self.now += self.seconds_a_call
                reply = self.replies.pop(0)

    def asked(self) -> list[dict[str, str]]:
        """The queries of the calls so far."""
        return [dict(parse_qsl(urlsplit(send.url).query)) for send in self.sent]


def listed(*ids: int, **headers: str) -> Response:
    """A list oldest first, and by what was changed last it is not."""
    rows = [
        {
            "id": number,
            "createdAt": "2026-03-01T12:00:00+00:00",
            "updatedAt": f"2026-03-02T12:00:0{-number % 10}+00:00",
        }
        for number in ids
    ]
    return answer(200, json.dumps({"tickets": rows}).encode(), **headers)


QUOTA = {
    "x_ratelimit_limit": "300/3000/12000",
    "x_ratelimit_remaining": "100/2000/9000",
    "x_ratelimit_reset": "60/600/6000",
}
USED_UP = {**QUOTA, "x_ratelimit_remaining": "0/2000/9000"}


def test_a_deletion_whose_answer_was_lost_and_that_then_finds_404_has_succeeded() -> None:
    assert World(DROPPED, answer(404, ERROR)).call(delete_ticket(7)) is None
    assert World(answer(503, b""), answer(404, ERROR)).call(delete_ticket(7)) is None


@pytest.mark.parametrize("first", [[], [UNREACHED], [answer(429, b"", retry_after="0")]])
def test_a_404_is_no_success_where_no_try_can_have_deleted(first: list[Any]) -> None:
    with pytest.raises(errors.LightspeedNotFoundError):
        World(*first, answer(404, ERROR)).call(delete_ticket(7))


@pytest.mark.parametrize(
    "request_",
    [
        create_ticket({"subject": "Dear Ada \ud83d"}),
        update_ticket(7, {"memo": "Dear Ada \ud83d"}),
        list_tickets(email="ada\ud83d@example.com"),
    ],
    ids=["POST", "PUT", "GET"],
)
def test_half_a_character_is_not_sent(request_: Request) -> None:
    world = World()
    with pytest.raises(errors.LightspeedConfigurationError, match=r"^a text has half a character") as caught:
        world.call(request_)
    assert "ada" not in str(caught.value).lower()
    assert (world.core.calls, world.sent) == (0, [])


def test_a_page_of_a_proxy_with_404_is_no_proof_of_a_deletion() -> None:
    world = World(DROPPED, answer(404, b"<html>"), answer(204, b""))
    assert world.call(delete_ticket(7)) is None
    assert world.replies == []


def test_a_language_that_the_shop_lacks_is_no_proof_of_a_deletion() -> None:
    body = json.dumps({"error": {"code": 404, "message": "Unknown or inactive language."}}).encode()
    with pytest.raises(errors.LightspeedUnknownLanguageError):
        World(answer(502, b""), answer(404, body)).call(delete_ticket(7))


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


def test_a_503_may_name_the_instant_at_which_to_come_back() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    world = World(answer(503, b"", retry_after=format_datetime(later, usegmt=True)), answer())
    world.call(get_ticket(7))
    assert world.slept == [60.0]  # and no more than a minute


@pytest.mark.parametrize("max_wait", [0.0, 60.0, 7 * 86_400.0])
def test_a_503_that_asks_for_long_is_tried_six_times_whatever_a_call_may_wait_for_the_quota(
    max_wait: float,
) -> None:
    world = World(*[answer(503, b"", retry_after="900")] * 9)
    with pytest.raises(errors.LightspeedServerError):
        world.call(get_ticket(7), max_wait=max_wait)
    assert len(world.replies) == 9 - retry.MAX_ATTEMPTS
    assert world.slept == [retry.MAX_RETRY_AFTER] * 5


def test_no_call_is_tried_for_longer_than_the_cap_on_time() -> None:
    world = World(*[DROPPED] * 9, seconds_a_call=250)
    with pytest.raises(errors.LightspeedConnectionError):
        world.call(get_ticket(7))
    assert len(world.replies) == 6  # three tries of 250 s


def test_a_call_that_goes_on_failing_is_given_up_after_six_tries(caplog: pytest.LogCaptureFixture) -> None:
    world = World(*[DROPPED] * 9)
    with pytest.raises(errors.LightspeedConnectionError, match="dropped"):
        world.call(get_ticket(7))
    assert len(world.replies) == 9 - 6
    assert [message.partition(" failed")[0] for message in caplog.messages] == [
        f"Attempt {tries} of 6" for tries in range(1, 6)
    ]


def test_waits_between_tries_count_for_the_cap_on_time() -> None:
    world = World(*[answer(503, b"", retry_after="60")] * 9, seconds_a_call=90)
    with pytest.raises(errors.LightspeedServerError):
        world.call(get_ticket(7))
    assert len(world.replies) == 9 - 5  # 600 s are over with the fifth


@pytest.mark.parametrize(
    "retry_after", [{}, {"retry_after": "0"}, {"retry_after": "Thu, 01 Jan 1970 00:00:00 GMT"}]
)
def test_refusals_are_neither_hammered_nor_put_up_with_for_ever(retry_after: dict[str, str]) -> None:
    world = World(*[answer(429, b"", **retry_after)] * 20)
    with pytest.raises(errors.LightspeedRateLimitError):
        world.call(get_ticket(7))
    assert len(world.replies) == 20 - retry.MAX_RATE_LIMITED
    assert sum(world.slept) > 1


def test_a_long_retry_after_is_an_exhausted_quota() -> None:
    with pytest.raises(errors.LightspeedQuotaExhaustedError, match="Retry-After"):
        World(answer(429, b"", retry_after="3600")).call(get_ticket(7))


def test_a_refusal_with_quota_left_is_for_too_many_calls_in_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    world = World(answer(429, b"", **QUOTA), listed(**QUOTA))
    world.call(list_tickets())
    (slept,) = world.slept
    assert retry.MIN_RATE_LIMIT_DELAY <= slept <= retry.MIN_RATE_LIMIT_DELAY + retry.FIRST_BACKOFF
    assert caplog.messages[0].endswith(
        ": the shop refused a call (429) with quota left, probably for too many calls in one second"
    )


def test_a_refusal_with_no_quota_left_waits_for_the_reset() -> None:
    world = World(answer(429, b"", **USED_UP), listed(**QUOTA))
    world.call(list_tickets())
    assert world.slept == [60.0]


def test_the_calls_a_second_never_exhaust_the_quota() -> None:
    world = World(*[answer()] * 7, max_wait=0, calls_per_second=3)
    for _ in range(7):
        world.call(get_ticket(7))
    assert sum(world.slept) == pytest.approx(2)
    assert world.core.calls == 7


def test_secret_and_content_are_in_no_repr() -> None:
    flow = SansIOClient(ClientSettings("http://localhost", "thekey", "thesecret")).call_flow(
        create_ticket({"subject": "private"})
    )
    send = next(flow)
    assert isinstance(send, Send)
    for hidden in ("thekey", "thesecret", "Basic", "private"):
        assert hidden not in repr(send)


def test_log_estimate_says_how_many_calls_and_how_long(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(listed(**QUOTA))
    world.core.log_estimate(40, "Closing 40 tickets")
    assert caplog.messages == [
        "Closing 40 tickets takes about 40 API calls, less than 10 s. Quota: known after the first call"
    ]
    world.call(list_tickets())
    world.core.log_estimate(4_000, "Closing 4000 tickets")
    assert caplog.messages[-1] == (
        "Closing 4000 tickets takes about 4,000 API calls, about 61 min. Quota: 100 of 300 calls left in 5 minutes, "
        "2,000 of 3,000 in 1 hour, 9,000 of 12,000 in 1 day"
    )


@pytest.mark.parametrize(
    ("replies", "sent"),
    [([answer(429, b"", Retry_After="30")], False), ([DROPPED], True), ([UNREACHED], False)],
)
def test_nothing_is_sent_after_the_moment_that_its_caller_has_named(replies: list[Any], sent: bool) -> None:
    world = World(*replies, seconds_a_call=5.0)
    request = update_ticket(7, {"isClosed": True})
    with pytest.raises(errors.LightspeedTooLateError, match="too long to be of use") as caught:
        world.call(request, send_before=1_004.0)
    assert caught.value.sent is sent
    assert not world.replies


def test_until_that_moment_it_is_sent() -> None:
    assert World(answer()).call(get_ticket(7), send_before=1_000.0) == {"id": 7}


# What is sent


def test_a_call_is_sent_as_the_settings_say() -> None:
    world = World(listed(), answer(), timeout=7.0, max_body=1_000)
    world.call(list_tickets(email="a+b@example.com"))
    world.call(update_ticket(7, {"isClosed": True}))
    read, write = world.sent
    assert read.url == "http://localhost/en/tickets.json?limit=250&email=a%2Bb%40example.com"
    assert (read.name, read.method, read.body) == ("GET /tickets.json", "GET", None)
    assert read.headers == {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "User-Agent": "airflow-provider-lightspeed",
        "Authorization": world.core.settings.authorization,
    }
    assert write.url == "http://localhost/en/tickets/7.json"
    assert (write.method, write.body) == ("PUT", b'{"ticket":{"isClosed":true}}')
    assert write.headers == {**read.headers, "Content-Type": "application/json"}
    assert (read.timeout, read.longest, read.max_body) == (7.0, 70.0, 1_000)


def test_reading_ends_at_the_largest_body_and_the_longest_time() -> None:
    world = World(listed(), max_body=1_000)
    world.call(list_tickets())
    (send,) = world.sent
    send.check(1_000)
    with pytest.raises(errors.LightspeedConnectionError, match="larger than 1000 bytes") as too_large:
        send.check(1_001)
    with pytest.raises(
        errors.LightspeedConnectionError, match=r"GET /tickets.json: .* after 300 s"
    ) as overdue:
        send.check(1, overdue=True)
    assert (too_large.value.retryable, overdue.value.retryable) == (False, True)


def test_a_body_is_unpacked_up_to_the_largest_too() -> None:
    world = World(answer(200, gzip.compress(b" " * 1_001), content_encoding="gzip"), max_body=1_000)
    with pytest.raises(errors.LightspeedConnectionError, match="larger than 1000 bytes"):
        world.call(list_tickets())


@pytest.mark.parametrize(
    ("options", "retryable", "words"),
    [
        ({"untrusted": True}, False, "the certificate of localhost does not verify"),
        ({}, True, "no connection to localhost could be made"),
        ({"proxy_status": 407}, False, "the proxy wants a user and a password (407)"),
        ({"proxy_status": 403}, True, "the proxy refused to connect to localhost (403)"),
        (None, True, "the connection to localhost broke"),
    ],
)
def test_a_failure_of_the_network_names_the_host_and_no_words_of_its_exception(
    options: dict[str, Any] | None, retryable: bool, words: str
) -> None:
    world = World(listed())
    world.call(list_tickets())
    (send,), reason = world.sent, ValueError("private")
    error = send.broken(reason) if options is None else send.not_connected(reason, **options)
    assert (error.sent, error.retryable) == (options is None, retryable)
    assert str(error).startswith(f"GET /tickets.json: {words}")
    assert str(error).endswith(" (ValueError)")


# The quota


def test_a_wait_that_is_longer_than_the_call_may_wait_is_an_exhausted_quota() -> None:
    world = World(listed(**USED_UP), listed(), max_wait=60.0)
    world.call(list_tickets())
    before = datetime.now(UTC)
    with pytest.raises(
        errors.LightspeedQuotaExhaustedError, match=r"in 60 s, .*longer than max_wait \(59 s\)"
    ) as caught:
        world.call(list_tickets(), max_wait=59.0)
    # A task that waits logs the reason, without the time and the advice for one that fails.
    assert re.fullmatch(r"the quota of 5 minutes is used up \(.* left\)", caught.value.reason)
    assert not caught.value.sent
    assert timedelta(seconds=60) <= caught.value.until - before < timedelta(seconds=90)
    world.call(list_tickets())
    assert (world.slept, world.core.calls) == ([60.0], 2)


def test_the_reserve_of_the_settings_is_left_to_others() -> None:
    world = World(listed(**{**QUOTA, "x_ratelimit_remaining": "30/2000/9000"}), listed(), quota_reserve=0.1)
    world.call(list_tickets())
    world.call(list_tickets())
    assert world.slept == [60.0]


def test_an_answer_that_was_long_on_its_way_is_no_new_window() -> None:
    late = {**QUOTA, "x_ratelimit_remaining": "299/1999/8999", "x_ratelimit_reset": "5/500/5900"}
    world = World(listed(**QUOTA), listed(**late), seconds_a_call=100)
    world.call(list_tickets())
    world.call(list_tickets())
    assert world.core.quota
    assert [window.remaining for window in world.core.quota.windows] == [100, 1_999, 8_999]


def test_of_those_who_wait_for_the_same_one_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(listed(**USED_UP), answer(429, b"", retry_after="7"), listed())
    world.call(list_tickets())
    for _ in range(3):
        assert next(world.core.call_flow(list_tickets())) == Sleep(60.0)
    world.now += 60.0
    world.call(list_tickets())
    assert [message.partition(",")[0] for message in caplog.messages] == ["Waiting 60 s", "Waiting 7 s"]


def test_waits_of_less_than_a_second_are_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(listed(), listed(), calls_per_second=1)
    world.call(list_tickets())
    world.now += 0.5
    world.call(list_tickets())
    assert (world.slept, caplog.messages) == ([0.5], [])


class Counted:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.gauges: dict[str, float] = {}

    def count(self, name: str, value: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + value

    def gauge(self, name: str, value: float) -> None:
        self.gauges[name] = value


def test_calls_retries_refusals_and_waits_are_counted() -> None:
    metrics = Counted()
    world = World(answer(429, b"", retry_after="30"), DROPPED, listed(**QUOTA), metrics=metrics)
    world.call(list_tickets())
    assert metrics.counts == {"calls": 3, "rate_limited": 1, "retries": 1, "seconds_waited": 30}
    assert metrics.gauges == {
        "quota_left.5_minutes": 100,
        "quota_left.1_hour": 2_000,
        "quota_left.1_day": 9_000,
    }


def test_a_try_that_failed_is_told_with_what_comes(caplog: pytest.LogCaptureFixture) -> None:
    world = World(answer(503, b"", retry_after="7"), listed())
    world.call(list_tickets())
    assert caplog.messages == [
        "Attempt 1 of 6 failed, the next one is in 7.0 s. GET /tickets.json was answered 503: no message from "
        "the API."
    ]


@pytest.mark.parametrize(
    ("responses", "remedy"),
    [
        ([answer(503, b"")] * 6, "Failed 6 times. The shop is down or overloaded: let Airflow retry later"),
        (
            [Response(200, {"content-type": "text/html"}, b"<html>", "shop.example")] * 6,
            "is a web page, not the API's JSON. Failed 6 times. The shop is in maintenance, or a proxy answers for it: "
            "let Airflow retry later",
        ),
        (
            [answer(200, b'{"tickets": [{"id": 7, "subject": "\xe9"}]}')] * 6,
            "holds ticket 7, whose bytes are not UTF-8. Failed 6 times. Correct it in the shop. An export can leave it "
            "out, with on_malformed='quarantine'",
        ),
        (
            [errors.LightspeedConnectionError("GET: no connection could be made", sent=False)] * 6,
            "Failed 6 times. Check the host and cluster of the connection, and proxy (HTTPS_PROXY, NO_PROXY) and "
            "firewall of this machine",
        ),
    ],
)
def test_the_last_attempt_says_what_to_do(responses: list[Any], remedy: str) -> None:
    with pytest.raises(errors.LightspeedError) as raised:
        World(*responses).call(list_tickets())
    assert str(raised.value).endswith(remedy)
    # One traceback: a second one would only repeat it.
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_cancelled_call_is_under_way_no_more() -> None:
    world = World(listed())
    flow = world.core.call_flow(list_tickets())
    assert isinstance(next(flow), Send)
    flow.close()
    world.call(list_tickets())
    assert world.slept == []


# Lists and queries


def test_a_walk_makes_its_calls_and_hands_its_pages_over() -> None:
    # A page that may be the last is followed by a question that starts one ticket lower: the end is seen.
    end = [listed(500, 501, 502), listed(502)]
    world = World(listed(*range(1, 251)), listed(*range(250, 500)), *end)
    wanted = TicketFilter(since_id=0)
    world.end_of(world.core.pages_flow(wanted))
    assert [[row["id"] for row in page.tickets] for page in world.pages] == [
        list(range(1, 251)),
        list(range(251, 500)),
        [500, 501, 502],
    ]
    assert world.replies == []
    _, second, third = world.pages
    assert second.cursor

    again = World(*end)
    again.end_of(again.core.pages_flow(wanted, second.cursor))
    assert again.pages == [third]
    assert again.asked() == world.asked()[2:]


def test_a_walk_tries_the_zone_of_the_settings_first_and_waits_no_longer_than_its_caller_wants() -> None:
    wanted = TicketFilter(created_from=datetime(2025, 3, 1, 12, tzinfo=UTC))
    world = World(listed(*range(1, 251)), listed(250, **USED_UP), filter_timezone="Asia/Tokyo")
    with pytest.raises(errors.LightspeedQuotaExhaustedError):
        world.end_of(world.core.pages_flow(wanted, max_wait=5.0))
    in_tokyo = {"created_at_min": "2026-03-01 20:59:58", "created_at_max": "2026-03-01 21:00:02"}
    assert world.asked()[1] == {"limit": "250", "since_id": "249", **in_tokyo}


def test_a_query_makes_its_calls_and_returns_what_it_finds() -> None:
    def query() -> Generator[Request, Any, list[Any]]:
        one = yield get_ticket(7)
        rows = yield list_tickets()
        return [one, rows]

    world = World(answer(), listed())
    assert world.end_of(world.core.query_flow(query())) == [{"id": 7}, []]


def test_not_found_is_thrown_into_a_query_and_no_other_failure() -> None:
    def query() -> Generator[Request, Any, Any]:
        with pytest.raises(errors.LightspeedNotFoundError):
            yield get_ticket(7)
        return (yield list_tickets())

    world = World(answer(404, ERROR), listed())
    assert world.end_of(world.core.query_flow(query())) == []
    world = World(answer(401, ERROR))
    with pytest.raises(errors.LightspeedAuthenticationError):
        world.end_of(world.core.query_flow(query()))


@pytest.mark.parametrize("client", [LightspeedClient, AsyncLightspeedClient])
def test_a_client_has_no_method_that_returns_a_flow_and_does_nothing(client: type[Any]) -> None:
    assert not issubclass(client, SansIOClient)
    flows = {name for name in vars(SansIOClient) if name.endswith("_flow")}
    assert flows == {"call_flow", "query_flow", "pages_flow"}
    assert not [name for name in (*flows, "exchange") if hasattr(client, name)]
