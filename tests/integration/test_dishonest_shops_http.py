"""Each option of the sandbox that makes its responses dishonest, over real HTTP."""

from __future__ import annotations

import json
import re
import socket
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, SandboxControl, ShopConfig
from airflow_provider_lightspeed.sandbox.__main__ import _parser

END = datetime(2026, 3, 1, tzinfo=UTC)
FIRST = 2546


def shop(**options: Any) -> Sandbox:
    given = {"tickets": 20, "end": END, "limits": NO_LIMITS, "burst_limit": 0, "order": "oldest", **options}
    return Sandbox(ShopConfig(**given))


def call(sandbox: Sandbox, method: str, path: str, body: object = None) -> requests.Response:
    auth = (sandbox.key, sandbox.secret)
    return requests.request(method, f"{sandbox.url}/en/{path}", auth=auth, json=body, timeout=120)


def ids(sandbox: Sandbox, query: str = "limit=250") -> list[int]:
    response = call(sandbox, "GET", f"tickets.json?{query}")
    assert response.status_code == 200
    return [ticket["id"] - FIRST for ticket in response.json()["tickets"]]


def count(sandbox: Sandbox, query: str = "") -> int:
    number: int = call(sandbox, "GET", f"tickets/count.json?{query}").json()["count"]
    return number


def ticket(sandbox: Sandbox, number: int) -> Any:
    return call(sandbox, "GET", f"tickets/{FIRST + number}.json").json()["ticket"]


# Lists


def test_a_page_limit_shortens_each_page_and_moves_the_next_one() -> None:
    with shop(page_limit=8) as sandbox:
        pages = [ids(sandbox, f"limit=250&page={page}") for page in (1, 2, 3, 4)]
        assert pages == [[*range(8)], [*range(8, 16)], [*range(16, 20)], []]
        assert ids(sandbox, "limit=5&page=2") == [5, 6, 7, 8, 9]
        assert ids(sandbox, f"limit=250&since_id={FIRST + 9}") == [*range(10, 18)]


def test_rows_are_left_out_after_the_limit() -> None:
    with shop(left_out=(FIRST + 3,), left_out_every=2551) as sandbox:  # 2551 is the one after four others
        assert ids(sandbox, "limit=6") == [0, 1, 2, 4]
        assert ids(sandbox, "limit=6&page=2") == [6, 7, 8, 9, 10, 11]
        assert count(sandbox) == 20
        assert ticket(sandbox, 3)["id"] == FIRST + 3


def test_a_hidden_ticket_takes_no_row_and_is_still_returned_by_its_id() -> None:
    with shop(hidden=(FIRST + 3,)) as sandbox:
        assert ids(sandbox, "limit=6") == [0, 1, 2, 4, 5, 6]
        assert ids(sandbox, "limit=6&page=2") == [7, 8, 9, 10, 11, 12]
        assert count(sandbox) == 19
        assert ticket(sandbox, 3)["id"] == FIRST + 3
        sandbox.configure(hidden=())
        assert ids(sandbox) == [*range(20)]


def test_a_repeated_ticket_fills_two_rows() -> None:
    with shop(repeated_every=2549) as sandbox:  # the fourth
        assert ids(sandbox, "limit=6") == [0, 1, 2, 3, 3, 4]
        assert ids(sandbox, "limit=4&page=2") == [3, 4, 5, 6]
        assert count(sandbox) == 20


@pytest.mark.parametrize("order", ["newest", "unordered", "last_change"])
def test_distortions_keep_the_order(order: str) -> None:
    with shop(order=order) as honest, shop(order=order, hidden=(FIRST + 3,), repeated_every=2550) as sandbox:
        expected = [n for number in ids(honest) if number != 3 for n in [number] * (2 if number == 4 else 1)]
        assert ids(sandbox, "limit=7") + ids(sandbox, "limit=7&page=2") == expected[:14]


def test_deep_pages_are_refused_or_empty() -> None:
    with shop(page_depth=10) as sandbox:
        assert ids(sandbox, "limit=5&page=2") == [5, 6, 7, 8, 9]
        refused = call(sandbox, "GET", "tickets.json?limit=5&page=3")
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, 422)
        sandbox.configure(beyond_depth="empty")
        assert ids(sandbox, "limit=5&page=3") == []
        assert ids(sandbox, f"limit=5&since_id={FIRST + 14}") == [15, 16, 17, 18, 19]


def test_a_ticket_becomes_visible_after_one_with_a_higher_id() -> None:
    now = END.timestamp()
    with Sandbox(
        ShopConfig(tickets=3, end=END, order="oldest", late_every=2550, late_seconds=60), clock=lambda: now
    ) as sandbox:
        sandbox.add_tickets(3)  # the second of them has the id 2550
        assert ids(sandbox) == [0, 1, 2, 3, 5]
        assert count(sandbox) == 5
        assert call(sandbox, "GET", "tickets/2550.json").status_code == 404
        now += 60
        assert ids(sandbox) == [0, 1, 2, 3, 4, 5]
        assert count(sandbox) == 6
        assert ticket(sandbox, 4)["id"] == 2550


# Counts and copies


def test_a_count_is_capped() -> None:
    with shop(count_cap=7) as sandbox:
        assert (count(sandbox), len(ids(sandbox))) == (7, 20)
        assert count(sandbox, f"since_id={FIRST + 16}") == 3


def test_a_count_lags_behind_by_some_writes() -> None:
    with shop(count_lag=3) as sandbox:
        assert (count(sandbox), len(ids(sandbox))) == (17, 20)
        sandbox.add_tickets(2)
        assert count(sandbox) == 19
        for number in (0, 1, 2, 3):
            sandbox.delete_ticket(FIRST + number)
        assert (count(sandbox), len(ids(sandbox))) == (21, 18)


@pytest.mark.parametrize("order", ["oldest", "newest", "unordered", "last_change"])
def test_every_other_read_is_answered_by_a_replica(order: str) -> None:
    with shop(replica_lag=3, order=order) as sandbox:
        assert [len(ids(sandbox)) for _ in range(4)] == [20, 17, 20, 17]
        assert sorted(ids(sandbox)) == [*range(20)]
        assert sorted(ids(sandbox)) == [*range(17)]
        sandbox.add_tickets(1)
        (new,) = set(ids(sandbox)) - {*range(20)}
        assert sorted(ids(sandbox)) == [*range(18)]
        assert ticket(sandbox, new)["id"] == FIRST + new
        assert call(sandbox, "GET", f"tickets/{FIRST + new}.json").status_code == 404


def test_a_replica_shows_an_older_state() -> None:
    with shop(replica_lag=1) as sandbox:
        was = ticket(sandbox, 0)["isTodo"]
        call(sandbox, "GET", "shop.json")
        sandbox.update_ticket(FIRST, isTodo=not was)
        assert [ticket(sandbox, 0)["isTodo"] for _ in range(4)] == [not was, was, not was, was]
        sandbox.delete_ticket(FIRST + 5)
        assert [len(ids(sandbox)) for _ in range(2)] == [19, 20]
        assert [ticket(sandbox, 0)["isTodo"] for _ in range(2)] == [not was, not was]


# One ticket


def test_an_alias_is_answered_with_another_ticket() -> None:
    a, b = FIRST, FIRST + 1
    with shop(aliases={a: b}) as sandbox:
        before = sandbox.shop.tickets()
        assert ticket(sandbox, 0)["id"] == b
        response = call(sandbox, "PUT", f"tickets/{a}.json", {"ticket": {"memo": "merged"}})
        assert response.json()["ticket"]["id"] == b
        assert sandbox.shop.ticket(a) == before[a]
        assert sandbox.shop.ticket(b)["memo"] == "merged"


def test_a_put_is_answered_with_no_content() -> None:
    with shop(put_204=True) as sandbox:
        response = call(sandbox, "PUT", f"tickets/{FIRST}.json", {"ticket": {"memo": "done"}})
        assert (response.status_code, response.content) == (204, b"")
        assert sandbox.shop.ticket(FIRST)["memo"] == "done"


@pytest.mark.parametrize(
    ("how", "kept"),
    [("kept", ' a < "b" '), ("trimmed", 'a < "b"'), ("escaped", " a &lt; &quot;b&quot; ")],
)
def test_a_shop_changes_the_texts_that_a_client_writes(how: str, kept: str) -> None:
    text = ' a < "b" '
    with shop(texts=how) as sandbox:
        changed = call(sandbox, "PUT", f"tickets/{FIRST}.json", {"ticket": {"memo": text}}).json()["ticket"]
        created = call(sandbox, "POST", "tickets.json", {"ticket": {"subject": text}}).json()["ticket"]
        message = {"ticketMessage": {"message": text}}
        posted = call(sandbox, "POST", f"tickets/{FIRST}/messages.json", message).json()["ticketMessage"]
        assert (changed["memo"], created["subject"], posted["message"]) == (kept, kept, kept)


@pytest.mark.parametrize(
    ("how", "no", "yes"), [("text", "false", "true"), ("number", 0, 1), ("digit", "0", "1")]
)
def test_switches_are_written_in_other_ways(how: str, no: object, yes: object) -> None:
    with shop(switches=how) as sandbox:
        sandbox.update_ticket(FIRST, isClosed=True, isTodo=False)
        listed = call(sandbox, "GET", "tickets.json?limit=1").json()["tickets"][0]
        for document in (listed, ticket(sandbox, 0)):
            assert (document["isClosed"], document["isTodo"]) == (yes, no)
            assert type(document["isClosed"]) is type(yes)
            assert document["isAnswered"] in {no, yes}
            assert document["doNotifyAnswered"] in {no, yes}


def test_tickets_that_cannot_be_read() -> None:
    flaws = {FIRST: "surrogate", FIRST + 1: "bytes", FIRST + 2: "no-date", FIRST + 3: "zero-date"}
    with shop(unreadable=flaws) as sandbox:
        body = call(sandbox, "GET", "tickets.json").content
        assert b'"subject":"caf\\ud83d"' in body
        with pytest.raises(UnicodeDecodeError):
            body.decode()
        listed = json.loads(body.decode(errors="replace"))["tickets"]
        dates = [document["createdAt"] for document in listed[2:4]]
        assert dates == [None, "-0001-11-30T00:00:00+00:00"]
        assert listed[4:] == list(sandbox.shop.tickets().values())[4:]
        assert b'"subject":"caf\xe9' in call(sandbox, "GET", f"tickets/{FIRST + 1}.json").content


def test_new_properties_appear_everywhere() -> None:
    with shop(new_properties=True) as sandbox:
        document, truth = ticket(sandbox, 0), sandbox.shop.ticket(FIRST)
        for part, plain in (
            (document, truth),
            *((document[name], truth[name]) for name in ("customer", "language")),
        ):
            assert part["priority"] == "high"
            assert part["sla"] == {"hours": 24, "breached": False}
            assert plain.keys() < part.keys()
        messages = call(sandbox, "GET", f"tickets/{FIRST}/messages.json").json()["ticketMessages"]
        assert messages
        assert all(message["priority"] == "high" for message in messages)


def test_links_and_offsets_change_while_tickets_stay_the_same() -> None:
    with shop(answer_timezone="+02:00") as sandbox:
        before = ticket(sandbox, 0)
        sandbox.configure(answer_timezone="+01:00", link_scheme="http")
        after = ticket(sandbox, 0)
        assert datetime.fromisoformat(before["createdAt"]) == datetime.fromisoformat(after["createdAt"])
        assert (before["createdAt"][-6:], after["createdAt"][-6:]) == ("+02:00", "+01:00")
        link = before["customer"]["resource"]["link"]
        assert after["customer"]["resource"]["link"] == link.replace("https://", "http://")
        assert before["id"] == after["id"]


# Passing faults


def test_a_firewall_blocks_some_calls() -> None:
    with shop(faults=(Fault("html-403", times=2),)) as sandbox:
        responses = [call(sandbox, "GET", "tickets.json") for _ in range(3)]
        assert [response.status_code for response in responses] == [403, 403, 200]
        assert responses[0].headers["Content-Type"].startswith("text/html")
        assert "error" not in responses[0].text


def test_a_list_is_empty_once() -> None:
    with shop(faults=(Fault("empty-list"),)) as sandbox:
        assert count(sandbox) == 20
        assert ticket(sandbox, 0)["id"] == FIRST
        assert ids(sandbox) == []
        assert ids(sandbox) == [*range(20)]
        sandbox.inject(Fault("empty-list"))
        messages = [call(sandbox, "GET", f"tickets/{FIRST}/messages.json").json() for _ in range(2)]
        assert messages[0] == {"ticketMessages": []}
        assert messages[1]["ticketMessages"]


def test_an_interim_response_comes_first_on_the_same_connection() -> None:
    with shop(faults=(Fault("103"),)) as sandbox:
        token = b64encode(f"{sandbox.key}:{sandbox.secret}".encode()).decode()
        request = (
            f"GET /en/tickets/{FIRST}.json HTTP/1.1\r\nHost: shop\r\nAuthorization: Basic {token}\r\n\r\n"
            f"GET /en/tickets/count.json HTTP/1.1\r\nHost: shop\r\nAuthorization: Basic {token}\r\n"
            "Connection: close\r\n\r\n"
        )
        port = int(sandbox.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            connection.sendall(request.encode())
            answer = b""
            while chunk := connection.recv(65_536):
                answer += chunk
        assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"103", b"200", b"200"]
        assert answer.endswith(b'{"count":20}')


# Quotas of any size


def test_a_quota_may_be_two_calls() -> None:
    with shop(limits=(2, 100, 100), window_seconds=(1000, 1000, 1000)) as sandbox:
        statuses = [call(sandbox, "GET", "shop.json").status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]


# Settings


def test_options_change_from_another_process() -> None:
    with shop() as sandbox:
        control = SandboxControl(sandbox.url)
        control.configure(page_limit=3, aliases={FIRST: FIRST + 1}, hidden=(FIRST + 2,))
        assert ids(sandbox) == [0, 1, 3]
        assert ticket(sandbox, 0)["id"] == FIRST + 1
        control.configure(page_limit=250, aliases={}, hidden=())
        assert ids(sandbox) == [*range(20)]
        control.configure(replica_lag=2)
        assert [len(ids(sandbox)) for _ in range(2)] in ([20, 18], [18, 20])
        with pytest.raises(ValueError, match="cannot change"):
            control.configure(tickets=3)
        with pytest.raises(ValueError, match="page_limit"):
            control.configure(page_limit=0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"page_limit": 0}, "page_limit"),
        ({"count_cap": -1}, "count_cap"),
        ({"switches": "yes"}, "Unknown switches 'yes'"),
        ({"texts": "lost"}, "Unknown texts"),
        ({"beyond_depth": "loop"}, "Unknown beyond_depth"),
        ({"unreadable": {FIRST: "gone"}}, r"Unknown unreadable \['gone'\]"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        shop(**options)


@pytest.mark.lightspeed_shop(tickets=20, page_limit=7, order="oldest")
def test_the_fixture_takes_these_options(lightspeed_sandbox: Sandbox) -> None:
    assert ids(lightspeed_sandbox) == [*range(7)]


def test_the_command_takes_these_options() -> None:
    arguments = "--page-limit 100 --aliases 1=2,3=4 --unreadable 5=bytes,6=no-date --left-out 7,8 --put-204"
    options = vars(_parser().parse_args(arguments.split()))
    config = ShopConfig(**{name: value for name, value in options.items() if name not in {"host", "port"}})
    assert config.page_limit == 100
    assert config.aliases == {1: 2, 3: 4}
    assert config.unreadable == {5: "bytes", 6: "no-date"}
    assert config.left_out == (7, 8)
    assert config.put_204
