"""Install the wheel, alone, beside an Airflow as requirements/ pins it: `python -m tools.bare_install 2.11 dist/*.whl`.

That Airflow must find the provider, and each module must load there or say which Airflow it needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_PROJECT = Path(__file__).resolve().parent.parent
_NEEDS_PYTEST = "airflow_provider_lightspeed.pytest_plugin"
_NEEDS_3_3 = "airflow_provider_lightspeed.triggers.stream"

_IMPORT_ALL = """
import importlib, json, pkgutil, sys
import airflow_provider_lightspeed as package
done = {}
for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
    if not found.name.endswith(".__main__"):
        try:
            importlib.import_module(found.name)
        except ImportError as error:
            done[found.name] = str(error)
        else:
            done[found.name] = ""
print(json.dumps([package.__file__, done]))
"""


def main(version: str, wheel: Path) -> int:
    """Return how many things are wrong, having said which."""
    with tempfile.TemporaryDirectory(prefix="bare-airflow-") as directory:
        scripts = Path(directory, "venv", "bin")
        _install(scripts, version, wheel.resolve())
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))
        } | {"AIRFLOW_HOME": directory}

        def run(*command: str | Path) -> str:
            # Not in the project: what is imported has to come from the wheel.
            return subprocess.run(
                command, cwd=directory, env=environment, check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        wrong = []
        # Airflow 3.0 logs to the standard output, before the answer.
        found = run(scripts / "airflow", "providers", "get", "airflow-provider-lightspeed").splitlines()
        told = run(scripts / "python", "-c", _IMPORT_ALL).splitlines()[-1]
    file, modules = json.loads(told)
    if not Path(file).is_relative_to(directory):
        wrong.append(f"imported from {file}")
    if not any("airflow-provider-lightspeed" in line for line in found):
        wrong.append("airflow providers get does not find it")
    wrong += [f"{name}: {error}" for name, error in modules.items() if error and not _is_told(name, error)]
    print(f"Airflow {version}: {sum(not error for error in modules.values())} of {len(modules)} modules load")
    for line in wrong:
        print(f"  {line}")
    return len(wrong)


def _install(scripts: Path, version: str, wheel: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    pins = _PROJECT / "requirements" / f"airflow-{version}.txt"
    python = scripts / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, scripts.parent], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, "--constraints", pins, wheel], check=True
    )


def _is_told(name: str, error: str) -> bool:
    """Say whether a module that does not load is meant not to, here, and says why."""
    return "needs Airflow 3.3" in error or name in {_NEEDS_PYTEST, _NEEDS_3_3}


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1], Path(sys.argv[2])), 1))
