"""The log of changes while everything breaks: kills and faults at each request, other writers, lost objects."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_lightspeed.api.errors import LightspeedQuotaExhaustedError
from airflow_provider_lightspeed.changes import scan as scan_module
from airflow_provider_lightspeed.changes.coverage import as_of
from airflow_provider_lightspeed.changes.fingerprint import fingerprint
from airflow_provider_lightspeed.changes.scan import Result
from airflow_provider_lightspeed.exceptions import LightspeedStagingLostError, LightspeedStorageError
from airflow_provider_lightspeed.s3 import staging as staging_module
from tests.unit.changes_world import PREFIX, Killed, S3InMemory, World, lost_response, replay, s3_error

DISTURBANCES = st.sampled_from([
    "create",
    "update",
    "update",
    "delete",
    "return",
    "kill",
    "lose",
    "conflict",
    "twice",
    "quota",
    "other",
    "other recent",
    "retry",
])
#: What happens while a scan runs: after how many requests, and what.
SCRIPT = st.lists(st.tuples(st.integers(0, 14), DISTURBANCES), max_size=6)


@pytest.fixture(autouse=True)
def often_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "_CALLS_AT_RISK", 2)
    # Else chance decides which of the parts that are deleted at once meets what is to happen at a request.
    monkeypatch.setattr(staging_module, "_AT_ONCE", 1)


class Crashes(RuleBasedStateMachine):
    store: Callable[[], Any] = S3InMemory

    @initialize(
        file_format=st.sampled_from(["jsonl", "jsonl", "jsonl", "parquet"]), tickets=st.integers(0, 14)
    )
    def begin(self, file_format: str, tickets: int) -> None:
        self.world = World(file_format, s3=type(self).store())
        self.random = random.Random(tickets)
        self.committed: dict[str, bytes] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.progress: dict[str, Any] | None = None
        self.tries = 0
        self.runs = 0
        for _ in range(tickets):
            self.world.shop.create()

    @rule(
        what=st.sampled_from(["create", "update", "delete", "return", "hide", "show"]),
        times=st.integers(1, 3),
    )
    def change_shop(self, what: str, times: int) -> None:
        for _ in range(times):
            self._change(what)

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.world.shop.seconds += seconds

    @rule(
        scan=st.sampled_from(["auto", "recent", "full"]),
        script=SCRIPT,
        keeps=st.booleans(),
        compact=st.sampled_from([None, None, 0, 60]),
    )
    def run(self, scan: str, script: list[tuple[int, str]], keeps: bool, compact: int | None) -> None:
        self.runs += 1
        self.tries = 1
        self.progress = None
        self.keeps = keeps
        self.kind = scan
        self.compact = None if compact is None else timedelta(seconds=compact)
        self.generation = 0
        self._try(script)

    @precondition(lambda self: getattr(self, "tries", 0))
    @rule(script=SCRIPT)
    def retry(self, script: list[tuple[int, str]]) -> None:
        self._try(script)

    @precondition(lambda self: getattr(self, "tries", 0))
    @rule(script=SCRIPT)
    def clear(self, script: list[tuple[int, str]]) -> None:
        self.generation += 1
        self.progress = None
        self._try(script)

    @rule(name=st.sampled_from(["_state/known", "status.json", "current"]), damaged=st.booleans())
    def lose(self, name: str, damaged: bool) -> None:
        name = f"{PREFIX}/{self.world.log.current_name if name == 'current' else name}"
        if "current" in name and self._is_compacted():
            return  # it is the base of the log
        there = self.world.s3.objects.pop(name, None)
        if there and damaged and "current" not in name:
            self.world.s3.objects[name] = (there[0][:-3] + b"???", there[1])

    @invariant()
    def no_committed_file_changes(self) -> None:
        objects = getattr(self, "world", World()).s3.objects
        files = {name: data for name, (data, _) in objects.items() if f"{PREFIX}/changes/" in name}
        there = False
        for name, data in sorted(getattr(self, "committed", {}).items()):
            # Retention removes the oldest files, so that no gap is left.
            there = there or name in files
            assert not there or files[name] == data
        self.committed = getattr(self, "committed", {}) | files
        for name in files.keys() - getattr(self, "rows", {}).keys():
            self.rows[name] = list(self.world.form.read(io.BytesIO(files[name])))

    @invariant()
    def replaying_gives_current(self) -> None:
        if (
            not hasattr(self, "world")
            or f"{PREFIX}/{self.world.log.current_name}" not in self.world.s3.objects
        ):
            return
        seq, current = self.world.current()
        rows = [row for file in self._files()[:seq] for row in file]
        rows += self.random.sample(rows, len(rows) // 3)
        self.random.shuffle(rows)
        assert replay(iter(rows)) == current

    @invariant()
    def what_is_claimed_is_true(self) -> None:
        if not hasattr(self, "world"):
            return
        shop, log = self.world.shop, self.world.log
        opened = log.open()
        rows = replay(row for file in self._files() for row in file)
        assert list(opened.known.ids) == sorted(rows)
        assert list(opened.known.fingerprints) == [fingerprint(rows[one]) for one in sorted(rows)]
        for ticket_id in shop.history:
            claim = as_of(opened.coverage, ticket_id)
            value = rows[ticket_id]["subject"] if ticket_id in rows else None
            if claim is not None and ticket_id not in shop.was_hidden:
                assert value in shop.values_since(ticket_id, claim), ticket_id

    @invariant()
    def rows_lie_between_their_instants(self) -> None:
        shop = getattr(self, "world", World()).shop
        for file in self._files():
            for row in file:
                after, by = row["_changed_after"], row["_changed_by"]
                value = row["subject"] if row["op"] != "D" else None
                assert after is None or after <= by
                if row["id"] not in shop.was_hidden:
                    values = (
                        shop.values_since(row["id"], after) if after else shop.values_since(row["id"], None)
                    )
                    assert value in values
                    assert (
                        any(at <= by for at, was in shop.history[row["id"]] if was == value) or value is None
                    )

    def _try(self, script: list[tuple[int, str]]) -> None:
        shop = self.world.shop
        self.listed, resumed = False, self.progress is not None
        with self._disturbed(script) as changed:
            try:
                result = self._scan()
            except LightspeedStagingLostError:
                self.progress = None  # another try of the scan has ended meanwhile, and removed them
                return
            except (Killed, BotoCoreError, LightspeedStorageError, LightspeedQuotaExhaustedError):
                return
        assert not any(
            "/_staging/" in name and f"/run {self.runs}/" in name for name in self.world.s3.objects
        )
        is_whole = not resumed and self.listed
        self.progress = None
        if result.scan != "full" or not is_whole:
            return
        # Nothing that was left alone differs from the shop.
        rows = replay(row for file in self._files() for row in file)
        for ticket_id, ticket in shop.tickets.items():
            if ticket_id not in changed | shop.was_hidden:
                assert rows[ticket_id]["subject"] == ticket["subject"]

    def _scan(self) -> Result:
        return self.world.scan(
            self.progress,
            self._save,
            scan=self.kind,
            run=f"run {self.runs}",
            generation=f"{self.generation}",
            compact=self.compact,
        )

    @contextmanager
    def _disturbed(self, script: list[tuple[int, str]]) -> Generator[set[int]]:
        """Let things happen at each request of a scan; return which tickets changed meanwhile."""
        changed: set[int] = set()
        due = [gap for gap, _ in script]
        left = list(script)
        requests = 0

        def disturb(request: str) -> None:
            nonlocal requests
            self._watch(request)
            self.listed = self.listed or request == "list"
            requests += 1
            if not left or requests <= due[0]:
                return
            if left[0][1] == "retry" and not request.startswith(f"before put {PREFIX}/changes/"):
                return
            _, what = left.pop(0)
            due.pop(0)
            requests = 0
            if what == "kill":
                raise Killed
            if what == "lose":
                if request.startswith(("before", "after")):
                    raise lost_response()
            elif what == "conflict":
                # Another write is under way, and comes to nothing.
                if request.startswith("before put") and "/_staging/" not in request:
                    raise s3_error("ConditionalRequestConflict", 409)
            elif what == "twice":
                # The response was lost, and boto has sent it again.
                if request.startswith("after put") and "/_staging/" not in request:
                    raise s3_error("PreconditionFailed", 412)
            elif what == "quota":
                if request in {"list", "get"}:
                    raise LightspeedQuotaExhaustedError(
                        "no quota", until=self.world.shop.now() + timedelta(minutes=5)
                    )
            elif what == "retry":
                # Airflow has given this try up, though it is only slow: the next one resumes from its checkpoint.
                if self.progress is not None:
                    self.progress = copy.deepcopy(self.progress)
                    changed.update({self.world.shop.create(), self._change("delete") or 0})
                    self._undisturbed(self._scan)
            elif what.startswith("other"):
                self._undisturbed(
                    lambda: self.world.scan(
                        scan="recent" if "recent" in what else "full", run="other", compact=self.compact
                    )
                )
            elif (one := self._change(what)) is not None:
                changed.add(one)

        self._disturb = disturb
        self.world.s3.disturb = self.world.shop.disturb = disturb
        try:
            yield changed
        finally:
            self.world.s3.disturb = self.world.shop.disturb = lambda _: None

    def _files(self) -> list[list[dict[str, Any]]]:
        """Return the rows of all change files there ever were."""
        return [rows for _, rows in sorted(getattr(self, "rows", {}).items())]

    def _watch(self, request: str) -> None:
        """Let time pass, and take note of a change file before retention can remove it."""
        self.world.shop.tick()
        if request.startswith("after put") and f"{PREFIX}/changes/" in request:
            self.no_committed_file_changes()

    def _is_compacted(self) -> bool:
        names = [name for name in self.world.s3.objects if f"{PREFIX}/changes/" in name]
        return len(names) < len(self.committed)

    def _undisturbed(self, run: Any) -> None:
        before = self.world.s3.disturb
        self.world.s3.disturb = self.world.shop.disturb = self._watch
        try:
            run()
        finally:
            self.world.s3.disturb = self.world.shop.disturb = before

    def _save(self, state: dict[str, Any]) -> None:
        if self.keeps:
            self.progress = state

    def _change(self, what: str) -> int | None:
        shop = self.world.shop
        if what == "create":
            return shop.create()
        deleted = [one for one in shop.history if one not in shop.tickets]
        pool = {"return": deleted, "show": sorted(shop.hidden)}.get(what, sorted(shop.tickets))
        if not pool:
            return None
        one = self.random.choice(pool)
        if what in {"update", "return"}:
            shop.put(one)
        elif what == "delete":
            shop.delete(one)
        elif what == "hide":
            shop.hide(one)
        else:
            shop.hidden.discard(one)
        return one


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(stateful_step_count=25)
