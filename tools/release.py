"""Is everything ready to release this commit? Version, changelog and tag say the same: `python -m tools.release`."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

from packaging.version import InvalidVersion, Version

from airflow_provider_lightspeed import __version__

PROJECT = Path(__file__).resolve().parent.parent


def problems(version: str, changelog: str, tags: list[str], changes: str) -> list[str]:
    """Return what is wrong.

    :param version: of the package.
    :param changelog: text of CHANGELOG.md.
    :param tags: those of the commit.
    :param changes: what `git status --porcelain` prints.
    """
    found = []
    try:
        if str(Version(version)) != version or Version(version).is_prerelease:
            found.append(f"Version {version!r} is not a final version in its normal form.")
    except InvalidVersion:
        found.append(f"Version {version!r} is no version.")
    heading = re.search(rf"^## \[{re.escape(version)}\] - (.+)$", changelog, re.M)
    if not heading:
        found.append(f"CHANGELOG.md has no heading `## [{version}] - <date>`.")
    elif not _is_date(heading[1]):
        found.append(f"CHANGELOG.md: {heading[1]!r} is no date (YYYY-MM-DD).")
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    if unreleased and unreleased[1].strip():
        found.append("CHANGELOG.md has entries under [Unreleased]. Move them below the version's heading.")
    if f"v{version}" not in tags:
        found.append(f"The commit has no tag v{version}. Its tags: {', '.join(tags) or 'none'}.")
    if changes:
        found.append("There are changes that are not committed.")
    return found


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments],  # ruff: ignore[start-process-with-partial-path]
        cwd=PROJECT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


if __name__ == "__main__":
    found = problems(
        __version__,
        (PROJECT / "CHANGELOG.md").read_text(),
        _git("tag", "--points-at", "HEAD").split(),
        _git("status", "--porcelain"),
    )
    for problem in found:
        print(problem)
    sys.exit(bool(found))
