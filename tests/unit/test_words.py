"""Plain words: what readers would have to translate does not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

_BETWEEN = r"(?: [\w'-]+){0,3}"
"""Such as the object of "takes the work up"."""
_WORDS = re.compile(
    rf"\b(?:anew|for ever|slips? of the pen|lets? go of|hand(?:s|ed)?{_BETWEEN} over|(?:is|are) told"
    rf"|takes?{_BETWEEN} up|in vain|as wanted|begins? again|somebody|nobody|of its own accord|wherever it lies"
    rf"|carr(?:y|ies|ied){_BETWEEN} out|in its place)\b",
    re.IGNORECASE,
)
_PAGES = [
    *PROJECT.glob("*.md"),
    *PROJECT.glob("docs/**/*.md"),
    *PROJECT.glob("docs/**/*.svg"),
    *PROJECT.glob("requirements/**/*.md"),
    *PROJECT.glob(".github/**/*.*"),
    PROJECT / "Makefile",
    PROJECT / "mkdocs.yml",
]
_CODE = [
    file
    for folder in (
        "airflow_provider_lightspeed",
        "benchmarks",
        "chaos",
        "demo",
        "example_dags",
        "example_tests",
        "tests",
        "tools",
    )
    for file in PROJECT.glob(f"{folder}/**/*.py")
]
# This file has the words themselves.
_FILES = sorted({*_PAGES, *_CODE} - {Path(__file__)})


def texts(file: Path) -> Iterator[str]:
    """Yield a page, or the docstrings, messages and comments of a module."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        yield text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    yield from re.findall(r"#.*", text)


@pytest.mark.parametrize("file", _FILES, ids=[str(file.relative_to(PROJECT)) for file in _FILES])
def test_plain_words(file: Path) -> None:
    found = [match.group() for text in texts(file) for match in _WORDS.finditer(" ".join(text.split()))]
    assert not found


@pytest.mark.parametrize(
    "text", ["It is told so", "carries the plan out", "for ever", "nobody knows", "handed over"]
)
def test_a_word_that_comes_back_is_noticed(text: str) -> None:
    assert _WORDS.search(text)
