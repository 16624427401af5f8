"""The page in headless Chromium: a silent console, every plot drawn, nothing wider than the screen."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from run_factory import HARD_NAME, write_run

from serendip.events.events import Window
from serendip.io.json import write_json
from serendip.report import figures, write_report
from serendip.report.validation import page as validation_page
from serendip.validate.base import Check, Validation, write_validation
from serendip.validate.curves import coverage_picture, ladder_pictures, rate_pictures
from serendip.validate.injection import _medians

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", params=["excess", "blinded", "weighted"])
def page(request, tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp(request.param)
    run = write_run(
        folder / "run",
        kind="excess" if request.param == "weighted" else request.param,
        weighted=request.param == "weighted",
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


@pytest.fixture(scope="module")
def validated(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("validated")
    p = np.sort(np.random.default_rng(1).random(200))
    rows = [
        {"method": HARD_NAME, "working_point": point, "combination": rule, "n": 200, "p": list(p)}
        for point in (0.01, 0.001)
        for rule in ("sequential", "kfold-summed")
    ]
    steps = [
        {"injected": s, "z_inclusive": s / 50, "z": s / 20, "mu": s / 200, "mu_hat": s / 210}
        for s in (0, 100, 100, 200)
    ]
    pictures = {
        "null": rate_pictures(rows, Window(3300.0, 3700.0)),
        "injection": ladder_pictures([{"method": HARD_NAME, "working_point": 0.01, "steps": steps, "medians": _medians(steps)}]),
        "coverage": [coverage_picture("3300-3700 GeV", {"95% interval": [(0.0, 0.94, 0.01), (2.0, 0.96, 0.01)]})],
    }  # fmt: skip
    for kind, found in pictures.items():
        checks = (Check(f"{kind} of {HARD_NAME}", kind != "null", 0.5, 0.1, "at most 1", "It means this."),)
        facts = {"figures": [picture.model_dump(mode="json") for picture in found]}
        write_validation(out, Validation(kind, checks, facts))
    config = {"file": "e.parquet", "method": ["cwola"], "features": [HARD_NAME], "folds": 3, "combination": "sequential", "seed": 1}  # fmt: skip
    state = {"schema": 1, "serendip": "0", "config": config, "input": {}, "kinds": {}, "left_out": {}}
    write_json(out / "validation.json", state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", lambda *_: None)
        return validation_page.write_validation_page(out).rename(out / "moved.html")


@pytest.mark.parametrize("width", [1400, 375])
def test_the_page_of_a_validation_is_drawn_without_a_message(browser, validated, width):
    resize(browser, width)
    browser.get(validated.as_uri())
    wait(browser)
    assert browser.execute_script("return document.querySelectorAll('.chart').length") == 5
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    time.sleep(0.3)
    wait(browser)
    assert undrawn(browser) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelectorAll('main b').length") == 0
    assert browser.get_log("browser") == []
