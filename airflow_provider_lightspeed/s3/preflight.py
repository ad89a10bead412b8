"""What a store refuses, found out before the first call to the shop, and the argument to set."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.s3.client import error_code, is_permanent, s3_exceptions

#: Writes small objects with boto's arguments of a write, and those that make it conditional.
Trial = Callable[[dict[str, Any], dict[str, Any]], None]

#: What no argument of the operator would change.
_NOT_ABOUT_ARGUMENTS = frozenset({
    "NoSuchBucket",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "PermanentRedirect",
    "InvalidBucketName",
})


@contextmanager
def naming_the_argument(action: str, find: Callable[[], str], consequence: str) -> Generator[None]:
    """Turn a refusal of the store into an error that names the argument to set, if one helps.

    :param action: what S3 is to do, such as ``write s3://bucket/key``.
    :param find: returns what to set, see :func:`find_remedy`.
    :param consequence: a sentence on what this means.
    :raises LightspeedConfigurationError: with what to set.
    """
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if not is_permanent(error) or code in _NOT_ABOUT_ARGUMENTS:
            raise
        if not (remedy := find()):
            raise
        raise LightspeedConfigurationError(
            f"S3 refuses to {action} ({code} at {error.operation_name}): {remedy}. {consequence}"
        ) from error


def find_remedy(
    trial: Trial, options: dict[str, Any], condition: dict[str, Any], *, conditional: bool = False
) -> str:
    """Return what to set so that the store takes writes that it has refused; empty if nothing helps.

    :param options: boto's arguments of these writes, and `condition` those that make them conditional.
    :param conditional: whether nothing helps that does without the condition.
    """
    failures: tuple[type[Exception], ...] = (*s3_exceptions(), LightspeedConfigurationError)
    for remedy, other_options, other_condition in _remedies(options, condition):
        if conditional and not other_condition:
            continue
        try:
            trial(other_options, other_condition)
        except failures:
            continue
        return remedy
    return ""


def _remedies(
    options: dict[str, Any], condition: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield what could be set when a store refuses a write, with the arguments that it would make.

    :param options: boto's arguments of the write that was refused, and `condition` those that make it conditional.
    """
    encryption = {name: options[name] for name in options if name != "ACL"}
    acl = {name: options[name] for name in options if name == "ACL"}
    demanded_acl = {"ACL": "bucket-owner-full-control"}
    if condition:
        yield "the store has no conditional writes (If-None-Match), set `replace=True`", options, {}
    if acl:
        yield "it takes no such ACL, leave `acl_policy` out", encryption, condition
    else:
        yield (
            "the bucket asks for an ACL, set `acl_policy='bucket-owner-full-control'`",
            options | demanded_acl,
            condition,
        )
    if encryption:
        yield (
            "it takes no such encryption, check `kms_key_id` or leave it and `encrypt` out",
            acl,
            condition,
        )
        return
    for argument, algorithm in ("`encrypt=True`", "AES256"), ("`kms_key_id`", "aws:kms"):
        demanded = {"ServerSideEncryption": algorithm}
        yield f"the bucket asks for encryption, set {argument}", options | demanded, condition
        if not acl:
            yield (
                f"the bucket asks for encryption and an ACL, set {argument} and "
                "`acl_policy='bucket-owner-full-control'`",
                demanded | demanded_acl,
                condition,
            )
