"""Draw the figures of the docs: `python -m tools.figures` writes them to docs/images/.

Each figure is a chain of steps. Those of docs/architecture.md name the file that holds each rule, so that a moved
rule is one line to change.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

IMAGES = Path(__file__).parents[1] / "docs" / "images"

#: As wide as the widest text: a phone shows 360 of these pixels without making them smaller.
_WIDTH = 520
_BOX_HEIGHT = 58
_GAP = 34
_MARGIN = 10
_STYLE = """
  text { font-family: system-ui, sans-serif; fill: #1b1b1f }
  .what { font-size: 15px; font-weight: 600 }
  .where { font-size: 13px; font-family: ui-monospace, monospace; fill: #44464f }
  .then { font-size: 13px; fill: #44464f }
  rect.step { fill: #fff; stroke: #8b1e1e; stroke-width: 1.5 }
  path { stroke: #44464f; stroke-width: 1.5; fill: none }
"""


class Step(NamedTuple):
    """One step of a figure.

    :param what: what happens.
    :param where: the file that holds the rule, below the package.
    :param then: what goes on to the next step.
    """

    what: str
    where: str
    then: str = ""


#: The figures, by the name of their file.
FIGURES: dict[str, list[Step]] = {
    "what-it-does": [
        Step("Your Lightspeed eCom shop", "tickets, messages", "complete lists, within the quota"),
        Step(
            "Airflow with this provider",
            "one connection, one task",
            "one commit for each run, visible at once",
        ),
        Step("S3: every change, and the tickets as they are now", "changes/  current/", "SQL to copy"),
        Step("Your warehouse equals the shop", "DuckDB, Athena, Snowflake, Spark, BigQuery, Redshift"),
    ],
    "way-of-a-ticket": [
        Step("Arguments, templates, one lazy import", "transfers/tickets_to_s3.py", "ExportJob"),
        Step(
            "One try: resume or start, test the store, publish",
            "transfers/attempt.py",
            "filter, cursor",
        ),
        Step("Pages of tickets become bytes; progress is saved", "transfers/export.py", "which page next?"),
        Step("The complete list: the requests, and the proof", "api/paging/", "Request"),
        Step("Rate limit, attempts, waiting", "api/sansio.py, rate_limit.py, retry.py", "Send"),
        Step("The HTTP request leaves the machine", "api/transport.py", "status, headers, body"),
        Step("The response becomes tickets, or the right exception", "api/responses.py", "tickets"),
        Step("Fields are dropped or hashed", "transfers/redaction.py", "tickets"),
        Step("Rows, columns, compression", "formats/", "bytes"),
        Step("Staged parts, then the complete object at once", "s3/staging.py, s3/target.py"),
    ],
    "way-of-a-scan": [
        Step(
            "Arguments, templates, one lazy import",
            "transfers/ticket_changes_to_s3.py",
            "Options, ChangeLog, saved progress",
        ),
        Step("The store is tested, the end of the log is found", "changes/log.py, store.py", "known tickets"),
        Step("Resume the last try, or start a full or recent scan", "changes/scan.py", "filter, cursor"),
        Step("The complete list is read", "api/paging/, api/sansio.py", "tickets"),
        Step(
            "Fields are dropped or hashed, columns filled",
            "transfers/redaction.py, formats/columns.py",
            "rows",
        ),
        Step(
            "Each row is compared with the known ticket",
            "changes/compare.py, fingerprint.py",
            "what is new, changed or missing",
        ),
        Step(
            "New and changed rows are staged; progress is saved",
            "changes/scan.py, s3/staging.py",
            "ids of missing tickets",
        ),
        Step(
            "The limits apply; missing tickets are requested",
            "changes/compare.py, scan.py",
            "deletes, and tickets that the list hides",
        ),
        Step(
            "The commit: one change file, by a conditional write",
            "changes/log.py, files.py, store.py",
            "Commit",
        ),
        Step("current, the cache and status.json follow", "changes/log.py"),
    ],
    "way-of-a-change": [
        Step(
            "Arguments, templates, one lazy import",
            "operators/tickets.py, operators/bulk.py",
            "Criteria or ids",
        ),
        Step("The plan: which tickets, and the limits", "bulk/plan.py, bulk/targets.py", "Job"),
        Step("The tickets are read again just before the change", "bulk/refresh.py", "Snapshot"),
        Step(
            "Each ticket once: already done, changed, or to write",
            "bulk/run.py, bulk/actions.py",
            "Request",
        ),
        Step(
            "Rate limit, attempts; an unknown outcome is an error", "api/sansio.py, retry.py", "PUT or DELETE"
        ),
        Step("The response is compared with the request", "api/responses.py", "Result"),
        Step("Checkpoint, receipt, result", "_checkpoint.py, bulk/job.py, bulk/change.py"),
    ],
    "way-of-a-poll": [
        Step("The sensor reads its state, or defers", "sensors/tickets.py, sensors/state.py", "since_id"),
        Step("The trigger subscribes", "triggers/tickets.py", "PollKey"),
        Step("One poller for all that watch the same shop", "triggers/poller.py", "since_id"),
        Step("New tickets, as far as the list is proven", "api/queries.py", "ids"),
        Step("What counts as new, and the event", "new_tickets.py", "PollEvent"),
        Step("The sensor delivers, and advances its state", "sensors/tickets.py, sensors/state.py"),
    ],
}


def draw(steps: list[Step]) -> str:
    """Return a figure as SVG."""
    height = 2 * _MARGIN + len(steps) * _BOX_HEIGHT + (len(steps) - 1) * _GAP
    middle = _WIDTH // 3
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#f6f2f2"/>',
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 L8 4 L0 8"/></marker>',
    ]
    for number, step in enumerate(steps):
        top = _MARGIN + number * (_BOX_HEIGHT + _GAP)
        parts += [
            f'<rect class="step" x="{_MARGIN}" y="{top}" width="{_WIDTH - 2 * _MARGIN}" height="{_BOX_HEIGHT}" rx="6"/>',
            f'<text class="what" x="{_MARGIN + 12}" y="{top + 25}">{escape(step.what)}</text>',
            f'<text class="where" x="{_MARGIN + 12}" y="{top + 45}">{escape(step.where)}</text>',
        ]
        if number < len(steps) - 1:
            bottom = top + _BOX_HEIGHT
            parts += [
                f'<path d="M{middle} {bottom} V{bottom + _GAP - 2}" marker-end="url(#tip)"/>',
                f'<text class="then" x="{middle + 12}" y="{bottom + 21}">{escape(step.then)}</text>',
            ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Write all figures."""
    for name, steps in FIGURES.items():
        (IMAGES / f"{name}.svg").write_text(draw(steps), encoding="utf-8")


if __name__ == "__main__":
    main()
