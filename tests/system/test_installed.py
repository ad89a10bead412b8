"""The wheel beside Airflow 3.0.6 on Python 3.12, installed as people do: with the official constraints file."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Sandbox, ShopConfig
from demo.airflow_home import PROJECT
from demo.s3_server import S3Server

AIRFLOW, PYTHON = "3.0.6", "3.12"
PINS = PROJECT / f"requirements/constraints/airflow-{AIRFLOW}-python{PYTHON}.txt"
UV = Path(sys.executable).with_name("uv")

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not UV.exists(), reason="the same in each environment of the matrix: run in .venv"),
]

_DAG = """
from airflow.sdk import dag

from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

@dag()
def export():
    LightspeedTicketsToS3Operator(task_id="export", s3_key="s3://exports/tickets.jsonl.gz")

if __name__ == "__main__":
    export().test()
"""


@dataclass(frozen=True)
class Installed:
    """An environment with nothing in it but what a user has installed."""

    scripts: Path
    directory: Path

    def run(self, *command: str | Path, **environment: str) -> str:
        program, *arguments = command
        mine = {
            name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))
        }
        done = subprocess.run(
            [self.scripts / program, *arguments],
            cwd=self.directory,
            env={**mine, "AIRFLOW_HOME": str(self.directory), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
            | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    directory = tmp_path_factory.mktemp("installed")
    scripts = directory / "venv" / "bin"
    with_pyenv = sorted((Path.home() / ".pyenv/versions").glob(f"{PYTHON}.*/bin/python{PYTHON}"))
    uv("build", "--wheel", "--out-dir", directory, PROJECT)
    uv("venv", "--python", *(with_pyenv[:1] or [PYTHON]), directory / "venv")
    (wheel,) = directory.glob("*.whl")
    into = ("--compile-bytecode", "--python", scripts / "python", "--constraints", PINS)
    uv("pip", "install", *into, f"apache-airflow=={AIRFLOW}", wheel)
    return Installed(scripts, directory)


def uv(*arguments: str | Path) -> None:
    done = subprocess.run([UV, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]


def test_airflow_finds_the_provider(installed: Installed) -> None:
    assert "airflow-provider-lightspeed" in installed.run(
        "airflow", "providers", "get", "airflow-provider-lightspeed"
    )


def test_an_export_runs(installed: Installed, s3_server: S3Server) -> None:
    s3_server.client().create_bucket(Bucket="exports")
    (installed.directory / "export.py").write_text(_DAG)
    installed.run("airflow", "db", "migrate")
    with Sandbox(ShopConfig(tickets=300, limits=NO_LIMITS)) as shop:
        installed.run(
            "python",
            "export.py",
            AIRFLOW__CORE__DAGS_FOLDER=str(installed.directory),
            AIRFLOW_CONN_LIGHTSPEED_DEFAULT=shop.airflow_connection(),
            AIRFLOW_CONN_AWS_DEFAULT=s3_server.airflow_connection(),
        )
        truth = shop.shop.tickets()
    body = s3_server.client().get_object(Bucket="exports", Key="tickets.jsonl.gz")["Body"].read()
    exported = [json.loads(line) for line in gzip.decompress(body).splitlines()]
    assert {ticket["id"]: ticket for ticket in exported} == truth
    assert len(exported) == len(truth)
