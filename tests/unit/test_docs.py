"""What the docs say to type works: each snippet is run or read by the program that it is for, each link leads somewhere.

`make docs` checks the links and anchors within docs/, and that what is included from files is there.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import textwrap
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlglot
import yaml
from sqlglot import ErrorLevel, exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType

from airflow_provider_lightspeed import exceptions
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
    r"MSCK REPAIR TABLE \w+;|LOAD DATA INTO [\w.]+\s+FROM FILES \([^)]+\)\s+WITH CONNECTION `[\w.-]+`;"
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
#: The API's own objects hold `false` in place of an object, so they are read as JSON text.
_JSON = {"integer": "bigint", "string": "string", "boolean": "boolean", "object": "string"}

#: Looked at by a person: nothing here can reach them.
EXTERNAL = {
    "https://github.com/apache/airflow/issues/56050",
    "https://github.com/apache/airflow/issues/71172",
    "https://github.com/apache/airflow/pull/73298",
    "https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/index.html",
    "https://cloud.google.com/bigquery/docs/load-data-using-cross-cloud-transfer",
    "https://keepachangelog.com/en/1.1.0/",
    "https://semver.org/",
    "https://www.lightspeedhq.com/ecommerce/",
}


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
    # The SQL for DuckDB is run too, by tests/integration/test_export_queries.py. Text is output, or a picture.
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


def test_the_log_lines_in_troubleshooting_are_those_of_the_code() -> None:
    page = (PROJECT / "docs/troubleshooting.md").read_text()
    first_cells = re.findall(r"^\| ([^|]+) \|", page, re.M)
    in_code = [code for cell in first_cells for code in re.findall(r"`([^`]+)`", cell)]
    lines = [code for code in in_code if " " in code or "…" in code]
    assert len(lines) > 8
    sources = " ".join(
        # Without what is put in, and over the ends of strings.
        re.sub(r'"\s*f?"', "", re.sub(r"\{[^{}]*\}|%[sd]|%\.\df", "…", file.read_text()))
        for file in PROJECT.glob("airflow_provider_lightspeed/**/*.py")
    )
    for line in lines:
        for part in re.split(r"…|\d+", line):
            assert part.strip() in sources, line


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


def all_statements(heading: str, kind: type[Any]) -> list[Any]:
    texts = [
        snippet.text for snippet in snippets() if snippet.language == "sql" and snippet.heading == heading
    ]
    return [found for text in texts for found in statements(heading, text) if isinstance(found, kind)]


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


def test_the_tables_of_columns_are_those_of_the_code() -> None:
    fields = Columns(Layout("parquet", include_messages=True)).fields
    assert columns("Athena", "tickets") == {name: sql_type("Athena", kind) for name, kind in fields.items()}
    assert columns("Iceberg", "tickets_iceberg") == columns("Athena", "tickets")
    assert columns("Snowflake", "tickets") == {
        name: sql_type("Snowflake", _SNOWFLAKE.get(kind, "variant")) for name, kind in fields.items()
    }
    assert columns("BigQuery", "tickets") == {
        name: sqlglot
        .parse_one(kind.replace("timestamp", "timestamp_ltz"), into=exp.DataType, dialect="spark")
        .sql("bigquery")
        .replace("`", "")
        for name, kind in fields.items()
    }
    # COPY of Parquet goes by the order of columns.
    assert list(columns("Redshift", "tickets").items()) == [
        (name, sql_type("Redshift", _REDSHIFT.get(kind, kind)))
        for name, kind in Columns(Layout("parquet")).fields.items()
    ]


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
    assert [load.this.name for load in loads] == ["tickets", "tickets_json"]
    for load, name in zip(loads, ("tickets.parquet", "tickets.jsonl.gz"), strict=True):
        (pattern,) = [option.expression.name for option in load.args["params"] if option.name == "PATTERN"]
        assert re.fullmatch(pattern, f"date=2026-01-31/{name}")
        assert not re.fullmatch(pattern, f"_staging/date=2026-01-31/{name}/owner/export/part")
        assert not re.fullmatch(pattern, "date=2026-01-31/tickets.csv")


def test_the_figures_are_as_they_are_drawn_now() -> None:
    kept = {file.stem: file.read_text(encoding="utf-8") for file in IMAGES.glob("*.svg")}
    assert kept == {name: draw(steps) for name, steps in FIGURES.items()}, (
        "run .venv/bin/python -m tools.figures"
    )


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
