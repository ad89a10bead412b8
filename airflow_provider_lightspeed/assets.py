"""New tickets of a shop, and changes of its tickets, as assets that start DAGs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from airflow.sdk import Asset

    from airflow_provider_lightspeed._airflow import AssetAlias, Context

log = logging.getLogger(__name__)

_KIND = "/tickets/new"
_CHANGES = "/tickets/changes"
# More events than can be on their way to Airflow's database, and so repeated, at a time.
_EARLIER = 100


def new_tickets_asset(
    name: str,
    *,
    lightspeed_conn_id: str = "lightspeed_default",
    poll_interval: float = 60,
    start: Literal["latest", "earliest"] = "latest",
) -> Asset:
    """Make an asset that new support tickets update: a DAG with it in its ``schedule`` starts on them.

    Its name is ``<name>_new_tickets``. Each event names up to 500 tickets in its payload:
    ``{"ticket_ids", "count", "since_id", "max_id"}``. One run may get several events; :func:`new_ticket_ids` reads them
    all::

        @task(inlets=[shop])
        def new_tickets(**context):
            return new_ticket_ids(shop, context)

    Make one asset for each shop, in a module that your DAG files import: Airflow identifies assets by name. Assets with
    the same connection and interval share their polls. See ``docs/new-tickets.md`` for what happens when the triggerer
    restarts.

    :param name: your name for the shop; also in the asset's address, ``lightspeed://<name>/tickets/new``.
    :param lightspeed_conn_id: connection to the shop.
    :param poll_interval: seconds between two polls, each of which is a call (a key usually has 12,000 a day).
    :param start: what the very first poll counts as new: ``latest`` (tickets after it) or ``earliest`` (every ticket of
        the shop).
    :raises RuntimeError: on Airflow 2, where assets cannot watch anything.
    """
    try:
        from airflow.sdk import Asset, AssetWatcher
    except ImportError:
        raise RuntimeError(
            "new_tickets_asset needs Airflow 3: assets of Airflow 2 can't watch anything. Use NewTicketSensor there"
        ) from None
    from airflow_provider_lightspeed.triggers.assets import NewTicketEventTrigger

    if start not in {"latest", "earliest"}:
        raise ValueError(f"start must be 'latest' or 'earliest', got {start!r}")
    if poll_interval <= 0:
        raise ValueError(f"poll_interval must be more than 0 seconds, got {poll_interval!r}")
    asset_name = f"{name}_new_tickets"
    trigger = NewTicketEventTrigger(
        asset_name=asset_name,
        lightspeed_conn_id=lightspeed_conn_id,
        poll_interval=poll_interval,
        start=start,
    )
    return Asset(
        name=asset_name,
        uri=f"lightspeed://{quote(name, safe='')}{_KIND}",
        watchers=[AssetWatcher(name=asset_name, trigger=trigger)],
    )


def new_ticket_ids(asset: Asset, context: Context | Mapping[str, Any]) -> list[int]:
    """Return the ids of the new tickets that started a run, ascending, and none that an earlier event has named.

    It is empty if none of the asset's events has started the run: a manual one, or one that another asset has started.
    Events that name no tickets are ignored: a user, a task with this asset as outlet or Airflow's REST API may
    create those.

    A triggerer that ends in the moment between storing an event and recording that it did sends the event again. So
    ids that one of the 100 events before has named are left out.

    :param asset: from :func:`new_tickets_asset`. The task needs it in its ``inlets``.
    :param context: the task's.
    """
    events = context["triggering_asset_events"][asset]
    if not events:
        return []
    first = min(event.timestamp for event in events)
    earlier = context["inlet_events"][asset].before(first).ascending(False).limit(_EARLIER)
    delivered = {
        ticket_id for event in earlier if event.timestamp < first for ticket_id in _ids_in(event.extra)
    }
    named = {ticket_id for event in events for ticket_id in _ids_in(event.extra)}
    return sorted(named - delivered)


def ticket_changes_asset(name: str) -> AssetAlias:
    """Return the asset that ``LightspeedTicketChangesToS3Operator`` updates when tickets have changed.

    Use it as the operator's outlet and in the ``schedule`` of the DAGs that load the changes. It is an alias, which the
    task resolves only when there is something new: Airflow would update a plain asset in each run. The event's
    ``extra`` is what the task returns.

    :param name: of the shop; also in the asset's address, ``lightspeed://<name>/tickets/changes``.
    """
    from airflow_provider_lightspeed._airflow import AssetAlias

    return AssetAlias(f"lightspeed://{quote(name, safe='')}{_CHANGES}")


def is_ticket_changes_asset(outlet: object) -> bool:
    """Return whether an outlet is from :func:`ticket_changes_asset`."""
    name = str(getattr(outlet, "name", ""))
    is_alias = type(outlet).__name__ in {"AssetAlias", "DatasetAlias"}
    return is_alias and name.startswith("lightspeed://") and name.endswith(_CHANGES)


class _Payload(msgspec.Struct):
    ticket_ids: list[Annotated[int, msgspec.Meta(gt=0)]]


class _Extra(msgspec.Struct):
    payload: _Payload


def _ids_in(extra: object) -> list[int]:
    try:
        return msgspec.convert(extra, _Extra).payload.ticket_ids
    except msgspec.ValidationError:
        log.info("Ignored an event of the asset that names no tickets")
        return []


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check the address of an asset, for Airflow.

    :raises ValueError: if it is neither ``lightspeed://<name>/tickets/new`` nor ``…/tickets/changes``.
    """
    if not uri.netloc or uri.path not in {_KIND, _CHANGES} or uri.query or uri.fragment:
        raise ValueError(f"URI format must be lightspeed://<name>{_KIND} or lightspeed://<name>{_CHANGES}")
    return uri
