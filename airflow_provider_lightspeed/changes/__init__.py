"""Tickets as they are now, and every change: what changed, the log of it in S3, and how it is read."""

from airflow_provider_lightspeed.changes.reader import read_changes

__all__ = ["read_changes"]
