"""A real browser for pages: Chromium, driven by selenium."""

import json
import shutil
from typing import Any

import pytest
from selenium import webdriver


def start_browser() -> Any:
    """Chromium without a window; skips the test where there is none."""
    chromium = shutil.which("chromium")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip(
            "the page is not tested in a browser: chromium or chromedriver "
            "(Debian: chromium-driver) is missing"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "disable-component-update",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(driver))


def requests(browser: Any) -> list[str]:
    """URLs that the browser has asked for since the last call."""
    entries = browser.get_log("performance")
    messages = [json.loads(entry["message"])["message"] for entry in entries]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def set_width(browser: Any, width: int) -> None:
    """Give the browser a screen of this width in pixels; a narrow one is a phone's."""
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
