"""The tickets that a shop starts with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_lightspeed.sandbox import Query, Shop, ShopConfig, email_of
from airflow_provider_lightspeed.sandbox.catalogue import Catalogue
from airflow_provider_lightspeed.sandbox.tickets import customer_with, message_document

END = datetime(2026, 3, 1, tzinfo=UTC)


def make_shop(**options: Any) -> Shop:
    return Shop(ShopConfig(**{"tickets": 2_000, "end": END, **options}))


def test_the_same_seed_makes_the_same_shop() -> None:
    assert make_shop(seed=7).tickets() == make_shop(seed=7).tickets()
    assert make_shop(seed=7).tickets() != make_shop(seed=8).tickets()


def test_a_ticket_has_exactly_the_documented_properties() -> None:
    (ticket_id,) = make_shop(tickets=1).tickets()
    ticket = make_shop(tickets=1).ticket(ticket_id)
    assert list(ticket) == [
        *("id", "createdAt", "updatedAt", "isAnswered", "isClosed", "isTodo", "subject", "memo"),
        *("doNotifyAnswered", "language", "customer", "messages"),
    ]
    assert set(ticket["language"]) == {"id", "code", "locale", "title"}
    number = ticket["customer"]["resource"]["id"]
    assert ticket["customer"]["resource"]["url"] == f"customers/{number}"
    assert ticket["messages"]["resource"] == {
        "id": False,
        "url": f"tickets/{ticket_id}/messages",
        "link": f"https://api.shoplightspeed.com/{ticket['language']['code']}/tickets/{ticket_id}/messages.json",
    }


@pytest.mark.parametrize("options", [{}, {"id_step": 5}, {"per_second": 300}, {"days": 0.01}])
def test_ids_and_times_rise_together_within_the_span(options: dict[str, Any]) -> None:
    shop = make_shop(**options)
    tickets = shop.find(Query(limit=10_000))[::-1]
    assert len(tickets) == 2_000
    assert all(a.id < b.id and a.created_at <= b.created_at for a, b in pairwise(tickets))
    begin = END - timedelta(days=shop.config.days)
    assert begin.timestamp() - 1 <= tickets[0].created_at
    assert all(ticket.created_at <= ticket.updated_at <= END.timestamp() for ticket in tickets)


def test_ids_may_have_gaps_and_times_may_tie() -> None:
    ids = make_shop(id_step=5).ids()
    assert 3 < (ids[-1] - ids[0]) / len(ids) < 7
    assert len({b - a for a, b in pairwise(ids)}) > 3
    tied = make_shop(per_second=300).find(Query(limit=10_000))
    assert len({ticket.created_at for ticket in tied}) == 7


def test_old_tickets_are_mostly_closed_and_new_ones_mostly_open() -> None:
    tickets = make_shop().find(Query(limit=10_000))
    old = [t.is_closed for t in tickets if END.timestamp() - t.created_at > 60 * 86_400]
    new = [t.is_closed for t in tickets if END.timestamp() - t.created_at < 2 * 86_400]
    assert sum(old) / len(old) > 0.8
    assert sum(new) / len(new) < 0.4


def test_conversations_alternate_and_end_as_the_ticket_says() -> None:
    shop = make_shop(tickets=300)
    lengths = set()
    for ticket in shop.find(Query(limit=300)):
        messages = shop.messages(ticket.id)
        lengths.add(len(messages))
        assert [m.author for m in messages[:2]] == ["customer", "shop"][: len(messages)]
        assert (messages[-1].author == "shop") == ticket.is_answered
        assert all(a.id < b.id and a.created_at <= b.created_at for a, b in pairwise(messages))
        assert messages[-1].created_at <= ticket.updated_at
    assert lengths == {1, 2, 3, 4, 5, 6}


def test_a_message_never_updated_says_so_with_null_or_false() -> None:
    shop = make_shop(tickets=10)
    messages = [message for ticket_id in shop.ids() for message in shop.messages(ticket_id)]
    never = {str(message_document(message, shop.answer_zone)["updatedAt"]) for message in messages}
    assert never == {"None", "False"}


def test_oddities_are_there_when_asked_for() -> None:
    odd = make_shop(oddities=True).tickets().values()
    assert any(ticket["language"] is False for ticket in odd)
    assert any(ticket["customer"] is False for ticket in odd)
    assert any("channel" in ticket for ticket in odd)
    for name in ("updatedAt", "subject", "memo", "messages"):
        assert any(ticket[name] is False for ticket in odd), name
    assert any(ticket["language"] and ticket["language"]["id"] == "" for ticket in odd)
    resources = [ticket["customer"]["resource"] for ticket in odd if ticket["customer"]]
    assert any(resource["id"] == "" for resource in resources)
    assert any("embedded" in resource for resource in resources)
    plain = make_shop().tickets().values()
    assert all(ticket["language"] and ticket["customer"] and "channel" not in ticket for ticket in plain)


def test_addresses_lead_back_to_their_customers() -> None:
    for customer in (1, 7, 1_118_417, 99_999_999):
        assert customer_with(email_of(customer)) == customer
        assert customer_with(email_of(customer).upper()) == customer
    assert customer_with("unknown@example.com") is None
    assert customer_with("anna.devries.²@example.com") is None
    assert customer_with("") is None


def test_of_a_million_tickets_only_those_of_the_page_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    make = Catalogue.ticket
    monkeypatch.setattr(
        Catalogue, "ticket", lambda self, number, at: made.append(number) or make(self, number, at)
    )
    shop = make_shop(tickets=1_000_000)
    found = shop.find(Query(limit=250, page=4_000))
    assert made == [ticket.id for ticket in found]
    assert len(made) == 250


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"order": "random"}, "Unknown order 'random': choose from newest"),
        ({"retry_after": "soon"}, "Unknown retry_after 'soon'"),
        ({"end": datetime(2026, 3, 1)}, "end needs a time zone"),  # ruff: ignore[call-datetime-without-tzinfo] - is wrong
        ({"ignored_properties": frozenset({"isOpen"})}, r"Unknown properties \['isOpen'\]: choose from"),
        ({"languages": ()}, "at least one language"),
        ({"tickets": -1}, "tickets must be >= 0"),
        ({"days": 0}, "days > 0"),
        ({"message_page_size": 0}, "message_page_size must be >= 1"),
        ({"window_seconds": (300, 0, 86_400)}, "window_seconds must be above 0"),
    ],
)
def test_a_shop_that_cannot_be_is_said_to_be_wrong(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShopConfig(**wrong)
