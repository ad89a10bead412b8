"""Variables of Airflow. Airflow returns the same for one that is missing and one that it cannot read at the moment."""

from __future__ import annotations

import os
from uuid import uuid4

from airflow_provider_lightspeed._airflow import AirflowException, Variable

_READABLE = "readable"
#: Airflow sets it when it runs a task.
_IN_A_TASK = "AIRFLOW_CTX_TASK_ID"


def read_variable(name: str, *, unknown: str) -> str | None:
    """Return a Variable; None if it is missing for sure.

    If it seems missing, another Variable is set, read back and deleted. Outside of a task, Airflow may be unable to set
    Variables at all: what seems missing counts as missing then.

    :param unknown: what is unknown without the Variable, and what was kept, for the error.
    :raises AirflowException: if Airflow cannot read its Variables at the moment. Let Airflow retry.
    """
    text: str | None = Variable.get(name, None)
    if text is not None:
        return text
    cannot = (
        f"Airflow cannot read its Variables at the moment, so it is not known {unknown}. Let Airflow retry"
    )
    # A unique name, because another task may check at the same time. It does not contain the Variable's name: Airflow
    # masks the value of a Variable with "secret" in its name in all logs.
    check = f"lightspeed_check.{uuid4().hex[:8]}"
    try:
        Variable.set(check, _READABLE)
    except Exception as error:
        if _IN_A_TASK not in os.environ:
            return None
        raise AirflowException(cannot) from error
    before = Variable.get(check, None)
    text = Variable.get(name, None)
    after = Variable.get(check, None)
    Variable.delete(check)
    if not before == after == _READABLE:
        raise AirflowException(cannot)
    return text
