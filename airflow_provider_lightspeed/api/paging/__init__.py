"""The complete walk over a list of tickets.

What is not documented: the order of lists, the zone in which date filters are read, whether bounds
are inclusive. And tickets come, change and go between two calls. So each walk rests on something that
holds all the same:

- One answer is one moment: a page that is not full is the whole list. (`walk`)
- *Oldest first*, ``since_id`` = last id read: each answer holds the lowest ids above it; nothing
  inserted or deleted can shift that. (`oldest_first`)
- *Newest first*, by page: each answer covers a span of ids without a hole. A count taken before
  reader proves that no hole between two pages holds a ticket; where it does not, the holes are
  bridged by answers that overlap both sides. No zone, no time, no luck is needed. (`newest_first`)
- *No order*: slices of creation time, each so narrow that one answer holds it whole. (`time_slices`)

A list by last change can look like one by id, as long as no ticket was changed. Pages have a cursor
only once a change has shown that it is not; until then the end of the walk looks for tickets that moved.

A walk is a generator: it yields a `Request` and is sent the data, or it yields a `Page`. Whoever
drives it does the calling.
"""

from airflow_provider_lightspeed.api.paging.cursors import Cursor, read_cursor
from airflow_provider_lightspeed.api.paging.reader import Page
from airflow_provider_lightspeed.api.paging.walk import usual_calls, walk

__all__ = ["Cursor", "Page", "read_cursor", "usual_calls", "walk"]
