"""What fails for good and what is tried again, by the retry policy alone: without it, an hour would pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_lightspeed._airflow import dag, task
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.retry_policy import LightspeedRetryPolicy

_RULES = {"retries": 3, "retry_delay": timedelta(hours=1), "retry_policy": LightspeedRetryPolicy()}


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, default_args=_RULES)
def retry_policy() -> None:
    @task
    def wrong_secret() -> int:
        return LightspeedHook("lightspeed_wrong").count_tickets()

    @task
    def lost_answer() -> dict[str, Any]:
        return LightspeedHook("lightspeed_default").create_ticket({"subject": "Lost", "customer": 1})

    @task
    def used_up_quota(ti: Any = None) -> int:
        shop = LightspeedHook("lightspeed_small")
        while ti.try_number == 1:
            shop.count_tickets()
        return shop.count_tickets()

    wrong_secret()
    lost_answer()
    used_up_quota()


retry_policy()
