"""What Airflow reads about this provider. It is imported before Airflow is ready, so it imports none of it."""

from __future__ import annotations

from typing import Any

PACKAGE_NAME = "airflow-provider-lightspeed"
CONNECTION_TYPE = "lightspeed"
HOOK_NAME = "Lightspeed eCom"
HOOK_CLASS = "airflow_provider_lightspeed.hooks.lightspeed.LightspeedHook"
_INTEGRATION = "Lightspeed eCom"

#: The extra fields of a connection. The hook builds the form of older Airflow versions from them too,
#: and refuses an extra that is not among them.
CONNECTION_FIELDS: dict[str, dict[str, Any]] = {
    "cluster": {
        "label": "Cluster",
        "description": "The shop's cluster: us1 (default) or eu1. A Host overrides it.",
        "schema": {
            "type": ["string", "null"],
            "enum": ["us1", "eu1"],
            "values_display": {"us1": "us1 (api.shoplightspeed.com)", "eu1": "eu1 (api.webshopapp.com)"},
        },
    },
    "language": {
        "label": "Language",
        "description": "Two-letter code of one of the shop's languages (default: en).",
        "schema": {"type": ["string", "null"]},
    },
    "filter_timezone": {
        "label": "Time zone of date filters",
        "description": "IANA name of the zone in which the shop reads date filters. "
        "It only saves calls; leave it empty if unknown.",
        "schema": {"type": ["string", "null"]},
    },
    "quota_reserve": {
        "label": "Quota reserve",
        "description": "Part of each quota window that is left to other programs, 0 to 0.9 (default: 0).",
        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 0.9},
    },
    "timeout": {
        "label": "Timeout",
        "description": "Seconds to wait for a connection, and for each part of a response (default: 30).",
        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
    },
    "max_wait": {
        "label": "Longest wait",
        "description": "Longest time in seconds that a task sleeps for the quota (default: 60).",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "calls_per_second": {
        "label": "Calls per second",
        "description": "Most calls in a second (default: 20, the vendor's limit); 0 for no limit.",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "allow_http": {
        "label": "Allow http",
        "description": "Send the credentials unencrypted to a host other than this machine.",
        "schema": {"type": ["boolean", "null"]},
    },
    "app_token": {
        "label": "App token",
        "description": "Only for an app that is installed in many shops: this shop's token. "
        "API key and secret are then those of the app.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    # Airflow hides what has "secret" in its name, from its API too.
    "hash_secret": {
        "label": "Hash secret",
        "description": "Key for the argument hash_fields of exports: 16 characters or more. Keep it safe: "
        "with the same key, the same customer has the same hash.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
}

#: How the fixed fields of the connection form look.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "extra"],
    # Airflow 3.1 shows "host" and "port" in lower case if no label is given.
    "relabeling": {"host": "Host", "port": "Port", "login": "API key", "password": "API secret"},
    "placeholders": {
        "host": "empty: from the cluster; http://127.0.0.1:8100 for the sandbox",
        # The test button of these versions sends port 0 if there is none, and then refuses it, because it differs from the
        # stored connection (apache/airflow#73298).
        "port": "empty; 443 for the test button of Airflow 3.3.1 and 3.3.2",
        "login": "32 characters, from the shop's back office",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Describe this provider to Airflow (entry point ``apache_airflow_provider``)."""
    return {
        "package-name": PACKAGE_NAME,
        "name": HOOK_NAME,
        "description": "Support tickets of Lightspeed eCom shops: export to S3, bulk changes, new-ticket sensors.",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://developers.lightspeedhq.com/ecom/",
                "tags": ["service"],
            },
            {
                "integration-name": "Amazon Simple Storage Service (S3)",
                "external-doc-url": "https://aws.amazon.com/s3/",
                "tags": ["aws"],
            },
        ],
        "hooks": [_modules("hooks.lightspeed")],
        "operators": [_modules("operators.tickets")],
        "sensors": [_modules("sensors.tickets")],
        "triggers": [_modules("triggers.tickets", "triggers.assets")],
        "asset-uris": [
            {"schemes": ["lightspeed"], "handler": "airflow_provider_lightspeed.assets.sanitize_uri"}
        ],
        "transfers": [
            {
                "source-integration-name": _INTEGRATION,
                "target-integration-name": "Amazon Simple Storage Service (S3)",
                "python-module": "airflow_provider_lightspeed.transfers.tickets_to_s3",
            },
            {
                "source-integration-name": _INTEGRATION,
                "target-integration-name": "Amazon Simple Storage Service (S3)",
                "python-module": "airflow_provider_lightspeed.transfers.ticket_changes_to_s3",
            },
        ],
        "extra-links": ["airflow_provider_lightspeed.s3.link.S3ObjectLink"],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": HOOK_CLASS,
                "hook-name": HOOK_NAME,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONNECTION_FIELDS,
            }
        ],
    }


def _modules(*names: str) -> dict[str, Any]:
    return {
        "integration-name": _INTEGRATION,
        "python-modules": [f"airflow_provider_lightspeed.{name}" for name in names],
    }
