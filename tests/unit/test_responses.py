"""An HTTP answer becomes data or an exception, in pure code."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api import errors
from airflow_provider_lightspeed.api.responses import Response, parse_response
from airflow_provider_lightspeed.api.tickets import (
    Request,
    count_tickets,
    create_ticket,
    delete_ticket,
    get_ticket,
    list_messages,
    list_tickets,
)

LIST, ONE, COUNT, DELETE = list_tickets(), get_ticket(7), count_tickets(), delete_ticket(7)


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
        {"tickets": [{"id": "7"}]},
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


@pytest.mark.parametrize("count", [True, -1, "7", None, 1.5])
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
        (LIST, {"tickets": [None]}, "holds something that is not an object"),
        (LIST, {"tickets": [{"id": 0}]}, "holds an object whose id is not a positive number"),
        (ONE, {"ticket": []}, "holds something that is not an object"),
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


def test_the_largest_and_the_smallest_that_make_sense_are_taken() -> None:
    assert read(LIST, {"tickets": [{"id": 2**63 - 1}, {"id": 1}]}) == [{"id": 2**63 - 1}, {"id": 1}]
    assert read(COUNT, {"count": 0}) == 0


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (401, error("No."), "No. Check the API key and secret of the connection."),
        (
            403,
            error("No."),
            "No. The API key has no right to this; see the key's permissions in the shop's back office.",
        ),
        (404, error("Gone."), "Gone."),
        (
            404,
            error("Unknown or inactive Language."),
            "Unknown or inactive Language. Set the connection's language to one that the shop has.",
        ),
        (500, {"error": {"code": 500}}, "(no message)"),
        (500, {"error": "Gone fishing"}, "Gone fishing"),
        (502, b"<html>", "(not the API's own error: a page of a proxy?)"),
        (
            302,
            b"",
            "(not the API's own error: a page of a proxy?) Redirects are refused, since they would carry the "
            "credentials elsewhere: check the host.",
        ),
    ],
)
def test_a_refusal_says_what_to_do(status: int, body: Any, told: str) -> None:
    with pytest.raises(errors.LightspeedAPIError) as raised:
        read(ONE, body, status)
    assert str(raised.value) == f"GET /tickets/7.json was answered {status}: {told}"
    assert (raised.value.method, raised.value.path) == ("GET", "/tickets/7.json")
