"""The report in a real browser: it opens without errors, sorts, filters, fits a phone, and is accessible."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.chromium.webdriver import ChromiumDriver as WebDriver
from selenium.webdriver.common.by import By

from tests.support.browser import DESKTOP, PHONE, find_faults, open_browser, read_axe, read_console
from tests.support.project import Project

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


def column_of(browser: WebDriver, heading: str) -> list[str]:
    return browser.execute_script(  # type: ignore[no-any-return]
        """const table = document.querySelector("#runs-sentiment");
        const place = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === arguments[0]);
        return [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[place].textContent)""",
        heading,
    )


def click_heading(browser: WebDriver, heading: str) -> None:
    button = browser.find_element(By.XPATH, f"//table[@id='runs-sentiment']//th/button[text()='{heading}']")
    browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", button)
    button.click()


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


def test_the_table_of_runs_sorts_both_ways_by_a_click(desktop: WebDriver) -> None:
    click_heading(desktop, "log loss (nats)")
    values = [float(text) for text in column_of(desktop, "log loss (nats)")]
    assert len(values) >= 4
    assert values == sorted(values, reverse=True)
    click_heading(desktop, "log loss (nats)")
    assert [float(text) for text in column_of(desktop, "log loss (nats)")] == sorted(values)
    click_heading(desktop, "run")
    names = column_of(desktop, "run")
    assert names == sorted(names, key=str.lower)
    click_heading(desktop, "ensemble weight")
    assert column_of(desktop, "ensemble weight")[-1] == "–"  # the ensemble has none, and is last either way
    click_heading(desktop, "ensemble weight")
    assert column_of(desktop, "ensemble weight")[-1] == "–"


def test_the_table_of_runs_filters_by_words(desktop: WebDriver) -> None:
    field = desktop.find_element(By.ID, "filter-runs-sentiment")
    everything = column_of(desktop, "run")
    field.send_keys("lstm")
    shown = column_of(desktop, "run")
    assert shown
    assert all("LSTM" in name for name in shown)
    assert f"{len(shown)} of {len(everything)}" in desktop.find_element(By.TAG_NAME, "body").text
    field.send_keys(" no such run")
    assert column_of(desktop, "run") == []
    field.clear()
    field.send_keys(" ")
    assert column_of(desktop, "run") == everything


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


def test_a_store_that_does_not_respond_leaves_out_the_runs_and_nothing_else(small_project: Project) -> None:
    command = ("python", "-m", "unroll.stages.report")
    store = "http://127.0.0.1:9"
    done = small_project.run(*command, MLFLOW_TRACKING_URI=store, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.stderr.count("warning:") == 1
    assert "the report lists no runs" in done.stderr
    summary = (small_project.folder / "reports/summary.md").read_text(encoding="utf-8")
    assert "sentiment ensemble" in summary
    assert "MLflow run" not in summary
