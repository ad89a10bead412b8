"""Exports, bulk changes and watchers in random scenarios where things break, on real Airflow: `make chaos`."""
