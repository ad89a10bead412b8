"""When one place fails in mid-job, each of the others still says what was done, and the first error is raised."""

from __future__ import annotations

import json
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed.api.client import LightspeedClient
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.bulk import refresh
from airflow_provider_lightspeed.bulk.targets import receipt_digest
from airflow_provider_lightspeed.exceptions import LightspeedStorageError, LightspeedTaskFailed
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator, UpdateTicketsOperator
from airflow_provider_lightspeed.s3.objects import S3Objects
from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from tests.integration.bulk_runs import Store, Xcom, run

_RECEIPT = "s3://bucket/receipt.jsonl"
_STEPS = 14
#: What each place raises when it is down, and what the task then raises.
_ERRORS: dict[str, tuple[Exception, type[Exception]]] = {
    "store": (RuntimeError("the API server is away"), RuntimeError),
    "receipt": (LightspeedStorageError("S3 failed"), LightspeedStorageError),
    "shop": (LightspeedConfigurationError("the key was revoked"), LightspeedTaskFailed),
    "xcom": (ConnectionError("no XCom"), ConnectionError),
}


class Places:
    """Where a job reads and writes: from a step on, one is down, and then another one too."""

    def __init__(self) -> None:
        self.first, self.at, self.second = "", 0, ""
        self.down = False
        self.steps = 0
        self.objects: dict[str, bytes] = {}

    def step(self, place: str) -> None:
        """Fail, if this place is down now."""
        if place == self.first:
            self.steps += 1
            self.down = self.down or self.steps == self.at
        if self.down and place in {self.first, self.second}:
            raise _ERRORS[place][0]


class FailingStore(Store):
    """A task state store that may be down."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places

    def set(self, key: str, value: Any) -> None:
        self.places.step("store")
        super().set(key, value)

    def delete(self, key: str) -> None:
        self.places.step("store")
        super().delete(key)


class FailingXcom(Xcom):
    """An XCom backend that may be down."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places

    def xcom_push(self, key: str, value: Any) -> None:
        self.places.step("xcom")
        super().xcom_push(key, value)


@pytest.fixture(scope="module")
def shop() -> Generator[Sandbox]:
    with Sandbox(
        ShopConfig(tickets=0, end=datetime(2026, 6, 1, tzinfo=UTC), limits=NO_LIMITS, burst_limit=0)
    ) as made:
        yield made


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, shop: Sandbox) -> Places:
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", shop.airflow_connection())
    # One after another, in small batches: so that there are many steps.
    monkeypatch.setattr(refresh, "_FEW", 100)
    monkeypatch.setattr(refresh, "_MOST_AT_ONCE", 3)
    made = Places()
    real_call = LightspeedClient.call
    objects = made.objects

    def call(client: LightspeedClient, request: Any, **options: Any) -> Any:
        made.step("shop")
        return real_call(client, request, **options)

    def write(_: S3Objects, uri: str, data: bytes) -> None:
        made.step("receipt")
        objects[uri] = data

    monkeypatch.setattr(LightspeedClient, "call", call)
    monkeypatch.setattr(S3Objects, "write", write)
    monkeypatch.setattr(S3Objects, "check_writable", lambda *_: None)
    monkeypatch.setattr(S3Objects, "read", lambda _, uri: objects[uri])
    return made


def error_of(operator: CloseTicketsOperator, store: Store, xcom: Xcom) -> Exception | None:
    try:
        run(operator, store, xcom)
    except Exception as error:  # ruff: ignore[blind-except] - whatever it is, the test looks at it
        return error
    return None


@pytest.mark.parametrize("second", ["store", "receipt", "shop", "xcom", ""])
@pytest.mark.parametrize("first", ["store", "receipt", "shop"])
def test_each_place_by_itself(shop: Sandbox, places: Places, first: str, second: str) -> None:
    for at in range(1, _STEPS):
        ids = shop.add_tickets(7, isClosed=False)
        shop.update_ticket(ids[3], isClosed=True)
        store, xcom = FailingStore(places), FailingXcom(places)
        places.first, places.at, places.second, places.down, places.steps = first, at, second, False, 0
        operator = CloseTicketsOperator(task_id="close", ticket_ids=ids, receipt_s3_key=_RECEIPT)
        error = error_of(operator, store, xcom)
        if error is None:
            assert not places.down, "no error was raised"
            break
        assert isinstance(error, _ERRORS[first][1])
        assert str(_ERRORS[first][0]) in str(error)
        places.first = places.second = ""
        closed = {key for key in ids if shop.shop.ticket(key)["isClosed"]} - {ids[3]}
        down = {first, second}
        if "xcom" not in down:
            assert closed <= {
                *xcom.pushed["return_value"]["closed"],
                *map(int, xcom.pushed["return_value"]["failed"]),
            }
            if "receipt" not in down and "receipt" in xcom.pushed["return_value"]:
                digest = receipt_digest(places.objects[_RECEIPT])
                assert xcom.pushed["return_value"]["receipt_sha256"] == digest
        if "receipt" not in down and closed:
            undone = run(UpdateTicketsOperator(task_id="undo", ticket_ids=_RECEIPT, is_closed=False))
            assert set(undone["updated"]) == closed
            assert [shop.shop.ticket(key)["isClosed"] for key in ids] == [key == ids[3] for key in ids]
        elif "store" not in down:
            places.down = False
            again = run(operator, store, xcom)
            assert set(again["closed"]) == set(ids) - {ids[3]}
            json.dumps(again)
    else:
        assert first == "shop", "all steps were tried"
