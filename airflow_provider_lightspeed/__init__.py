"""Apache Airflow provider for the support tickets of Lightspeed eCom shops."""

__version__ = "0.1.0"
