"""The way to S3: the client, addresses, what each write carries, and errors."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.exceptions import LightspeedStorageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: An address of an access point has colons and a slash in its bucket.
_URI = re.compile(
    r"(?i:s3)://(?P<bucket>arn:[^/]*:(?:accesspoint|outpost/[^/:]+[/:]accesspoint)[/:][^/]+|[^/]*)/(?P<key>.*)",
    re.DOTALL,
)
_PERMANENT_STATUS = frozenset({301, 400, 401, 403, 404, 405, 501})
#: Of these statuses, what another try may not meet. A HEAD has no body, and so its code is the status.
_TRANSIENT_CODES = frozenset({
    "400",
    "BadDigest",
    "ExpiredToken",
    "IncompleteBody",
    "KMS.ThrottlingException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TokenRefreshRequired",
})
_CHECK_CREDENTIALS = (
    "check the credentials of the AWS connection, and for another store its endpoint and region"
)
_HINTS = {
    "NoSuchBucket": "there is no such bucket: create it, or correct the name",
    "NoSuchKey": "there is no such object: check its key, and whether the task that writes it has run",
    "404": "there is no such bucket or object: check its name",
    "PermanentRedirect": "the bucket is in another region: set it in the AWS connection",
    "InvalidAccessKeyId": _CHECK_CREDENTIALS,
    "SignatureDoesNotMatch": _CHECK_CREDENTIALS,
    "AccessControlListNotSupported": "ACLs are disabled on the bucket: leave `acl_policy` out",
}
_CHECK_RIGHTS = (
    "check the credentials and rights of the AWS connection; a policy of the bucket may also ask for `acl_policy`, "
    "`encrypt` or `kms_key_id`"
)


@dataclass(frozen=True)
class WriteOptions:
    """What each write carries.

    :param encrypt: whether S3 encrypts with its own key.
    :param kms_key_id: KMS key with which S3 encrypts.
    :param acl_policy: canned ACL.
    """

    encrypt: bool = False
    kms_key_id: str | None = None
    acl_policy: str | None = None

    @property
    def for_objects(self) -> dict[str, Any]:
        """boto's arguments for an object that readers are meant to find."""
        return self._encryption | ({"ACL": self.acl_policy} if self.acl_policy else {})

    @property
    def for_staging(self) -> dict[str, Any]:
        """boto's arguments for a staged part: an ACL only for the bucket's owner."""
        is_of_owner = self.acl_policy is not None and self.acl_policy.startswith("bucket-owner-")
        return self.for_objects if is_of_owner else self._encryption

    @property
    def _encryption(self) -> dict[str, Any]:
        if self.kms_key_id:
            return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id}
        return {"ServerSideEncryption": "AES256"} if self.encrypt else {}


def connect(aws_conn_id: str | None) -> S3Client:
    """Return a client. Call it within :func:`s3_errors`: it may assume a role, which can be refused."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    client: S3Client = S3Hook(aws_conn_id=aws_conn_id).get_conn()
    if not is_aws(client):
        # boto adds CRC32 checksums to all writes since 1.36, which some stores refuse.
        settings: Any = client.meta.config
        settings.request_checksum_calculation = settings.response_checksum_validation = "when_required"
    return client


def is_aws(client: S3Client) -> bool:
    """Return whether the client leads to AWS, and not to another store with the same API."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an ``s3://`` address; the bucket may be the ARN of an access point.

    Blanks around them are refused: S3 would take them as a part of the key.

    :raises LightspeedConfigurationError: if it is no such address.
    """
    found = _URI.fullmatch(uri)
    if not found or not found["bucket"] or not found["key"]:
        raise LightspeedConfigurationError(f"an address such as s3://bucket/key is needed, got {uri!r}")
    for text in found["bucket"], found["key"]:
        if text != text.strip() or not text.isprintable():
            raise LightspeedConfigurationError(f"{uri!r} has blanks around bucket or key, or a line break")
    if not all(found["key"].split("/")):
        raise LightspeedConfigurationError(
            f"{uri!r} has an empty folder or file name: a key has no slash at its ends, and no two in a row"
        )
    return found["bucket"], found["key"]


def error_code(error: Any) -> str:
    """Return the code that S3 answered, empty if it did not answer; of a HEAD, which has no body, it is the status."""
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code") or _status(error) if response else "")


def is_permanent(error: Any) -> bool:
    """Return whether another try would get the same ``ClientError``."""
    return _status(error) in _PERMANENT_STATUS and error_code(error) not in _TRANSIENT_CODES


def _status(error: Any) -> int:
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


@contextmanager
def s3_errors(action: str, consequence: str = "") -> Generator[None]:
    """Turn an error of S3, or of the credentials for it, into one that says whether another try may help.

    :param action: what S3 is to do, such as ``write s3://bucket/key``.
    :param consequence: a sentence on what this means.
    :raises LightspeedConfigurationError: if another try would end alike.
    :raises LightspeedStorageError: if not.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    end = consequence and f". {consequence}"
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if not is_permanent(error):
            raise LightspeedStorageError(f"S3 failed to {action}: {error}{end}") from error
        raise LightspeedConfigurationError(
            f"S3 refuses to {action} ({code} at {error.operation_name}): {_HINTS.get(code, _CHECK_RIGHTS)}{end}"
        ) from error
    except BotoCoreError as error:
        raise LightspeedStorageError(f"S3 failed to {action}: {error}{end}") from error
