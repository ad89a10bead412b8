"""Exports, bulk changes, sensors and logs of changes in random scenarios where things break, on real Airflow: `make chaos`."""
