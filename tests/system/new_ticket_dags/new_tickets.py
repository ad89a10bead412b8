"""New tickets in every mode, each with a shop of its own: sensors that run without end, an asset, runs of every kind."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, AssetOrTimeSchedule, CronDataIntervalTimetable, dag, task

from airflow_provider_lightspeed.assets import new_ticket_ids, new_tickets_asset
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor

INTERVAL = float(os.environ["POLL_SECONDS"])
TIMEOUT = float(os.environ["TIMEOUT_SECONDS"])
# Tasks get killed here, and on a busy machine Airflow loses one now and then by itself.
RETRIES: dict[str, Any] = {"retries": 9, "retry_delay": timedelta(seconds=1)}
MODES: dict[str, dict[str, Any]] = {
    "poke": {},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}


def endless(mode: str) -> None:
    @dag(
        dag_id=mode,
        schedule="@continuous",
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
    )
    def sensor() -> None:
        NewTicketSensor(
            task_id="hand_over",
            poke_interval=INTERVAL,
            timeout=3_600,
            lightspeed_conn_id=f"lightspeed_{mode}",
            **MODES[mode],
            **RETRIES,
        )

    sensor()


def of_every_kind(mode: str) -> None:
    @dag(
        dag_id=f"runs_{mode}",
        schedule=AssetOrTimeSchedule(
            timetable=CronDataIntervalTimetable("@daily", timezone="UTC"), assets=[Asset(f"start_{mode}")]
        ),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1_000,
    )
    def sensor() -> None:
        NewTicketSensor(
            task_id="hand_over",
            poke_interval=INTERVAL,
            timeout=3_600,
            lightspeed_conn_id=f"lightspeed_runs_{mode}",
            **MODES[mode],
            **RETRIES,
        )

    sensor()


for mode in MODES:
    endless(mode)
    of_every_kind(mode)

SHOP = new_tickets_asset("shop", lightspeed_conn_id="lightspeed_event", poll_interval=INTERVAL)


@dag(schedule=[SHOP], start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def event() -> None:
    @task(multiple_outputs=True, inlets=[SHOP], **RETRIES)
    def hand_over(**context: Any) -> dict[str, list[int]]:
        return {"ticket_ids": new_ticket_ids(SHOP, context)}

    hand_over()


event()


@dag(schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def timed() -> None:
    NewTicketSensor(
        task_id="wait_in_vain",
        since_id=0,
        where=lambda _: False,
        deferrable=True,
        soft_fail=True,
        poke_interval=INTERVAL,
        timeout=TIMEOUT,
        lightspeed_conn_id="lightspeed_timed",
    )


timed()
