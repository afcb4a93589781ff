"""`unroll ui` in a real browser: MLflow's own pages show what matters first."""

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.cli.test_serve import free_port, start, stop
from tests.support.project import ROOT, Project

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver"),
]


@pytest.fixture(scope="module")
def links(projected_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses that the command prints, by their titles."""
    folder = tmp_path_factory.mktemp("shown") / "project"
    shutil.copytree(projected_folder, folder)
    process, printed = start(
        Project(folder), "ui", "--port", str(free_port()), "--no-browser", PYTHONPATH=str(ROOT / "src")
    )
    yield dict(re.split(r"\s{2,}", line, maxsplit=1) for line in printed if "http://" in line)
    assert "stopped" in stop(process, signal.SIGINT)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1600,1200"):
        options.add_argument(argument)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)) as driver:
        yield driver


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText.trim())"
    found: list[str] = browser.execute_script(script, selector)
    return found


def wait_for(browser: webdriver.Chrome, selector: str, wanted: set[str]) -> list[str]:
    WebDriverWait(browser, 120).until(lambda here: wanted <= set(texts(here, selector)))
    return texts(browser, selector)


def test_it_opens_where_whole_runs_are_compared(links: dict[str, str], browser: webdriver.Chrome) -> None:
    browser.get(links["sentiment: runs compared"])
    names = wait_for(browser, ".ag-center-cols-container a, .ag-pinned-left-cols-container a", {"sentiment ensemble"})
    assert sorted(names) == [f"sentiment {name}" for name in ("GRU", "RNN", "ensemble")]
    WebDriverWait(browser, 120).until(lambda here: len(here.find_elements(By.CSS_SELECTOR, ".js-plotly-plot")) >= 3)
    page = " ".join(browser.find_element(By.TAG_NAME, "body").text.split())
    for words in ("Learning curves (3)", "valid_accuracy", "valid_log_loss", "loss", "Sort: score"):
        assert words in page
    assert "Error loading shared view state" not in page


def test_the_table_begins_with_the_columns_that_matter(links: dict[str, str], browser: webdriver.Chrome) -> None:
    browser.get("about:blank")
    browser.get(links["sentiment: table with folds"])
    wait_for(browser, ".ag-center-cols-container a, .ag-pinned-left-cols-container a", {"sentiment GRU fold 2"})
    shown = "[...document.querySelectorAll('.ag-header-cell')].sort((one, other) => one.getBoundingClientRect().x - "
    shown += "other.getBoundingClientRect().x).map(each => each.innerText.trim()).filter(each => each)"
    columns = browser.execute_script(f"return {shown}")
    assert columns[:8] == [
        "Run Name", "Created", "cell", "fold", "score", "best_accuracy", "best_macro_f1", "best_log_loss",
    ]  # fmt: skip
