"""The complete walk over a list of tickets.

Not documented are the order of lists, the length of a page, the zone in which date filters are read, and whether
bounds are inclusive. Tickets come, change and go between two calls, and a response may be short, late or wrong. So
each walk rests on overlaps, and sees the end of the list:

- *Oldest first*, ``since_id`` = an id read before: each response shows the lowest ids above it; nothing inserted or
  deleted can shift that. (`oldest_first`)
- *Newest first*, by page: each page starts inside what was read, so that nothing is missing between two of them.
  (`newest_first`)
- *No order*: slices of creation time, each so narrow that one response holds it whole. (`time_slices`)

A list by last change can look like one by id, as long as no ticket was changed. Pages have a cursor
only once a change has shown that it is not; until then the end of the walk looks for tickets that moved.

A walk is a generator: it yields a `Request` and is sent the data, or it yields a `Page`. Whoever
drives it does the calling.
"""

from airflow_provider_lightspeed.api.paging.cursors import Cursor
from airflow_provider_lightspeed.api.paging.reader import Page
from airflow_provider_lightspeed.api.paging.walk import usual_calls, walk

__all__ = ["Cursor", "Page", "usual_calls", "walk"]
