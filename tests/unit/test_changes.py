"""What counts as a change, what may be gone, and what a log refuses."""

from __future__ import annotations

import copy
import io
import json
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event, current_thread
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lightspeed.api import progress_clock
from airflow_provider_lightspeed.api.errors import (
    LightspeedConfigurationError,
    LightspeedNotFoundError,
    LightspeedQuotaExhaustedError,
)
from airflow_provider_lightspeed.changes import scan as scan_module
from airflow_provider_lightspeed.changes.compare import Comparison, Entry, Known, Limits, entry_of
from airflow_provider_lightspeed.changes.coverage import (
    Scope,
    as_of,
    complete_as_of,
    covered_by,
    latest,
    recent_as_of,
)
from airflow_provider_lightspeed.changes.files import FORMATS
from airflow_provider_lightspeed.changes.fingerprint import fingerprint
from airflow_provider_lightspeed.changes.log import LightspeedChangesLostError
from airflow_provider_lightspeed.changes.options import choose_scan
from airflow_provider_lightspeed.changes.reader import read_after
from airflow_provider_lightspeed.changes.records import Commit
from airflow_provider_lightspeed.changes.scan import LightspeedTooManyChangesError, Result
from airflow_provider_lightspeed.exceptions import LightspeedStorageError, LightspeedTaskFailed
from airflow_provider_lightspeed.formats import Layout
from airflow_provider_lightspeed.formats.columns import Columns
from airflow_provider_lightspeed.s3.client import WriteOptions
from tests.unit.changes_world import (
    IDENTITY,
    PREFIX,
    START,
    Killed,
    S3InMemory,
    World,
    lost_response,
    replay,
    s3_error,
    ticket,
)

COLUMNS = Columns(Layout(flatten=True))
TICKET = ticket(2546, datetime(2026, 7, 1, 10, tzinfo=UTC), "Where is my order?", isClosed=True)


def _of(**properties: Any) -> int:
    return fingerprint(COLUMNS.row({**TICKET, **properties}))


def written(known: Known, **about: Any) -> bytes:
    out = io.BytesIO()
    known.write(out, **about)
    return out.getvalue()


def _rows(world: World, op: str) -> list[int]:
    return [row["id"] for row in world.files()[-1] if row["op"] == op]


def _unscanned(tickets: int) -> World:
    world = World()
    for _ in range(tickets):
        world.shop.create()
    return world


def _world(tickets: int = 60, **options: Any) -> World:
    world = _unscanned(tickets)
    world.scan(**options)
    return world


def _killed_at_the_third_call() -> World:
    """Return a world of nine tickets, in which a scan is killed at its third call."""
    world = World()
    for _ in range(9):
        world.shop.create()

    def kill(_: str) -> None:
        if world.shop.calls == 3:
            raise Killed

    world.shop.disturb = kill
    return world


class TestFingerprint:
    def test_it_stays_the_same_as_long_as_its_version_does(self) -> None:
        # Another number needs another VERSION: else each ticket of each log is an update.
        assert _of() == 18091810661054081173

    @pytest.mark.parametrize(
        "properties",
        [
            {"createdAt": "2026-07-01T12:00:00+02:00", "updatedAt": "2026-07-01T11:00:00+01:00"},
            {"customer": {"resource": {"id": 7, "url": "c/7", "link": "http://shop/customers/7"}}},
            {"messages": False},
            {"memo": False, "isTodo": None, "doNotifyAnswered": None},
            {"priority": "high"},
        ],
    )
    def test_what_only_looks_different_is_no_change(self, properties: dict[str, Any]) -> None:
        assert _of(**properties) == _of()

    @pytest.mark.parametrize(
        "properties",
        [
            {"updatedAt": "2026-07-01T10:00:01+00:00"},
            {"customer": {"resource": {"id": 8}}},
            {"memo": "x"},
            {"isClosed": False},
            {"subject": "where is my order?"},
            {"language": {"id": 1, "code": "nl", "locale": "nl_NL", "title": "Dutch"}},
        ],
    )
    def test_what_is_written_differently_is_a_change(self, properties: dict[str, Any]) -> None:
        assert _of(**properties) != _of()

    @pytest.mark.parametrize("file_format", FORMATS)
    @given(
        subject=st.text(),
        created=st.integers(86_400, 7_000_000_000).map(lambda one: datetime.fromtimestamp(one, UTC)),
        switches=st.lists(st.sampled_from([True, False, None]), min_size=3, max_size=3),
    )
    def test_a_file_gives_the_same_fingerprint_back(
        self, file_format: str, subject: str, created: datetime, switches: list[bool | None]
    ) -> None:
        names = ("isAnswered", "isClosed", "isTodo")
        row = COLUMNS.row(ticket(1, created, subject, **dict(zip(names, switches, strict=True))))
        form, file = FORMATS[file_format](COLUMNS), io.BytesIO()
        form.write(iter([{"op": "I", "_seq": 1, "_changed_after": None, "_changed_by": START, **row}]), file)
        file.seek(0)
        (read,) = form.read(file)
        assert entry_of(read) == entry_of(row)


class TestKnown:
    @given(
        before=st.sets(st.integers(1, 50)),
        puts=st.lists(st.integers(1, 50)),
        gone=st.sets(st.integers(1, 50)),
    )
    def test_it_is_a_sorted_dict(self, before: set[int], puts: list[int], gone: set[int]) -> None:
        known = Known()
        model: dict[int, int] = {}
        for number, ids in enumerate((sorted(before), puts)):
            known.put(Entry(one, one, number) for one in ids)
            model |= dict.fromkeys(ids, number)
        known.remove(gone)
        model = {one: number for one, number in sorted(model.items()) if one not in gone}
        assert list(known.ids) == list(model)
        assert list(known.fingerprints) == list(model.values())
        read = Known.read(io.BytesIO(written(known, seq=7)))
        assert read is not None
        assert (list(read[0].ids), read[1]) == (list(model), {"seq": 7})

    def test_a_list_that_came_newest_first_is_turned_around(self) -> None:
        known = Known()
        for one in range(9, 0, -1):
            known.append(Entry(one, one, one))
        known.sort()
        assert [tuple(known[index]) for index in range(9)] == [(one, one, one, 0) for one in range(1, 10)]

    def test_it_takes_33_bytes_a_ticket(self) -> None:
        known = Known()
        known.put(Entry(one, one, one) for one in range(10_000))
        assert 330_000 < len(written(known, seq=1)) < 331_000

    def test_a_damaged_one_is_not_read(self) -> None:
        known = Known()
        known.put(Entry(one, one, one) for one in range(3))
        data = written(known, seq=1)
        assert Known.read(io.BytesIO(data)) is not None
        for index in range(len(data)):
            damaged = bytearray(data)
            damaged[index] ^= 1
            assert Known.read(io.BytesIO(damaged)) is None
            assert Known.read(io.BytesIO(data[:index])) is None
        assert Known.read(io.BytesIO(data + b"x")) is None

    def test_a_damaged_length_in_a_file_is_no_reason_to_ask_for_much_memory(self) -> None:
        data = bytearray(written(Known(), seq=1))
        for index in range(16, 24):
            with tempfile.TemporaryFile() as file:
                file.write(data[:index] + b"\x10" + data[index + 1 :])
                file.seek(0)
                assert Known.read(file) is None

    def test_the_floor_of_a_recent_scan_is_the_highest_old_id(self) -> None:
        known = Known()
        for one, created in ((1, 10), (2, 30), (3, 20), (4, 50)):
            known.append(Entry(one, created, 0))
        known.put([entry_of({"id": 5, "created_at": None})])
        assert known.highest_created_before(datetime.fromtimestamp(25, UTC)) == 3
        assert known.highest_created_before(datetime.fromtimestamp(5, UTC)) == 0
        assert known.highest_created_before(datetime(9999, 1, 1, tzinfo=UTC)) == 4

    def test_an_unchanged_response_needs_no_row(self) -> None:
        known = Known()
        first = Comparison(known, 0, COLUMNS.row)
        first.see(TICKET)
        known.put([first.found[0]])

        def fail(_: Any) -> dict[str, Any]:
            raise AssertionError("the row was built")

        second = Comparison(known, 0, fail)
        assert second.see(TICKET) is None
        assert second.absent() == []


class TestCoverage:
    def at(self, minute: int) -> datetime:
        return START + timedelta(minutes=minute)

    def test_a_recent_scan_covers_recent_tickets(self) -> None:
        coverage = covered_by(covered_by((), 0, self.at(1)), 100, self.at(5))
        assert as_of(coverage, 100) == complete_as_of(coverage) == self.at(1)
        assert as_of(coverage, 101) == recent_as_of(coverage) == self.at(5)
        assert covered_by(coverage, 50, self.at(7)) == (Scope(0, self.at(1)), Scope(50, self.at(7)))
        assert covered_by(coverage, 0, self.at(9)) == (Scope(0, self.at(9)),)

    def test_an_old_recent_scan_that_commits_late_takes_completeness_back(self) -> None:
        coverage = covered_by(covered_by((), 0, self.at(5)), 100, self.at(1))
        assert complete_as_of(coverage) == self.at(1)

    def test_nothing_is_complete_before_the_first_full_scan(self) -> None:
        assert complete_as_of(()) is None
        assert as_of((), 1) is None

    def test_of_two_that_are_true_the_later_instants_hold(self) -> None:
        one = (Scope(0, self.at(1)), Scope(100, self.at(9)))
        other = (Scope(0, self.at(3)), Scope(50, self.at(5)))
        joined = latest(one, other)
        assert [as_of(joined, one) for one in (1, 51, 101)] == [self.at(3), self.at(5), self.at(9)]


class TestLimits:
    def test_a_share_of_the_scope_with_a_floor(self) -> None:
        limits = Limits(max_deleted=0.01)
        assert not limits.too_many_deleted(25, 0, scope=30)
        assert limits.too_many_deleted(26, 0, scope=30)
        assert not limits.too_many_deleted(100, 0, scope=10_000)
        assert limits.too_many_deleted(101, 0, scope=10_000)

    def test_recent_deletes_add_up(self) -> None:
        assert Limits().too_many_deleted(10, 20, scope=100)
        assert not Limits().too_many_deleted(0, 30, scope=100)

    def test_so_many_as_a_person_accepts(self) -> None:
        assert not Limits(accept_deleted=60).too_many_deleted(60, 0, scope=100)
        assert Limits(accept_deleted=60).too_many_deleted(61, 0, scope=100)

    def test_mass_updates(self) -> None:
        assert not Limits(max_updated=0.5).too_many_updated(500, scope=1000)
        assert Limits(max_updated=0.5).too_many_updated(501, scope=1000)


class TestLooksDifferent:
    """The shop writes the same tickets in another way: nothing is an update."""

    @pytest.mark.parametrize(
        "change",
        [
            lambda one: {**one, "createdAt": datetime.fromisoformat(one["createdAt"]).astimezone(
                datetime.fromisoformat("2026-07-01T00:00:00+02:00").tzinfo).isoformat()},
            lambda one: {**one, "customer": {"resource": {"id": 7, "url": "x", "link": "http://shop/customers/7"}}},
            lambda one: {**one, "vendorFlag": {"a": [1, 2]}},
            lambda one: {**one, "memo": None, "isTodo": ""},
        ],
        ids=["clock change", "http links", "new property", "null for empty"],
    )  # fmt: skip
    def test_no_update(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        world = _world()
        world.shop.change = change
        result = world.scan(scan="full")
        assert (result.seq, result.inserted, result.updated, result.deleted) == (1, 0, 0, 0)
        # Nor is it one when what is known has to be read from the rows.
        del world.s3.objects[f"{PREFIX}/_state/known"]
        assert world.scan(scan="full").seq == 1


class TestGone:
    def test_it_is_asked_for_and_keeps_its_times_and_flags(self) -> None:
        world = _world()
        world.shop.delete(110)
        result = world.scan(scan="full")
        assert (result.deleted, result.tickets, _rows(world, "D")) == (1, 59, [110])
        assert world.shop.asked[-1] == "tickets/110.json"
        (row,) = world.files()[-1]
        assert row["created_at"] == START + timedelta(seconds=10)
        assert (row["is_closed"], row["subject"], row["customer_id"]) == (False, None, None)

    def test_at_most_confirm_deleted_are_asked_for(self) -> None:
        world = _world()
        for one in range(101, 121):
            world.shop.delete(one)
        assert world.scan(scan="full", confirm_deleted=5).deleted == 20
        assert sum(path.startswith("tickets/") for path in world.shop.asked) == 5

    def test_a_ticket_that_the_list_hides_stays_and_is_counted(self) -> None:
        world = _world()
        world.shop.hide(110)
        for _ in range(2):
            result = world.scan(scan="full")
            assert (result.seq, result.unlisted, result.deleted, result.tickets) == (1, 1, 0, 60)
        status = world.log.read_status()
        assert status is not None
        assert status.unlisted == 1
        world.shop.put(110)
        assert world.scan(scan="full").updated == 1  # as the shop shows it when it is asked for
        world.shop.delete(110)
        assert world.scan(scan="full").deleted == 1

    def test_where_the_list_hides_one_each_is_asked_for(self) -> None:
        world = _world()
        for one in range(101, 121):
            world.shop.hide(one)
        result = world.scan(scan="full", confirm_deleted=5)
        assert (result.unlisted, result.deleted) == (20, 0)

    def test_each_of_many_hidden_tickets_is_asked_for_in_time(self, caplog: pytest.LogCaptureFixture) -> None:
        world = _world()
        hidden = range(101, 121)
        for one in hidden:
            world.shop.hide(one)
        world.scan(scan="full", confirm_deleted=5)
        assert "20 known tickets (20 requested in this scan)" in caplog.text
        for one in hidden[10:]:
            world.shop.put(one)
        for one in hidden[:10]:
            world.shop.delete(one)
        results = []
        for _ in range(25):
            world.shop.seconds += 86_400
            world.shop.asked.clear()
            results.append(world.scan(scan="full", confirm_deleted=5))
            assert sum(path.startswith("tickets/") for path in world.shop.asked) <= 5
        assert "known tickets (5 requested in this scan)" in caplog.text
        assert (sum(one.updated for one in results), sum(one.deleted for one in results)) == (10, 10)
        assert results[-1].unlisted == 10

    def test_a_ticket_that_returns_is_an_insert(self) -> None:
        world = _world()
        world.shop.delete(110)
        world.scan(scan="full")
        world.shop.put(110)
        assert world.scan(scan="full").inserted == 1
        assert _rows(world, "I") == [110]

    def test_an_answer_that_proves_nothing_fails_the_try(self) -> None:
        world = _world()
        world.shop.delete(110)
        world.shop.proves_gone = False
        with pytest.raises(LightspeedNotFoundError):
            world.scan(scan="full")
        assert len(world.files()) == 1


class TestTooMany:
    def vanished(self) -> World:
        world = _world(200)
        world.shop.seconds += 100
        for one in range(101, 161):
            world.shop.hide(one)
        return world

    def test_30_percent_vanish(self) -> None:
        world = self.vanished()
        calls = world.shop.calls
        with pytest.raises(
            LightspeedTooManyChangesError, match=r"60 of 200 tickets are gone.*accept_deleted=60"
        ) as caught:
            world.scan(scan="full")
        assert isinstance(caught.value, LightspeedTaskFailed)
        assert len(world.files()) == 1
        # Of those that are gone, none was asked for: no call is spent on what is refused anyway.
        assert not any(path.startswith("tickets/") for path in world.shop.asked)
        # `auto` does not make one full scan after another.
        full = world.shop.calls - calls
        world.shop.seconds += 24 * 3600
        with pytest.raises(LightspeedTooManyChangesError):
            world.scan(full_every=timedelta(hours=23))
        world.shop.seconds += 900
        calls = world.shop.calls
        result = world.scan(full_every=timedelta(hours=23))
        assert result.scan == "recent"
        assert world.shop.calls - calls < full / 10
        # It does again when the time has passed, or a person agrees.
        world.shop.seconds += 23 * 3600
        with pytest.raises(LightspeedTooManyChangesError):
            world.scan(full_every=timedelta(hours=23))
        world.shop.seconds += 900
        world.shop.hidden.clear()
        for one in range(101, 161):
            world.shop.delete(one)
        result = world.scan(full_every=timedelta(hours=23), limits=Limits(accept_deleted=60))
        assert (result.scan, result.deleted) == ("full", 60)
        status = world.log.read_status()
        assert status is not None
        assert status.refused is None

    def test_recent_deletes_add_up_until_a_full_scan(self) -> None:
        world = _world(100)
        recent: dict[str, Any] = {"scan": "recent", "recent": timedelta(seconds=100)}
        for start in (181, 190):
            world.shop.seconds += 5
            for one in range(start, start + 9):
                world.shop.delete(one)
            assert world.scan(**recent).deleted == 9
        for one in range(170, 179):
            world.shop.delete(one)
        with pytest.raises(LightspeedTooManyChangesError, match=r"9 of .* after 18 since the last full scan"):
            world.scan(**recent)
        world.scan(scan="full", limits=Limits(accept_deleted=9))
        for one in range(160, 169):
            world.shop.delete(one)
        assert world.scan(scan="full").deleted == 9

    def test_mass_updates_are_refused(self) -> None:
        world = _world()
        world.shop.change = lambda one: {**one, "language": {"id": 1, "code": "nl", "title": "Dutch"}}
        refused = '60 of 60 tickets have changed.*set max_updated=1 and scan="full" for one run'
        with pytest.raises(LightspeedTooManyChangesError, match=refused):
            world.scan(scan="full")
        assert world.scan(scan="full", limits=Limits(max_updated=1)).updated == 60


class TestRefused:
    @pytest.mark.parametrize(
        ("field", "words"),
        [
            ("language", "another language"),
            ("file_format", "another file_format"),
            ("fields", "other exclude_fields"),
            ("hash_key", "another key"),
        ],
    )
    def test_another_layout(self, field: str, words: str) -> None:
        world = _world()
        calls = world.shop.calls
        with pytest.raises(LightspeedConfigurationError, match=words):
            world.scan(identity=replace_identity(**{field: "other"}))
        assert world.shop.calls == calls

    def test_a_rotated_key_continues(self) -> None:
        world = _world()
        for one in range(101, 104):
            world.shop.delete(one)
        world.shop.put(120)
        result = world.scan(scan="full", identity=replace_identity(shop="rotated"))
        assert (result.updated, result.deleted) == (1, 3)
        calls = world.shop.calls
        world.scan(scan="recent", identity=replace_identity(shop="rotated"))
        assert world.shop.calls - calls < 20  # the new key is known now

    def test_another_shop_is_refused(self) -> None:
        world, other = _world(), World()
        other.shop.seconds = 1000
        for _ in range(60):
            other.shop.create()
        other.s3 = world.s3
        other.log = world.log
        with pytest.raises(
            LightspeedConfigurationError, match=r"holds another shop: of 20 tickets in it.* has 0"
        ):
            other.scan(identity=replace_identity(shop="other"))
        assert len(world.files()) == 1

    @pytest.mark.parametrize("missing", ["IfNoneMatch", "IfMatch"])
    @pytest.mark.parametrize("runs", [1, 2])
    def test_a_store_without_conditional_writes(self, missing: str, runs: int) -> None:
        world = World(s3=S3InMemory(conditions=frozenset({"IfNoneMatch", "IfMatch"} - {missing})))
        for _ in range(runs):
            with pytest.raises(LightspeedTaskFailed, match="has no conditional writes"):
                world.scan()
        assert world.shop.calls == 0

    @pytest.mark.parametrize("tickets", [0, 60])
    @pytest.mark.parametrize("name", ["changes/date=2026-01-01/tickets.parquet", "current/tickets.csv"])
    def test_foreign_objects(self, name: str, tickets: int) -> None:
        world = _world(tickets)
        world.shop.calls = 0
        world.s3.objects[f"{PREFIX}/{name}"] = (b"", {})
        with pytest.raises(LightspeedTaskFailed, match="is no part of the log of changes"):
            world.scan()
        assert world.shop.calls == 0

    def test_objects_before_the_end_of_the_log_change_nothing(self) -> None:
        world = _world()
        for name in ("_SUCCESS", "block=00000000000000000/00000000000000000001.json"):
            world.s3.objects[f"{PREFIX}/changes/{name}"] = (b"", {})
        world.shop.put(110)
        assert world.scan(scan="full").seq == 2
        assert [row["_seq"] for row in read_after(world.log, 1)] == [2]

    def test_a_gap_is_no_end(self) -> None:
        world = _world()
        for _ in range(3):
            world.shop.create()
            world.scan(scan="full")
        del world.s3.objects[f"{PREFIX}/{world.log.name(3)}"]
        for name in ("_state/known", "status.json", world.log.current_name):
            del world.s3.objects[f"{PREFIX}/{name}"]
        with pytest.raises(LightspeedChangesLostError, match=r"00000003.jsonl.gz is missing"):
            world.scan()

    def test_a_log_whose_last_files_are_gone_does_not_begin_again(self) -> None:
        world = _world()
        del world.s3.objects[f"{PREFIX}/{world.log.name(1)}"]
        with pytest.raises(LightspeedChangesLostError, match="is missing"):
            world.scan()


class TestMalformed:
    def world(self, malformed: dict[int, int | None]) -> World:
        world = _world()
        world.shop.malformed |= malformed
        return world

    def rejected(self, world: World) -> list[dict[str, Any]]:
        data, _ = world.s3.objects["lightspeed/_rejected/shop_nl/changes.jsonl"]
        return [json.loads(line) for line in data.splitlines()]

    @pytest.mark.parametrize("killed", [False, True])
    def test_its_last_good_row_stays(self, killed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 1)
        world = self.world({105: 105})
        new = world.shop.create()
        world.shop.malformed[new] = new
        world.shop.put(110)
        saved: list[dict[str, Any]] = []
        if killed:

            def kill(_: str) -> None:
                if len(saved) == 18:
                    raise Killed

            world.shop.disturb = kill
            with pytest.raises(Killed):
                world.scan(None, saved.append, quarantine=True, scan="full")
            world.shop.disturb = lambda _: None
        progress = json.loads(json.dumps(saved[-1])) if killed else None
        before = world.shop.calls
        result = world.scan(progress, quarantine=True, scan="full")
        assert world.shop.calls - before < 10 or not killed
        assert (result.inserted, result.updated, result.deleted, result.rejected) == (0, 1, 0, 2)
        assert 105 in world.current()[1]
        assert [line["id"] for line in self.rejected(world)] == [105, new]
        status = world.log.read_status()
        assert status is not None
        assert status.rejected == 2
        world.shop.malformed.clear()
        result = world.scan(quarantine=True, scan="full")
        assert (result.inserted, result.updated, result.rejected) == (1, 0, 0)

    def test_it_is_written_aside_before_the_commit(self) -> None:
        world = self.world({105: 105})
        world.shop.put(110)

        def kill(request: str) -> None:
            if request.startswith(f"before put {PREFIX}/changes/"):
                raise Killed

        world.s3.disturb = kill
        with pytest.raises(Killed):
            world.scan(quarantine=True, scan="full")
        assert [line["id"] for line in self.rejected(world)] == [105]

    def test_without_an_id_the_list_proves_no_delete(self) -> None:
        world = self.world(dict.fromkeys(range(101, 112)))
        for one in range(120, 123):
            world.shop.delete(one)
        result = world.scan(quarantine=True, scan="full", confirm_deleted=0)
        # Each of the 14 is requested: 3 are gone by the shop's own word, of 11 that can't be read none is.
        assert (result.deleted, result.unlisted, result.rejected) == (3, 11, 11)
        assert _rows(world, "D") == [120, 121, 122]
        assert sum(path.startswith("tickets/") for path in world.shop.asked) == 14


class TestCompact:
    """Retention: change files that are old enough are deleted."""

    def grown(self, file_format: str = "jsonl") -> World:
        """Return a world with six change files, 100 seconds apart."""
        world = World(file_format)
        for _ in range(30):
            world.shop.create()
        for _ in range(6):
            world.scan(scan="full")
            world.shop.put(110)
            world.shop.seconds += 100
        return world

    def numbers(self, world: World) -> list[int]:
        return sorted(int(meta["seq"]) for name, (_, meta) in world.s3.objects.items() if "/changes/" in name)

    def test_old_files_go_and_the_last_one_stays(self) -> None:
        world = self.grown()
        result = world.scan(scan="full", compact=timedelta(seconds=250))
        assert (result.seq, self.numbers(world)) == (7, [5, 6, 7])
        world.shop.seconds += 10_000
        result = world.scan(scan="full", compact=timedelta(seconds=250))  # nothing has changed
        assert (result.seq, self.numbers(world)) == (7, [7])
        assert sorted(world.current()[1]) == sorted(world.shop.tickets)

    @pytest.mark.parametrize(("days", "told"), [(1, "1 day"), (1.5, "1.5 days"), (30, "30 days")])
    def test_the_age_of_deleted_files_is_logged(
        self, days: float, told: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        world = self.grown()
        world.shop.seconds += 31 * 86400
        world.scan(scan="full", compact=timedelta(days=days))
        assert f"Deleted 6 change files older than {told} (compact)" in caplog.text

    def test_a_reader_that_is_behind_is_told(self) -> None:
        world = self.grown()
        world.scan(scan="full", compact=timedelta(seconds=250))
        assert [row["_seq"] for row in read_after(world.log, 4)] == [5, 6, 7]
        assert list(read_after(world.log, 7)) == []
        for after in (0, 3):
            with pytest.raises(LightspeedChangesLostError, match=rf"0{after + 1}.jsonl.gz is missing"):
                list(read_after(world.log, after))

    @pytest.mark.parametrize(
        "foreign",
        [
            "changes/",
            "changes/_SUCCESS",
            "changes/block=00000000000000000/",
            "changes/block=00000000000000000/00000000000000000001.jsonl.gz.copy",
            "changes/block=00000000000000000/00000000000000000003.json",
            "changes/block=00000000000000009/00000000000000000001.jsonl.gz",
        ],
    )
    def test_objects_that_are_no_change_files_do_not_end_it(
        self, foreign: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = self.grown()
        world.scan(scan="full", compact=timedelta(seconds=450))
        world.s3.objects[f"{PREFIX}/{foreign}"] = (b"", {})
        assert world.log.compact(world.shop.now() - timedelta(seconds=250), 7) == 2
        del world.s3.objects[f"{PREFIX}/{foreign}"]
        assert self.numbers(world) == [5, 6, 7]
        if foreign < world.log.name(5):
            assert caplog.messages[-1].endswith(f"s3://bucket/{PREFIX}/{foreign}")

    @pytest.mark.parametrize("lost", [[], ["status.json"]])
    def test_a_reader_that_is_ahead_reads_another_prefix(self, lost: list[str]) -> None:
        world = self.grown()
        world.scan(scan="full", compact=timedelta(seconds=250))
        for name in lost:
            del world.s3.objects[f"{PREFIX}/{name}"]
        assert list(read_after(world.log, 7)) == []
        with pytest.raises(
            LightspeedConfigurationError, match=r"after=8 is beyond .* change file 7\. .* after=0"
        ):
            list(read_after(world.log, 8))

    def test_a_reader_of_an_empty_log(self) -> None:
        world = World()
        world.scan()
        assert list(read_after(world.log, 0)) == []
        with pytest.raises(LightspeedConfigurationError, match="after=1 is beyond"):
            list(read_after(world.log, 1))

    @pytest.mark.parametrize("killed_before", ["/current/", "/status.json"])
    def test_a_reader_may_be_ahead_of_what_follows_from_the_log(self, killed_before: str) -> None:
        world = self.grown()

        def kill(request: str) -> None:
            if request.startswith("before put") and killed_before in request:
                raise Killed

        world.s3.disturb = kill
        with pytest.raises(Killed):
            world.scan(scan="full")
        world.s3.disturb = lambda _: None
        assert [row["_seq"] for row in read_after(world.log, 6)] == [7]
        assert list(read_after(world.log, 7)) == []

    def test_a_reader_finds_a_gap_without_status(self) -> None:
        world = self.grown()
        world.scan(scan="full")
        for name in ("status.json", world.log.name(3)):
            del world.s3.objects[f"{PREFIX}/{name}"]
        with pytest.raises(LightspeedChangesLostError, match=r"00003.jsonl.gz is missing"):
            list(read_after(world.log, 1))

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_what_a_customer_wrote_is_gone_everywhere(self, file_format: str) -> None:
        world = self.grown(file_format)
        texts = {f"at {second}" for one in (110, 111) for second in range(2000)}
        texts &= {row["subject"] for file in world.files() for row in file if row["id"] in {110, 111}}
        assert len(texts) == 7
        for one in (110, 111):
            world.shop.delete(one)
        world.scan(scan="full", compact=timedelta(seconds=1))
        world.shop.put(112)
        world.shop.seconds += 10
        world.scan(scan="full", compact=timedelta(seconds=1))
        left = [row for file in world.files() for row in file] + list(world.current()[1].values())
        assert texts.isdisjoint(row["subject"] for row in left)
        assert {name.removeprefix(f"{PREFIX}/").partition("/")[0] for name in world.s3.objects} == {
            "changes", "current", "status.json", "_state",
        }  # fmt: skip

    @pytest.mark.parametrize("lost", [["_state/known"], ["_state/known", "status.json"]])
    def test_what_is_known_is_rebuilt_from_current(self, lost: list[str]) -> None:
        world = self.grown()
        world.scan(scan="full", compact=timedelta(seconds=1))
        for name in lost:
            del world.s3.objects[f"{PREFIX}/{name}"]
        result = world.scan(scan="full")
        assert (result.seq, result.inserted, result.updated, result.deleted) == (7, 0, 0, 0)

    def test_a_state_that_is_too_old_is_not_used(self) -> None:
        world = self.grown()
        old = world.s3.objects[f"{PREFIX}/_state/known"]
        for _ in range(2):
            world.shop.put(110)
            world.scan(scan="full", compact=timedelta(0))
        world.s3.objects[f"{PREFIX}/_state/known"] = old
        assert world.scan(scan="full").updated == 0

    def test_without_current_nothing_is_concluded(self) -> None:
        world = self.grown()
        world.scan(scan="full", compact=timedelta(seconds=1))
        del world.s3.objects[f"{PREFIX}/{world.log.current_name}"]
        calls = world.shop.calls
        with pytest.raises(LightspeedChangesLostError, match=r"00001.jsonl.gz is missing"):
            world.scan(scan="full")
        assert world.shop.calls == calls

    def test_files_that_go_while_the_log_is_opened(self) -> None:
        world = self.grown()
        del world.s3.objects[f"{PREFIX}/{world.log.current_name}"]
        done: list[bool] = []

        def once_current_was_looked_for(request: str) -> None:
            if request == f"before head {PREFIX}/{world.log.name(7)}" and not done:
                done.append(True)
                world.shop.put(111)
                world.scan(scan="full", run="other", compact=timedelta(0))

        world.s3.disturb = once_current_was_looked_for
        world.shop.put(112)
        assert world.scan(scan="full").updated == 0  # the other run has it
        assert done

    def test_a_scan_from_before_starts_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 1)
        world = self.grown()
        saved: list[dict[str, Any]] = []

        def kill(request: str) -> None:
            if request.startswith(f"before put {PREFIX}/changes/"):
                raise Killed

        world.s3.disturb = kill
        with pytest.raises(Killed):
            world.scan(None, saved.append, scan="full")
        world.s3.disturb = lambda _: None
        world.shop.put(110)
        for _ in range(3):
            world.shop.put(111)
            world.scan(scan="full", run="other", compact=timedelta(0))
        result = world.scan(saved[-1], scan="full")
        assert (result.seq, result.updated) == (9, 0)
        assert world.current()[1][110]["subject"] == world.shop.tickets[110]["subject"]

    def test_a_number_is_never_used_twice(self) -> None:
        world = self.grown()
        done: list[bool] = []

        def before_the_commit(request: str) -> None:
            if request.startswith(f"before head {PREFIX}/changes/") and world.shop.calls > calls and not done:
                done.append(True)
                world.s3.disturb = lambda _: None
                for _ in range(3):
                    world.shop.put(111)
                    world.scan(scan="full", run="other", compact=timedelta(0))

        calls = world.shop.calls + 9
        world.s3.disturb = before_the_commit
        world.shop.disturb = lambda _: None
        with pytest.raises(LightspeedStorageError, match=r"is gone: other runs have committed"):
            world.scan(scan="full")
        assert done
        assert self.numbers(world) == [9]


class TestStore:
    """What a store refuses is found before the first call to the shop, and the argument is named."""

    @pytest.mark.parametrize(
        ("write", "allowed", "code", "words"),
        [
            (WriteOptions(acl_policy="private"), {}, "AccessControlListNotSupported", "leave `acl_policy` out"),
            (WriteOptions(), {"ACL": "bucket-owner-full-control"}, "AccessDenied", "set `acl_policy="),
            (WriteOptions(), {"ServerSideEncryption": "AES256"}, "AccessDenied", "set `encrypt=True`"),
            (WriteOptions(encrypt=True), {}, "InvalidArgument", "check `kms_key_id` or leave it and `encrypt` out"),
        ],
    )  # fmt: skip
    def test_an_argument(self, write: WriteOptions, allowed: dict[str, str], code: str, words: str) -> None:
        world = World(write=write)

        def judge(request: str, given: dict[str, Any]) -> None:
            sent = {name: given[name] for name in ("ACL", "ServerSideEncryption") if name in given}
            if request == "put" and sent != allowed:
                raise s3_error(code, 400 if code.startswith(("Invalid", "AccessControl")) else 403)

        world.s3.judge = judge
        with pytest.raises(LightspeedConfigurationError, match=f"{code}.*{words}.*No ticket was fetched"):
            world.scan()
        assert (world.shop.calls, world.s3.objects) == (0, {})

    def test_a_first_write_that_meets_another_one(self) -> None:
        world = World()
        conflicts = iter([True, False])

        def judge(request: str, given: dict[str, Any]) -> None:
            if request == "put" and given["Key"].endswith("/conditions") and next(conflicts, False):
                raise s3_error("ConditionalRequestConflict", 409)

        world.s3.judge = judge
        assert world.scan().seq == 0

    @pytest.mark.parametrize("right", ["get", "delete"])
    def test_a_right(self, right: str) -> None:
        world = World()

        def judge(request: str, _: dict[str, Any]) -> None:
            if request == right:
                raise s3_error("AccessDenied", 403)

        world.s3.judge = judge
        with pytest.raises(LightspeedConfigurationError, match="No ticket was fetched"):
            world.scan()
        assert world.shop.calls == 0

    def test_staged_parts_of_a_try_without_a_checkpoint_are_removed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 1)
        world = _killed_at_the_third_call()
        with pytest.raises(Killed):
            world.scan(run="run")
        assert any("/_staging/" in name for name in world.s3.objects)
        world.shop.disturb = lambda _: None
        world.scan(run="run")
        assert not any("/_staging/" in name for name in world.s3.objects)

    def test_staged_parts_of_a_try_that_ended_after_its_commit_are_removed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 1)
        world = _world()
        world.shop.put(110)

        def kill(request: str) -> None:
            if request.startswith(f"after put {PREFIX}/changes/"):
                raise Killed

        world.s3.disturb = kill
        with pytest.raises(Killed):
            world.scan(
                scan="full", run="run", generation="1"
            )  # its checkpoint is lost, as before Airflow 3.3
        world.s3.disturb = lambda _: None
        assert world.scan(scan="full", run="run", generation="1").seq == 2
        assert not any("/_staging/" in name for name in world.s3.objects)


def replace_identity(**fields: str) -> Any:
    return msgspec.structs.replace(IDENTITY, **fields)


class TestWriters:
    def test_a_second_writer_takes_in_the_first_without_a_call_to_the_shop(self) -> None:
        world = _world()
        world.shop.put(110)
        world.shop.put(111)
        reading = world.shop.calls
        other = []

        def at_commit(request: str) -> None:
            if request.startswith("before put") and "/changes/" in request and not other:
                other.append(world.shop.calls - reading)
                world.s3.disturb = lambda _: None
                world.shop.put(110)
                world.shop.delete(112)
                world.scan(scan="full")

        world.s3.disturb = at_commit
        started = world.shop.now()
        result = world.scan(scan="full")
        # The other one has 110, 111 and 112 already, as they are now.
        assert (result.seq, result.updated, result.deleted) == (2, 0, 0)
        assert result.complete_as_of is not None
        assert result.complete_as_of >= started
        rows = replay(row for file in world.files() for row in file)
        assert {one: row["subject"] for one, row in rows.items()} == {
            one: found["subject"] for one, found in world.shop.tickets.items()
        }

    def test_it_adds_what_the_other_one_does_not_have(self) -> None:
        world = _world(tickets=90)
        world.shop.put(101)
        done = []

        def at_commit(request: str) -> None:
            if request.startswith("before put") and "/changes/" in request and not done:
                done.append(True)
                world.s3.disturb = lambda _: None
                world.shop.put(190)
                world.scan(scan="recent", recent=timedelta(seconds=20))

        world.s3.disturb = at_commit
        result = world.scan(scan="full")
        assert (result.seq, result.updated) == (3, 1)
        assert [row["id"] for row in world.files()[-1]] == [101]

    def test_a_slow_try_commits_before_its_retry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Airflow has given the first try up, and the retry resumes its scan, and sees more."""
        monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 2)
        world = _world()
        world.shop.put(101)
        saved: list[dict[str, Any]] = []
        options = {"scan": "full", "run": "run", "generation": "1"}
        first_waits, retry_waits, first_ended = Event(), Event(), Event()
        retry = current_thread()

        def at_commit(request: str) -> None:
            if not request.startswith(f"before put {PREFIX}/changes/"):
                return
            if current_thread() is retry:
                retry_waits.set()
                first_ended.wait(10)
            else:
                first_waits.set()
                retry_waits.wait(10)

        def first() -> Result:
            try:
                return world.scan(None, lambda state: saved.append(copy.deepcopy(state)), **options)
            finally:
                first_ended.set()

        world.s3.disturb = at_commit
        with ThreadPoolExecutor() as pool:
            slow = pool.submit(first)
            assert first_waits.wait(10)
            new = world.shop.create()
            world.shop.delete(159)
            result = world.scan(saved[0], **options)
        assert (slow.result().seq, slow.result().updated) == (2, 1)
        # The file holds what the first try saw; what only the retry saw comes with the next scan.
        assert (result.seq, result.inserted, result.updated, result.deleted) == (2, 0, 1, 0)
        world.s3.disturb = lambda _: None
        later = world.scan(scan="full", run="next")
        assert (later.seq, later.inserted, later.updated, later.deleted) == (3, 1, 0, 1)
        assert world.current()[1].keys() == world.shop.tickets.keys() >= {new}

    def test_a_write_whose_response_is_lost_counts_once(self) -> None:
        world = _world()
        world.shop.put(101)
        lost: list[bool] = []

        def lose(request: str) -> None:
            if request.startswith(f"after put {PREFIX}/changes/") and not lost:
                lost.append(True)
                raise lost_response()

        world.s3.disturb = lose
        result = world.scan(scan="full")
        assert (result.seq, result.updated, len(world.files())) == (2, 1, 2)
        assert world.scan(scan="full").seq == 2

    def test_current_does_not_go_back_when_the_other_one_is_faster(self) -> None:
        world = _world()
        world.shop.put(110)
        done = []

        def before_current_is_read(request: str) -> None:
            if request.startswith("before get") and "/current/" in request and not done:
                done.append(True)
                world.s3.disturb = lambda _: None
                world.shop.put(111)
                world.scan(scan="full")

        world.s3.disturb = before_current_is_read
        assert world.scan(scan="full").seq == 2
        assert done
        assert world.current()[0] == 3


class TestEmptyShop:
    @pytest.mark.parametrize("file_format", FORMATS)
    def test_it_has_an_empty_current_and_no_change_file(self, file_format: str) -> None:
        world = World(file_format)
        result = world.scan()
        assert (result.seq, result.uri, result.tickets) == (0, None, 0)
        assert world.current() == (0, {})
        world.shop.create()
        assert world.scan(scan="full").inserted == 1


def test_a_resumed_scan_reads_on_after_the_last_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 1)
    world, saved = _killed_at_the_third_call(), []
    with pytest.raises(Killed):
        world.scan(save=saved.append)
    result = world.scan(json.loads(json.dumps(saved[-1])))
    assert (result.inserted, result.tickets) == (9, 9)
    # Two pages and the one under way; then the third page and the empty one.
    assert world.shop.calls == 5


def test_which_scan_is_due() -> None:
    class Chosen:
        full_every = timedelta(hours=23)
        scan = "auto"
        limits = Limits()

    options: Any = Chosen()
    coverage = (Scope(0, START), Scope(50, START + timedelta(hours=20)))
    assert choose_scan(options, (), None, START) == "full"
    assert choose_scan(options, coverage, None, START + timedelta(hours=23)) == "recent"
    assert choose_scan(options, coverage, None, START + timedelta(hours=23, seconds=1)) == "full"
    options.scan = "recent"
    assert choose_scan(options, (), None, START) == "full"
    assert choose_scan(options, coverage, None, START + timedelta(days=9)) == "recent"


def test_a_commit_fits_into_the_metadata_of_an_object() -> None:
    coverage = tuple(Scope(10**12 + one, START) for one in range(3))
    commit = Commit(
        seq=10**6, observation="o" * 32, run="r" * 12, generation="g" * 12, scan="recent", started=START, ended=START,
        inserted=10**6, updated=10**6, deleted=10**6, unlisted=10**6, tickets=10**6, calls=10**6,
        deleted_since_full=10**6, coverage=coverage, identity=IDENTITY,
    )  # fmt: skip
    metadata = commit.to_metadata()
    assert Commit.from_metadata(metadata) == commit
    assert sum(len(name) + len(value) for name, value in metadata.items()) < 1500
    # Some stores drop values that are empty.
    kept = {name: value for name, value in metadata.items() if name not in {"run", "generation"}}
    assert Commit.from_metadata(kept) == msgspec.structs.replace(commit, run="", generation="")
    assert Commit.from_metadata({**metadata, "seq": "x"}) is None
    assert Commit.from_metadata({}) is None


def test_a_long_scan_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = _unscanned(300)
    monkeypatch.setattr(progress_clock, "_EVERY", 0.0)
    caplog.set_level("INFO")
    asked = []
    for scan in ("full", "full", "recent"):
        caplog.clear()
        world.shop.asked.clear()
        world.shop.announced.clear()
        world.scan(scan=scan, recent=timedelta(0))
        asked.append(world.shop.asked.count("tickets/count.json"))
        lines = [record.getMessage() for record in caplog.records]
        read = [line for line in lines if line.startswith("Read ")]
        if scan == "full":
            assert [job for job, _ in world.shop.announced] == ["Reading about 300 tickets"]
            assert len(read) == 100
            assert re.match(r"Read 300 tickets of about 300, .+ to go; \d+ API calls; ", read[-1])
        else:
            assert world.shop.announced == []
    # Only the first scan can't know how many tickets there are.
    assert asked == [1, 0, 0]


@pytest.mark.parametrize(("known", "estimated"), [(60, []), (270, [*range(252, 271, 3)])])
def test_a_scan_estimates_nothing_beyond_the_tickets_that_are_known(
    known: int, estimated: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = _world(known)
    for _ in range(known, 300):
        world.shop.create()
    world.shop.announced.clear()
    monkeypatch.setattr(progress_clock, "_EVERY", 0.0)
    caplog.set_level("INFO")
    world.scan(scan="full")
    announced = [job for job, _ in world.shop.announced]
    assert announced == ([f"Reading about {known} tickets"] if estimated else [])
    assert re.findall(r"Read (\d+) tickets of about", caplog.text) == [f"{read}" for read in estimated]
    assert "Read 300 tickets; " in caplog.text


def test_a_resumed_scan_does_not_count_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = _unscanned(300)
    monkeypatch.setattr(progress_clock, "_EVERY", 0.0)
    caplog.set_level("INFO")
    saved: list[dict[str, Any]] = []

    def end(_: str) -> None:
        if len(world.shop.asked) == 97:
            raise LightspeedQuotaExhaustedError("used up", until=START)

    world.shop.disturb = end
    with pytest.raises(LightspeedQuotaExhaustedError):
        world.scan(save=saved.append)
    caplog.clear()
    world.scan(saved[-1])
    assert world.shop.asked.count("tickets/count.json") == 1
    assert "Read 288 tickets of about 300, " in caplog.text


def test_requesting_many_missing_tickets_is_announced(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(300)
    for ticket_id in list(world.shop.tickets)[:25]:
        world.shop.delete(ticket_id)
    world.shop.announced.clear()
    monkeypatch.setattr(progress_clock, "_EVERY", 0.0)
    caplog.set_level("INFO")
    world.scan(scan="full", confirm_deleted=20)
    assert [job for job, _ in world.shop.announced] == [
        "Reading about 300 tickets",
        "Requesting 20 missing tickets one by one",
    ]
    assert "Requested 19 of 20 missing tickets, less than 10 s to go; " in caplog.text
