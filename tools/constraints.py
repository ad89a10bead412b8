"""Resolve the wheel, with all its extras, against each official constraints file: `python -m tools.constraints dist/*.whl`.

That is how people install it: with the official image by habit, and on managed Airflows by force.
"""

from __future__ import annotations

import re
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

_PINS = Path(__file__).resolve().parent.parent / "requirements" / "constraints"
_NAME = re.compile(r"airflow-(?P<airflow>[\d.]+)-python(?P<python>[\d.]+)\.txt")


def main(wheel: Path) -> int:
    """Return how many of the files it can't be installed with, having said why."""
    failed = 0
    requirement = _with_all_extras(wheel.resolve())
    for pins in sorted(_PINS.glob("*.txt")):
        found = _NAME.fullmatch(pins.name)
        assert found, f"{pins}: name it airflow-<version>-python<version>.txt"  # ruff: ignore[assert]
        done = _resolve(f"{requirement}\napache-airflow=={found['airflow']}\n", pins, found["python"])
        failed += bool(done.returncode)
        print(f"Airflow {found['airflow']}, Python {found['python']}: {'no' if done.returncode else 'yes'}")
        if done.returncode:
            print(done.stderr)
    return failed


def _with_all_extras(wheel: Path) -> str:
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    extras = ",".join(metadata.get_all("Provides-Extra", []))
    return f"{metadata['Name']}[{extras}] @ {wheel.as_uri()}"


def _resolve(requirements: str, pins: Path, python: str) -> subprocess.CompletedProcess[str]:
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "compile", "--quiet", "--constraints", str(pins), "--python-version", python, "-"]
    return subprocess.run(command, input=requirements, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
