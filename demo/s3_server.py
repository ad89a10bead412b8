"""A real S3 server on this machine: SeaweedFS, which comes as a wheel."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from demo.ports import free_ports
from demo.processes import running

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_READY_WITHIN = 300.0  # a second as a rule; one that has ended is noticed at once
_PROBE = "ready-probe"
_SERVICES = ("master", "volume", "filer", "s3")
_GRPC_OFFSET = 10_000
"""SeaweedFS opens a second port this far above each."""
_SOCKETS = Path("/tmp")  # ruff: ignore[hardcoded-temp-file] - SeaweedFS lays its sockets there and cannot be told otherwise


class S3Server:
    """One server with its data below a directory; start it again with the same directory to find the data again.

    ::

        with S3Server(tmp_path) as s3:
            s3.wait_until_ready()
            s3.client().create_bucket(Bucket="tickets")
    """

    region = "us-east-1"
    access_key = "demo-access-key"
    secret_key = "demo-secret-key"
    reader_access_key = "demo-reader-key"
    """With the same secret; it may read and list."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "s3.log"
        self._data = directory / "s3"
        self._ports = free_ports(len(_SERVICES), pair_distance=_GRPC_OFFSET)
        self._running = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def endpoint(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self._ports[-1]}"

    def files(self, bucket: str) -> str:
        """Return the address at which a browser shows what is in a bucket. No key is asked for there."""
        return f"http://127.0.0.1:{self._ports[_SERVICES.index('filer')]}/buckets/{bucket}/"

    def start(self) -> None:
        """Start the server; :meth:`wait_until_ready` tells when it answers, so that others can start meanwhile."""
        self._data.mkdir(parents=True, exist_ok=True)
        # Without an identity the server lets everybody in, and a wrong secret in a test would pass unseen.
        identities = self._data.parent / "s3-identities.json"
        actions = {
            self.access_key: ["Admin", "Read", "Write", "List", "Tagging"],
            self.reader_access_key: ["Read", "List"],
        }
        listed = [
            {
                "name": key,
                "credentials": [{"accessKey": key, "secretKey": self.secret_key}],
                "actions": allowed,
            }
            for key, allowed in actions.items()
        ]
        identities.write_text(json.dumps({"identities": listed}))
        # No patience: asked to end in order, SeaweedFS takes 15 seconds, and its data survive a kill.
        self._process = self._running.enter_context(
            running(self._command(identities), log=self.log, patience=0)
        )

    def wait_until_ready(self) -> None:
        """Return when the server answers.

        :raises RuntimeError: it does not, or has ended.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        give_up = time.monotonic() + _READY_WITHIN
        client = self.client()
        while True:
            try:
                self._probe(client)
            except (BotoCoreError, ClientError) as error:
                if self._process is None or self._process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"The S3 server does not start; its log: {self.log}") from error
                time.sleep(0.1)
            else:
                return

    def _probe(self, client: S3Client) -> None:
        """Raise unless the server writes, and reads what it wrote before its last end.

        It lists buckets a good while before it finds what is in them.
        """
        if any(bucket["Name"] == _PROBE for bucket in client.list_buckets()["Buckets"]):
            client.get_object(Bucket=_PROBE, Key=_PROBE)["Body"].read()
        else:
            client.create_bucket(Bucket=_PROBE)
        client.put_object(Bucket=_PROBE, Key=_PROBE, Body=b"probe")

    def kill(self) -> None:
        """End the server as a power cut does."""
        self._running.close()
        for port in self._ports:
            for number in (port, port + _GRPC_OFFSET):
                for left_over in _SOCKETS.glob(f"seaweedfs-*-{number}.sock"):
                    left_over.unlink()

    def client(self, *, secret_key: str | None = None) -> S3Client:
        """Return a boto3 client with this server's credentials, or with another secret."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            region_name=self.region,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=120, proxies={}),
        )

    def airflow_connection(self) -> str:
        """Return the connection to this server, as ``AIRFLOW_CONN_<ID>`` takes it."""
        return json.dumps({
            "conn_type": "aws",
            "login": self.access_key,
            "password": self.secret_key,
            "extra": {"endpoint_url": self.endpoint, "region_name": self.region},
        })

    def _command(self, identities: Path) -> list[str | Path]:
        ports = [f"-{service}.port={port}" for service, port in zip(_SERVICES, self._ports, strict=True)]
        return [
            Path(sysconfig.get_path("scripts"), "weed"),
            "-logtostderr",
            "server",
            f"-dir={self._data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            *ports,
            f"-s3.config={identities}",
            "-s3.autoCreateBucket=false",  # as in the cloud: a missing bucket is an error
            "-s3.port.iceberg=0",  # these two have fixed ports otherwise
            "-s3.port.lance=0",
            "-master.telemetry=false",  # no call home from a stranger's machine
            "-master.electionTimeout=1s",  # else a server started again needs 20 seconds
            "-master.volumeSizeLimitMB=64",
            "-volume.max=64",
        ]
