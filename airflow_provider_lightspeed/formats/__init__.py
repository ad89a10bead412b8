"""Tickets as files: JSON Lines, CSV and Parquet."""

from airflow_provider_lightspeed.formats.base import Format, FormatError, Layout
from airflow_provider_lightspeed.formats.registry import FORMATS, choose, make_format

__all__ = ["FORMATS", "Format", "FormatError", "Layout", "choose", "make_format"]
