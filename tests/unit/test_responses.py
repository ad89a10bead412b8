"""An HTTP answer becomes data or an exception, in pure code."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api import errors
from airflow_provider_lightspeed.api.responses import Response, parse_response
from airflow_provider_lightspeed.api.tickets import (
    RejectedTicket,
    Request,
    count_tickets,
    create_ticket,
    delete_ticket,
    get_ticket,
    list_messages,
    list_tickets,
    update_ticket,
)

LIST, ONE, COUNT, DELETE = list_tickets(), get_ticket(7), count_tickets(), delete_ticket(7)
MESSAGES, UPDATE, KEEP = (
    list_messages(7),
    update_ticket(7, {"isTodo": True}),
    list_tickets(keep_malformed=True),
)


def read(request: Request, body: Any, status: int = 200, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_response(
        request,
        Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content),
        1_000_000,
    )


def error(message: Any = "No.", code: Any = 500) -> dict[str, Any]:
    return {"error": {"code": code, "method": "GET", "request": "/", "message": message}}


def test_data_comes_as_the_api_names_it() -> None:
    assert read(LIST, {"tickets": []}) == []
    assert read(LIST, {"tickets": [{"id": 1, "brandNew": {"a": False}}]}) == [
        {"id": 1, "brandNew": {"a": False}}
    ]
    assert read(ONE, {"ticket": {"id": 7, "language": False}, "error": False}) == {"id": 7, "language": False}
    assert read(COUNT, {"count": 0}) == 0
    assert read(create_ticket({}), {"ticket": {"id": 1}}, 201) == {"id": 1}
    assert read(list_messages(7), {"ticketMessages": [{"id": 1}]}) == [{"id": 1}]


@pytest.mark.parametrize("status", [200, 201, 206])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"<html>maintenance</html>",
        b'{"tickets": [{"id": 1, "subject": "\xff"}]}',
        b'{"tickets": [{"id": 1}',
        b"\xff\xfe",
        b"null",
        b"[]",
        b"7",
        b"[" * 100_000,
        {},
        {"ticket": {"id": 1}},
        {"tickets": None},
        {"tickets": False},
        {"tickets": {}},
        {"tickets": {"0": {"id": 1}}},
        {"tickets": [None]},
        {"tickets": [{}]},
        {"tickets": [{"id": False}]},
        {"tickets": [{"id": "seven"}]},
        {"tickets": [{"id": True}]},
        {"tickets": [{"id": 1.0}]},
        {"tickets": [{"id": 0}]},
        {"tickets": [{"id": -1}]},
        {"tickets": [{"id": 2**63}]},
        {"error": False},
    ],
)
def test_what_is_no_list_is_never_taken_for_an_empty_one(body: Any, status: int) -> None:
    with pytest.raises(
        errors.LightspeedMalformedResponseError, match=rf"^GET /tickets.json was answered {status}, but"
    ):
        read(LIST, body, status)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["tickets", "error", "id", "code", "message", "count"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from([200, 201, 204, 302, 400, 404, 429, 500]),
    st.sampled_from([LIST, ONE, COUNT, DELETE]),
    st.sampled_from(["", "gzip", "br"]),
)
def test_no_answer_raises_what_is_not_ours(body: bytes, status: int, request: Request, encoding: str) -> None:
    try:
        data = read(request, body, status, content_encoding=encoding)
    except errors.LightspeedError:
        return
    if request is LIST:
        assert isinstance(data, list)
        assert all(row["id"] > 0 for row in data)


@pytest.mark.parametrize(("count", "number"), [(0, 0), ("0", 0), ("7", 7), (7, 7)])
def test_a_count_may_come_as_text(count: Any, number: int) -> None:
    assert read(COUNT, {"count": count}) == number


@pytest.mark.parametrize("count", [True, False, -1, "seven", "-1", "", None, 1.5, 2**63])
def test_a_count_is_a_number(count: Any) -> None:
    with pytest.raises(errors.LightspeedMalformedResponseError):
        read(COUNT, {"count": count})


def test_a_deletion_succeeds_by_204_or_by_an_object_without_an_error() -> None:
    assert read(DELETE, b"", 204) is None
    assert read(DELETE, {"ticket": {"id": 7}}, 200) is None
    for body in (b"", b"<html>", b"[]", b"{", b"\xff"):
        with pytest.raises(errors.LightspeedMalformedResponseError):
            read(DELETE, body, 200)


@pytest.mark.parametrize("request_", [LIST, ONE, COUNT, DELETE])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (error(), errors.LightspeedServerError),
        (error(code=404, message="Resource not found."), errors.LightspeedNotFoundError),
        (error(code="422"), errors.LightspeedInvalidRequestError),
        (error(code=True), errors.LightspeedServerError),
        (error(code=200), errors.LightspeedServerError),
        (error(code="9" * 5000), errors.LightspeedServerError),
        ({"error": "Gone fishing"}, errors.LightspeedServerError),
        ({"error": {}}, errors.LightspeedServerError),
        ({"error": True, "tickets": []}, errors.LightspeedServerError),
    ],
)
def test_an_error_in_a_success_is_a_failure(request_: Request, body: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        read(request_, body)


@pytest.mark.parametrize(
    ("code", "status"),
    [(399, 500), (400, 400), ("404", 404), (599, 599), (600, 500), ("x", 500), (None, 500)],
)
def test_an_error_in_a_success_has_the_status_that_it_names(code: Any, status: int) -> None:
    with pytest.raises(errors.LightspeedAPIError, match=f"was answered {status}: No.") as caught:
        read(LIST, error(code=code))
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (300, errors.LightspeedRedirectError),
        (301, errors.LightspeedRedirectError),
        (304, errors.LightspeedRedirectError),
        (400, errors.LightspeedInvalidRequestError),
        (401, errors.LightspeedAuthenticationError),
        (403, errors.LightspeedAuthenticationError),
        (404, errors.LightspeedNotFoundError),
        (408, errors.LightspeedInvalidRequestError),
        (422, errors.LightspeedInvalidRequestError),
        (429, errors.LightspeedRateLimitError),
        (500, errors.LightspeedServerError),
        (599, errors.LightspeedServerError),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b"[]", b"\xff", error("Be gone")])
def test_every_status_has_its_exception(
    status: int, kind: type[errors.LightspeedAPIError], body: Any
) -> None:
    if body != error("Be gone") and status in {400, 403, 408, 422}:
        kind = errors.LightspeedGatewayError
    with pytest.raises(kind) as raised:
        read(ONE, body, status)
    assert raised.value.status == status
    assert str(raised.value).startswith(f"GET /tickets/7.json was answered {status}: ")
    assert ("Be gone" in str(raised.value)) == (body == error("Be gone"))


def test_the_vendors_words_are_shortened_to_one_line() -> None:
    with pytest.raises(errors.LightspeedServerError) as raised:
        read(ONE, error("a\n  b" + "c" * 10_000), 500)
    assert raised.value.message.startswith("a bccc")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("request_", "body", "gone"),
    [
        (ONE, error("Resource not found."), True),
        (DELETE, error("Resource not found."), True),
        (list_messages(7), error("Resource not found."), True),
        (ONE, b"<html>", False),
        (ONE, b"", False),
        (ONE, {"error": False}, False),
        (LIST, error("Resource not found."), False),
        (COUNT, error("Resource not found."), False),
        (ONE, {"status": 404, "error": "Not Found"}, False),
    ],
)
def test_which_404_says_that_something_is_gone(request_: Request, body: Any, gone: bool) -> None:
    with pytest.raises(errors.LightspeedNotFoundError) as raised:
        read(request_, body, 404)
    assert type(raised.value) is errors.LightspeedNotFoundError
    assert raised.value.gone is gone


@pytest.mark.parametrize("request_", [LIST, ONE, DELETE])
def test_an_unknown_language_is_a_matter_of_the_connection(request_: Request) -> None:
    with pytest.raises(errors.LightspeedUnknownLanguageError) as raised:
        read(request_, error("Unknown or inactive language."), 404)
    assert not raised.value.gone
    assert isinstance(raised.value, errors.LightspeedConfigurationError)


def test_gzip_is_unpacked_up_to_the_cap() -> None:
    packed = gzip.compress(b'{"tickets": []}')
    assert read(LIST, packed, content_encoding="gzip") == []
    with pytest.raises(errors.LightspeedMalformedResponseError, match="cut off"):
        read(LIST, packed[:-9], content_encoding="gzip")
    with pytest.raises(errors.LightspeedMalformedResponseError, match="not gzip"):
        read(LIST, b"{}", content_encoding="gzip")
    with pytest.raises(errors.LightspeedMalformedResponseError, match="not asked for"):
        read(LIST, packed, content_encoding="br")
    with pytest.raises(errors.LightspeedConnectionError, match="larger than 1000000 bytes"):
        read(LIST, gzip.compress(b" " * 1_000_001), content_encoding="gzip")
    with pytest.raises(errors.LightspeedServerError, match="Be gone"):
        read(LIST, gzip.compress(json.dumps(error("Be gone")).encode()), 500, content_encoding="gzip")


def test_what_is_unpacked_piece_by_piece_is_whole() -> None:
    rows = [{"id": number, "subject": "x" * 1_000} for number in range(1, 3_001)]
    packed = gzip.compress(json.dumps({"tickets": rows}).encode())
    assert parse_response(LIST, Response(200, {"content-encoding": "gzip"}, packed)) == rows
    assert read(LIST, gzip.compress(b'{"tickets": []}'.ljust(1_000_000)), content_encoding="x-gzip") == []
    assert read(LIST, {"tickets": []}, content_encoding="identity") == []


def test_a_body_is_in_no_repr() -> None:
    assert "private" not in repr(Response(200, {}, b"private"))


@pytest.mark.parametrize(
    ("request_", "body", "words"),
    [
        (LIST, b" ", "is empty"),
        (LIST, [], "is not an object"),
        (LIST, {"ticket": []}, "has no key 'tickets'"),
        (LIST, {"tickets": {}}, "holds no list under 'tickets'"),
        (LIST, {"tickets": [None]}, "holds a ticket, which is not an object"),
        (LIST, {"tickets": [{"id": 0}]}, "holds a ticket, whose id is not a positive number"),
        (
            LIST,
            {"tickets": [{"id": 7, "isTodo": "maybe"}]},
            "holds ticket 7, whose isTodo is neither true nor false",
        ),
        (
            LIST,
            b'{"tickets": [{"id": 7, "memo": "\xff"}]}',
            "holds ticket 7, whose bytes are not UTF-8",
        ),
        (MESSAGES, {"ticketMessages": [{"id": -1}]}, "holds a message, whose id is not a positive number"),
        (ONE, {"ticket": []}, "holds a ticket, which is not an object"),
        (COUNT, {"count": -1}, "holds a count that is not a number"),
    ],
)
def test_a_malformed_answer_says_what_is_wrong_with_it(request_: Request, body: Any, words: str) -> None:
    with pytest.raises(errors.LightspeedMalformedResponseError) as raised:
        read(request_, body, content_type="text/html")
    size = len(body if isinstance(body, bytes) else json.dumps(body))
    assert str(raised.value) == (
        f"GET /{request_.path} was answered 200, but the body ({size} bytes, text/html) {words}"
    )


def test_a_malformed_answer_may_lack_its_type() -> None:
    with pytest.raises(
        errors.LightspeedMalformedResponseError, match=r"\(0 bytes, no content type\) is empty$"
    ):
        read(LIST, b"")
    with pytest.raises(errors.LightspeedMalformedResponseError, match=r"no content type\) is not JSON \("):
        read(LIST, b"[] []")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"ticket": {"id": 7, "memo": "\xff"}}', "not UTF-8"),
        (b'{"ticket": {"id": 7, "memo": "\\ud83d"}}', "not valid JSON"),
    ],
)
def test_one_malformed_ticket_is_not_taken_for_maintenance(body: bytes, why: str) -> None:
    with pytest.raises(
        errors.LightspeedMalformedResponseError, match=f"holds ticket 7, whose bytes are {why}"
    ) as raised:
        read(ONE, body)
    assert raised.value.hint.startswith("Correct it in the shop.")


def test_the_largest_and_the_smallest_that_make_sense_are_taken() -> None:
    assert read(LIST, {"tickets": [{"id": 2**63 - 1}, {"id": 1}]}) == [{"id": 2**63 - 1}, {"id": 1}]
    assert read(COUNT, {"count": 0}) == 0


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (
            401,
            error("No."),
            "No. Check the API key and secret of the connection, and its cluster: the shop does not know them.",
        ),
        (
            403,
            error("No."),
            "No. The API key has no right to this: add it in the shop's back office.",
        ),
        (404, error("Gone."), "Gone. It was deleted, or its id or the connection is wrong: check both."),
        (
            404,
            error("Unknown or inactive Language."),
            "Unknown or inactive Language. Set the connection's language to one that is active in the shop.",
        ),
        (500, {"error": {"code": 500}}, "(no message)"),
        (500, {"error": "Gone fishing"}, "Gone fishing"),
        (502, b"<html>", "no message from the API."),
        (
            302,
            b"",
            "no message from the API. The provider follows no redirect, since that would send the credentials to another "
            "host: check the connection's host.",
        ),
    ],
)
def test_a_refusal_says_what_to_do(status: int, body: Any, told: str) -> None:
    with pytest.raises(errors.LightspeedAPIError) as raised:
        read(ONE, body, status)
    assert str(raised.value) == f"GET /tickets/7.json was answered {status}: {told}"
    assert (raised.value.method, raised.value.path) == ("GET", "/tickets/7.json")


# Held against the request


@pytest.mark.parametrize("request_", [ONE, UPDATE])
@pytest.mark.parametrize("received", [8, "8"])
def test_a_response_about_another_ticket_names_both(request_: Request, received: Any) -> None:
    with pytest.raises(
        errors.LightspeedWrongTicketError, match=r"about ticket 7, .* about ticket 8\."
    ) as raised:
        read(request_, {"ticket": {"id": received}})
    assert (raised.value.requested, raised.value.received) == (7, 8)


def test_a_change_succeeds_by_204_too_and_a_read_does_not() -> None:
    assert read(UPDATE, b"", 204) is None
    assert read(UPDATE, {"ticket": {"id": "7"}}) == {"id": 7}
    for request in (ONE, LIST, COUNT, create_ticket({})):
        with pytest.raises(errors.LightspeedMalformedResponseError, match="is empty"):
            read(request, b"", 204)


# Values


@pytest.mark.parametrize("request_", [LIST, KEEP, ONE, UPDATE])
@pytest.mark.parametrize(
    ("written", "switch"),
    [
        (True, True),
        (1, True),
        ("1", True),
        ("true", True),
        ("True", True),
        (False, False),
        (0, False),
        ("0", False),
        ("false", False),
        (None, None),
        ("", None),
    ],
)
@pytest.mark.parametrize("name", ["isAnswered", "isClosed", "isTodo", "doNotifyAnswered"])
def test_a_switch_is_read_in_every_form(request_: Request, written: Any, switch: Any, name: str) -> None:
    ticket = {"id": 7, "createdAt": "2026-01-01T00:00:00+00:00", "isClosed": False, name: written}
    body = {"tickets": [ticket]} if request_.is_list else {"ticket": ticket}
    data = read(request_, body)
    (found,) = data if request_.is_list else [data]
    assert found[name] is switch
    assert found == {**ticket, name: switch}


@pytest.mark.parametrize("written", [2, -1, 1.0, "yes", "on", " ", [], {}, "truee"])
def test_what_is_no_switch_is_malformed_and_never_null(written: Any) -> None:
    with pytest.raises(errors.LightspeedMalformedResponseError, match="isClosed is neither true nor false"):
        read(ONE, {"ticket": {"id": 7, "isClosed": written}})
    with pytest.raises(
        errors.LightspeedMalformedResponseError, match="holds ticket 9, whose isClosed is neither"
    ):
        read(LIST, {"tickets": [{"id": 8, "isClosed": True}, {"id": 9, "isClosed": written}]})


def test_ids_may_come_as_text() -> None:
    assert read(LIST, {"tickets": [{"id": "7"}, {"id": 8}]}) == [{"id": 7}, {"id": 8}]
    assert read(MESSAGES, {"ticketMessages": [{"id": "7"}]}) == [{"id": 7}]
    assert read(create_ticket({}), {"ticket": {"id": str(2**63 - 1)}}) == {"id": 2**63 - 1}


# Malformed rows

_GOOD = b'{"id":1,"createdAt":"2026-01-01T00:00:00+00:00","subject":"\xc3\xa9 \\ud83d\\ude00 \\\\ud83d"}'


@pytest.mark.parametrize(
    ("row", "number", "reason"),
    [
        (b'{"id":2,"createdAt":"2026-01-01T00:00:00+00:00","subject":"caf\xff"}', 2, "not UTF-8"),
        (b'{"subject":"\xff\xfe","id":"2","createdAt":"2026-01-01T00:00:00+00:00"}', 2, "not UTF-8"),
        (b'{"id":2,"createdAt":"2026-01-01T00:00:00+00:00","subject":"caf\\ud83d"}', 2, "not valid JSON"),
        (
            b'{"id":2,"createdAt":"2026-01-01T00:00:00+00:00","memo":"\\udc00 x, {\\"id\\": 3}"}',
            2,
            "not valid JSON",
        ),
        (b'{"id":2,"createdAt":"2026-01-01T00:00:00+00:00","memo":"a\x01b"}', 2, "not valid JSON"),
        (b'{"id":2,"createdAt":"2026-01-01T00:00:00+00:00","memo":1e999}', 2, "not valid JSON"),
        (b'{"id":2,"createdAt":"2026-01-01T00:00:00+00:00","m\xffmo":1}', 2, "not UTF-8"),
        (b'{"id":2,"createdAt":null}', 2, "createdAt"),
        (b'{"id":2}', 2, "createdAt"),
        (b'{"id":2,"createdAt":"-0001-11-30T00:00:00+00:00"}', 2, "createdAt"),
        (b'{"id":2,"createdAt":"0001-01-01T00:00:00+05:00"}', 2, "createdAt"),
        (b'{"id":2,"createdAt":"2026-01-01T00:00:00"}', 2, "createdAt"),
        (b'{"id":2,"createdAt":false}', 2, "createdAt"),
        (b'{"id":2,"createdAt":"2026-01-01T00:00:00+00:00","isTodo":"maybe"}', 2, "isTodo"),
        (b'{"id":0,"createdAt":"2026-01-01T00:00:00+00:00"}', None, "id is not"),
        (b'{"createdAt":"2026-01-01T00:00:00+00:00"}', None, "id is not"),
        (b'{"id":"x\xff"}', None, "not UTF-8"),
        (b"null", None, "not an object"),
        (b'"caf\xff"', None, "not UTF-8"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("pretty", [False, True])
def test_a_malformed_row_is_kept_in_its_place(
    row: bytes, number: int | None, reason: str, place: int, pretty: bool
) -> None:
    rows = [_GOOD, _GOOD]
    rows.insert(place, row)
    body = (
        b'{\n "other": "x",\n "tickets": [\n  %b\n ]\n}' if pretty else b'{"tickets":[%b]}'
    ) % b" ,\n ".join(rows)
    data = read(KEEP, body)
    rejected = data.pop(place)
    assert (rejected.id, rejected.raw) == (number, row)
    assert re.search(reason, rejected.reason)
    assert "caf" not in repr(rejected)
    assert [ticket["subject"] for ticket in data] == ["\u00e9 \U0001f600 \\ud83d"] * 2
    if reason != "createdAt":
        named = "a ticket" if number is None else f"ticket {number}"
        with pytest.raises(errors.LightspeedMalformedResponseError, match=f"holds {named}, wh"):
            read(LIST, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"tickets": [{"id": 1, "memo": "\xff"}',
        b'{"tickets": {"id": 1, "memo": "\xff"}}',
        b'{"rows": [{"id": 1, "memo": "\xff"}]}',
        b'{"error": {"message": "no"}, "tickets": [{"id": 1, "memo": "\xff"}]}',
        b'[{"id": 1, "memo": "\xff"}]',
        b"<html>",
        b"",
    ],
)
def test_what_is_no_list_is_malformed_as_a_whole(body: bytes) -> None:
    with pytest.raises(errors.LightspeedMalformedResponseError, match=r"is not JSON|is empty"):
        read(KEEP, body)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": st.sampled_from([1, 2, "3", 0, None]), "createdAt": st.just("2026-01-01T00:00:00Z")},
            optional={"subject": st.text(max_size=8), "isClosed": st.sampled_from([True, "1", "", "no"])},
        )
    ),
    st.booleans(),
)
def test_kept_rows_are_all_rows_in_their_order(tickets: list[dict[str, Any]], ascii_only: bool) -> None:
    body = json.dumps({"tickets": tickets}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    data = read(KEEP, body)
    assert len(data) == len(tickets)
    for row, ticket in zip(data, tickets, strict=True):
        legible = ticket.get("subject", "").isprintable() or max(ticket["subject"]) < "\ud800"
        if isinstance(row, RejectedTicket):
            assert not legible or ticket["id"] in {0, None} or ticket.get("isClosed") == "no"
            assert row.raw in body
        else:
            assert row["id"] == int(ticket["id"])
            assert row.get("subject") == ticket.get("subject")
