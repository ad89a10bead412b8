"""A shop, an S3 server and an Airflow that knows both."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from airflow_provider_lightspeed.sandbox import Sandbox, ShopConfig
from demo.airflow_home import AirflowHome
from demo.s3_server import S3Server

BUCKET = "support-desk"


@dataclass(frozen=True)
class World:
    """The services that a DAG of `example_dags/` needs, up and running."""

    shop: Sandbox
    s3: S3Server
    airflow: AirflowHome


@contextlib.contextmanager
def world(
    directory: Path,
    *,
    poll_seconds: float = 2.0,
    limits: tuple[int, int, int] = ShopConfig.limits,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Generator[World]:
    """Start a shop, an S3 server and an Airflow home below a directory, instead of what was there. They end with the block.

    :param poll_seconds: how often the sensors of the example DAGs poll for new tickets.
    :param limits: the shop's quota: calls in 5 minutes, an hour and a day.
    :param settings: environment variables for Airflow.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with S3Server(directory) as s3, Sandbox(_busy_shop(limits)) as shop:
        airflow = AirflowHome.create(
            directory / "airflow",
            connections={
                "lightspeed_default": shop.airflow_connection(),
                # Those of the DAG for many shops. Here they are one and the same.
                **dict.fromkeys(("shop_nl", "shop_be", "shop_de"), shop.airflow_connection()),
                "aws_default": s3.airflow_connection(),
            },
            settings={
                "LIGHTSPEED_S3_BUCKET": BUCKET,
                "LIGHTSPEED_POLL_SECONDS": str(poll_seconds),
                **settings,
            },
        )
        s3.wait_until_ready()
        s3.client().create_bucket(Bucket=BUCKET)
        yield World(shop, s3, airflow)


def _busy_shop(limits: tuple[int, int, int]) -> ShopConfig:
    # 300 tickets a day, which is more than one page, and some days beyond the two weeks after which a ticket is
    # stale. They end with yesterday, whose tickets are what a run exports today.
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return ShopConfig(tickets=6_000, days=20, end=midnight, limits=limits)
