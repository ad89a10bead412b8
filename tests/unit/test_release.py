"""What `make release` refuses, and what the hosting place's files say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tools.release import problems

PROJECT = Path(__file__).parents[2]
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-01-31\n\n### Added\n\n- Much.\n"
GOOD = {"version": "1.2.0", "changelog": CHANGELOG, "tags": ["v1.2.0"], "changes": ""}


def test_a_release_whose_parts_agree_is_accepted() -> None:
    assert problems(**GOOD) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"version": "1.3.0", "tags": ["v1.3.0"]}, "has no heading"),
        ({"changelog": CHANGELOG.replace("2026-01-31", "2026-02-31")}, "is no date"),
        (
            {"changelog": CHANGELOG.replace("[Unreleased]\n", "[Unreleased]\n\n- More.\n")},
            "under [Unreleased]",
        ),
        ({"tags": []}, "has no tag v1.2.0. Its tags: none"),
        ({"tags": ["1.2.0"]}, "Its tags: 1.2.0"),
        ({"changes": " M README.md\n"}, "not committed"),
        ({"version": "1.2"}, "has no heading"),
        ({"version": "1.2.0rc1"}, "not a final version"),
        ({"version": "soon"}, "is no version"),
    ],
)
def test_what_does_not_agree_is_named(wrong: dict[str, object], problem: str) -> None:
    assert problem in " ".join(problems(**{**GOOD, **wrong}))  # type: ignore[arg-type]


def test_the_matrix_of_the_workflow_is_that_of_make() -> None:
    workflow = yaml.safe_load((PROJECT / ".github/workflows/matrix.yml").read_text())
    makefile = (PROJECT / "Makefile").read_text()

    def listed(name: str) -> list[str]:
        (found,) = re.findall(rf"^{name} := (.+)$", makefile, re.M)
        return found.split()

    expected = [
        *listed("OLDER"),
        "lowest",
        *(f"python{version}" for version in listed("PYTHONS")),
        *(f"constraints-{version}" for version in listed("CONSTRAINED")),
    ]
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["environment"] == expected


@pytest.mark.parametrize("file", sorted(PROJECT.glob(".github/workflows/*.yml")), ids=lambda file: file.name)
def test_a_workflow_gets_no_more_rights_than_it_needs(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"], "each job says what it may do"
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            if str(step.get("uses", "")).startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
            for target in re.findall(r"\bmake (\S+)", str(step.get("run", ""))):
                assert re.search(rf"^{target.strip(chr(34)).split('-$')[0]}[:%-]", makefile_text(), re.M), (
                    target
                )


def makefile_text() -> str:
    return (PROJECT / "Makefile").read_text()
