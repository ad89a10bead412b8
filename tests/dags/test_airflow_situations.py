"""What Airflow's users run into, in DAGs of real Airflow: groups, skips, teardowns, lineage, few calls, results kept elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from packaging.version import Version

from airflow_provider_lightspeed.sandbox import NO_LIMITS, Fault, Sandbox, ShopConfig
from demo.airflow_home import PROJECT, AirflowHome
from demo.s3_server import S3Server
from tests.integration.gateways import proxy

pytestmark = pytest.mark.in_all

BUCKET = "situations"
_DAGS = """
from datetime import timedelta

try:
    from airflow.sdk import Asset, task_group
except ImportError:
    from airflow.datasets import Dataset as Asset
    from airflow.decorators import task_group
from airflow.providers.common.compat.lineage.entities import File, Table

from airflow_provider_lightspeed._airflow import DAG, AirflowSkipException, task
from airflow_provider_lightspeed.operators.tickets import (
    CloseTicketsOperator,
    CreateTicketOperator,
    DeleteTicketsOperator,
    UpdateTicketsOperator,
)
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

ALL = {"created_before": "2100-01-01T00:00:00+00:00", "max_tickets": 1_000, "max_share": 1.0}


def skip():
    raise AirflowSkipException


def fail():
    raise RuntimeError("the work fails")


with DAG("group"):
    @task_group
    def per_customer(email):
        DeleteTicketsOperator(task_id="delete", customer_email=email, **ALL)
        NewTicketSensor(task_id="wait", customer_email=email, timeout=1)
        LightspeedTicketsToS3Operator(task_id="export", s3_bucket="situations", s3_key="all.jsonl", created_from=email)

    per_customer.expand(email=[None])

with DAG("skipped"):
    nothing = task(skip, task_id="nothing")()
    late = {"trigger_rule": "all_done"}
    DeleteTicketsOperator(task_id="delete", customer_email=nothing, **ALL, **late)
    CloseTicketsOperator(task_id="close", ticket_ids=nothing, **late)
    NewTicketSensor(task_id="wait", since_id=nothing, timeout=1, **late)
    LightspeedTicketsToS3Operator(
        task_id="export", s3_bucket="situations", s3_key="all.jsonl", created_from=nothing, **late
    )

with DAG("teardown"):
    create = CreateTicketOperator(task_id="create", subject="Maintenance", customer_id=1)
    work = task(fail, task_id="work")()
    close = CloseTicketsOperator(task_id="close", ticket_ids="{{ [ti.xcom_pull(task_ids='create')['id']] }}")
    create >> work >> close.as_teardown(setups=create)

with DAG("shops"):
    names = task(lambda dag_run=None: dag_run.conf["shops"], task_id="names")()
    options = {"poke_interval": 0.1, "timeout": 0.1, "soft_fail": True}
    NewTicketSensor.partial(task_id="wait", **options).expand(lightspeed_conn_id=names)

    @task_group
    def per_shop(conn_id):
        NewTicketSensor(task_id="wait", lightspeed_conn_id=conn_id, **options)

    per_shop.expand(conn_id=names)

with DAG("names_of_shops"):
    @task_group
    def export_shop(conn_id):
        LightspeedTicketsToS3Operator(
            task_id="export", s3_key="s3://situations/group/{{ task.lightspeed_conn_id }}.jsonl", replace=True,
            lightspeed_conn_id=conn_id,
        )
        CloseTicketsOperator(
            task_id="close", ticket_ids=[7], receipt_s3_key="s3://situations/group/{{ ti.task.lightspeed_conn_id }}-receipt",
            lightspeed_conn_id=conn_id, dry_run=True,
        )

    export_shop.expand(conn_id=["one", "two"])
    LightspeedTicketsToS3Operator(
        task_id="rendered", s3_key="s3://situations/group/{{ task.lightspeed_conn_id }}-rendered.jsonl",
        lightspeed_conn_id="{{ 'one' }}",
    )

with DAG("one_key"):
    LightspeedTicketsToS3Operator.partial(
        task_id="export", s3_key="s3://situations/one_key.jsonl", replace=True
    ).expand(lightspeed_conn_id=["one", "two"])

with DAG("lineage"):
    LightspeedTicketsToS3Operator(
        task_id="export", s3_bucket="situations", s3_key="lineage.jsonl", lightspeed_conn_id="one",
        outlets=[File(url="s3://situations/lineage.jsonl"), Table(database="d", cluster="c", name="t"), Asset("s3://x/y")],
    )

with DAG("few_calls"):
    LightspeedTicketsToS3Operator(task_id="export", s3_bucket="situations", s3_key="few.jsonl", lightspeed_conn_id="few")
    CloseTicketsOperator(
        task_id="close", ticket_ids=list(range(2600, 2841, 40)), max_share=1.0, lightspeed_conn_id="far"
    )

with DAG("retried"):
    CloseTicketsOperator(
        task_id="close", ticket_ids=list(range(2600, 2841, 40)), max_share=1.0, lightspeed_conn_id="far",
        retries=1, retry_delay=timedelta(seconds=1), receipt_s3_key="s3://situations/retried.jsonl",
    )
"""


@pytest.fixture(scope="module")
def shops() -> Iterator[dict[str, Sandbox]]:
    """Two shops without limits. One allows few calls in a window, another one even fewer, most of which are kept."""
    window: dict[str, Any] = {"window_seconds": (3.0, 3600.0, 86400.0), "burst_limit": 0}
    with (
        Sandbox(ShopConfig(tickets=30, limits=NO_LIMITS, key="1" * 32)) as one,
        Sandbox(ShopConfig(tickets=30, limits=NO_LIMITS, key="2" * 32, seed=2, first_id=9_000)) as two,
        Sandbox(ShopConfig(tickets=1_200, limits=(4, 10**6, 10**6), **window)) as few,
        Sandbox(ShopConfig(tickets=300, limits=(40, 10**6, 10**6), **window)) as far,
    ):
        yield {"one": one, "two": two, "few": few, "far": far}


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, shops: dict[str, Sandbox], s3: S3Server
) -> Iterator[AirflowHome]:
    extra = {"one": {}, "two": {}, "few": {"max_wait": 0}, "far": {"max_wait": 0, "quota_reserve": 0.9}}
    connections = {
        name: json.dumps({**json.loads(shop.airflow_connection()), "extra": extra[name]})
        for name, shop in shops.items()
    }
    home = _home(_DAGS, tmp_path_factory, lightspeed_default=connections["one"], **connections, s3=s3)
    with home.dags_in_one_process():
        yield home


def _home(
    dags: str,
    tmp_path_factory: pytest.TempPathFactory,
    *,
    s3: S3Server,
    settings: dict[str, str] | None = None,
    **connections: str,
) -> AirflowHome:
    directory = tmp_path_factory.mktemp("situations")
    (directory / "dags").mkdir()
    (directory / "dags" / "dags.py").write_text(dags)
    return AirflowHome.create(
        directory / "home",
        dags=directory / "dags",
        connections={"aws_default": s3.airflow_connection(), **connections},
        settings=settings or {},
    )


def _objects(s3: S3Server) -> set[str]:
    return {item["Key"] for item in s3.client().list_objects_v2(Bucket=BUCKET).get("Contents", [])}


@pytest.mark.parametrize(
    ("dag_id", "prefix"),
    [
        pytest.param("group", "per_customer.", id="a mapped task group"),
        pytest.param("skipped", "", id="a task that was skipped"),
    ],
)
def test_none_from_elsewhere_is_no_choice(
    airflow: AirflowHome, shops: dict[str, Sandbox], s3: S3Server, dag_id: str, prefix: str
) -> None:
    shop = shops["one"]
    before, calls = len(shop.shop), len(shop.calls)
    outcome = airflow.run_dag(dag_id)
    names = {"delete", "close", "wait", "export"} if dag_id == "skipped" else {"delete", "wait", "export"}
    states = {name: outcome.tasks[f"{prefix}{name}"].state for name in names}
    assert states == dict.fromkeys(names, "failed"), airflow.log.read_text()[-5_000:]
    assert (len(shop.shop), len(shop.calls)) == (before, calls)
    assert "all.jsonl" not in _objects(s3)


def test_a_teardown_closes_what_the_setup_created(airflow: AirflowHome, shops: dict[str, Sandbox]) -> None:
    outcome = airflow.run_dag("teardown")
    assert {name: task.state for name, task in outcome.tasks.items()} == {
        "create": "success",
        "work": "failed",
        "close": "success",
    }, airflow.log.read_text()[-5_000:]
    assert shops["one"].shop.ticket(outcome.tasks["create"].result["id"])["isClosed"]


def test_a_list_of_shops_that_changes_loses_no_ticket(
    airflow: AirflowHome, shops: dict[str, Sandbox]
) -> None:
    def delivered() -> dict[str, list[list[int]]]:
        rows = airflow.query(
            "select xcom.task_id, xcom.value from xcom join dag_run using (dag_id, run_id) where dag_id = 'shops'"
            " and key = 'return_value' and task_id like '%wait' order by dag_run.id, map_index"
        )
        found: dict[str, list[list[int]]] = {}
        for task_id, value in rows:
            outcome = json.loads(value)
            outcome = json.loads(outcome) if isinstance(outcome, str) else outcome
            found.setdefault(task_id, []).append(outcome["ticket_ids"])
        return found

    airflow.run_dag("shops", conf={"shops": ["one", "two"]})
    assert delivered() == {}
    one, two = shops["one"].add_tickets(2), shops["two"].add_tickets(1)
    airflow.run_dag("shops", conf={"shops": ["two", "one"]})
    assert delivered() == {"wait": [two, one], "per_shop.wait": [two, one]}, airflow.log.read_text()[-5_000:]


# `dag.test()` of Airflow 3.0 runs no task with assets that no scheduler has seen.
@pytest.mark.skipif(version("apache-airflow").startswith("3.0."), reason="no dag.test() with assets")
def test_outlets_of_any_kind(airflow: AirflowHome, shops: dict[str, Sandbox]) -> None:
    outcome = airflow.run_dag("lineage")
    assert outcome.state == "success", airflow.log.read_text()[-5_000:]
    assert outcome.tasks["export"].result["tickets"] == len(shops["one"].shop)


# Where nothing keeps the state of a task between tries, `dag.test()` starts over after each deferral.
@pytest.mark.airflow(since="3.3")
def test_few_calls_a_window_are_enough(airflow: AirflowHome, shops: dict[str, Sandbox]) -> None:
    for number in range(2600, 2841, 40):
        shops["far"].update_ticket(number, isClosed=False)
    outcome = airflow.run_dag("few_calls")
    assert outcome.state == "success", airflow.log.read_text()[-5_000:]
    assert outcome.tasks["export"].result["tickets"] == 1_200
    assert outcome.tasks["close"].result["closed"] == list(range(2600, 2841, 40))
    assert shops["far"].count_calls(method="PUT") == 7


def test_templates_name_the_shop_of_a_mapped_group(airflow: AirflowHome, s3: S3Server) -> None:
    outcome = airflow.run_dag("names_of_shops")
    written = {key for key in _objects(s3) if key.startswith("group/")}
    receipts = {"group/one-receipt", "group/two-receipt"}
    if Version("3.0") <= Version(version("apache-airflow")) < Version("3.1"):
        assert written == receipts
        assert "write {{ ti.task.lightspeed_conn_id }} in place of" in airflow.log.read_text()
        return
    assert outcome.state == "success", airflow.log.read_text()[-5_000:]
    assert written == {*receipts, "group/one.jsonl", "group/two.jsonl", "group/one-rendered.jsonl"}
    first = s3.client().get_object(Bucket=BUCKET, Key="group/two.jsonl")["Body"].readline()
    assert json.loads(first)["id"] >= 9_000


def test_two_shops_of_a_mapped_export_never_share_an_object(airflow: AirflowHome, s3: S3Server) -> None:
    outcome = airflow.run_dag("one_key")
    assert outcome.state == "failed", airflow.log.read_text()[-5_000:]
    assert "would replace it. Give each instance its own key" in airflow.log.read_text()
    states = airflow.query("select state from task_instance where dag_id = 'one_key' order by state")
    assert states == [("failed",), ("success",)]
    assert "one_key.jsonl" in _objects(s3)


@pytest.mark.airflow(since="3.3")
def test_a_retry_after_a_deferral_changes_what_is_left(
    airflow: AirflowHome, shops: dict[str, Sandbox], s3: S3Server
) -> None:
    shop, ids = shops["far"], list(range(2600, 2841, 40))
    for number in ids:
        shop.update_ticket(number, isClosed=False)
    shop.reset_calls()
    # So often is a call tried in one try of the task.
    shop.inject(Fault("500", method="PUT", path=str(ids[3]), times=5))
    outcome = airflow.run_dag("retried")
    assert outcome.state == "success", airflow.log.read_text()[-5_000:]
    assert outcome.tasks["close"].result["closed"] == ids
    assert shop.count_calls(method="PUT") == 7 + 5
    receipt = s3.client().get_object(Bucket=BUCKET, Key="retried.jsonl")["Body"].read()
    assert {
        json.loads(row)["id"]: json.loads(row)["outcome"] for row in receipt.splitlines()
    } == dict.fromkeys(ids, "closed")


_XCOM = """
try:
    from airflow.sdk.bases.xcom import BaseXCom
except ImportError:
    from airflow.models.xcom import BaseXCom


class Down(BaseXCom):
    @staticmethod
    def serialize_value(*_, **__):
        raise ConnectionError("the store of XComs is down")
"""
_CLOSE_AND_UNDO = """
from airflow_provider_lightspeed._airflow import DAG
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator, UpdateTicketsOperator

with DAG("close"):
    CloseTicketsOperator(
        task_id="close", ticket_ids=list(range(2546, 2566)), max_share=1.0, receipt_s3_key="s3://situations/close.jsonl"
    )

with DAG("undo"):
    UpdateTicketsOperator(task_id="undo", ticket_ids="s3://situations/close.jsonl", is_closed=False, max_share=1.0)
"""


def test_results_that_cannot_be_stored_leave_a_receipt_that_undoes(
    tmp_path_factory: pytest.TempPathFactory, s3: S3Server
) -> None:
    modules = tmp_path_factory.mktemp("modules")
    (modules / "xcom_store.py").write_text(_XCOM)
    with Sandbox(ShopConfig(tickets=100, limits=NO_LIMITS, burst_limit=0)) as shop:
        for number in range(2546, 2566):
            shop.update_ticket(number, isClosed=False)
        home = _home(
            _CLOSE_AND_UNDO,
            tmp_path_factory,
            s3=s3,
            settings={
                "AIRFLOW__CORE__XCOM_BACKEND": "xcom_store.Down",
                "PYTHONPATH": f"{modules}:{PROJECT}",
            },
            lightspeed_default=shop.airflow_connection(),
        )
        with home.dags_in_one_process():
            assert home.run_dag("close").state == "failed"
            assert "the store of XComs is down" in home.log.read_text()
            tickets = shop.shop.tickets()
            assert all(tickets[number]["isClosed"] for number in range(2546, 2566))
            home.run_dag("undo")
            tickets = shop.shop.tickets()
            assert not any(tickets[number]["isClosed"] for number in range(2546, 2566))


_ODD = """
from airflow_provider_lightspeed._airflow import DAG
from airflow_provider_lightspeed.operators.tickets import UpdateTicketsOperator
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor

with DAG("texts"):
    tasks = [
        UpdateTicketsOperator(task_id=name, ticket_ids=[2546, 2547], memo=" a < b ", max_share=1.0)
        for name in ("tonight", "tomorrow")
    ]
    tasks[0] >> tasks[1]

with DAG("many"):
    NewTicketSensor(task_id="wait", start="earliest", max_tickets=10, poke_interval=0.1, timeout=60)
"""


def test_texts_that_a_shop_changes_and_more_new_tickets_than_a_task_should_hold(
    tmp_path_factory: pytest.TempPathFactory, s3: S3Server
) -> None:
    with Sandbox(ShopConfig(tickets=30, limits=NO_LIMITS, burst_limit=0, texts="escaped")) as shop:
        home = _home(_ODD, tmp_path_factory, s3=s3, lightspeed_default=shop.airflow_connection())
        with home.dags_in_one_process():
            outcome = home.run_dag("texts")
            assert outcome.state == "success", home.log.read_text()[-5_000:]
            assert shop.shop.ticket(2546)["memo"] == " a &lt; b "
            assert shop.count_calls(method="PUT") == 2
            found = home.run_dag("many").tasks["wait"].result
            assert found["ticket_ids"] == sorted(shop.shop.ids())[:10]
            assert "Returning the first 10 of 30 new tickets" in home.log.read_text()


_REVOKED = """
from datetime import timedelta

from airflow_provider_lightspeed._airflow import DAG
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator

with DAG("revoked"):
    CloseTicketsOperator(
        task_id="close", ticket_ids=list(range(2546, 2566)), max_share=1.0,
        receipt_s3_key="s3://situations/revoked.jsonl", retries=2, retry_delay=timedelta(seconds=1),
    )
"""


def test_a_key_that_is_revoked_is_the_error_though_the_receipt_fails_too(
    tmp_path_factory: pytest.TempPathFactory, s3: S3Server
) -> None:
    """A storage error would be tried again, with a key that no longer works."""
    with Sandbox(ShopConfig(tickets=100, limits=NO_LIMITS, burst_limit=0)) as shop:
        for number in range(2546, 2566):
            shop.update_ticket(number, isClosed=False)
        puts = 0

        def revoke(method: str, *_: Any) -> tuple[int, bytes] | None:
            nonlocal puts
            puts += method == "PUT"
            return (401, b'{"error": {"code": 401, "message": "Invalid API key."}}') if puts > 4 else None

        def break_down(method: str, *_: Any) -> tuple[int, bytes] | None:
            return (503, b"") if method == "PUT" and puts > 4 else None

        with proxy(shop.url, revoke) as shop_address, proxy(s3.endpoint, break_down) as store_address:
            store = json.loads(s3.airflow_connection())
            store["extra"] |= {
                "endpoint_url": store_address,
                "config_kwargs": {"retries": {"total_max_attempts": 1}},
            }
            home = _home(
                _REVOKED,
                tmp_path_factory,
                s3=s3,
                lightspeed_default=json.dumps({
                    **json.loads(shop.airflow_connection()),
                    "host": shop_address,
                }),
                aws_default=json.dumps(store),
            )
            with home.dags_in_one_process():
                assert home.run_dag("revoked").state == "failed"
                log = home.log.read_text()
                ((tries,),) = home.query("select max(try_number) from task_instance where dag_id = 'revoked'")
        assert tries == 1, log[-5_000:]
        assert "Invalid API key" in log
        assert "revoked.jsonl" in log


_STORED = """
from airflow_provider_lightspeed._airflow import DAG
from airflow_provider_lightspeed.operators.tickets import CloseTicketsOperator, UpdateTicketsOperator
from airflow_provider_lightspeed.sensors.tickets import NewTicketSensor
from airflow_provider_lightspeed.transfers.tickets_to_s3 import LightspeedTicketsToS3Operator

with DAG("stored"):
    wait = NewTicketSensor(task_id="wait", since_id=2545)
    plan = CloseTicketsOperator(task_id="plan", ticket_ids=wait.output, max_share=1.0, dry_run=True)
    close = CloseTicketsOperator(task_id="close", ticket_ids=plan.output, max_share=1.0)
    # As text: `ti.xcom_pull` reads the object, too.
    again = CloseTicketsOperator(task_id="again", ticket_ids="{{ ti.xcom_pull(task_ids='wait')['ticket_ids'] }}")
    reopen = UpdateTicketsOperator(task_id="reopen", ticket_ids=close.output, is_closed=False, max_share=1.0)
    export = LightspeedTicketsToS3Operator(task_id="export", s3_bucket="situations", s3_key="stored.jsonl")
    close >> again >> reopen >> export
"""


def test_results_in_object_storage(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> None:
    pytest.importorskip("airflow.providers.common.io.xcom.backend")
    stored = tmp_path_factory.mktemp("xcoms")
    with Sandbox(ShopConfig(tickets=60, limits=NO_LIMITS, burst_limit=0)) as shop:
        ids = sorted(shop.shop.ids())
        for number in ids:
            shop.update_ticket(number, isClosed=False)
        home = _home(
            _STORED,
            tmp_path_factory,
            s3=s3,
            settings={
                "AIRFLOW__CORE__XCOM_BACKEND": "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
                "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{stored}",
                "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
                "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_COMPRESSION": "gzip",
            },
            lightspeed_default=shop.airflow_connection(),
        )
        outcome = home.run_dag("stored")
        assert outcome.state == "success", home.log.read_text()[-5_000:]
        assert [*stored.rglob("*")]
        histories = [[c.after for c in shop.shop.history(n) if c.by == shop.key] for n in ids]
        assert histories == [[{"isClosed": True}, {"isClosed": False}]] * len(ids)


def test_a_connection_is_tested_in_a_plain_shell(airflow: AirflowHome, shops: dict[str, Sandbox]) -> None:
    """Airflow 3 gives connections of its database to tasks alone: then it says so in words."""
    airflow.run("connections", "add", "kept", "--conn-json", shops["one"].airflow_connection())
    code = (
        "import json; from airflow_provider_lightspeed.hooks.lightspeed import LightspeedHook; "
        "print(json.dumps(LightspeedHook({!r}).test_connection()))"
    )

    def tested(conn_id: str) -> Any:
        command = [sys.executable, "-c", code.format(conn_id)]
        done = subprocess.run(
            command, env=airflow.environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    assert tested("one")[0] is True
    works, why = tested("kept")
    assert works or "kept" in why
    assert "Traceback" not in why
