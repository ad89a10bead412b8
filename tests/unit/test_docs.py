"""What the docs say to type works: each snippet is run or read by the program that it is for, each link leads somewhere.

`make docs` checks the links and anchors within docs/, and that what is included from files is there.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import re
import shlex
import textwrap
from datetime import date, timedelta
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import sqlglot
import yaml
from sqlglot import ErrorLevel, exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from airflow_provider_lightspeed import exceptions
from airflow_provider_lightspeed.changes.files import FORMATS
from airflow_provider_lightspeed.formats import Layout, make_format
from airflow_provider_lightspeed.formats.columns import Columns
from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook
from airflow_provider_lightspeed.probe import _parser as probe_parser
from airflow_provider_lightspeed.sandbox.__main__ import _parser
from tools.figures import FIGURES, IMAGES, draw

PROJECT = Path(__file__).parents[2]
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
PACKAGE = "airflow-provider-lightspeed"

_BLOCK = re.compile(
    r"^(?P<indent> *)(?P<fence>```+) *(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence)$", re.M | re.S
)
_LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
_TARGET = re.compile(r"^([a-z][a-z-]*)[:%]", re.M)
_HEADING = re.compile(r"^#+ (.+)$", re.M)
_MODULE = re.compile(r"python -m ([\w.]+)")
_FOLDERS = "benchmarks|chaos|demo|docs|example_dags|example_tests|requirements|tests|tools|airflow_provider_lightspeed"
_FILE = re.compile(rf"(?<![\w/.-])(?:{_FOLDERS})/[\w/.-]*")

#: Whose SQL stands below a heading, by sqlglot's name for it.
DIALECTS = {
    "DuckDB": "duckdb",
    "Athena": "athena",
    "Snowflake": "snowflake",
    "Spark": "spark",
    "BigQuery": "bigquery",
    "Redshift": "redshift",
    "Iceberg": "athena",
}
#: The statements that sqlglot has no grammar for.
_NO_GRAMMAR = re.compile(
    r"MSCK REPAIR TABLE \w+;|LOAD DATA (?:INTO|OVERWRITE) [\w.]+\s+FROM FILES \([^)]+\)\s+WITH CONNECTION `[\w.-]+`;"
)
#: sqlglot lets COPY have options of any name.
_COPY_OPTIONS = {
    "snowflake": {
        "PATTERN",
        "FILE_FORMAT",
        "MATCH_BY_COLUMN_NAME",
        "TYPE",
        "COMPRESSION",
        "USE_LOGICAL_TYPE",
    },
    "redshift": {"FORMAT"},
}
#: How the code's types are called elsewhere. A Snowflake timestamp is a wall clock unless it says LTZ or TZ.
_SNOWFLAKE = {"string": "string", "bigint": "bigint", "boolean": "boolean", "timestamp": "timestamp_ltz"}
_REDSHIFT = {"string": "varchar(65535)"}
_DUCKDB = {"string": "varchar", "timestamp": "timestamptz"}
#: The API's own objects hold `false` in place of an object, so they are read as JSON text.
_JSON = {"integer": "bigint", "string": "string", "boolean": "boolean", "object": "string"}

#: Looked at by a person: nothing here can reach them.
EXTERNAL = {
    "https://github.com/apache/airflow/issues/56050",
    "https://github.com/apache/airflow/issues/64476",
    "https://github.com/apache/airflow/issues/71172",
    "https://github.com/apache/airflow/issues/71580",
    "https://github.com/apache/airflow/pull/73298",
    "https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html",
    "https://cloud.google.com/bigquery/docs/load-data-using-cross-cloud-transfer",
    "https://keepachangelog.com/en/1.1.0/",
    "https://semver.org/",
    "https://www.lightspeedhq.com/ecommerce/",
}


#: Lines of troubleshooting that Python or Airflow write.
NOT_OURS = ["No module named 'airflow_provider_lightspeed'"]


class Snippet(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    heading: str
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def snippets() -> list[Snippet]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in _BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            heading = _HEADING.findall(_BLOCK.sub("", text[: block.start()]))[-1]
            language = block["language"].strip("{}. ")
            found.append(
                Snippet(
                    str(page.relative_to(PROJECT)), line, heading, language, textwrap.dedent(block["text"])
                )
            )
    return found


def of(*languages: str) -> Any:
    chosen = [snippet for snippet in snippets() if snippet.language in languages]
    assert chosen
    return pytest.mark.parametrize("snippet", chosen, ids=[snippet.place for snippet in chosen])


def commands(snippet: Snippet) -> list[str]:
    return [line.removeprefix("$ ") for line in snippet.text.splitlines() if line.startswith("$ ")]


def test_each_snippet_is_of_a_kind_that_is_checked() -> None:
    # The SQL is run too, as far as DuckDB can: tests/integration/test_export_queries.py, test_changes_queries.py. Text is
    # output, or a picture.
    kinds = {"python", "console", "json", "sql", "text", "yaml"}
    assert [
        (snippet.place, snippet.language) for snippet in snippets() if snippet.language not in kinds
    ] == []


@of("python")
def test_python_runs(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    if "--8<--" in snippet.text:
        files = re.findall(r'--8<-- "(.+?)"', snippet.text)
        assert all((PROJECT / file).is_file() for file in files)  # and other tests run them
        return
    text = snippet.text
    if not _has_airflow_sdk():
        text = re.sub(
            r"^from airflow.sdk import (dag|dag, task)$",
            r"from airflow.decorators import \1",
            text,
            flags=re.M,
        )
    needs_airflow_3 = any(word in text for word in ("new_tickets_asset(", "retry_policy", "airflow.sdk"))
    if needs_airflow_3 and not _is_airflow_3_3():
        pytest.skip("shows what this version of Airflow does not have; docs/versions.md says so")
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTSPEED_DEFAULT", '{"conn_type": "lightspeed"}')
    # A snippet has all of its imports, so that a reader can paste it.
    exec(compile(text, snippet.place, "exec"), {"__name__": "snippet"})  # ruff: ignore[exec-builtin] - it is our own text


def test_what_is_imported_is_in_the_reference() -> None:
    reference = "".join(page.read_text() for page in PROJECT.glob("docs/reference/*.md"))
    known = set(re.findall(r"^::: ([\w.]+)$", reference, re.M))
    shown = [snippet.text for snippet in snippets() if snippet.language == "python"]
    shown += [file.read_text() for file in PROJECT.glob("example_*/*.py")]
    imported = {
        f"{module}.{name.strip()}"
        for text in shown
        for module, in_brackets, names in re.findall(
            r"^ *from (airflow_provider_lightspeed[\w.]*) import (?:\(([^)]+)\)|(.+))$", text, re.M
        )
        for name in (in_brackets or names).split(",")
        if name.strip()
    }
    assert imported <= known


def test_each_error_is_in_troubleshooting_and_links_to_its_reference() -> None:
    reference = (PROJECT / "docs/reference/errors.md").read_text()
    bases = {"LightspeedError", "LightspeedPermanentError", "LightspeedAPIError"}
    names = re.findall(r"^::: (airflow_provider_lightspeed[\w.]*\.(\w+(?:Error|Failed)))$", reference, re.M)
    assert {name for _, name in names} >= {
        name for name in exceptions.__all__ if name.endswith(("Error", "Failed"))
    }
    page = (PROJECT / "docs/troubleshooting.md").read_text()
    missing = [
        name
        for path, name in names
        if name not in bases and f"[`{name}`](reference/errors.md#{path})" not in page
    ]
    assert missing == []


def test_the_lines_in_troubleshooting_are_those_of_the_code() -> None:
    lines = [line for line in quoted_lines() if " " in line or "…" in line]
    assert len(lines) > 80
    unknown = [line for line in lines if not any(line in text for text in texts())]
    assert unknown == [without_values(line) for line in NOT_OURS]


def test_each_warning_is_in_troubleshooting() -> None:
    # One is a variable: with on_failure="warn", the text of LightspeedTicketsFailed.
    first = [call.args[0] for call in logging_calls("warning", "error", "exception")]
    assert {ast.unparse(node) for node in first if not isinstance(node, ast.Constant)} == {"message"}
    beginnings = {beginning(str(node.value)) for node in first if isinstance(node, ast.Constant)}
    assert len(beginnings) > 20
    lines = quoted_lines()
    missing = [text for text in beginnings if not any(text in line for line in lines)]
    assert missing == []


def quoted_lines() -> list[str]:
    """Return what the first cells of troubleshooting quote, without values."""
    page = (PROJECT / "docs/troubleshooting.md").read_text()
    first_cells = re.findall(r"^\| ([^|]+) \|", page, re.M)
    found = [code for cell in first_cells for _, code in re.findall(r"(?<!`)(`+)(.+?)\1(?!`)", cell)]
    return [without_values(code) for code in found]


@cache
def texts() -> list[str]:
    """Return the texts of the package, without values."""
    found = []
    for file in PROJECT.glob("airflow_provider_lightspeed/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append(without_values("".join(map(str, parts))))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(without_values(node.value))
    return found


def without_values(text: str) -> str:
    """Put "…" for each number, and for each value that a template lets in."""
    return re.sub(r"%[srd]|%\+d|%\.\df|\{\w+(?:!r)?\}|\b\d[\d,]*(?:\.\d+)?\b", "…", text).strip("… ")


def beginning(template: str) -> str:
    """Return the first four words of a log line, and the values between them."""
    text = without_values(template)
    found = re.match(r"(?:[^\w]*[\w']+){1,4}", text)
    assert found
    return found[0]


def logging_calls(*levels: str) -> list[ast.Call]:
    return [
        node
        for file in PROJECT.glob("airflow_provider_lightspeed/**/*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in levels
        if ast.unparse(node.func.value) in {"log", "self.log", "logger"}
    ]


@pytest.mark.parametrize("page", ["docs/tutorial.md", "docs/current-state.md", "docs/quotas.md"])
def test_the_log_lines_of_a_run_are_those_of_the_code(page: str) -> None:
    blocks = [snippet.text for snippet in snippets() if snippet.page == page and snippet.language == "text"]
    lines = [line for text in blocks if not text.startswith("SELECT") for line in text.splitlines()]
    assert lines
    for line in lines:
        assert any(template.fullmatch(line) for template in logged()), line


@cache
def logged() -> list[re.Pattern[str]]:
    """Return what the code logs, with anything where a value is put in."""
    values = {"%s": ".+?", "%d": r"[0-9,]+", "%.1f": r"[0-9]+\.[0-9]"}
    return [
        re.compile("".join(values.get(part) or re.escape(part) for part in re.split(r"(%s|%d|%\.1f)", text)))
        for node in logging_calls("info", "warning", "error")
        for text in [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
        if isinstance(text, str) and re.search(r"[a-z]{3}", text)
    ]


def test_the_report_of_the_probe_is_that_of_the_code() -> None:
    (report,) = [s.text for s in snippets() if s.page == "docs/probe.md" and s.language == "text"]
    code = ast.parse((PROJECT / "airflow_provider_lightspeed/api/probe.py").read_text())
    texts = [
        "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in node.values)
        for node in ast.walk(code)
        if isinstance(node, ast.JoinedStr)
    ]
    # What has few fixed words fits everything.
    known = [re.compile(text) for text in texts if len(text.replace(".+", "")) > 12]
    known += [
        re.compile(re.escape(node.value))
        for node in ast.walk(code)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for line in report.replace("…", "").splitlines():
        for part in [line.strip()] if line.startswith("    ") else line.split(": ", 1):
            assert any(text.fullmatch(part) for text in known), part


@of("json")
def test_json_is_json(snippet: Snippet) -> None:
    json.loads(snippet.text)


@of("yaml")
def test_yaml_is_yaml(snippet: Snippet) -> None:
    assert yaml.safe_load(snippet.text)


@of("console")
def test_commands_exist(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    found = commands(snippet)
    assert found, "a console block shows what to type after '$ '"
    for command in found:
        check(command, monkeypatch)


@pytest.mark.parametrize(
    "command",
    [
        "make dmeo",
        f"pip install {PACKAGE}[parket]",
        "python -m airflow_provider_lightspeed.sandbox --customers 5",
        "export AIRFLOW_CONN_X='lightspeed://KEY@/'",
        'export AIRFLOW_CONN_X=\'{"conn_type": "lightspeed"}\'',
        "airflow conections add x",
        "rm -rf site",
    ],
)
def test_a_wrong_command_is_noticed(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((AssertionError, SystemExit)):
        check(command, monkeypatch)


def check(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program that a command is for read it."""
    program, *arguments = shlex.split(command, comments=True)
    if program == "make":
        assert arguments[0] in make_targets(), command
    elif program == "pip":
        assert arguments[0] == "install"
        extras = re.fullmatch(rf"{PACKAGE}(?:\[(?P<extras>[\w,]+)\])?", arguments[1])
        assert arguments[2:] in ([], ["moto[server]"]), command
        assert extras, command
        known = distribution(PACKAGE).metadata.get_all("Provides-Extra") or []
        assert set((extras["extras"] or "").split(",")) <= {"", *known}, command
    elif arguments[:2] == ["-m", "airflow_provider_lightspeed.sandbox"]:
        _parser().parse_args(arguments[2:])
    elif arguments[:2] == ["-m", "airflow_provider_lightspeed.probe"]:
        probe_parser().parse_args(arguments[2:])
    elif program == "export" and arguments[0].startswith("AIRFLOW_CONN_AWS_DEFAULT="):
        assert json.loads(arguments[0].partition("=")[2])["conn_type"] == "aws", command
    elif program == "export" and arguments[0].startswith("AIRFLOW_CONN_"):
        variable, _, value = arguments[0].partition("=")
        monkeypatch.setenv(variable, value)
        settings(variable.removeprefix("AIRFLOW_CONN_").lower())
    elif program == "airflow":
        from airflow.cli.cli_parser import get_parser

        get_parser().parse_args(arguments)
    else:
        programs = {"aws", "git", "cd", "gcloud", "kubectl", "astro", "moto_server"}
        is_for_aws = program == "export" and all(setting.startswith("AWS_") for setting in arguments)
        assert program in programs or is_for_aws, f"teach this test to check: {command}"


def test_all_forms_of_a_connection_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    page = [snippet for snippet in snippets() if snippet.page == "docs/connection.md"]
    forms = [shlex.split(c)[1].partition("=") for s in page for c in commands(s) if c.startswith("export ")]
    values = [value for name, _, value in forms if name == "AIRFLOW_CONN_LIGHTSPEED_DEFAULT"]
    values += [s.text for s in page if s.language == "json"]
    assert len(values) == 3
    read = []
    for number, value in enumerate(values):
        monkeypatch.setenv(f"AIRFLOW_CONN_FORM_{number}", value)
        read.append(settings(f"form_{number}"))
    assert read[0] == read[1] == read[2]
    assert (read[0].base_url, read[0].language) == ("https://api.webshopapp.com/", "nl")
    (local,) = [value for name, _, value in forms if name == "AIRFLOW_CONN_LOCAL_SHOP"]
    monkeypatch.setenv("AIRFLOW_CONN_LOCAL", local)
    assert settings("local").base_url == "http://127.0.0.1:8100"


def test_the_table_of_the_connection_is_complete() -> None:
    from airflow_provider_lightspeed.provider_info import CONNECTION_FIELDS

    page = (PROJECT / "docs/connection.md").read_text()
    rows = dict(re.findall(r"^\| ([^|]+) \| extra `(\w+)` \|", page, re.M))
    assert rows == {field["label"]: name for name, field in CONNECTION_FIELDS.items()}


@of("sql")
def test_sql_can_be_read(snippet: Snippet) -> None:
    assert statements(snippet.heading, snippet.text)


@pytest.mark.parametrize(
    ("heading", "text"),
    [
        ("DuckDB", "SELECT id FROM read_parquet('x' ORDER BY id"),
        ("Athena", "CREATE EXTERNAL TABLE t (id bigint, subject strng) LOCATION 's3://x/'"),
        ("Athena", "CREATE EXTERNAL TABLE t (id bigint) STORED IN PARQUET LOCATION 's3://x/'"),
        ("Snowflake", "COPY INTO t FRM @stage FILE_FORMAT = (TYPE = JSON)"),
        ("Snowflake", "COPY INTO t FROM @stage PATERN = '.*'"),
        ("Snowflake", "COPY INTO t FROM @stage FILE_FORMAT = (TYPE = JSON COMPRESION = GZIP)"),
        ("Snowflake", "COPY INTO t FROM @stage FILE_FORMAT = (TYPE = JSON"),
        ("Spark", "MSCK REPAIR t"),
        ("Oracle", "SELECT 1"),
    ],
)
def test_wrong_sql_is_noticed(heading: str, text: str) -> None:
    with pytest.raises((AssertionError, SqlglotError)):
        statements(heading, text)


def statements(heading: str, text: str) -> list[Any]:
    """Read SQL in the dialect that its heading names."""
    assert heading in DIALECTS, f"whose SQL is it that stands below {heading!r}?"
    dialect = DIALECTS[heading]
    text = _NO_GRAMMAR.sub("", text)
    found = sqlglot.parse(text, dialect=dialect, error_level=ErrorLevel.RAISE)
    for statement in found:
        assert statement is not None
        for command in statement.find_all(exp.Command):  # what it can't read, it takes for a command
            raise AssertionError(command.sql(dialect))
        for option in statement.find_all(exp.CopyParameter, exp.Property):
            assert not statement.find(exp.Copy) or option.name in _COPY_OPTIONS[dialect], option.name
    kinds = [token.token_type for token in sqlglot.tokenize(text, dialect)]
    assert kinds.count(TokenType.L_PAREN) == kinds.count(TokenType.R_PAREN)
    return found


def all_statements(heading: str, *kinds: type[Any]) -> list[Any]:
    texts = [
        snippet.text for snippet in snippets() if snippet.language == "sql" and snippet.heading == heading
    ]
    return [found for text in texts for found in statements(heading, text) if isinstance(found, kinds)]


def columns(heading: str, table: str) -> dict[str, str]:
    """Return the type of each column of a table that the docs create, but of those by which it is partitioned."""
    (created,) = [
        made for made in all_statements(heading, exp.Create) if made.this.find(exp.Table).name == table
    ]
    partitions = created.find(exp.PartitionedByProperty)
    apart = {name.name for name in partitions.find_all(exp.Identifier)} if partitions else set()
    defined = created.this.expressions
    return {column.name: sql_type(heading, column.kind) for column in defined if column.name not in apart}


def sql_type(heading: str, kind: str | exp.DataType) -> str:
    # Athena's tables are Hive's.
    dialect = {"athena": "hive"}.get(DIALECTS[heading], DIALECTS[heading])
    read = exp.DataType.build(kind, dialect=dialect)
    return read.sql(dialect).replace("`", "")


def in_dialect(heading: str, fields: dict[str, str]) -> dict[str, str]:
    """Return the columns of the code with the types of a warehouse."""
    if heading == "BigQuery":
        return {
            name: sqlglot
            .parse_one(kind.replace("timestamp", "timestamp_ltz"), into=exp.DataType, dialect="spark")
            .sql("bigquery")
            .replace("`", "")
            for name, kind in fields.items()
        }
    if heading == "Snowflake":
        return {name: sql_type(heading, _SNOWFLAKE.get(kind, "variant")) for name, kind in fields.items()}
    other = {"Redshift": _REDSHIFT, "DuckDB": _DUCKDB}.get(heading, {})
    return {name: sql_type(heading, other.get(kind, kind)) for name, kind in fields.items()}


def test_the_tables_of_columns_are_those_of_the_code() -> None:
    fields = Columns(Layout("parquet", include_messages=True)).fields
    for heading in ("Athena", "Snowflake", "BigQuery"):
        assert columns(heading, "tickets") == in_dialect(heading, fields)
    assert columns("Iceberg", "tickets_iceberg") == columns("Athena", "tickets")
    (insert,) = all_statements("Iceberg", exp.Insert)
    assert insert.expression.named_selects == list(columns("Iceberg", "tickets_iceberg"))
    # COPY of Parquet goes by the order of columns.
    plain = in_dialect("Redshift", Columns(Layout("parquet")).fields)
    assert list(columns("Redshift", "tickets").items()) == list(plain.items())


def change_fields() -> dict[str, str]:
    """Return the type of each column of a change file, in order."""
    of_ticket = Columns(Layout("parquet"))
    instants = {"_changed_after": "timestamp", "_changed_by": "timestamp"}
    fields = {"op": "string", "_seq": "bigint", **instants, **of_ticket.fields}
    file = io.BytesIO()
    FORMATS["parquet"](of_ticket).write([], file)
    assert pq.read_schema(file).names == list(fields)
    return fields


def test_the_tables_of_changes_are_those_of_the_code() -> None:
    for heading, table in [
        ("Athena", "ticket_changes"),
        ("Athena", "tickets_now"),
        ("Snowflake", "ticket_changes"),
    ]:
        assert columns(heading, table).items() <= in_dialect(heading, change_fields()).items()
    in_order = {**in_dialect("Redshift", change_fields()), "op": sql_type("Redshift", "varchar(1)")}
    assert list(columns("Redshift", "ticket_changes").items()) == list(in_order.items())


@pytest.mark.parametrize("heading", ["DuckDB", "Athena", "Snowflake", "Spark", "BigQuery", "Redshift"])
def test_what_keeps_tickets_writes_to_a_table_that_is_created_with_its_columns(heading: str) -> None:
    fields = in_dialect(heading, change_fields())
    is_deleted = sql_type(heading, "boolean")
    texts = [snippet.text for snippet in snippets() if snippet.heading == heading]
    created = {made.this.find(exp.Table).name for made in all_statements(heading, exp.Create)}
    created |= {table for text in texts for table in re.findall(r"LOAD DATA OVERWRITE \w+\.(\w+)", text)}
    writing = all_statements(heading, exp.Merge, exp.Insert)
    assert writing
    for statement in writing:
        made = columns(heading, statement.this.find(exp.Table).name)
        written = writes(statement)
        assert {name for name, _ in written} == made.keys()
        for name, value in written:
            kind = fields[value.name] if isinstance(value, exp.Column) else is_deleted
            assert made[name] == kind, name
        for table in statement.find_all(exp.Table):
            in_place = table.db == "parquet" or not isinstance(table.this, exp.Identifier)
            assert in_place or table.name in created


def writes(statement: Any) -> list[tuple[str, Any]]:
    """Return the columns that a MERGE or INSERT sets, and to what."""
    if isinstance(statement, exp.Insert):
        names, values = statement.this.expressions, statement.expression.expressions
        assert len(names) == len(values)
        return [(name.name, value) for name, value in zip(names, values, strict=True)]
    written = []
    for when in statement.args["whens"].expressions:
        then = when.args["then"]
        if isinstance(then, exp.Insert):
            pairs = list(zip(then.this.expressions, then.expression.expressions, strict=True))
        else:
            pairs = [(pair.this, pair.expression) for pair in then.expressions]
        written += [(name.name, value) for name, value in pairs]
    return written


@pytest.mark.parametrize(
    ("heading", "tables"),
    [
        ("Snowflake", ["tickets", "tickets_json"]),
        ("BigQuery", ["tickets"]),
        ("Redshift", ["tickets"]),
        ("Iceberg", ["tickets_iceberg"]),
    ],
)
def test_a_day_that_is_deleted_is_that_of_its_file(heading: str, tables: list[str]) -> None:
    # In UTC the day is another one: an hour would be there twice, and one would be gone.
    (zone,) = set(re.findall(r"in_timezone\('(.+?)'\)", (PROJECT / "docs/export.md").read_text()))
    warehouse = (PROJECT / "docs/warehouse.md").read_text()
    (day,) = {date.fromisoformat(found) for found in re.findall(r"date=([0-9-]+)", warehouse)}
    deletes = [found for found in all_statements(heading, exp.Delete) if found.args.get("where")]
    of_days = [found for found in deletes if not found.args.get("using")]
    assert [found.this.name for found in of_days] == tables
    for delete in of_days:
        (column,) = {column.name for column in delete.find_all(exp.Column)}
        assert column in columns(heading, delete.this.name)
        text = delete.sql(DIALECTS[heading])
        days = re.findall(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", text)
        assert days in ([f"{day}"], [f"{day}", f"{day + timedelta(days=1)}"])
        assert text.count(zone) == len(days)


def test_no_key_has_the_day_in_utc() -> None:
    # Such a file gets the date of the day before if the shop's day begins before that of UTC.
    files = [*PAGES, *PROJECT.glob("example_dags/*.py")]
    days = r"\{\{\s*[dt]s(?:_nodash)?\b[^}]*\}\}"
    assert [(file.name, day) for file in files for day in re.findall(days, file.read_text())] == []


def test_the_tables_of_json_have_the_names_of_the_api() -> None:
    fields = make_format(Layout()).fields()
    # Hive's names have no capitals.
    assert columns("Athena", "tickets_json") == {
        name.lower(): sql_type("Athena", _JSON[kind]) for name, kind in fields.items()
    }
    assert columns("Spark", "tickets_json") == {
        name: sql_type("Spark", _JSON[kind]) for name, kind in fields.items()
    }
    (objects,) = columns("Snowflake", "tickets_json").items()
    assert objects == ("ticket", "VARIANT")
    (query,) = all_statements("Snowflake", exp.Select)
    assert {path.find(exp.JSONPathKey).name for path in query.find_all(exp.JSONPath)} <= fields.keys()


@pytest.mark.parametrize("heading", ["Athena", "Snowflake", "Spark"])
def test_queries_name_columns_that_are_there(heading: str) -> None:
    # What is read in place has the columns of Parquet.
    in_place = Columns(Layout("parquet")).names
    selects = all_statements(heading, exp.Select)
    assert selects
    for select in selects:
        table = select.find(exp.Table)
        known = in_place if table.db == "parquet" else columns(heading, table.name)
        assert {column.name for column in select.find_all(exp.Column)} <= {*known, "date"}, select.sql()


def test_snowflake_loads_what_is_published_and_nothing_that_is_staged() -> None:
    loads = all_statements("Snowflake", exp.Copy)
    patterns = {
        load.this.name: option.expression.name
        for load in loads
        for option in load.args["params"]
        if option.name == "PATTERN"
    }
    change_file = "block=00000000000000000/00000000000000000001.parquet"  # nothing else is in its stage
    assert re.fullmatch(patterns.pop("ticket_changes"), change_file)
    names = {"tickets": "tickets.parquet", "tickets_json": "tickets.jsonl.gz"}
    assert patterns.keys() == names.keys()
    for table, name in names.items():
        pattern = patterns[table]
        assert re.fullmatch(pattern, f"date=2026-01-31/{name}")
        assert not re.fullmatch(pattern, f"_staging/date=2026-01-31/{name}/owner/export/part")
        assert not re.fullmatch(pattern, "date=2026-01-31/tickets.csv")


def test_the_figures_are_as_they_are_drawn_now() -> None:
    kept = {file.stem: file.read_text(encoding="utf-8") for file in IMAGES.glob("*.svg")}
    assert kept == {name: draw(steps) for name, steps in FIGURES.items()}, (
        "run .venv/bin/python -m tools.figures"
    )


def test_the_texts_of_the_figures_fit_into_their_boxes() -> None:
    # In a wide font, such as DejaVu Sans, which browsers take on Linux.
    long = [step.what for steps in FIGURES.values() for step in steps if len(step.what) > 55]
    assert long == []


def test_the_columns_are_listed() -> None:
    (listed,) = re.findall(r"^Columns, the same .+$", (PROJECT / "docs/export.md").read_text(), re.M)
    names = [name for name in re.findall(r"`(\w+)`", listed) if name != "include_messages"]
    assert names == Columns(Layout("parquet", include_messages=True)).names


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(PROJECT)) for page in PAGES])
def test_links_and_make_targets(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text())
    for link in _LINK.finditer(text):
        target = link["target"]
        if target.startswith(("https://", "http://")):
            assert target in EXTERNAL, f"{target}: look whether it leads there, then add it to EXTERNAL"
            continue
        file, _, anchor = target.partition("#")
        leads_to = (page.parent / file).resolve() if file else page
        assert leads_to.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(leads_to), f"{page.name}: {target}"
    for named in re.findall(r"`make ([a-z][a-z0-9.-]*)", text):
        assert named in make_targets(), f"{page.name}: make {named}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(PROJECT)) for page in PAGES])
def test_files_and_modules_in_the_text_are_there(page: Path) -> None:
    in_code = " ".join(re.findall(r"`([^`\n]+)`", _BLOCK.sub("", page.read_text())))
    assert [path for path in _FILE.findall(in_code) if not (PROJECT / path).exists()] == []
    assert [module for module in _MODULE.findall(in_code) if not can_be_run(module)] == []


def can_be_run(module: str) -> bool:
    path = PROJECT / module.replace(".", "/")
    if (PROJECT / module.partition(".")[0]).is_dir():
        return (path / "__main__.py").is_file() or path.with_suffix(".py").is_file()
    return importlib.util.find_spec(module) is not None


def test_a_module_or_a_file_that_is_not_there_is_noticed() -> None:
    assert not can_be_run("benchmarks.dya")
    assert not can_be_run("airflow_provider_lightspeed.bulk")
    assert _MODULE.findall("python -m benchmarks.day --runs 3") == ["benchmarks.day"]
    assert _FILE.findall("make test ARGS=tests/unit/test_docs.py s3://tests/x") == ["tests/unit/test_docs.py"]


def anchors(page: Path) -> set[str]:
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text()))
    names = set(re.findall(r"^::: ([\w.]+)$", page.read_text(), re.M))
    return names | {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def make_targets() -> set[str]:
    makefile = (PROJECT / "Makefile").read_text()
    variables = dict(re.findall(r"^(\w+) := (.+)$", makefile, re.M))
    environments = [
        *variables["OLDER"].split(),
        "lowest",
        *(f"python{version}" for version in variables["PYTHONS"].split()),
        *(f"constraints-{version}" for version in variables["CONSTRAINED"].split()),
    ]
    return {
        *_TARGET.findall(makefile),
        *(f"test-{environment}" for environment in environments),
        *(f"install-{version}" for version in [*variables["OLDER"].split(), "3.3"]),
    }


def settings(conn_id: str) -> Any:
    connection = LightspeedHook(conn_id)
    try:
        return connection.get_conn().settings
    except ValueError as error:
        raise AssertionError(str(error)) from None


def _has_airflow_sdk() -> bool:
    return importlib.util.find_spec("airflow.sdk") is not None


def _is_airflow_3_3() -> bool:
    try:
        import airflow_provider_lightspeed.retry_policy  # ruff: ignore[unused-import] - whether it can be
    except ImportError:
        return False
    return True
