"""Bar charts as SVG: a light card, so that they are legible on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from textwrap import wrap
from typing import NamedTuple

#: A phone shows 360 of these pixels without making them smaller.
_WIDTH = 460
_MARGIN = 16
_LINE = 17
_BAR, _STEP = 18, 45
_TEXT = 160
#: Letters of the subtitle that fit a line.
_ABOUT = 66
_STYLE = """
  text { font-family: system-ui, sans-serif; fill: #1b1b1f }
  .title { font-size: 15px; font-weight: 600 }
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
    lines = wrap(about, _ABOUT)
    head = 46 + len(lines) * _LINE
    height = head + len(rows) * _STEP + _MARGIN // 2
    longest = max((row.value for row in rows), default=0) or 1
    room = _WIDTH - 2 * _MARGIN - _TEXT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#f6f2f2"/>',
        f'<text class="title" x="{_MARGIN}" y="28">{escape(title)}</text>',
    ]
    parts += [
        f'<text class="about" x="{_MARGIN}" y="{48 + number * _LINE}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    for number, row in enumerate(rows):
        top = head + number * _STEP
        ours = " ours" if row.is_ours else ""
        length = max(2.0, room * row.value / longest)
        parts += [
            f'<text class="label{ours}" x="{_MARGIN}" y="{top + 13}">{escape(row.label)}</text>',
            f'<rect class="bar{ours}" x="{_MARGIN}" y="{top + 18}" width="{length:.1f}" height="{_BAR}" rx="2"/>',
            f'<text class="value{ours}" x="{_MARGIN + length + 8:.1f}" y="{top + 32}">{escape(row.text)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
