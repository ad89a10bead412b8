"""No missing value widens a choice: each argument that narrows, in each way to pass it, in each operator and the sensor."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_lightspeed._airflow import DAG, BaseOperator
from airflow_provider_lightspeed.exceptions import LightspeedTaskFailed
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    CreateTicketOperator,
    DeleteTicketsOperator,
    ReplyToTicketOperator,
    UpdateTicketsOperator,
)
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.transfers.ticket_changes_to_s3 import (
    CheckTicketChangesOperator,
    LightspeedTicketChangesToS3Operator,
)
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

_INSTANT = "2026-01-31T00:00:00+00:00"
_CHOICE = {
    "created_before": _INSTANT,
    "updated_before": _INSTANT,
    "only_answered": True,
    "include_todo": True,
    "customer_email": "ada@example.com",
    "language": "en",
    "where": bool,
    "max_tickets": 9,
    "dry_run": True,
    "receipt_s3_key": "s3://bucket/key",
    "encrypt": True,
    "kms_key_id": "key",
    "acl_policy": "private",
    "lightspeed_conn_id": "shop",
}
_CHANGE = {"is_closed": True, "is_answered": True, "is_todo": True, "subject": "Late", "memo": "Late"}
_EXPORT = {
    "since_id": 7,
    "created_from": _INSTANT,
    "created_to": _INSTANT,
    "customer_email": "ada@example.com",
    "exclude_fields": ["memo"],
    "hash_fields": ["subject"],
    "hash_secret_variable": "key",
    "encrypt": True,
    "kms_key_id": "key",
    "acl_policy": "private",
    "lightspeed_conn_id": "shop",
}
_CHANGES = {
    "exclude_fields": ["memo"],
    "hash_secret_variable": "key",
    "encrypt": True,
    "kms_key_id": "key",
    "acl_policy": "private",
    "lightspeed_conn_id": "shop",
}
#: An operator, arguments with which it runs, and arguments that narrow what it does.
_OPERATORS: list[tuple[type[BaseOperator], dict[str, Any], dict[str, Any]]] = [
    (CloseTicketsOperator, {"created_before": _INSTANT, "max_tickets": 9}, _CHOICE),
    (
        UpdateTicketsOperator,
        {"created_before": _INSTANT, "do_notify_answered": False, "max_tickets": 9},
        _CHOICE | _CHANGE,
    ),
    (DeleteTicketsOperator, {"created_before": _INSTANT, "max_tickets": 9}, _CHOICE),
    (DeleteTicketsOperator, {"ticket_ids": [7]}, {"ticket_ids": [7], "max_tickets": 9}),
    (CloseTicketsOperator, {"created_before": _INSTANT}, {"ticket_ids": [7], "max_tickets": 9}),
    (LightspeedTicketsToS3Operator, {"s3_key": "s3://bucket/key"}, _EXPORT),
    (LightspeedTicketsToS3Operator, {"s3_key": "key", "s3_bucket": "bucket"}, {"s3_bucket": "bucket"}),
    (LightspeedTicketChangesToS3Operator, {"s3_prefix": "s3://bucket/prefix"}, _CHANGES),
    (
        NewTicketSensor,
        {"since_id": 0},
        {
            "since_id": 7,
            "customer_email": "ada@example.com",
            "where": bool,
            "lightspeed_conn_id": "shop",
        },
    ),
    (
        CreateTicketOperator,
        {"subject": "Late", "customer_id": 7},
        {"subject": "Late", "customer_id": 7, "lightspeed_conn_id": "shop"},
    ),
    (
        ReplyToTicketOperator,
        {"ticket_id": 7, "message": "Hello"},
        {"ticket_id": 7, "message": "Hello", "lightspeed_conn_id": "shop"},
    ),
]
_CASES = [
    pytest.param(operator, arguments, name, id=f"{operator.__name__}-{name}-{len(arguments)}")
    for operator, arguments, narrow in _OPERATORS
    for name in narrow
]
#: Those that a template may fill.
_TEMPLATED = [case for case in _CASES if case.values[2] in case.values[0].template_fields]  # type: ignore[union-attr, operator]
#: Of operators that use no S3.
_TEXTS = ("memo", "message", "state_name")
#: These have another default.
_NEVER_NONE = {
    "only_answered",
    "include_todo",
    "dry_run",
    "exclude_fields",
    "hash_fields",
    "encrypt",
    "lightspeed_conn_id",
}


class _Reached(Exception):  # ruff: ignore[error-suffix-on-exception-name] - it is what the test waits for
    """The shop would be called now."""


@pytest.fixture(autouse=True)
def no_shop(monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(_: LightspeedHook) -> Any:
        raise _Reached

    monkeypatch.setattr(LightspeedHook, "get_conn", reach)


@contextmanager
def dag(**options: Any) -> Generator[DAG]:
    with DAG("missing", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), **options) as made:
        yield made


def execute(operator: Any) -> None:
    operator.execute({})


def _other(operator: type[BaseOperator], name: str) -> dict[str, str]:
    """Another argument, which is mapped."""
    if name != "lightspeed_conn_id":
        return {"lightspeed_conn_id": "other"}
    return {next(other for other in ("aws_conn_id", *_TEXTS) if other in operator.template_fields): "other"}


def _by_partial(operator: Any, arguments: dict[str, Any], name: str) -> BaseOperator:
    with dag():
        other = _other(operator, name)
        others = {key: value for key, value in arguments.items() if key not in other}
        task = operator.partial(task_id="task", **others, **{name: None}).expand(**{
            key: [value] for key, value in other.items()
        })
    return task.unmap(_other(operator, name))  # type: ignore[no-any-return]


def _by_expand(operator: Any, arguments: dict[str, Any], name: str) -> BaseOperator:
    with dag():
        task = operator.partial(task_id="task", **arguments).expand(**{name: [None]})
    return task.unmap({name: None})  # type: ignore[no-any-return]


def _by_expand_kwargs(operator: Any, arguments: dict[str, Any], name: str) -> BaseOperator:
    with dag():
        task = operator.partial(task_id="task").expand_kwargs([{**arguments, name: None}])
    return task.unmap({**arguments, name: None})  # type: ignore[no-any-return]


def _by_default_args(operator: Any, arguments: dict[str, Any], name: str) -> BaseOperator:
    with dag(default_args={name: None}):
        other = _other(operator, name)
        others = {key: value for key, value in arguments.items() if key not in other}
        task = operator.partial(task_id="task", **others).expand(**{
            key: [value] for key, value in other.items()
        })
    return task.unmap(_other(operator, name))  # type: ignore[no-any-return]


_MAPPED = [_by_partial, _by_expand, _by_expand_kwargs, _by_default_args]


@pytest.mark.parametrize("construct", _MAPPED)
@pytest.mark.parametrize(("operator", "arguments", "name"), _CASES)
def test_none_is_refused_in_a_mapped_task(
    operator: type[BaseOperator], arguments: dict[str, Any], name: str, construct: Callable[..., BaseOperator]
) -> None:
    others = {key: value for key, value in arguments.items() if key != name}
    with pytest.raises(LightspeedTaskFailed, match=name):
        execute(construct(operator, others, name))


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("value", [None, "", "None", " "])
@pytest.mark.parametrize(("operator", "arguments", "name"), _TEMPLATED)
def test_a_template_without_a_value_is_refused(
    operator: Any, arguments: dict[str, Any], name: str, value: str | None, native: bool
) -> None:
    if (
        operator is UpdateTicketsOperator
        and name in {"subject", "memo"}
        and value is not None
        and value != "None"
    ):
        pytest.skip("an empty text is a value of these")
    with dag(render_template_as_native_obj=native):
        task = operator(task_id="task", **(arguments | {name: "{{ value }}"}))
    task.render_template_fields({"value": value})
    with pytest.raises(LightspeedTaskFailed, match=name):
        execute(task)


@pytest.mark.parametrize(("operator", "arguments", "name"), _CASES)
def test_plain_none_means_not_given(operator: Any, arguments: dict[str, Any], name: str) -> None:
    if name in arguments or name in _NEVER_NONE:
        pytest.skip("it is required, or None is none of its values")
    with dag(default_args={name: None}):
        by_default = operator(task_id="default", **arguments)
        by_argument = operator(task_id="argument", **(arguments | {name: None}))
    for task in (by_default, by_argument):
        assert getattr(task, name) is None  # as it is shown in the web interface
        with pytest.raises(_Reached):
            execute(task)


@pytest.mark.parametrize(("operator", "arguments", "narrow"), _OPERATORS)
def test_a_mapped_task_with_values_runs(
    operator: Any, arguments: dict[str, Any], narrow: dict[str, Any]
) -> None:
    for name, value in narrow.items():
        conflict = (name == "ticket_ids" and "created_before" in arguments) or name in {
            "created_to",
            "kms_key_id",
        }
        if conflict or name in {"hash_fields"}:
            continue
        others = {key: kept for key, kept in arguments.items() if key != name}
        with dag():
            task = operator.partial(task_id="task", **others).expand(**{name: [value]})
        with pytest.raises(_Reached):
            execute(task.unmap({name: value}))


@pytest.mark.parametrize("flag", ["only_answered", "include_todo", "dry_run"])
@pytest.mark.parametrize("value", ["{{ params.flag }}", "False", 1, None])
def test_a_switch_is_true_or_false(flag: str, value: Any) -> None:
    with pytest.raises(LightspeedTaskFailed, match=flag):
        execute(CloseTicketsOperator(task_id="close", created_before=_INSTANT, **{flag: value}))


@pytest.mark.parametrize(
    "flag",
    [
        "flatten",
        "escape_formulas",
        "csv_bom",
        "replace",
        "skip_if_empty",
        "include_messages",
        "encrypt",
        "deferrable",
    ],
)
@pytest.mark.parametrize("value", ["{{ params.flag }}", "False", 1, None])
def test_a_switch_of_an_export_is_true_or_false(flag: str, value: Any) -> None:
    with pytest.raises(LightspeedTaskFailed, match=flag):
        execute(
            LightspeedTicketsToS3Operator(task_id="export", s3_key="s3://bucket/key.csv", **{flag: value})
        )


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("customer_email", False),  # the API's own word for nothing
        ("customer_email", float("nan")),  # pandas' word
        ("customer_email", " ada@example.com"),
        ("language", False),
        ("language", float("nan")),
        ("where", False),
        ("created_before", False),
        ("max_tickets", float("nan")),
        ("max_tickets", "9"),
        ("max_share", None),
        ("max_share", "0.5"),
        ("max_share", float("nan")),
    ],
)
def test_what_cannot_be_compared_is_refused(argument: str, value: Any) -> None:
    with pytest.raises(LightspeedTaskFailed):
        execute(
            DeleteTicketsOperator(
                task_id="delete", **({"only_answered": True, "max_tickets": 9} | {argument: value})
            )
        )


@pytest.mark.parametrize("value", [["a", "b"], {"a": 1}, 1.5, 7, True])
@pytest.mark.parametrize(
    ("operator", "arguments", "name"),
    [
        (LightspeedTicketsToS3Operator, {}, "s3_key"),
        (LightspeedTicketsToS3Operator, {"s3_key": "key"}, "s3_bucket"),
        (LightspeedTicketChangesToS3Operator, {}, "s3_prefix"),
        (LightspeedTicketChangesToS3Operator, {"s3_prefix": "prefix"}, "s3_bucket"),
        (CheckTicketChangesOperator, {}, "s3_prefix"),
        (CloseTicketsOperator, {"ticket_ids": [7]}, "receipt_s3_key"),
    ],
)
def test_an_address_that_is_no_text_is_refused_or_read_as_one(
    operator: Any, arguments: dict[str, Any], name: str, value: Any
) -> None:
    with pytest.raises((LightspeedTaskFailed, _Reached)) as caught:
        execute(operator(task_id="task", **(arguments | {name: value})))
    if isinstance(value, list | dict):
        assert f"{name} must be a text" in str(caught.value)


@pytest.mark.parametrize("operator", sorted({operator for operator, _, _ in _OPERATORS}, key=str))
def test_the_connection_is_rendered_first(operator: type[BaseOperator]) -> None:
    # Templates of the other fields may name the shop: {{ task.lightspeed_conn_id }}.
    assert next(iter(operator.template_fields)) == "lightspeed_conn_id"
    assert CheckTicketChangesOperator.template_fields[0] == "lightspeed_conn_id"


_TO_S3 = {"s3_key": "s3://bucket/key"}
_LOG = {"s3_prefix": "s3://bucket/prefix"}


@pytest.mark.parametrize(
    ("operator", "arguments", "complaint"),
    [
        (NewTicketSensor, {"min_tickets": "2"}, "min_tickets must be a whole number"),
        (NewTicketSensor, {"min_tickets": None}, "min_tickets must be a whole number"),
        (NewTicketSensor, {"max_tickets": 2.5}, "max_tickets must be a whole number"),
        (NewTicketSensor, {"where": "len"}, "where must be a function"),
        (NewTicketSensor, {"start": ["latest"]}, "start must be one of earliest, latest"),
        (NewTicketSensor, {"deferrable": "False"}, "deferrable must be True or False"),
        (
            CreateTicketOperator,
            {"subject": "Late", "customer_id": 7, "on_unknown_outcome": ["fail"]},
            "on_unknown_outcome must be one of fail, search",
        ),
        (LightspeedTicketsToS3Operator, _TO_S3 | {"on_malformed": ["fail"]}, "on_malformed must be one of"),
        (CheckTicketChangesOperator, _LOG | {"max_age": 26}, "max_age must be a timedelta"),
        (CheckTicketChangesOperator, _LOG | {"max_age": None}, "max_age must be a timedelta"),
        (CheckTicketChangesOperator, _LOG | {"aws_conn_id": " "}, "aws_conn_id is empty after rendering"),
        (CloseTicketsOperator, {"ticket_ids": [7], "acl_policy": ["private"]}, "acl_policy must be a text"),
        (DeleteTicketsOperator, {"ticket_ids": [7], "kms_key_id": 5}, "kms_key_id must be a text"),
    ],
)
def test_what_a_configuration_file_or_a_form_may_hold(
    operator: Any, arguments: dict[str, Any], complaint: str
) -> None:
    task = operator(task_id="task", **arguments)
    with pytest.raises(LightspeedTaskFailed, match=complaint):
        task.poke({}) if operator is NewTicketSensor else execute(task)
