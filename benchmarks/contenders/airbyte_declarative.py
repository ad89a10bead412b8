"""The Airbyte CDK's declarative source, its records to a file that is then uploaded."""

from __future__ import annotations

import gzip
import json
import logging
import tempfile
from collections.abc import Iterator
from typing import Any

from airbyte_cdk.models import SyncMode, Type  # type: ignore[import-not-found]  # it lives in an environment of its own
from airbyte_cdk.sources.declarative.concurrent_declarative_source import (  # type: ignore[import-not-found]
    ConcurrentDeclarativeSource,
)
from airbyte_cdk.test.catalog_builder import CatalogBuilder  # type: ignore[import-not-found]
from job import PAGE, Job, at_work

logging.disable(logging.INFO)
SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}}, "additionalProperties": True}


def manifest(job: Job) -> dict[str, Any]:
    """Describe the shop."""
    return {
        "version": "6.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["tickets"]},
        "streams": [
            {
                "type": "DeclarativeStream",
                "name": "tickets",
                "primary_key": ["id"],
                "retriever": {
                    "type": "SimpleRetriever",
                    "requester": {
                        "type": "HttpRequester",
                        "url_base": f"{job.shop}/en",
                        "path": "/tickets.json",
                        "http_method": "GET",
                        "authenticator": {
                            "type": "BasicHttpAuthenticator",
                            "username": job.key,
                            "password": job.secret,
                        },
                    },
                    "record_selector": {
                        "type": "RecordSelector",
                        "extractor": {"type": "DpathExtractor", "field_path": ["tickets"]},
                    },
                    "paginator": {
                        "type": "DefaultPaginator",
                        "page_size_option": {
                            "type": "RequestOption",
                            "inject_into": "request_parameter",
                            "field_name": "limit",
                        },
                        "page_token_option": {
                            "type": "RequestOption",
                            "inject_into": "request_parameter",
                            "field_name": "page",
                        },
                        "pagination_strategy": {
                            "type": "PageIncrement",
                            "page_size": PAGE,
                            "start_from_page": 1,
                        },
                    },
                },
                "schema_loader": {"type": "InlineSchemaLoader", "schema": SCHEMA},
            }
        ],
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
    }


def read(job: Job) -> Iterator[dict[str, Any]]:
    """Go through all tickets."""
    catalog = CatalogBuilder().with_stream("tickets", SyncMode.full_refresh).build()
    source = ConcurrentDeclarativeSource(catalog=catalog, config={}, state=[], source_config=manifest(job))
    for message in source.read(logging.getLogger("airbyte"), {}, catalog, []):
        if message.type == Type.RECORD:
            yield message.record.data


def export(job: Job, s3: Any) -> int:
    """Write all tickets to S3, and return how many there were."""
    rows = 0
    with tempfile.NamedTemporaryFile(suffix=".gz") as file:
        with gzip.open(file, "wt", 1, encoding="utf-8") as packed:
            for ticket in read(job):
                rows += 1
                packed.write(json.dumps(ticket, ensure_ascii=False) + "\n")
        file.flush()
        s3.upload_file(file.name, job.bucket, job.target)
    return rows


if __name__ == "__main__":
    task = Job.from_command_line()
    client = task.s3_client()
    with at_work():
        export(task, client)
