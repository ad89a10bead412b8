"""The Airbyte CDK: a full refresh at each look."""

from __future__ import annotations

from airbyte_declarative import export
from job import Job, looks, report

job = Job.from_command_line()
s3 = job.s3_client()
for _ in looks():
    report(export(job, s3))
