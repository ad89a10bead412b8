"""An operator by itself needs no database: only the connection, which the fixture makes."""

from __future__ import annotations

from airflow_provider_lightspeed.operators.tickets import UpdateTicketsOperator
from airflow_provider_lightspeed.sandbox import Sandbox


def test_tickets_about_parcels_go_on_the_list(lightspeed_sandbox: Sandbox) -> None:
    parcel = lightspeed_sandbox.add_tickets(1, subject="Where is my parcel?", isTodo=False)
    other = lightspeed_sandbox.add_tickets(1, subject="Thank you", isTodo=False)

    result = UpdateTicketsOperator(
        task_id="put_on_todo_list",
        where=lambda ticket: "parcel" in ticket["subject"],
        max_share=1.0,
        is_todo=True,
    ).execute({})

    assert result["updated"] == parcel
    assert not lightspeed_sandbox.shop.tickets()[other[0]]["isTodo"]
