"""Lists, counts and changes of a shop, held against the plainest way to say what they should give."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lightspeed.sandbox import Churn, Order, Query, Shop, ShopConfig, email_of
from airflow_provider_lightspeed.sandbox.churn import Churner
from airflow_provider_lightspeed.sandbox.shop import MissingError

END = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    """A clock that goes on by a second each time it is read."""

    def __init__(self) -> None:
        self.now = END.timestamp()

    def __call__(self) -> float:
        self.now += 1
        return self.now


def make_shop(**options: Any) -> Shop:
    options = {"tickets": 40, "end": END, "days": 0.01, **options}
    return Shop(ShopConfig(**options), clock=Clock())


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def expected(shop: Shop, query: Query) -> list[int]:
    """Return the ids that match, oldest first, read off the truth one by one."""
    config = shop.config
    ids = []
    for ticket_id, ticket in shop.tickets().items():
        at = instant(ticket["createdAt"])
        customer = ticket["customer"] and ticket["customer"]["resource"]["id"]
        if (
            (query.email is None or (customer and email_of(customer) == query.email))
            and (ticket_id > query.since_id or (config.since_id_inclusive and ticket_id == query.since_id))
            and (query.created_min is None or at >= query.created_min + (not config.min_inclusive))
            and (query.created_max is None or at <= query.created_max - (not config.max_inclusive))
        ):
            ids.append(ticket_id)
    return ids


# Bounds lie at, just before and just after tickets: (place of the ticket, by how much off).
bounds = st.none() | st.tuples(st.integers(0, 59), st.integers(-1, 1))


@settings(max_examples=150, deadline=None)
@given(
    options=st.fixed_dictionaries({
        "tickets": st.integers(0, 60),
        "seed": st.integers(0, 5),
        "id_step": st.integers(1, 4),
        "per_second": st.integers(1, 9),
        "order": st.sampled_from(get_args(Order)),
        "min_inclusive": st.booleans(),
        "max_inclusive": st.booleans(),
        "since_id_inclusive": st.booleans(),
        "oddities": st.booleans(),
        "churn": st.builds(Churn, inserts=st.just(0.7), changes=st.just(1.0), deletes=st.just(0.9)),
    }),
    since=bounds,
    created_from=bounds,
    created_to=bounds,
    limit=st.integers(1, 20),
    by_email=st.booleans(),
    changes=st.integers(0, 12),
)
def test_pages_of_any_list_are_the_whole_list_in_its_order(
    options: dict[str, Any],
    since: tuple[int, int] | None,
    created_from: tuple[int, int] | None,
    created_to: tuple[int, int] | None,
    limit: int,
    by_email: bool,
    changes: int,
) -> None:
    shop = make_shop(**options)
    customer = shop.get(shop.id_at(0)).customer if by_email and len(shop) else None
    query = Query(
        email=email_of(customer) if customer else None,
        since_id=bound(shop, since, "id") or 0,
        created_min=bound(shop, created_from, "created_at"),
        created_max=bound(shop, created_to, "created_at"),
    )
    shop.find(query)  # so that the changes meet indexes that are already there
    churner = Churner(shop)
    for _ in range(changes):
        churner.step()

    listed = []
    page = 1
    while tickets := shop.find(Query(**{**as_dict(query), "page": page, "limit": limit})):
        assert len(tickets) <= limit
        listed += tickets
        page += 1
    ids = [ticket.id for ticket in listed]

    assert sorted(ids) == expected(shop, query)
    assert shop.count(query) == len(ids)
    assert [shop.document(ticket) for ticket in listed] == [shop.ticket(number) for number in ids]
    match shop.config.order:
        case "oldest":
            assert ids == sorted(ids)
        case "newest":
            assert ids == sorted(ids, reverse=True)
        case "last_change":
            assert [t.updated_at for t in listed] == sorted((t.updated_at for t in listed), reverse=True)
        case "last_change_asc":
            assert [t.updated_at for t in listed] == sorted(t.updated_at for t in listed)


def bound(shop: Shop, place: tuple[int, int] | None, field: str) -> int | None:
    if place is None or not len(shop):
        return None
    number, off = place
    return int(getattr(shop.get(shop.id_at(number % len(shop))), field)) + off


def as_dict(query: Query) -> dict[str, Any]:
    return {name: getattr(query, name) for name in query.__struct_fields__}


def test_unordered_follows_neither_age_nor_chance() -> None:
    ids = [ticket.id for ticket in make_shop(order="unordered").find(Query())]
    assert ids not in (sorted(ids), sorted(ids, reverse=True))
    assert ids == [ticket.id for ticket in make_shop(order="unordered").find(Query())]


def test_a_page_that_ends_nowhere_is_empty() -> None:
    for order in get_args(Order):
        assert make_shop(order=order).find(Query(page=10**6)) == []


def test_an_update_changes_what_it_names_and_notes_it() -> None:
    shop = make_shop()
    ticket_id = shop.id_at(3)
    before = shop.ticket(ticket_id)
    shop.update(ticket_id, {"subject": "Süß 🎁", "is_closed": not before["isClosed"]}, by="someone")
    after = shop.ticket(ticket_id)

    assert {name for name in after if after[name] != before[name]} == {"subject", "isClosed", "updatedAt"}
    (change,) = shop.history(ticket_id)
    assert (change.by, change.method) == ("someone", "PUT")
    assert change.before == {"subject": before["subject"], "isClosed": before["isClosed"]}
    assert change.after == {"subject": "Süß 🎁", "isClosed": after["isClosed"]}


def test_an_update_that_changes_nothing_leaves_no_trace() -> None:
    shop = make_shop()
    ticket_id = shop.id_at(3)
    before = shop.ticket(ticket_id)
    shop.update(ticket_id, {"is_closed": before["isClosed"]}, by="someone")
    assert shop.ticket(ticket_id) == before
    assert shop.history(ticket_id) == []


def test_a_deleted_ticket_is_gone_and_remembered() -> None:
    shop = make_shop()
    ticket_id = shop.id_at(3)
    last = shop.ticket(ticket_id)
    shop.delete(ticket_id, by="someone")

    assert ticket_id not in shop.tickets()
    assert shop.deleted() == {ticket_id: last}
    assert shop.history(ticket_id)[-1].before == last
    for gone in (shop.get, shop.messages):
        with pytest.raises(MissingError, match=str(ticket_id)):
            gone(ticket_id)


def test_the_id_of_a_deleted_ticket_is_never_given_again() -> None:
    shop = make_shop()
    newest = shop.id_at(-1)
    shop.delete(newest, by="someone")
    assert shop.create({"subject": "Next"}, by="someone").id > newest


def test_a_new_ticket_is_never_older_than_the_newest() -> None:
    shop = make_shop(end=END + timedelta(days=1))
    newest = shop.get(shop.id_at(-1))
    assert shop.create({"subject": "Now"}, by="someone").created_at == newest.created_at
    with pytest.raises(ValueError, match="before the newest"):
        shop.create({"subject": "Then", "created_at": newest.created_at - 1}, by="someone")


def test_a_received_ticket_begins_a_conversation() -> None:
    shop = make_shop()
    ticket = shop.receive({"customer": 7}, by="staff")
    assert (ticket.customer, ticket.is_closed, ticket.is_answered) == (7, False, False)
    assert [message.author for message in shop.messages(ticket.id)] == ["customer"]


@pytest.mark.parametrize("touch", [True, False])
def test_a_message_touches_its_ticket_where_the_shop_does_so(touch: bool) -> None:
    shop = make_shop(messages_touch_tickets=touch)
    before = shop.receive({}, by="staff")
    message = shop.add_message(before.id, "We are looking into it", by="someone")
    after = shop.get(before.id)

    assert shop.messages(before.id)[-1] == message
    assert (after.is_answered, after.updated_at > before.updated_at) == (touch, touch)
    assert shop.history(before.id)[-1].after["message"]["message"] == "We are looking into it"


def test_messages_change_and_go() -> None:
    shop = make_shop()
    ticket_id = shop.id_at(0)
    conversation = shop.messages(ticket_id)
    changed = shop.update_message(ticket_id, conversation[0].id, "Never mind")
    assert changed.updated_at is not None
    assert shop.messages(ticket_id) == [changed, *conversation[1:]]
    shop.delete_message(ticket_id, changed.id)
    assert shop.messages(ticket_id) == conversation[1:]
    with pytest.raises(MissingError):
        shop.message(ticket_id, changed.id)


def test_changing_a_ticket_does_not_rewrite_its_conversation() -> None:
    shop = make_shop()
    for ticket_id in shop.ids():
        conversation = shop.messages(ticket_id)
        shop.update(ticket_id, {"is_answered": not shop.get(ticket_id).is_answered}, by="someone")
        assert shop.messages(ticket_id) == conversation


def test_churn_repeats_and_spares_the_protected() -> None:
    def churned(**options: Any) -> Shop:
        shop = make_shop(churn=Churn(inserts=0.5, changes=2, deletes=1, **options))
        churner = Churner(shop)
        for _ in range(30):
            churner.step()
        return shop

    first, second = churned(), churned()
    assert first.tickets() == second.tickets()
    assert len(first) == 40 + 15 - 30

    before = make_shop().tickets()
    protected = frozenset(list(before)[:10])
    after = churned(protected=protected).tickets()
    assert all(after[ticket_id] == before[ticket_id] for ticket_id in protected)


def test_churn_of_a_shop_that_runs_empty_goes_on() -> None:
    shop = make_shop(tickets=2, churn=Churn(changes=1, deletes=1))
    churner = Churner(shop)
    for _ in range(5):
        churner.step()
    assert len(shop) == 0
