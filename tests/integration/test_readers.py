"""Compressed exports, read by programs that others wrote: every row is there, however the export was interrupted.

``make readers`` has all of them; elsewhere those that are not installed are skipped.
"""

from __future__ import annotations

import gzip
import importlib
import shutil
import subprocess
import zlib
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_lightspeed.formats import Layout, make_format

ROWS = 2000
_ENDINGS = {"gzip": ".gz", "zstd": ".zst"}
#: Java's reader takes a second member only if more bytes are available at once: here there never are.
_JAVA = """
import java.io.*;
import java.util.zip.GZIPInputStream;
public class Read {
    public static void main(String[] arguments) throws IOException {
        InputStream slow = new FilterInputStream(new FileInputStream(arguments[0])) {
            @Override public int available() { return 0; }
        };
        BufferedReader lines = new BufferedReader(new InputStreamReader(new GZIPInputStream(slow), "UTF-8"));
        System.out.println(lines.lines().count());
    }
}
"""
#: Each prints how many lines it has read. None of them gets an option to continue after a first member.
PROGRAMS: dict[str, tuple[str, list[str]]] = {
    "php": (
        "gzip",
        ["-r", "echo substr_count(gzdecode(file_get_contents($argv[1])), chr(10));", "--"],
    ),
    "perl": (
        "gzip",
        [
            "-MIO::Uncompress::Gunzip=gunzip",
            "-e",
            "gunzip $ARGV[0] => \\my $text or die; print $text =~ tr/\\n//",
        ],
    ),
    "node": (
        "gzip",
        [
            "-e",
            "const text = require('zlib').gunzipSync(require('fs').readFileSync(process.argv[1]));"
            "console.log(text.toString().split('\\n').length - 1)",
        ],
    ),
    "gzip": ("gzip", ["-dc"]),
    "zstd": ("zstd", ["-dc"]),
}


def rows() -> list[dict[str, Any]]:
    return [
        {"id": number, "createdAt": "2026-01-01T00:00:00+00:00", "subject": f"é {number % 97}"}
        for number in range(1, ROWS + 1)
    ]


def exported(folder: Path, file_format: str, compression: str) -> Path:
    """Write a file as an export does whose process was replaced after each of three staged parts."""
    layout = Layout(file_format, compression)
    made, chunks, tickets = make_format(layout), [], rows()
    for start in range(0, ROWS, 250):
        chunks.append(made.encode(tickets[start : start + 250]))
        if start in {250, 750, 1250}:
            chunks.append(made.flush())
            state, made = made.state, make_format(layout)
            made.resume(state)
    path = folder / f"t.{file_format}{_ENDINGS[compression] if file_format != 'parquet' else ''}"
    path.write_bytes(b"".join(made.finish(chunks)))
    return path


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_reads_every_row(program: str, file_format: str, tmp_path: Path) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    compression, arguments = PROGRAMS[program]
    path = exported(tmp_path, file_format, compression)
    done = subprocess.run([found, *arguments, str(path)], capture_output=True, check=True, timeout=60)
    lines = done.stdout.count(b"\n") if program in {"gzip", "zstd"} else int(done.stdout)
    assert lines == ROWS + (file_format == "csv")


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
def test_java_on_a_stream_that_never_says_what_is_available(file_format: str, tmp_path: Path) -> None:
    java = shutil.which("java")
    if java is None:
        pytest.skip("java is not installed")
    (tmp_path / "Read.java").write_text(_JAVA)
    path = exported(tmp_path, file_format, "gzip")
    done = subprocess.run(
        [java, str(tmp_path / "Read.java"), str(path)], capture_output=True, check=True, timeout=120
    )
    assert int(done.stdout) == ROWS + (file_format == "csv")


@pytest.mark.parametrize("file_format", ["jsonl", "csv"])
def test_python_without_support_for_members(file_format: str, tmp_path: Path) -> None:
    data = exported(tmp_path, file_format, "gzip").read_bytes()
    expected = ROWS + (file_format == "csv")
    member = zlib.decompressobj(31)
    assert member.decompress(data).count(b"\n") == expected
    assert member.eof
    assert not member.unused_data
    assert zlib.decompress(data, 31).count(b"\n") == expected
    assert gzip.decompress(data).count(b"\n") == expected
    stream = zlib.decompressobj(31)
    pieces = [stream.decompress(data[start : start + 100]) for start in range(0, len(data), 100)]
    assert b"".join(pieces).count(b"\n") == expected


def _pandas(path: Path, file_format: str) -> int:
    pandas = importlib.import_module("pandas")
    if file_format == "jsonl":
        return len(pandas.read_json(path, lines=True))
    return len(pandas.read_csv(path) if file_format == "csv" else pandas.read_parquet(path))


def _polars(path: Path, file_format: str) -> int:
    polars = importlib.import_module("polars")
    reader = {"jsonl": "read_ndjson", "csv": "read_csv", "parquet": "read_parquet"}[file_format]
    return len(getattr(polars, reader)(path))


def _duckdb(path: Path, file_format: str) -> int:
    duckdb = importlib.import_module("duckdb")
    reader = {"jsonl": "read_json", "csv": "read_csv", "parquet": "read_parquet"}[file_format]
    (count,) = duckdb.connect().execute(f"SELECT count(*) FROM {reader}('{path}')").fetchone()
    return int(count)


def _pyarrow(path: Path, file_format: str) -> int:
    if file_format == "parquet":
        return int(importlib.import_module("pyarrow.parquet").read_table(path).num_rows)
    module = importlib.import_module("pyarrow.csv" if file_format == "csv" else "pyarrow.json")
    return int((module.read_csv if file_format == "csv" else module.read_json)(path).num_rows)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("read", [_pandas, _polars, _duckdb, _pyarrow])
def test_a_library_reads_every_row(
    read: Callable[[Path, str], int], file_format: str, compression: str, tmp_path: Path
) -> None:
    pytest.importorskip(read.__name__.removeprefix("_"))
    assert read(exported(tmp_path, file_format, compression), file_format) == ROWS


@pytest.fixture(scope="module")
def spark() -> Generator[Any]:
    if shutil.which("java") is None:
        pytest.skip("Spark needs java")
    sql = pytest.importorskip("pyspark.sql")
    session = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    yield session
    session.stop()


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_spark_reads_every_row(spark: Any, file_format: str, compression: str, tmp_path: Path) -> None:
    path = str(exported(tmp_path, file_format, compression))
    read = {
        "jsonl": spark.read.json,
        "csv": partial(spark.read.csv, header=True, multiLine=True, escape='"'),
        "parquet": spark.read.parquet,
    }[file_format]
    assert read(path).count() == ROWS
    assert {row.subject for row in read(path).select("subject").distinct().collect()} == {
        row["subject"] for row in rows()
    }


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_spark_reads_hard_texts(spark: Any, file_format: str, tmp_path: Path) -> None:
    """With the options that the docs name; with its own ones, Spark makes several rows of a text with line breaks."""
    texts = ['say "hi"', "a\nb\r\nc", "a,b;c", "ends with \\", '\\"', '"', "a\n\nb", "é😀", ' "x" ', "\\n"]
    rows = [
        {"id": number, "createdAt": "2026-01-01T00:00:00+00:00", "subject": text}
        for number, text in enumerate(texts, 1)
    ]
    made = make_format(Layout(file_format, "zstd" if file_format == "parquet" else "gzip"))
    path = tmp_path / f"t.{file_format}{'' if file_format == 'parquet' else '.gz'}"
    path.write_bytes(b"".join(made.finish([made.encode(rows)])))
    read = {
        "jsonl": spark.read.json,
        "csv": partial(spark.read.csv, header=True, multiLine=True, escape='"'),
        "parquet": spark.read.parquet,
    }[file_format]
    found = {int(row.id): row.subject for row in read(str(path)).select("id", "subject").collect()}
    if file_format == "csv":
        texts = [text.replace("\r\n", "\n") for text in texts]  # so it reads line breaks in quotes
    assert found == dict(enumerate(texts, 1))
