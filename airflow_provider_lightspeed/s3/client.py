"""The way to S3: the client, addresses, what each write carries, and errors."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_lightspeed._arguments import is_unrendered, parse_text
from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.exceptions import LightspeedStorageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: An address of an access point has colons and a slash in its bucket.
_URI = re.compile(
    r"(?i:s3)://(?P<bucket>arn:[^/]*:(?:accesspoint|outpost/[^/:]+[/:]accesspoint)[/:][^/]+|[^/]*)/(?P<key>.*)",
    re.DOTALL,
)
#: What a template without a value leaves of `date={{ … }}` or of a file name.
_MISSING = re.compile(r"(?<![A-Za-z0-9])None(?![A-Za-z0-9])|(?:^|/)\w+=(?=[/.]|$)")
#: What a template leaves that is not rendered.
_NOT_RENDERED = re.compile(r"MappedArgument\(|\{\{")
_BLOCK = 1024 * 1024
_PERMANENT_STATUS = frozenset({301, 302, 308, 400, 401, 403, 404, 405, 501})
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
_CHECK_NETWORK = ". Check the network of the worker, and `endpoint_url` of the AWS connection"
_NO_CREDENTIALS = ". Create the AWS connection (`aws_conn_id`), or give the worker an IAM role"
_CHECK_REGION = "the bucket is in another region: set it in the AWS connection"
_CHECK_ADDRESS = "the bucket or the store is at another address: check `region_name` and `endpoint_url` (https?) of the AWS connection"
_HINTS = {
    "NoSuchBucket": "there is no such bucket: create it, or correct the name",
    "InvalidBucketName": "this is no valid bucket name",
    "NoSuchKey": "there is no such object: check its key, and whether the task that writes it has run",
    "404": "there is no such bucket or object: check its name",
    "PermanentRedirect": _CHECK_REGION,
    "AuthorizationHeaderMalformed": _CHECK_REGION,
    "IllegalLocationConstraintException": _CHECK_REGION,
    "301": _CHECK_ADDRESS,
    "302": _CHECK_ADDRESS,
    "308": _CHECK_ADDRESS,
    "InvalidAccessKeyId": _CHECK_CREDENTIALS,
    "SignatureDoesNotMatch": _CHECK_CREDENTIALS,
    "AccessControlListNotSupported": "ACLs are disabled on the bucket: leave `acl_policy` out",
    "KeyTooLongError": "the key is too long, also for the staged parts, whose keys are some 60 characters longer",
    "InvalidObjectState": "the object is archived: restore it first",
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

    def __post_init__(self) -> None:
        """Refuse what is no text, such as a list that a mapped task got.

        :raises LightspeedConfigurationError: naming the argument.
        """
        for name, value in (("kms_key_id", self.kms_key_id), ("acl_policy", self.acl_policy)):
            if value is not None and not isinstance(value, str):
                raise LightspeedConfigurationError(f"{name} must be a text, got {value!r}")

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

    # Airflow reads an empty id as None. With another id that it can't find, S3Hook would also use whatever credentials the
    # worker has, maybe of another account.
    if aws_conn_id and is_unrendered(aws_conn_id):
        raise LightspeedConfigurationError(
            f"aws_conn_id is empty after rendering (got {aws_conn_id!r}): for the worker's own AWS credentials, pass None"
        )
    try:
        client: S3Client = S3Hook(aws_conn_id=aws_conn_id).get_conn()
    except (TypeError, ValueError) as error:  # of an address, or an unknown setting
        raise LightspeedConfigurationError(
            f"the AWS connection {aws_conn_id!r} can't be used: {error}"
        ) from error
    # boto asks for the region of a bucket. It would follow a redirect without a region forever.
    client.meta.events.register("before-call.s3.HeadBucket", _stay)
    if not is_aws(client):
        # boto adds CRC32 checksums to all writes since 1.36, which some stores refuse. This one each store knows, and
        # some ask for it where objects are locked.
        settings: Any = client.meta.config
        settings.request_checksum_calculation = settings.response_checksum_validation = "when_required"
        for call in "PutObject", "UploadPart":
            client.meta.events.register(f"before-call.s3.{call}", _add_md5)
    return client


def _stay(context: dict[str, Any], **_: Any) -> None:
    context.setdefault("s3_redirect", {})["redirected"] = True


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    body, digest = params["body"], hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes | bytearray):
        digest.update(body)
    else:
        start = body.tell()
        while block := body.read(_BLOCK):
            digest.update(block)
        body.seek(start)
    params["headers"]["Content-MD5"] = base64.b64encode(digest.digest()).decode()


def is_aws(client: S3Client) -> bool:
    """Return whether the client leads to AWS, and not to another store with the same API."""
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def full_address(argument: str, value: Any, bucket: Any) -> str:
    """Return the ``s3://`` address that an argument is, or names together with ``s3_bucket``.

    :param argument: its name, for the error.
    :param bucket: the value of ``s3_bucket``.
    :raises LightspeedConfigurationError: if the bucket is missing or named twice, or one of them is no text.
    """
    value = parse_text(argument, value)
    bucket = None if bucket is None else parse_text("s3_bucket", bucket)
    is_address = value.lower().startswith("s3://")
    if is_address and bucket:
        raise LightspeedConfigurationError(f"{argument} {value!r} names its bucket: leave s3_bucket out")
    if not is_address and not bucket:
        raise LightspeedConfigurationError(f"{argument} {value!r} needs s3_bucket, or to be an s3:// address")
    return value if is_address else f"s3://{bucket}/{value}"


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an ``s3://`` address; the bucket may be the ARN of an access point.

    Blanks around them are refused: S3 would take them as a part of the key.

    :raises LightspeedConfigurationError: if it is no such address.
    """
    found = _URI.fullmatch(uri)
    if not found or not found["bucket"] or not found["key"]:
        raise LightspeedConfigurationError(f"the S3 address must be like s3://bucket/key, got {uri!r}")
    for text in found["bucket"], found["key"]:
        if text != text.strip() or not text.isprintable():
            raise LightspeedConfigurationError(f"{uri!r} has blanks around bucket or key, or a line break")
    if "\\" in found["key"] or not {".", ".."}.isdisjoint(found["key"].split("/")):
        raise LightspeedConfigurationError(
            f"{uri!r} has a backslash or a folder `.` or `..`: some stores would shift such a key"
        )
    if not all(found["key"].split("/")):
        raise LightspeedConfigurationError(
            f"{uri!r} has an empty folder or file name: a key has no slash at its ends, and no two in a row"
        )
    if _MISSING.search(found["key"]):
        raise LightspeedConfigurationError(
            f"{uri!r} has a part without a value: a template in it rendered to nothing, or to None. All runs would share "
            "this address"
        )
    if _NOT_RENDERED.search(found["key"]):
        raise LightspeedConfigurationError(
            f"{uri!r} has a part that is not rendered. On Airflow 3.0, write {{{{ ti.task.lightspeed_conn_id }}}} in place of "
            "{{ task.lightspeed_conn_id }}"
        )
    return found["bucket"], found["key"]


def s3_exceptions() -> tuple[type[Exception], ...]:
    """Return what boto raises: S3's own errors, those on the way to it, and for what is no response of S3."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ClientError, ResponseParserError


def require_s3(response: Mapping[str, Any], field: str = "ETag") -> Any:
    """Return a field that each response of S3 has, but a page of a gateway has not.

    :raises ResponseParserError: if it is missing.
    """
    if field not in response:
        raise _not_s3(f"a response without {field}")
    return response[field]


def require_size(data: bytes, size: int) -> bytes:
    """Return the bytes of an object, if all are there.

    :raises ResponseParserError: if not.
    """
    if len(data) != size:
        raise _not_s3(f"{len(data):,} bytes of an object that has {size:,}")
    return data


def _not_s3(what: str) -> Exception:
    from botocore.parsers import ResponseParserError

    return ResponseParserError(
        f"{what}: this is no response of S3. Check `endpoint_url` of the AWS connection, and what is on the way to it"
    )


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
    from botocore.exceptions import (
        ClientError,
        EndpointConnectionError,
        InvalidRegionError,
        InvalidS3AddressingStyleError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    # One traceback: those of boto would be a hundred lines that only repeat what the message says.
    end = consequence and f". {consequence}"
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if not is_permanent(error):
            raise LightspeedStorageError(f"S3 failed to {action}: {error}{end}") from None
        raise LightspeedConfigurationError(
            f"S3 refuses to {action} ({code} at {error.operation_name}): {_HINTS.get(code, _CHECK_RIGHTS)}{end}"
        ) from None
    except (
        InvalidRegionError,
        InvalidS3AddressingStyleError,
        ParamValidationError,
        PartialCredentialsError,
        ProfileNotFound,
    ) as error:
        why = " ".join(str(error).split())
        raise LightspeedConfigurationError(f"S3 can't {action}: {why}{end}") from None
    except s3_exceptions() as error:
        hint = _CHECK_NETWORK if isinstance(error, EndpointConnectionError) else ""
        if isinstance(error, NoCredentialsError):
            hint = _NO_CREDENTIALS
        raise LightspeedStorageError(f"S3 failed to {action}: {error}{hint}{end}") from None
