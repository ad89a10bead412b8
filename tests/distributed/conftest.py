"""Collected only in the environment of `make distributed`, which has Celery."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("celery") else ["test_*.py"]
