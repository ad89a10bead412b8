"""From an Airflow connection to the client of triggers. Nothing here may hold the event loop up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lightspeed._airflow import get_async_connection
from airflow_provider_lightspeed.api.client import AsyncLightspeedClient
from airflow_provider_lightspeed.hooks.metrics import AirflowMeter
from airflow_provider_lightspeed.hooks.settings import mask_credentials, read_settings

if TYPE_CHECKING:
    from airflow_provider_lightspeed.api.settings import ClientSettings


async def open_client(conn_id: str) -> AsyncLightspeedClient:
    """Return a client that is to be used as an async context manager.

    :raises LightspeedConfigurationError: if the connection cannot be right.
    """
    return AsyncLightspeedClient(await read_connection(conn_id), meter=AirflowMeter(conn_id))


async def read_connection(conn_id: str) -> ClientSettings:
    """Look a connection up and read it."""
    from asgiref.sync import sync_to_async

    settings = read_settings(*await get_async_connection(conn_id))
    # Masking tells the process above, and waits for it.
    await sync_to_async(mask_credentials)(settings)
    return settings
