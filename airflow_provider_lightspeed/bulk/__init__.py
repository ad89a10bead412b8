"""Change many tickets: decide which, do it once, and be able to say what became of each. No Airflow here."""
