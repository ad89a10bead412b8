"""What Airflow calls the machine of a worker: all of them are this one, so their environment tells."""

from __future__ import annotations

import os
import socket


def worker_name() -> str:
    return os.environ.get("WORKER_NAME") or socket.gethostname()
