"""The page in headless Chromium: a silent console, every plot drawn, nothing wider than the screen."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_factory import HARD_NAME, write_run

from serendip.report import figures, write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("chromedriver not found; on Debian: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1400,1000",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module", params=["excess", "blinded"])
def page(request, tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp(request.param)
    run = write_run(
        folder / "run",
        kind=request.param,
        n_windows=2,
        working_points=(0.01,),
        truth=request.param == "excess",
        feature=HARD_NAME,
    )
    # the page alone must do: move it away from its run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", lambda *_: None)  # slow, and not part of the page
        yield write_report(run).rename(folder / "moved.html")


def wait(browser) -> None:
    end = time.monotonic() + 120
    while browser.execute_script("return document.documentElement.dataset.plots") != "ready":
        assert time.monotonic() < end, "the plots were not drawn within two minutes"
        time.sleep(0.1)


def undrawn(browser) -> list[str]:
    return browser.execute_script(
        """return Array.from(document.querySelectorAll(".chart"))
        .filter(p => p.closest("details:not([open])") === null && !p.querySelector("svg.main-svg .trace"))
        .map(p => p.id)"""
    )


def resize(browser, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 812, "deviceScaleFactor": 1, "mobile": width < 600},
    )


@pytest.mark.parametrize("width", [1400, 375])
def test_every_plot_is_drawn_offline_without_a_message(browser, page, width):
    resize(browser, width)
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    browser.get(page.as_uri())
    wait(browser)
    plots = browser.execute_script("return document.querySelectorAll('.chart').length")
    assert plots > 10
    assert undrawn(browser) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # what is folded away is drawn when it is opened
    folded = browser.execute_script("return document.querySelectorAll('details:not([open]) .chart').length")
    assert folded > 0
    for opened in ("true", "false", "true"):
        browser.execute_script(f"document.querySelectorAll('details').forEach(d => {{ d.open = {opened}; }})")
        time.sleep(0.3)
        wait(browser)
    assert undrawn(browser) == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith(("data:", "blob:"))] == []
    assert browser.get_log("browser") == []


def test_user_names_stay_text(browser, page):
    browser.get(page.as_uri())
    wait(browser)
    assert browser.execute_script("return document.querySelectorAll('main b').length") == 0
    axes = browser.execute_script(
        "return Array.from(document.querySelectorAll('.xtitle')).map(e => e.textContent)"
    )
    assert HARD_NAME in axes


def test_printed_page_keeps_every_plot_within_the_paper(browser, page):
    resize(browser, 1400)
    browser.get(page.as_uri())
    wait(browser)
    browser.execute_script(
        """window.widest = 0; window.addEventListener("beforeprint", () => {
        const widths = Array.from(document.querySelectorAll("svg.main-svg"), s => +s.getAttribute("width"));
        window.widest = Math.max(...widths);
        })"""
    )
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True})
    assert base64.b64decode(pdf["data"]).startswith(b"%PDF")
    assert 500 < browser.execute_script("return window.widest") <= 688
    # and the screen gets its width back
    time.sleep(0.3)
    assert (
        browser.execute_script("return +document.querySelector('svg.main-svg').getAttribute('width')") > 800
    )
