"""The report in a real browser: it opens without errors, fits a phone, and is accessible."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.chromium.webdriver import ChromiumDriver as WebDriver

from tests.support.browser import DESKTOP, PHONE, find_faults, open_browser, read_axe, read_console
from tests.support.project import Project
from unroll.core.files import sha256_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address(small_project: Project) -> str:
    return (small_project.folder / "reports/index.html").as_uri()


@pytest.fixture(scope="module")
def desktop(address: str) -> Iterator[WebDriver]:
    with open_browser(DESKTOP) as browser:
        browser.get(address)
        yield browser


@pytest.fixture(scope="module")
def phone(address: str) -> Iterator[WebDriver]:
    with open_browser(PHONE, dark=True) as browser:
        browser.get(address)
        yield browser


def test_the_page_opens_without_an_error_and_everything_in_it_resolves(desktop: WebDriver) -> None:
    assert read_console(desktop) == []
    broken = "return [...document.images].filter((image) => !image.complete || !image.naturalWidth).map((i) => i.alt)"
    assert desktop.execute_script(broken) == []
    assert desktop.execute_script("return document.images.length") > 15
    lost = """return [...document.querySelectorAll("a[href^='#']")].map((link) => link.hash.slice(1))
        .filter((name) => !document.getElementById(name))"""
    assert desktop.execute_script(lost) == []
    named = "const ids = [...document.querySelectorAll('[id]')].map((e) => e.id); return ids.length - new Set(ids).size"
    assert desktop.execute_script(named) == 0


@pytest.mark.parametrize("width", ["desktop", "phone"])
def test_the_page_is_as_wide_as_the_screen(width: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    browser: WebDriver = request.getfixturevalue(width)
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    hidden = """const style = getComputedStyle(document.body);
        return [style.color, style.backgroundColor, document.querySelector("h1").getBoundingClientRect().width > 100]"""
    ink, paper, is_shown = browser.execute_script(hidden)
    assert is_shown
    assert (sum(map(int, paper[4:-1].split(","))) > sum(map(int, ink[4:-1].split(",")))) == (width == "desktop")
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    folder = ROOT / ".cache/screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"report-{width}.png").write_bytes(base64.b64decode(picture["data"]))


@pytest.mark.parametrize("width", ["desktop", "phone"])
def test_the_page_is_accessible(width: str, request: pytest.FixtureRequest) -> None:
    script = read_axe(ROOT / ".cache/tests")
    browser: WebDriver = request.getfixturevalue(width)
    faults = find_faults(browser, script)
    assert [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in faults] == []


def test_the_summary_has_the_same_scores(small_project: Project) -> None:
    page = (small_project.folder / "reports/index.html").read_text(encoding="utf-8")
    summary = (small_project.folder / "reports/summary.md").read_text(encoding="utf-8")
    assert summary.count("## ") == 2
    rows = [line.split("|") for line in summary.splitlines() if line.startswith(("| sentiment ", "| surnames "))]
    assert len(rows) == 8
    for row in rows:
        assert f">{row[1].strip()}</th>" in page
        assert f"<td>{row[2].strip()}</td>" in page


def test_figures_are_declared_as_plots(small_project: Project) -> None:
    drawn = small_project.run("dvc", "plots", "show", "reports/figures").stdout
    assert "index.html" in drawn


def test_the_report_is_the_same_from_another_commit_and_without_the_store(small_project: Project) -> None:
    """Its hashes in dvc.lock then change only with what it shows: a fresh clone stays clean."""
    files = [small_project.folder / "reports" / name for name in ("index.html", "summary.md", "figures")]
    before = sha256_of(*files)
    small_project.run("git", "commit", "--allow-empty", "--quiet", "--message", "another")
    store = "http://127.0.0.1:9"
    done = small_project.run(
        "python", "-m", "unroll.stages.report", MLFLOW_TRACKING_URI=store, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"
    )
    assert done.stderr.count("warning:") == 1
    assert "figures are not attached to their runs" in done.stderr
    assert sha256_of(*files) == before
