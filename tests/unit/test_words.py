"""Plain words: what readers would have to translate does not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

_WORDS = re.compile(
    r"\b(?:anew|for ever|slips? of the pen|lets? go of|hand(?:s|ed)? (?:it |them |tickets )?over|(?:is|are) told"
    r"|takes? (?:it |them )?up|in vain|as wanted|begins? again|somebody|nobody|of its own accord|wherever it lies"
    r"|carr(?:y|ies|ied) out|in its place)\b",
    re.IGNORECASE,
)
_PAGES = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]
_CODE = [
    file
    for folder in ("airflow_provider_lightspeed", "example_dags", "example_tests", "demo", "chaos")
    for file in PROJECT.glob(f"{folder}/**/*.py")
]
_FILES = sorted([*_PAGES, *_CODE])


def texts(file: Path) -> Iterator[str]:
    """Yield a page, or the docstrings, messages and comments of a module."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
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


@pytest.mark.parametrize("text", ["It is told so", "carries out", "for ever", "nobody knows", "handed over"])
def test_a_word_that_comes_back_is_noticed(text: str) -> None:
    assert _WORDS.search(text)
