"""A shop, an S3 server and an Airflow, for `make demo`, `make ui` and the system tests."""
