"""A scenario as a value: the same seed draws the same one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Churn, Distortions, Fault, ShopConfig
from airflow_provider_lightspeed.sandbox.config import Order
from airflow_provider_lightspeed.sandbox.faults import FaultKind

END = datetime(2026, 6, 1, tzinfo=UTC)
DAYS = 60
NEW_TICKETS = 3
#: What the connections say: the share of the quota that others get, and how long a worker slot may wait.
QUOTA_RESERVE = 0.3
MAX_WAIT = 2

Disruption = Literal["task", "triggerer", "s3", "shop", "new tickets"]

#: Each speaks its own language to the shop, so that the shop's log tells them apart.
LANGUAGES = {"export": "en", "close": "us", "watch": "nl", "sync": "de"}
#: After the first sync, two write to its prefix at once.
SYNCS = ("sync", "follow", "rival")
TASKS = ("export", "close", "watch", *SYNCS)
#: What the staff does after the first sync: so many tickets are changed, and so many deleted.
STAFF_WORK = 3

ZONES = (
    "UTC",
    "Europe/Amsterdam",
    "America/New_York",
    "Asia/Kolkata",
    "Pacific/Kiritimati",
    "Pacific/Marquesas",
)
#: Faults of dishonest shops: they pass, and look like an answer for good.
_MISLEADING: tuple[FaultKind, ...] = ("html-403", "empty-list", "103")
#: With each of these, tasks must end with complete data.
_DISHONEST: tuple[Mapping[str, Any], ...] = (
    {"page_limit": 50},
    {"page_limit": 100},
    {"left_out_every": 97},
    {"repeated_every": 5},
    {"count_cap": 500},
    {"count_lag": 3},
    {"replica_lag": 3},
    {"page_depth": 500},
    {"page_depth": 500, "beyond_depth": "empty"},
    {"switches": "text"},
    {"switches": "digit"},
    {"put_204": True},
    {"new_properties": True},
    {"late_every": 3, "late_seconds": 4.0},
)
_ENDINGS = ("jsonl", "jsonl.gz", "csv.gz", "parquet")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A shop, what the tasks do with it, and what happens meanwhile."""

    seed: int
    shop: ShopConfig
    filter_timezone_known: bool
    ending: str
    """Of the export's key."""
    created_from: datetime
    created_to: datetime
    close_before: datetime
    disruptions: tuple[tuple[int, Disruption], ...]
    """What happens after how many calls, in order. New tickets alone do no harm."""

    @property
    def log_format(self) -> str:
        """The format of the log of changes."""
        return "jsonl" if self.ending.startswith("jsonl") else "parquet"

    @property
    def is_tight(self) -> bool:
        """Whether tasks have to wait for its quota."""
        return self.shop.limits != NO_LIMITS

    @property
    def is_in_order(self) -> bool:
        """Whether changes by others leave the order of its lists as it is."""
        return self.shop.order in {"newest", "oldest"}

    @property
    def dishonesty(self) -> dict[str, object]:
        """The options in which its shop differs from an honest one."""
        honest = Distortions()
        names = [option.name for option in fields(Distortions)]
        return {
            name: getattr(self.shop, name)
            for name in names
            if getattr(self.shop, name) != getattr(honest, name)
        }

    @property
    def may_be_too_restless(self) -> bool:
        """Whether a list may change too fast to be proven complete."""
        fits_on_a_page = self.shop.tickets < 200
        return self.shop.churn != Churn() and not self.is_in_order and not fits_on_a_page

    def connection_id(self, task: str) -> str:
        """Return the id of a task's connection."""
        return connection_id(task, self.shop.filter_timezone if self.filter_timezone_known else "")

    def __str__(self) -> str:
        shop = self.shop
        limits = (
            "no quota" if not self.is_tight else f"{shop.limits[0]} calls in {shop.window_seconds[0]:.0f} s"
        )
        faults = ", ".join(sorted({fault.kind for fault in shop.faults})) or "no faults"
        dishonest = ", ".join(f"{name} {value}" for name, value in self.dishonesty.items()) or "honest"
        disruptions = ", ".join(f"{disruption} at call {at}" for at, disruption in self.disruptions)
        return (
            f"{shop.tickets} tickets, {shop.order}, filters in {shop.filter_timezone} "
            f"({'known' if self.filter_timezone_known else 'unknown'}), {limits}, {faults}, {dishonest}, "
            f"{'churning' if shop.churn != Churn() else 'quiet'}, {self.ending} up to {self.created_to:%Y-%m-%d}; {disruptions}"
        )


def connection_id(task: str, filter_timezone: str) -> str:
    """Return the id of a task's connection to a shop whose filter zone is known, or unknown (empty)."""
    return f"chaos_{task}" + (f"_{ZONES.index(filter_timezone)}" if filter_timezone else "")


def draw(seed: int) -> Scenario:
    """Draw a scenario."""
    chance = random.Random(seed)
    tight = chance.random() < 0.4
    created_from = END - timedelta(days=chance.uniform(20, DAYS + 5))
    strokes = [chance.choice(get_args(Disruption)[:-1]) for _ in range(chance.randrange(4))]
    shop = ShopConfig(
        seed=seed,
        tickets=chance.choice((0, 40, 700, 1_500, 5_000, 12_000)),
        end=END,
        days=DAYS,
        per_second=chance.choice((1, 1, 1, 3)),
        id_step=chance.choice((1, 7)),
        oddities=chance.random() < 0.5,
        order=chance.choice(get_args(Order)),
        filter_timezone=chance.choice(ZONES),
        answer_timezone=chance.choice(ZONES),
        min_inclusive=chance.random() < 0.5,
        max_inclusive=chance.random() < 0.5,
        since_id_inclusive=chance.random() < 0.3,
        limits=(60, 10**6, 10**6) if tight else NO_LIMITS,
        window_seconds=(10.0, 3_600.0, 86_400.0),
        burst_limit=20,
        negative_remaining=chance.random() < 0.5,
        retry_after=chance.choice(("none", "seconds", "date")),
        latency=chance.choice((0.0, 0.05, 0.2)),
        faults=tuple(_fault(chance) for _ in range(chance.randrange(4))),
        churn=chance.choice((Churn(), Churn(inserts=0.1, changes=0.2, deletes=0.05))),
        same_touches_tickets=chance.random() < 0.3,
    )
    shop = _maybe_dishonest(shop)
    # Most scenarios make at least this many calls, so that nearly all disruptions happen.
    calls = 12 + shop.tickets // 100
    return Scenario(
        seed=seed,
        shop=shop,
        filter_timezone_known=chance.random() < 0.3,
        ending=chance.choice(_ENDINGS),
        created_from=created_from,
        close_before=END - timedelta(days=DAYS) + timedelta(days=chance.uniform(0, 30)),
        disruptions=tuple(
            sorted(
                [(chance.randrange(calls), disruption) for disruption in strokes]
                + [(chance.randrange(30), "new tickets")]
            )
        ),
        created_to=created_from + (END - created_from) * chance.uniform(0.1, 1.0)
        if chance.random() < 0.5
        else END + timedelta(days=365),
    )


def _fault(chance: random.Random) -> Fault:
    fault = Fault(
        chance.choice([kind for kind in get_args(FaultKind) if kind not in _MISLEADING]),
        times=0,
        probability=chance.choice((0.01, 0.05)),
        applied=chance.random() < 0.5,
        delay=0.5,
    )
    # "Too many requests" means that the request was not done.
    return replace(fault, applied=False) if fault.kind == "429" else fault


def _maybe_dishonest(shop: ShopConfig) -> ShopConfig:
    # From its own generator: the rest of a scenario is the same with and without this.
    chance = random.Random(f"{shop.seed} dishonest")
    options: dict[str, Any] = {}
    if chance.random() < 0.6:
        for kind in chance.sample(_DISHONEST, chance.choice((1, 1, 2))):
            options |= kind
    if chance.random() < 0.3:
        fault = Fault(chance.choice(_MISLEADING), times=0, probability=0.05)
        options["faults"] = (*shop.faults, fault)
    return replace(shop, **options)
