"""What OpenLineage gets of an export. Only the OpenLineage provider loads it, if that is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_lightspeed.s3.client import parse_s3_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


@dataclass(frozen=True)
class Exported:
    """An export that is done.

    :param shop: base address of the shop.
    :param connection: id of the connection to it. The address is the whole cluster's; this tells its shops apart.
    :param fields: name and type of what each row of the object has.
    :param result: what the task returns.
    """

    shop: str
    connection: str
    fields: Mapping[str, str]
    result: Mapping[str, Any]

    def lineage(self) -> OperatorLineage[Any, Any]:
        """Return it as OpenLineage's objects."""
        from airflow.providers.openlineage.extractors import OperatorLineage
        from openlineage.client.generated.base import Dataset, OutputDataset
        from openlineage.client.generated.output_statistics_output_dataset import (
            OutputStatisticsOutputDatasetFacet,
        )
        from openlineage.client.generated.schema_dataset import SchemaDatasetFacet, SchemaDatasetFacetFields

        bucket, key = parse_s3_uri(self.result["uri"])
        schema = SchemaDatasetFacet(
            fields=[SchemaDatasetFacetFields(name=name, type=kind) for name, kind in self.fields.items()]
        )
        written = OutputStatisticsOutputDatasetFacet(
            rowCount=self.result["tickets"], size=self.result["bytes"], fileCount=1
        )
        return OperatorLineage(
            inputs=[
                Dataset(
                    namespace=f"lightspeed://{urlsplit(self.shop).netloc}", name=f"{self.connection}/tickets"
                )
            ],
            outputs=[
                OutputDataset(
                    namespace=f"s3://{bucket}",
                    name=key,
                    facets={"schema": schema},
                    outputFacets={"outputStatistics": written},
                )
            ],
        )
