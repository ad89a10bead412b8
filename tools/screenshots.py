"""Take the pictures of the docs, in a real browser, from a running Airflow.

    make ui PORT=18080 &
    python tools/screenshots.py http://127.0.0.1:18080 --export --shop http://127.0.0.1:PORT

The shop's port is in what `make ui` says. For the form of an older Airflow (with AIRFLOW__CORE__TEST_CONNECTION=Enabled)
give its version; for Airflow 2 also the password of the user admin:

    python tools/screenshots.py http://127.0.0.1:18080 --shop … --airflow 2.11 --password …

Needs Chromium with its driver and the font of the other pictures (Debian: chromium, chromium-driver and
fonts-liberation), and Selenium beside the provider:

    .venv/bin/uv pip install --python .venv/bin/python --target /tmp/selenium selenium
    PYTHONPATH=.:/tmp/selenium .venv/bin/python tools/screenshots.py …
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.ui import WebDriverWait

from airflow_provider_lightspeed.sandbox import ShopConfig

IMAGES = Path(__file__).parent.parent / "docs" / "images"
_PATIENCE = 120
_DAG = "example_lightspeed_nightly_export"
_KEY, _SECRET = ShopConfig().key, ShopConfig().secret


class Browser:
    """A browser without a window."""

    def __init__(self, address: str) -> None:
        options = webdriver.ChromeOptions()
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--hide-scrollbars",
            "--no-proxy-server",
            "--lang=en",
        ):
            options.add_argument(argument)
        # Both named: Selenium would ask the internet for them otherwise.
        options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
        self.driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        self._address = address.rstrip("/")

    def open(self, path: str, height: int = 800) -> None:
        """Go to a page."""
        self.driver.set_window_size(1280, height)
        self.driver.get(self._address + path)

    def find(self, xpath: str) -> WebElement:
        """Wait for an element that can be seen."""

        def shown(driver: webdriver.Chrome) -> Any:
            return next((e for e in driver.find_elements(By.XPATH, xpath) if e.is_displayed()), None)

        found: WebElement = WebDriverWait(self.driver, _PATIENCE).until(shown, f"not there: {xpath}")
        return found

    def field(self, label: str) -> WebElement:
        """Find a field by its label."""
        return self.find(f"//*[@id = //label[starts-with(normalize-space(.), '{label}')]/@for]")

    def picture(self, name: str, of: str = "//body") -> None:
        """Save a picture of an element, once it has come to rest."""
        time.sleep(3)
        IMAGES.mkdir(exist_ok=True)
        file = IMAGES / f"{name}.png"
        self.find(of).screenshot(str(file))
        print(f"{file}  {file.stat().st_size / 1000:.0f} kB")


def connection_form_3(browser: Browser, shop: str, version: str) -> None:
    """Fill the form of Airflow 3 in, save and test the connection."""
    dialog = "//*[@role='dialog']"
    # The first visit signs in, and leads to the home page whatever was asked for.
    browser.open("/")
    browser.find("//*[text()='Admin']")
    browser.open("/connections", 1900)
    browser.find("//button[contains(., 'Add Connection')]").click()
    browser.field("Connection ID").send_keys("my_shop")
    kind = browser.field("Connection Type")
    kind.send_keys("Lightspeed")
    browser.find("//*[@role='option']")
    kind.send_keys(Keys.ENTER)
    for label, text in (("Host", shop), ("API key", _KEY), ("API secret", _SECRET)):
        browser.field(label).send_keys(text)
    if version == "3.3":  # whose test button wants one; docs/connection.md says so
        browser.field("Port").send_keys("443")
    browser.picture(f"connection-form-{version}", dialog)
    browser.find("//button[normalize-space(.)='Extra Fields']").click()
    time.sleep(3)  # it unfolds
    if version != "3.1":  # whose label does not lead to the field
        cluster = browser.field("Cluster")
        cluster.send_keys("us1")
        browser.find("//*[@role='option'][contains(., 'us1')]")
        cluster.send_keys(Keys.ENTER)
    browser.find("//input[@name='element_language']").send_keys("nl")
    browser.find("//input[@name='element_quota_reserve']").send_keys("0.25")
    browser.picture(f"connection-extra-{version}", dialog)
    browser.find("//button[normalize-space(.)='Save']").click()
    # A busy Airflow takes a while to store it.
    WebDriverWait(browser.driver, _PATIENCE).until(lambda driver: not driver.find_elements(By.XPATH, dialog))
    browser.open("/connections", 500)
    browser.find("//button[contains(., 'Test Connection') or @aria-label='Test Connection']").click()
    browser.find("//*[contains(., 'answers in language') or contains(text(), 'Failed')]")
    if failed := browser.driver.find_elements(By.XPATH, "//*[contains(text(), 'Failed')]/.."):
        raise SystemExit(
            f"{failed[0].text}\nIf the quota is used up, delete the connection and try again later."
        )
    browser.picture(f"connection-test-{version}")


def connection_form_2(browser: Browser, shop: str, version: str, password: str) -> None:
    """The same in Airflow 2."""
    browser.open("/login/")
    browser.find("//input[@id='username']").send_keys("admin")
    browser.find("//input[@id='password']").send_keys(password, Keys.ENTER)
    WebDriverWait(browser.driver, _PATIENCE).until(lambda driver: driver.current_url.endswith("/home"))
    browser.open("/connection/add", 1700)
    browser.find("//input[@id='conn_id']").send_keys("my_shop")
    Select(browser.driver.find_element(By.ID, "conn_type")).select_by_visible_text("Lightspeed eCom")
    for label, text in (("Host", shop), ("API key", _KEY), ("API secret", _SECRET), ("Language", "nl")):
        browser.field(label).send_keys(text)
    browser.picture(f"connection-form-{version}")
    browser.find("//*[@id='test-connection']").click()
    browser.find("//*[contains(text(), 'answers in language')]")
    browser.picture(f"connection-test-{version}")


def export_3(browser: Browser) -> None:
    """From the list of DAGs to what an export has done."""
    browser.open("/dags")
    browser.find(f"//a[contains(@href, '{_DAG}')]")
    browser.picture("try-dags")
    browser.open(f"/dags/{_DAG}/runs")
    run = str(browser.find(f"//a[contains(@href, '/{_DAG}/runs/scheduled')]").get_attribute("href"))
    task = f"{run[run.index('/dags') :].partition('?')[0].rstrip('/')}/tasks/export_tickets"
    browser.open(task)
    browser.find("//*[contains(text(), 'Exported') and contains(text(), 'API calls')]")
    ActionChains(browser.driver).send_keys("w").perform()  # wrap the lines
    browser.picture("try-log")


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="of Airflow's web interface")
    parser.add_argument("--shop", help="address of a sandbox: take the pictures of the connection form")
    parser.add_argument("--airflow", default="3.3", help="its version (3.3)")
    parser.add_argument("--password", default="", help="of the user admin, for Airflow 2")
    parser.add_argument("--export", action="store_true", help="take the pictures of the export")
    options = parser.parse_args()
    browser = Browser(options.address)
    try:
        if options.shop and options.airflow.startswith("2."):
            connection_form_2(browser, options.shop, options.airflow, options.password)
        elif options.shop:
            connection_form_3(browser, options.shop, options.airflow)
        if options.export:
            export_3(browser)
    finally:
        browser.driver.quit()


if __name__ == "__main__":
    main()
