"""Assets that watch a shop, against a shop over HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest
from msgspec import convert

from airflow_provider_lightspeed.assets import new_tickets_asset
from airflow_provider_lightspeed.new_tickets import Cursor
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig
from airflow_provider_lightspeed.triggers.assets import NewTicketEventTrigger

shared_stream = pytest.importorskip("airflow.triggers.shared_stream", reason="Airflow 3.3 and newer")

_INTERVAL = 0.1


class _Store:
    """An asset's state store."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    async def aget(self, key: str) -> Any:
        return self.state.get(key)

    async def aset(self, key: str, value: Any) -> None:
        plain = json.loads(json.dumps(value))
        assert plain == value, "Airflow refuses what is no plain JSON, such as a tuple"
        self.state[key] = plain

    async def adelete(self, key: str) -> None:
        del self.state[key]


class _BlockingStore(_Store):
    """That of Airflow 3.3.0 and 3.3.1."""

    aget = aset = adelete = None  # type: ignore[assignment]

    def get(self, key: str) -> Any:
        return asyncio.run(super().aget(key))

    def set(self, key: str, value: Any) -> None:
        asyncio.run(super().aset(key, value))

    def delete(self, key: str) -> None:
        asyncio.run(super().adelete(key))


def _max_id(store: _Store) -> int:
    (key,) = store.state
    assert key == "lightspeed_cursor"
    return convert(store.state[key], Cursor).max_id


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_lightspeed.triggers.batches.EVENT_INTERVAL", 0.05)
    monkeypatch.setattr("airflow_provider_lightspeed.api.retry.MAX_ATTEMPTS", 1)


def _trigger(store: _Store | None = None, name: str = "my_shop", **options: Any) -> NewTicketEventTrigger:
    (watcher,) = new_tickets_asset(name, poll_interval=_INTERVAL, **options).watchers
    _, arguments = watcher.trigger.serialize()
    trigger = NewTicketEventTrigger(**json.loads(json.dumps(arguments)))
    trigger.asset_state_store = store
    return trigger


class _Triggerer:
    """What the triggerer does: it runs triggers, stores their events and tells them so."""

    def __init__(self, *triggers: NewTicketEventTrigger, stores_events: bool = True) -> None:
        self.events: list[dict[str, Any]] = []
        self._manager = shared_stream.SharedStreamManager()
        self._stores_events = stores_events
        self._tasks = [
            asyncio.ensure_future(self._gather(number, trigger)) for number, trigger in enumerate(triggers)
        ]

    async def _gather(self, number: int, trigger: NewTicketEventTrigger) -> None:
        key = trigger.shared_stream_key()
        stream = self._manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        async for event in trigger.filter_shared_stream(stream):
            seq = self._manager.bind_pending_event(trigger_id=number, key=key)
            self.events.append(event.payload)
            if self._stores_events:
                asyncio.get_running_loop().call_later(0.02, self._manager.confirm_persisted, [seq])

    @property
    def ticket_ids(self) -> list[int]:
        return [ticket_id for event in self.events for ticket_id in event["ticket_ids"]]

    async def has(self, count: int) -> None:
        async with asyncio.timeout(120):
            while len(self.ticket_ids) < count:
                await asyncio.sleep(0.01)

    async def is_quiet(self, looks: float = 3) -> None:
        before = len(self.events)
        await asyncio.sleep(looks * _INTERVAL)
        assert len(self.events) == before

    async def stop(self) -> None:
        """Kill it: nothing is tidied up that would be noted anywhere."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._manager.stop_all()


async def _first_look(sandbox: Sandbox) -> None:
    sandbox.reset_calls()
    while len(sandbox.calls) < 4:  # three find out what the newest ticket is
        await asyncio.sleep(0.01)


def test_events_name_new_tickets_in_batches(sandbox: Sandbox) -> None:
    last = max(sandbox.shop.ids())

    async def story() -> None:
        store = _Store()
        triggerer = _Triggerer(_trigger(store))
        await _first_look(sandbox)
        new = sandbox.add_tickets(1_201)
        await triggerer.has(1_201)
        await triggerer.is_quiet()
        await triggerer.stop()
        assert triggerer.ticket_ids == new
        assert max(event["count"] for event in triggerer.events) <= 500
        assert triggerer.events[0]["since_id"] == last
        assert [event["since_id"] for event in triggerer.events[1:]] == [
            event["max_id"] for event in triggerer.events[:-1]
        ]
        assert _max_id(store) == new[-1]

    asyncio.run(story())


@pytest.mark.parametrize("make_store", [_Store, _BlockingStore])
def test_no_ticket_is_lost_or_repeated_over_a_restart(sandbox: Sandbox, make_store: type[_Store]) -> None:
    async def story() -> None:
        store = make_store()
        first = _Triggerer(_trigger(store))
        await _first_look(sandbox)
        before = sandbox.add_tickets(2)
        await first.has(2)
        await first.is_quiet()
        await first.stop()
        meanwhile = sandbox.add_tickets(3)
        second = _Triggerer(_trigger(store))
        await second.has(3)
        after = sandbox.add_tickets(1)
        await second.has(4)
        await second.is_quiet()
        await second.stop()
        assert first.ticket_ids == before
        assert second.ticket_ids == meanwhile + after

    asyncio.run(story())


def test_what_comes_while_no_triggerer_runs_is_not_lost_even_before_the_first_event(sandbox: Sandbox) -> None:
    async def story() -> None:
        store = _Store()
        first = _Triggerer(_trigger(store))
        await _first_look(sandbox)
        await first.is_quiet()
        await first.stop()
        meanwhile = sandbox.add_tickets(2)
        second = _Triggerer(_trigger(store))
        await second.has(2)
        await second.stop()
        assert second.ticket_ids == meanwhile

    asyncio.run(story())


def test_a_triggerer_that_dies_before_an_event_is_stored_hands_it_over_again(sandbox: Sandbox) -> None:
    async def story() -> None:
        store = _Store()
        first = _Triggerer(_trigger(store), stores_events=False)
        await _first_look(sandbox)
        new = sandbox.add_tickets(2)
        await first.has(2)
        await first.is_quiet(10)
        await first.stop()
        second = _Triggerer(_trigger(store))
        await second.has(2)
        await second.stop()
        assert first.events == second.events
        assert second.ticket_ids == new

    asyncio.run(story())


def test_faults_and_wrong_credentials_are_outlived(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        triggerer = _Triggerer(_trigger(_Store()))
        await _first_look(sandbox)
        sandbox.inject(Fault("500"), Fault("drop"), Fault("html-200"))
        new = sandbox.add_tickets(1)
        await triggerer.has(1)
        wrong = {**json.loads(sandbox.airflow_connection()), "password": "not-the-secret-at-all"}
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", json.dumps(wrong))
        sandbox.inject(Fault("500"))  # after a failure, the connection is looked up again
        while 401 not in {call.status for call in sandbox.calls}:
            await asyncio.sleep(0.01)
        new += sandbox.add_tickets(1)
        await triggerer.is_quiet()
        monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", sandbox.airflow_connection())
        await triggerer.has(2)
        await triggerer.stop()
        assert triggerer.ticket_ids == new

    asyncio.run(story())
    assert "401" in caplog.text
    assert "not-the-secret-at-all" not in caplog.text


def test_the_start_may_be_the_earliest_ticket(sandbox: Sandbox) -> None:
    async def story() -> None:
        triggerer = _Triggerer(_trigger(_Store(), start="earliest"))
        await triggerer.has(600)
        await triggerer.stop()
        assert triggerer.ticket_ids == sorted(sandbox.shop.ids())

    asyncio.run(story())


def test_tickets_that_become_visible_late(sandbox: Sandbox) -> None:
    async def story() -> None:
        store = _Store()
        triggerer = _Triggerer(_trigger(store))
        await _first_look(sandbox)
        sandbox.configure(late_every=3, late_seconds=1.5)
        new = sandbox.add_tickets(6)
        late = [ticket_id for ticket_id in new if ticket_id % 3 == 0]
        await triggerer.has(6)
        await triggerer.is_quiet()
        await triggerer.stop()
        assert triggerer.ticket_ids == [ticket_id for ticket_id in new if ticket_id not in late] + late
        # Over a restart too, each once.
        second = _Triggerer(_trigger(store))
        new = sandbox.add_tickets(1)
        await second.has(1)
        await second.stop()
        assert second.ticket_ids == new

    asyncio.run(story())


def test_another_shop_is_noticed_and_another_key_is_not(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        store = _Store()
        first = _Triggerer(_trigger(store))
        await _first_look(sandbox)
        before = sandbox.add_tickets(2)
        await first.has(2)
        await first.is_quiet()
        await first.stop()
        assert first.ticket_ids == before
        new = sandbox.add_tickets(1)
        monkeypatch.setattr(
            "airflow_provider_lightspeed.api.settings.ClientSettings.shop", "the hash of another key"
        )
        second = _Triggerer(_trigger(store))
        await second.has(1)
        await second.is_quiet()
        await second.stop()
        assert second.ticket_ids == new
        assert "another shop" not in caplog.text
        monkeypatch.undo()
        other = ShopConfig(tickets=5, first_id=70_000, seed=2, key="2" * 32, limits=NO_LIMITS, burst_limit=0)
        with Sandbox(other) as shop:
            monkeypatch.setattr("airflow_provider_lightspeed.triggers.batches.EVENT_INTERVAL", 0.05)
            monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
            third = _Triggerer(_trigger(store, start="earliest"))
            await third.has(5)
            await third.stop()
            assert third.ticket_ids == sorted(shop.shop.ids())
            assert "another shop" in caplog.text

    asyncio.run(story())


@pytest.mark.parametrize("make_store", [_Store, _BlockingStore])
def test_the_cursor_of_early_versions_is_taken_over(sandbox: Sandbox, make_store: type[_Store]) -> None:
    async def story() -> None:
        first, second = sandbox.add_tickets(2)
        store = make_store()
        store.state["lightspeed_max_id"] = first
        triggerer = _Triggerer(_trigger(store))
        await triggerer.has(1)
        await triggerer.is_quiet()
        await triggerer.stop()
        assert triggerer.ticket_ids == [second]
        assert _max_id(store) == second

    asyncio.run(story())


def test_a_key_that_is_rotated_soon_after_a_cursor_was_taken_over(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        store = _Store()
        store.state["lightspeed_max_id"] = max(sandbox.shop.ids())
        first = _Triggerer(_trigger(store))
        while not convert(store.state.get("lightspeed_cursor", {"since_id": 0}), Cursor).shop:
            await asyncio.sleep(0.01)
        await first.stop()
        new = sandbox.add_tickets(2)
        monkeypatch.setattr("airflow_provider_lightspeed.api.settings.ClientSettings.shop", "another key")
        second = _Triggerer(_trigger(store))
        await second.has(2)
        await second.stop()
        assert second.ticket_ids == new

    asyncio.run(story())


def test_an_unreadable_cursor_is_named_and_may_be_mended(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        store = _Store()
        store.state["lightspeed_cursor"] = "a text"
        triggerer = _Triggerer(_trigger(store))
        (new,) = sandbox.add_tickets(1)
        await triggerer.is_quiet()
        assert "'my_shop_new_tickets'" in caplog.text
        assert "'lightspeed_cursor'" in caplog.text
        store.state["lightspeed_cursor"] = {"since_id": new - 1}
        await triggerer.has(1)
        await triggerer.stop()
        assert triggerer.ticket_ids == [new]

    asyncio.run(story())


def test_many_watchers_share_one_look(sandbox: Sandbox) -> None:
    async def story() -> None:
        stores = [_Store() for _ in range(200)]
        triggerer = _Triggerer(
            *(_trigger(store, name=f"shop_{number}") for number, store in enumerate(stores))
        )
        while not all(store.state for store in stores):
            await asyncio.sleep(0.01)
        sandbox.reset_calls()
        new = sandbox.add_tickets(3)
        await triggerer.has(200 * 3)
        await asyncio.sleep(10 * _INTERVAL)
        first, *_, last = sandbox.calls
        # A poll an interval, of two calls while it looks back.
        assert len(sandbox.calls) <= 2 * (2 + (last.monotonic - first.monotonic) / _INTERVAL)
        await triggerer.stop()
        assert all(event["ticket_ids"] == new for event in triggerer.events)
        assert all(_max_id(store) == new[-1] for store in stores)

    asyncio.run(story())


def test_what_an_asset_is() -> None:
    asset = new_tickets_asset("my_shop", lightspeed_conn_id="shop", poll_interval=30)
    assert (asset.name, asset.uri) == ("my_shop_new_tickets", "lightspeed://my_shop/tickets/new")
    (watcher,) = asset.watchers
    assert watcher.trigger.serialize() == (
        "airflow_provider_lightspeed.triggers.assets.NewTicketEventTrigger",
        {
            "asset_name": "my_shop_new_tickets",
            "lightspeed_conn_id": "shop",
            "poll_interval": 30,
            "start": "latest",
        },
    )
    with pytest.raises(ValueError, match="earliest"):
        new_tickets_asset("my_shop", start="now")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="poll_interval"):
        new_tickets_asset("my_shop", poll_interval=0)


def test_airflow_2_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.sdk", None)
    with pytest.raises(RuntimeError, match="needs Airflow 3"):
        new_tickets_asset("my_shop")
