"""Bar charts as SVG: a light card, so that they are legible on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH = 720
_MARGIN = 20
_LABELS = 232
_HEAD = 72
_BAR, _STEP = 22, 34
_TEXT = 190
_STYLE = """
  text { font-family: system-ui, sans-serif; fill: #1b1b1f }
  .title { font-size: 17px; font-weight: 600 }
  .about { font-size: 13px; fill: #44464f }
  .label { font-size: 14px }
  .value { font-size: 13px; fill: #44464f }
  .ours { font-weight: 600; fill: #8b1e1e }
  rect.bar { fill: #9a9ca6 }
  rect.bar.ours { fill: #8b1e1e }
"""


class Bar(NamedTuple):
    """One bar.

    :param text: the value in words.
    :param is_ours: stands out.
    """

    label: str
    value: float
    text: str
    is_ours: bool


def bars(title: str, about: str, rows: Sequence[Bar]) -> str:
    """Return a chart of horizontal bars."""
    height = _HEAD + len(rows) * _STEP + _MARGIN // 2
    longest = max((row.value for row in rows), default=0) or 1
    room = _WIDTH - 2 * _MARGIN - _LABELS - _TEXT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#f6f2f2"/>',
        f'<text class="title" x="{_MARGIN}" y="30">{escape(title)}</text>',
        f'<text class="about" x="{_MARGIN}" y="51">{escape(about)}</text>',
    ]
    for number, row in enumerate(rows):
        top = _HEAD + number * _STEP
        ours = " ours" if row.is_ours else ""
        length = max(2.0, room * row.value / longest)
        start = _MARGIN + _LABELS
        parts += [
            f'<text class="label{ours}" x="{start - 12}" y="{top + 16}" text-anchor="end">{escape(row.label)}</text>',
            f'<rect class="bar{ours}" x="{start}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="2"/>',
            f'<text class="value{ours}" x="{start + length + 8:.1f}" y="{top + 16}">{escape(row.text)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
