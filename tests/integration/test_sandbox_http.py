"""The sandbox over real HTTP: what a client of the API meets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from airflow_provider_lightspeed.sandbox import (
    NO_LIMITS,
    Churn,
    Fault,
    Sandbox,
    SandboxControl,
    ShopConfig,
    email_of,
)

END = datetime(2026, 3, 1, tzinfo=UTC)


def config(**options: Any) -> ShopConfig:
    return ShopConfig(**{"tickets": 120, "end": END, "limits": NO_LIMITS, "burst_limit": 0, **options})


def call(sandbox: Sandbox, method: str, path: str, **options: Any) -> requests.Response:
    options = {"auth": (sandbox.key, sandbox.secret), **options}
    return requests.request(method, f"{sandbox.url}{path}", timeout=options.pop("timeout", 120), **options)


@pytest.fixture
def sandbox() -> Generator[Sandbox, None, None]:
    with Sandbox(config()) as running:
        yield running


def error_of(response: requests.Response) -> tuple[int, int, str, str]:
    error = response.json()["error"]
    assert set(error) == {"code", "method", "request", "message"}
    assert error["method"] == response.request.method
    return response.status_code, error["code"], error["request"], error["message"]


# Who may call, and what


@pytest.mark.parametrize("auth", [None, ("x", "y"), ("", "")])
def test_a_stranger_is_refused(sandbox: Sandbox, auth: Any) -> None:
    response = call(sandbox, "GET", "/en/tickets.json", auth=auth)
    assert error_of(response) == (401, 401, "/en/tickets.json", "Could not authenticate you.")
    assert "X-RateLimit-Limit" not in response.headers


def test_a_wrong_secret_is_refused_with_the_quota_of_its_key(sandbox: Sandbox) -> None:
    response = call(sandbox, "GET", "/en/tickets.json", auth=(sandbox.key, "wrong"))
    assert error_of(response)[0] == 401
    assert response.headers["X-RateLimit-Limit"] == "1000000000/1000000000/1000000000"


@pytest.mark.parametrize("header", ["Basic !!!", "Bearer abc", "Basic", "Basic /w=="])
def test_malformed_credentials_are_refused(sandbox: Sandbox, header: str) -> None:
    response = call(sandbox, "GET", "/en/tickets.json", auth=None, headers={"Authorization": header})
    assert error_of(response)[0] == 401


@pytest.mark.parametrize("prefix", ["", "/us1", "/eu1"])
def test_both_clusters_are_paths_too(sandbox: Sandbox, prefix: str) -> None:
    assert call(sandbox, "GET", f"{prefix}/nl/tickets/count.json").json() == {"count": 120}


@pytest.mark.parametrize("path", ["/xx/tickets.json", "/tickets.json", "/us2/en/tickets.json", "/"])
def test_an_inactive_language_is_not_found(sandbox: Sandbox, path: str) -> None:
    response = call(sandbox, "GET", path)
    assert error_of(response) == (404, 404, path, "Unknown or inactive language.")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/en/orders.json", 404),
        ("GET", "/en/tickets/1.json", 404),
        ("GET", "/en/tickets/99999999999999999999.json", 404),
        ("GET", "/en/tickets/abc.json", 404),
        ("GET", "/en/tickets/1/messages.json", 404),
        ("DELETE", "/en/tickets/1.json", 404),
        ("DELETE", "/en/tickets.json", 405),
        ("PATCH", "/en/tickets/2546.json", 405),
        ("GET", "/en/tickets.json?limit=many", 422),
        ("GET", "/en/tickets.json?created_at_min=yesterday", 422),
        ("GET", "/en/tickets/count.json?created_at_max=2026-01-01T00:00:00Z", 422),
    ],
)
def test_mistakes_are_answered_in_the_form_for_errors(
    sandbox: Sandbox, method: str, path: str, status: int
) -> None:
    assert error_of(call(sandbox, method, path))[:2] == (status, status)


# Lists


def test_limit_is_50_by_default_and_250_at_most() -> None:
    with Sandbox(config(tickets=300)) as sandbox:
        sizes = [
            len(call(sandbox, "GET", f"/en/tickets.json{query}").json()["tickets"])
            for query in ("", "?limit=1", "?limit=250", "?limit=1000", "?limit=0", "?page=99")
        ]
    assert sizes == [50, 1, 250, 250, 50, 0]


def test_a_list_holds_what_the_truth_holds(sandbox: Sandbox) -> None:
    tickets = call(sandbox, "GET", "/en/tickets.json?limit=250").json()["tickets"]
    assert {ticket["id"]: ticket for ticket in tickets} == sandbox.shop.tickets()
    assert call(sandbox, "GET", f"/en/tickets/{tickets[7]['id']}.json").json() == {"ticket": tickets[7]}


def test_email_filters_the_list_and_not_the_count(sandbox: Sandbox) -> None:
    ids = sandbox.add_tickets(3, customer=77)
    query = f"?email={email_of(77)}"
    listed = call(sandbox, "GET", f"/en/tickets.json{query}").json()["tickets"]
    assert [ticket["id"] for ticket in listed] == ids[::-1]
    assert call(sandbox, "GET", f"/en/tickets/count.json{query}").json() == {"count": 123}


@pytest.mark.parametrize(
    ("zone", "shift"), [("UTC", 0), ("+14:00", 14), ("-12:00", -12), ("Europe/Amsterdam", 1)]
)
def test_date_filters_are_read_in_the_zone_chosen(zone: str, shift: int) -> None:
    with Sandbox(config(filter_timezone=zone, answer_timezone="-03:00", days=5)) as sandbox:
        tickets = list(sandbox.shop.tickets().values())
        assert tickets[60]["createdAt"].endswith("-03:00")
        middle = datetime.fromisoformat(tickets[60]["createdAt"])
        there = f"{(middle + timedelta(hours=shift)).astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        for name, expected in (("created_at_min", tickets[60:]), ("created_at_max", tickets[:61])):
            query = {name: there, "limit": 250}
            listed = call(sandbox, "GET", "/en/tickets.json", params=query).json()["tickets"]
            assert listed[::-1] == expected


# Writes


@pytest.mark.parametrize("form", [False, True])
def test_a_ticket_lives_from_post_to_delete(sandbox: Sandbox, form: bool) -> None:
    if form:
        new: Any = {
            "data": {"ticket[subject]": "Née ❤", "ticket[customer]": "customers/7", "ticket[isTodo]": "true"}
        }
        change: Any = {"data": {"ticket[isClosed]": "true", "ticket[isTodo]": "false"}}
    else:
        new = {"json": {"ticket": {"subject": "Née ❤", "customer": 7, "isTodo": True}}}
        change = {"json": {"ticket": {"isClosed": True, "isTodo": "false"}}}
    created = call(sandbox, "POST", "/en/tickets.json", **new)
    ticket = created.json()["ticket"]
    path = f"/en/tickets/{ticket['id']}.json"
    changed = call(sandbox, "PUT", path, **change)
    same = call(sandbox, "PUT", path, **change)
    deleted = call(sandbox, "DELETE", path)

    assert [r.status_code for r in (created, changed, same, deleted)] == [201, 200, 200, 204]
    assert (ticket["subject"], ticket["isTodo"], ticket["isClosed"]) == ("Née ❤", True, False)
    assert ticket["customer"]["resource"]["id"] == 7
    assert (changed.json()["ticket"]["isTodo"], changed.json()["ticket"]["isClosed"]) == (False, True)
    assert same.json() == changed.json()
    assert deleted.content == b""
    assert call(sandbox, "GET", path).status_code == 404
    history = sandbox.shop.history(ticket["id"])
    assert [(change.by, change.method) for change in history] == [
        (sandbox.key, method) for method in ("POST", "PUT", "DELETE")
    ]


def test_writes_may_leave_a_property_as_it_is() -> None:
    with Sandbox(config(ignored_properties=("doNotifyAnswered", "customer"))) as sandbox:
        ticket = sandbox.shop.ticket(2546)
        change = {"isTodo": True, "doNotifyAnswered": not ticket["doNotifyAnswered"], "customer": 7}
        answer = call(sandbox, "PUT", "/en/tickets/2546.json", json={"ticket": change})
        changed = {**ticket, "isTodo": True, "updatedAt": sandbox.shop.ticket(2546)["updatedAt"]}
        assert answer.json()["ticket"] == changed == sandbox.shop.ticket(2546)
    with pytest.raises(ValueError, match="Unknown properties"):
        config(ignored_properties=("createdAt",))


@pytest.mark.parametrize("touches", [False, True])
def test_a_put_that_changes_nothing_may_touch_the_ticket(touches: bool) -> None:
    with Sandbox(config(same_touches_tickets=touches), clock=lambda: END.timestamp() + 99) as sandbox:
        before = sandbox.shop.ticket(2546)
        same = {"ticket": {"isClosed": before["isClosed"]}}
        answer = call(sandbox, "PUT", "/en/tickets/2546.json", json=same).json()["ticket"]
        touched = {"updatedAt": "2026-03-01T00:01:39+00:00"} if touches else {}
        assert answer == {**before, **touched} == sandbox.shop.ticket(2546)
        assert sandbox.shop.history(2546) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"json": {"ticket": {"memo": "no subject"}}}, 422),
        ({"json": {"ticket": {"subject": "x", "isClosed": "maybe"}}}, 422),
        ({"json": {"subject": "no envelope"}}, 400),
        ({"data": "{", "headers": {"Content-Type": "application/json"}}, 400),
    ],
)
def test_a_bad_write_is_refused_and_writes_nothing(sandbox: Sandbox, body: Any, status: int) -> None:
    assert error_of(call(sandbox, "POST", "/en/tickets.json", **body))[:2] == (status, status)
    assert len(sandbox.shop) == 120


def test_messages_live_from_post_to_delete(sandbox: Sandbox) -> None:
    (ticket_id,) = sandbox.add_tickets()
    base = f"/en/tickets/{ticket_id}/messages"
    created = call(sandbox, "POST", f"{base}.json", data={"ticketMessage[message]": "On its way"})
    message = created.json()["ticketMessage"]
    assert (created.status_code, message["from"], message["message"]) == (201, "shop", "On its way")
    assert call(sandbox, "GET", f"{base}.json").json()["ticketMessages"][-1] == message
    assert call(sandbox, "GET", f"{base}/count.json").json() == {"count": 2}
    one = f"{base}/{message['id']}.json"
    assert call(sandbox, "GET", one).json() == {"ticketMessage": message}
    changed = call(sandbox, "PUT", one, json={"ticketMessage": {"message": "Tomorrow"}}).json()[
        "ticketMessage"
    ]
    assert changed["message"] == "Tomorrow"
    assert changed["updatedAt"]
    assert call(sandbox, "DELETE", one).status_code == 204
    assert call(sandbox, "GET", one).status_code == 404
    assert call(sandbox, "POST", f"{base}.json", json={"ticketMessage": {"from": "us"}}).status_code == 422


def test_lists_of_messages_heed_limit_and_page_or_not_and_their_count_never_does() -> None:
    def shown(**options: Any) -> list[int]:
        with Sandbox(config(tickets=0, **options)) as sandbox:
            (ticket_id,) = sandbox.add_tickets()
            while len(sandbox.shop.messages(ticket_id)) < 7:
                sandbox.add_message(ticket_id, "And now?")
            ids = [message.id for message in sandbox.shop.messages(ticket_id)]
            base, second = f"/en/tickets/{ticket_id}/messages", {"limit": 5, "page": 2}
            assert call(sandbox, "GET", f"{base}/count.json", params=second).json() == {"count": 7}
            rows = call(sandbox, "GET", f"{base}.json", params=second).json()["ticketMessages"]
            return [ids.index(row["id"]) for row in rows]

    assert shown() == [5, 6]
    assert shown(message_page_size=3) == [3, 4, 5]
    assert shown(messages_ignore_page=True) == [0, 1, 2, 3, 4]
    assert shown(message_page_size=3, messages_ignore_page=True) == [0, 1, 2]


# Quota


def test_every_answer_shows_the_quota_and_a_used_up_window_refuses() -> None:
    with Sandbox(
        config(limits=(3, 30, 300), window_seconds=(86_400.0,) * 3, retry_after="seconds")
    ) as sandbox:
        responses = [call(sandbox, "GET", f"/en/tickets/{n}.json") for n in (1, 2546, 2547, 2548)]
        assert [r.status_code for r in responses] == [404, 200, 200, 429]
        remaining = [r.headers["X-RateLimit-Remaining"] for r in responses]
        assert remaining == ["2/29/299", "1/28/298", "0/27/297", "0/27/297"]
        assert all(r.headers["X-RateLimit-Limit"] == "3/30/300" for r in responses)
        assert error_of(responses[-1])[3] == "Too many requests in this time period. Try again later."
        assert (
            responses[-1].headers["Retry-After"] == responses[-1].headers["X-RateLimit-Reset"].split("/")[0]
        )


def test_windows_and_bursts_go_by_the_shop_s_clock() -> None:
    now = END.timestamp()

    def statuses(calls: int) -> list[int]:
        return [call(sandbox, "GET", "/en/tickets.json?limit=1").status_code for _ in range(calls)]

    limits = {"limits": (7, 3_000, 12_000), "window_seconds": (10, 3_600, 86_400), "burst_limit": 5}
    with Sandbox(config(**limits), clock=lambda: now) as sandbox:
        assert statuses(6) == [200] * 5 + [429]
        now += 1
        assert statuses(3) == [200] * 2 + [429]
        now += 9
        assert statuses(1) == [200]


def test_the_quota_can_be_asked_for() -> None:
    with Sandbox(config(limits=(300, 3_000, 12_000))) as sandbox:
        sandbox.use_quota(100)
        windows = call(sandbox, "GET", "/en/account/ratelimit.json").json()["accountRatelimit"]
        assert set(windows) == {"limit5Min", "limitHour", "limitDay"}
        assert (windows["limitDay"]["limit"], windows["limitDay"]["remaining"]) == (12_000, 11_899)


# Faults


@pytest.mark.parametrize("kind", ["429", "500", "502", "503", "504"])
def test_an_error_status_comes_instead_of_the_write(sandbox: Sandbox, kind: Any) -> None:
    sandbox.inject(Fault(kind, retry_after="7"))
    response = call(sandbox, "DELETE", "/en/tickets/2546.json")
    assert response.status_code == int(kind)
    assert response.headers["Retry-After"] == "7"
    assert response.headers["Content-Type"].startswith("text/html" if kind == "502" else "application/json")
    assert 2546 in sandbox.shop.tickets()
    assert call(sandbox, "DELETE", "/en/tickets/2546.json").status_code == 204


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("kind", ["drop", "500"])
def test_a_write_may_be_lost_before_or_after_it_is_done(sandbox: Sandbox, kind: Any, applied: bool) -> None:
    sandbox.inject(Fault(kind, applied=applied))
    try:
        assert call(sandbox, "DELETE", "/en/tickets/2546.json").status_code == 500
    except requests.ConnectionError:
        assert kind == "drop"
    assert (2546 in sandbox.shop.tickets()) != applied
    (record,) = sandbox.calls
    assert (record.fault, record.status) == (kind, 0 if kind == "drop" else 500)


def test_a_body_may_be_cut_off(sandbox: Sandbox) -> None:
    sandbox.inject(Fault("cut-off"))
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        call(sandbox, "GET", "/en/tickets.json")


def test_a_client_that_goes_away_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox(config(latency=1.0, faults=(Fault("cut-off", times=1),))) as sandbox:
        with pytest.raises(requests.Timeout):
            call(sandbox, "GET", "/en/tickets.json", timeout=0.2)
        # Answered after the first one, or at the same time.
        call(sandbox, "GET", "/en/tickets.json")
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]


def test_a_200_may_be_none(sandbox: Sandbox) -> None:
    sandbox.inject(*map(Fault, ("error-200", "broken-json", "html-200", "empty-200", "no-key")))
    responses = [call(sandbox, "GET", "/en/tickets.json") for _ in range(5)]
    assert {response.status_code for response in responses} == {200}
    error, broken, html, empty, no_key = responses
    assert error_of(error)[1] == 500
    assert broken.text.startswith('{"tickets":[{')
    with pytest.raises(requests.JSONDecodeError):
        broken.json()
    assert "<html>" in html.text
    assert empty.content == b""
    assert no_key.json() == {}


def test_answers_take_their_time_without_holding_up_others() -> None:
    with Sandbox(config(latency=0.1, faults=(Fault("slow", delay=30),))) as sandbox:
        with pytest.raises(requests.Timeout):
            call(sandbox, "GET", "/en/tickets.json", timeout=0.2)
        while not sandbox.calls:  # on a busy machine the request arrives after we have given up
            time.sleep(0.01)
        begin = time.monotonic()
        call(sandbox, "GET", "/en/tickets.json")
        assert time.monotonic() - begin >= 0.1


def test_a_shop_that_was_closed_opens_again_where_it_was(sandbox: Sandbox) -> None:
    url = sandbox.url
    for _ in range(5):
        sandbox.close()
        with pytest.raises(requests.ConnectionError):
            call(sandbox, "GET", "/en/tickets/count.json")
        sandbox.add_tickets()
        sandbox.start()
        assert sandbox.url == url
        count = call(sandbox, "GET", "/en/tickets/count.json").json()["count"]
        assert count == len(sandbox.shop)


# What tests and demos see


def test_calls_are_recorded_as_they_were_sent(sandbox: Sandbox) -> None:
    call(sandbox, "GET", "/us1/en/tickets.json?limit=2&email=a%2Bb@example.com")
    call(sandbox, "PUT", "/en/tickets/2546.json", json={"ticket": {"isClosed": True}})
    listing, update = sandbox.calls
    assert (listing.method, listing.path, listing.status) == ("GET", "/us1/en/tickets.json", 200)
    assert listing.query == {"limit": "2", "email": "a+b@example.com"}
    assert json.loads(update.body) == {"ticket": {"isClosed": True}}
    assert listing.key == sandbox.key
    assert listing.monotonic < update.monotonic
    assert sandbox.count_calls() == 2
    assert sandbox.count_calls(method="PUT", path_prefix="/en/tickets/", key=sandbox.key) == 1
    assert sandbox.count_calls(key="other") == 0
    sandbox.reset_calls()
    assert sandbox.calls == []


def test_churn_does_the_same_before_the_same_calls() -> None:
    def listed() -> list[Any]:
        with Sandbox(config(churn=Churn(inserts=1, changes=1, deletes=1)), clock=END.timestamp) as sandbox:
            return [call(sandbox, "GET", "/en/tickets.json?limit=250").json() for _ in range(5)]

    first = listed()
    assert first == listed()
    assert first[0] != first[1]


def test_control_from_another_process_sees_and_does_the_same(sandbox: Sandbox) -> None:
    control = SandboxControl(sandbox.url)
    ids = control.add_tickets(2, subject="Wo ist mein Paket? 📦", isTodo=True)
    control.update_ticket(ids[0], isClosed=True)
    control.add_message(ids[0], "Thanks!")
    control.delete_ticket(ids[1])
    assert control.ticket(ids[0]) == sandbox.shop.ticket(ids[0])
    assert control.tickets() == sandbox.shop.tickets()
    assert control.deleted() == sandbox.shop.deleted()
    assert control.history(ids[0]) == sandbox.shop.history(ids[0])
    assert [change.by for change in control.history(ids[0])] == ["staff", "staff", "customer"]

    control.inject(Fault("503"))
    control.use_quota(5)
    assert call(sandbox, "GET", "/en/tickets.json").status_code == 503
    assert control.calls() == sandbox.calls
    assert control.state()["calls"] == 1
    control.inject(Fault("503"))
    control.reset()
    assert sandbox.calls == []
    assert call(sandbox, "GET", "/en/tickets.json").status_code == 200


def test_control_goes_past_the_environment_s_proxy(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert SandboxControl(sandbox.url).ticket(2546)["id"] == 2546


def test_control_says_what_is_wrong(sandbox: Sandbox) -> None:
    control = SandboxControl(sandbox.url)
    with pytest.raises(ValueError, match=r"ticket 1$"):
        control.ticket(1)
    with pytest.raises(ValueError, match="is_closed"):
        control.update_ticket(2546, is_closed=True)
    with pytest.raises(ValueError, match="no shop with the key other"):
        SandboxControl(sandbox.url, key="other").tickets()
    with pytest.raises(ValueError, match="Not an address"):
        SandboxControl("127.0.0.1:8100")


def test_several_shops_are_told_apart_by_their_credentials() -> None:
    secrets = ("first", "second")
    shops = [config(key="app", secret=secret, seed=n, tickets=10 + n) for n, secret in enumerate(secrets)]
    with Sandbox(*shops, config(key="other", secret="first", tickets=5)) as sandbox:
        counts = [
            call(sandbox, "GET", "/en/tickets/count.json", auth=auth).json()["count"]
            for auth in (("app", "first"), ("app", "second"), ("other", "first"))
        ]
        assert counts == [10, 11, 5]
        assert len(SandboxControl(sandbox.url, key="other").tickets()) == 5
        connection = json.loads(sandbox.airflow_connection(sandbox.backends[2]))
        assert (connection["login"], connection["host"]) == ("other", sandbox.url)
    with pytest.raises(ValueError, match="of its own"):
        Sandbox(config(), config())


def test_a_taken_port_is_an_error_at_once(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    late = Sandbox(config(tickets=3), port=port)
    with pytest.raises(OSError, match=str(port)):
        late.start()
    sandbox.close()
    late.start()
    try:
        assert call(late, "GET", "/en/tickets/count.json").json() == {"count": 3}
    finally:
        late.close()


def test_closing_does_not_wait_for_clients_that_stay_connected() -> None:
    with requests.Session() as session:
        sandbox = Sandbox(config())
        sandbox.start()
        assert session.get(f"{sandbox.url}/en/tickets.json", auth=(sandbox.key, sandbox.secret)).ok
        sandbox.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(sandbox.url.rpartition(":")[2]))) != 0


# The command line


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_how_to_reach_it_and_ends_cleanly(end: signal.Signals) -> None:
    command = [sys.executable, "-m", "airflow_provider_lightspeed.sandbox", "--port", "0", "--tickets", "7"]
    faults = ["--fault", "503,method=GET", "--fault", "drop,applied=true,times=0,path=/never"]
    with subprocess.Popen(
        [*command, *faults], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        lines = []
        while not lines or "AIRFLOW_CONN" not in lines[-1]:
            lines.append(process.stdout.readline())
        said = "".join(lines)
        curl = re.search(r"curl -u (\S+):(\S+) '(\S+)'", said)
        assert curl
        statuses = [requests.get(curl[3], auth=(curl[1], curl[2]), timeout=60).status_code for _ in range(2)]
        assert statuses == [503, 200]
        connection = json.loads(said[said.index("='") + 2 : said.rindex("'")])
        assert connection["conn_type"] == "lightspeed"
        assert connection["host"] in curl[3]
        os.kill(process.pid, end)
        _, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--fault", "oops"], "unknown kind 'oops': use 429"),
        (["--fault", "503,times"], "'503,times': 'times' is not NAME=VALUE"),
        (["--filter-timezone", "Mars"], "Unknown time zone 'Mars'"),
        (["--limits", "5"], "--limits"),
        (["--order", "random"], "--order: invalid choice: 'random' .*newest"),
        (["--churn", "births=1"], "births"),
    ],
)
def test_the_command_refuses_what_it_does_not_understand(arguments: list[str], complaint: str) -> None:
    command = [sys.executable, "-m", "airflow_provider_lightspeed.sandbox", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2
    assert re.search(complaint, process.stderr)
    assert "Traceback" not in process.stderr
