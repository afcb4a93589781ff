"""A real browser without a window, and the rules of accessibility that it checks a page by."""

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chromium.webdriver import ChromiumDriver as WebDriver

from unroll.core.files import sha256_of_file

AXE, AXE_SHA256 = "axe-core@4.14.1", "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
DESKTOP, PHONE = 1280, 390


@contextmanager
def open_browser(width: int, *, dark: bool = False) -> Iterator[WebDriver]:
    """Open Chromium with a page so many pixels wide; a test that needs it is skipped where it is not installed."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs the programs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, Service(driver))
    try:
        # A window cannot be as narrow as a phone; the page in it can.
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": theme})
        yield browser
    finally:
        browser.quit()


def read_console(browser: WebDriver) -> list[dict[str, Any]]:
    """Return what the page has written to the browser's console."""
    return browser.get_log("browser")  # type: ignore[no-any-return, no-untyped-call]


def read_axe(cache: Path) -> str:
    """Return the script of axe-core, which npm fetches once; a test that needs it is skipped without npm."""
    archive = cache / f"{AXE.replace('@', '-')}.tgz"
    if not archive.is_file():
        if shutil.which("npm") is None:
            pytest.skip("needs npm, which fetches axe-core")
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", "--ignore-scripts", AXE], cwd=cache, check=True, capture_output=True)
    assert sha256_of_file(archive) == AXE_SHA256
    with tarfile.open(archive) as content:
        member = content.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def find_faults(browser: WebDriver, script: str) -> list[dict[str, Any]]:
    """Return axe-core's serious and critical findings on the page that is open."""
    browser.execute_script(script)
    found = browser.execute_async_script("const done = arguments[0]; axe.run(document).then(done, done)")
    return [fault for fault in found["violations"] if fault["impact"] in ("serious", "critical")]
