"""Fifteen lines of requests: what one writes in an afternoon. No retries, no quota, no thought of anything else."""

from __future__ import annotations

import gzip
import tempfile

import msgspec
import requests
from job import PAGE, Job, at_work

job = Job.from_command_line()
job.s3_client()  # loads boto3
with at_work(), tempfile.NamedTemporaryFile(suffix=".gz") as file:
    s3 = job.s3_client()
    session = requests.Session()
    session.auth = (job.key, job.secret)
    encoder = msgspec.json.Encoder()
    params = {"limit": PAGE}
    with gzip.open(file, "wb", 1) as packed:
        while True:
            answer = session.get(f"{job.shop}/en/tickets.json", params=params, timeout=30)
            answer.raise_for_status()
            tickets = msgspec.json.decode(answer.content)["tickets"]
            packed.write(encoder.encode_lines(tickets))
            if len(tickets) < PAGE:
                break
            if job.order == "oldest":
                params["since_id"] = tickets[-1]["id"]
            else:
                params["page"] = params.get("page", 1) + 1
    file.flush()
    s3.upload_file(file.name, job.bucket, job.target)
