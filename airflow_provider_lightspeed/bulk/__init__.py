"""Change many tickets: plan, change each once, report what became of each. No Airflow here."""
