"""Exports, bulk changes and watchers in random worlds where things break, on real Airflow: `make chaos`."""
