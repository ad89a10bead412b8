"""The world that `make demo`, `make ui` and the system tests share: a shop, an S3 server and an Airflow."""
