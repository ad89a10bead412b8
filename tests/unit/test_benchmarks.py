"""What the benchmarks show is what they measured."""

from __future__ import annotations

from xml.etree import ElementTree  # ruff: ignore[suspicious-xml-etree-import] - reads what the test made

from airflow_provider_lightspeed.sandbox import Sandbox, ShopConfig
from benchmarks.day import Shape, Staff, as_of_shop, compare
from benchmarks.plots import Bar, bars
from benchmarks.report import PAGE, page, plots
from benchmarks.results import Wrong, load


def test_the_page_and_its_plots_show_the_kept_results() -> None:
    results = load()
    assert page(results) == PAGE.read_text(encoding="utf-8")
    drawn = plots(results)
    assert {"missing", "time"} <= set(drawn)
    for name, svg in drawn.items():
        file = PAGE.parent / "images" / "benchmarks" / f"{name}.svg"
        assert file.read_text(encoding="utf-8") == svg


def test_a_chart_is_an_image_with_a_bar_for_each_row() -> None:
    svg = bars(
        "Calls <a day>",
        "",
        [Bar("ours & others", 0, "none", is_ours=True), Bar("one", 8, "8", is_ours=False)],
    )
    root = ElementTree.fromstring(svg)  # ruff: ignore[suspicious-xml-element-tree-usage] - as above
    found = [one for one in root.iter() if (one.get("class") or "").startswith("bar")]
    assert [one.get("class") for one in found] == ["bar ours", "bar"]
    assert float(found[0].get("width", 0)) < float(found[1].get("width", 0))
    assert "Calls <a day>" in {one.text for one in root.iter()}


def test_a_warehouse_is_compared_with_the_shop() -> None:
    truth = {1: ("a",), 2: ("b",), 3: ("c",), 4: ("d",)}
    found = {1: ("a",), 2: ("old",), 5: ("e",), 6: ("f",)}
    assert compare(truth, found) == Wrong(stale=1, missing=2, ghosts=2)
    assert compare(truth, dict(truth)) == Wrong(stale=0, missing=0, ghosts=0)


def test_each_event_of_the_day_happens_once() -> None:
    shape = Shape(tickets=2_000, looks=5)
    shop = Sandbox(ShopConfig(tickets=shape.tickets, days=365))
    before = as_of_shop(shop)
    staff = Staff(shop, shape)
    for hour in range(1, shape.looks + 1):
        staff.work(hour)
    assert shape.events == {"new": 6, "changed": 18, "deleted": 2}
    # A warehouse that has not looked since is wrong by exactly that.
    assert compare(as_of_shop(shop), before) == Wrong(stale=18, missing=6, ghosts=2)
