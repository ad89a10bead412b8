"""For tests of your own DAGs: the fixture ``lightspeed_sandbox``.

Each run of pytest loads this, in every project of the environment: so it loads nothing until the fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_lightspeed.sandbox import Sandbox

_MARKER = "lightspeed_shop"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f'{_MARKER}(conn_id="lightspeed_default", **options): the shop of the fixture lightspeed_sandbox; options are '
        "those of airflow_provider_lightspeed.sandbox.ShopConfig, with no tickets by default",
    )


@pytest.fixture
def lightspeed_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Give a local shop with no tickets, to which the Airflow connection ``lightspeed_default`` leads.

    Add the tickets that the test wants with ``add_tickets``. The marker ``lightspeed_shop`` sets options of the shop,
    such as ``tickets`` for many, and the id of the connection.
    """
    from airflow_provider_lightspeed.sandbox import Sandbox, ShopConfig

    marker = request.node.get_closest_marker(_MARKER)
    options = {"tickets": 0, **(marker.kwargs if marker else {})}
    conn_id = options.pop("conn_id", "lightspeed_default")
    with Sandbox(ShopConfig(**options)) as sandbox:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", sandbox.airflow_connection())
        yield sandbox
