"""The client's metrics go where Airflow's own go (StatsD, OpenTelemetry, as the deployment is set up)."""

from __future__ import annotations

from airflow_provider_lightspeed._airflow import Stats


class AirflowMetrics:
    """Takes metrics as ``lightspeed.<name>``, tagged by the connection. Plain StatsD drops the tag.

    Counters ``lightspeed.calls``, ``lightspeed.retries``, ``lightspeed.rate_limited`` (429) and
    ``lightspeed.seconds_waited``; gauges ``lightspeed.quota_left.5_minutes``, ``…1_hour``, ``…1_day``.

    :param conn_id: id of the connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._tags = {"conn_id": conn_id}

    def count(self, name: str, value: int = 1) -> None:
        """Add to a counter."""
        Stats.incr(f"lightspeed.{name}", value, tags=self._tags)

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge."""
        Stats.gauge(f"lightspeed.{name}", value, tags=self._tags)
