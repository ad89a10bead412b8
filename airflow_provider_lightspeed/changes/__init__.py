"""Tickets as they are now, and every change: what changed, and the log of it in S3. No Airflow here."""
