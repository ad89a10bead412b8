"""DAG files are parsed every few seconds: what they import must be light."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseSensorOperator, Stats, Variable, mask_secret
by_airflow = set(sys.modules)  # Airflow before 3.1 loads requests by itself
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator, CreateTicketOperator, UpdateTicketsOperator
)
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.triggers.tickets import NewTicketTrigger
from airflow_provider_lightspeed.assets import new_tickets_asset
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator
CloseTicketsOperator(task_id="a", ticket_ids=[1])
CreateTicketOperator(task_id="b", subject="s", customer_id=1)
NewTicketSensor(task_id="c")
LightspeedTicketsToS3Operator(task_id="d", s3_key="s3://b/k")
heavy = ["requests", "aiohttp", "boto3", "botocore", "pyarrow", "airflow.providers.amazon.aws"]
print(*[name for name in heavy if name in sys.modules.keys() - by_airflow])
"""


def test_nothing_heavy_is_loaded_by_a_dag_file() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_the_entry_point_loads_no_airflow() -> None:
    program = (
        "import sys, airflow_provider_lightspeed.provider_info as p; p.get_provider_info();"
        "print('airflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
