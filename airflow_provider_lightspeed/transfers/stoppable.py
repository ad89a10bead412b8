"""How Airflow ends a task that reads a shop: at its next call."""

from __future__ import annotations

from functools import cached_property

from airflow_provider_lightspeed.cancellation import CancelToken
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook


class StopsAtNextCall:
    """A mixin for operators. Put it before `BaseOperator`."""

    lightspeed_conn_id: str

    def on_kill(self) -> None:
        """Ask the task to stop: it does so at the next API call. A retry resumes from what was kept."""
        self._cancel.request()

    @cached_property
    def _cancel(self) -> CancelToken:
        return CancelToken()

    def _hook(self, max_wait: float | None) -> LightspeedHook:
        hook = LightspeedHook(self.lightspeed_conn_id, max_wait=max_wait)
        client = hook.get_conn()
        client.sleep, client.check = self._cancel.sleep, self._cancel.check
        return hook
