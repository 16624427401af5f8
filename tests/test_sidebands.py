"""A second signal beside the window is told, with what it does to the expectation; a smooth spectrum is left in peace."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_files import check_files

from serendip.events.events import Window
from serendip.report import words
from serendip.report.html import write_report
from serendip.report.load import read_run
from serendip.search.config import parse_config
from serendip.search.engine import run_search
from serendip.statistics.binning import make_edges
from serendip.statistics.looks import fit_inclusive
from serendip.statistics.sidebands import sideband_excess

WINDOW = Window(3000.0, 3300.0)
RANGE = (2400.0, 5280.0)


def masses(rng, n=20_000, second=0, at=3700.0):
    low, high = RANGE
    mass = (low**-5 + rng.random(n) * (high**-5 - low**-5)) ** -0.2
    return np.concatenate([mass, rng.normal(at, 60.0, second)])


def fitted(mass, weights=None):
    edges = make_edges(RANGE, WINDOW)
    fit = fit_inclusive(mass, WINDOW, edges, "dijet:3", weights=weights)
    return fit, (edges[:-1] >= WINDOW.low) & (edges[1:] <= WINDOW.high)


def test_a_peak_beside_the_window_is_found_with_its_effect():
    rng = np.random.default_rng(0)
    fit, inside = fitted(masses(rng, second=500))
    found = sideband_excess(fit, inside)
    assert found.low < 3700 < found.high
    assert found.low > 3450
    assert found.high < 3950
    excess = found.observed - found.expected
    # a run of bins around the peak, at least one width to both sides
    assert 280 < excess < 560
    assert found.z_local > 8
    assert found.p < 1e-12
    # without the peak the expectation is that of a spectrum that never had it
    clean, _ = fitted(masses(np.random.default_rng(0)))
    truth = clean.expected[inside].sum()
    assert abs(found.window_without - truth) < abs(found.window_expected - truth)
    assert found.window_expected == pytest.approx(fit.expected[inside].sum())


def test_an_excess_in_the_window_is_none_beside_it():
    rng = np.random.default_rng(1)
    fit, inside = fitted(masses(rng, second=600, at=3150.0))
    assert sideband_excess(fit, inside) is None


def test_hidden_bins_are_not_looked_at():
    fit, inside = fitted(masses(np.random.default_rng(0), second=500))
    hidden = (fit.edges[:-1] < 4000) & (fit.edges[1:] > 3300)
    assert sideband_excess(fit, inside, hidden=hidden) is None


def test_a_smooth_spectrum_holds_no_excess_more_often_than_one_in_a_hundred():
    rng = np.random.default_rng(2)
    found = [sideband_excess(*fitted(masses(rng, 3000))) for _ in range(100)]
    assert np.count_nonzero([excess is not None for excess in found]) <= 4


def test_weights_are_no_events():
    """Counts of weight 9 scatter three times as much: what would be an excess of events is none of weights."""
    rng = np.random.default_rng(3)
    mass = masses(rng, 2000, second=10)
    fit, inside = fitted(mass, np.full(len(mass), 9.0))
    assert fit.scale == pytest.approx(9.0)
    assert sideband_excess(fit, inside) is None
    fit, inside = fitted(np.repeat(mass, 9))
    assert sideband_excess(fit, inside) is not None


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("second")
    mass = masses(np.random.default_rng(4), second=500)
    pq.write_table(pa.table({"m": mass, "x": np.arange(len(mass)) % 7}), folder / "t.parquet")
    settings = {
        "file": str(folder / "t.parquet"), "mass": "m", "features": ["x"], "method": ["bump-hunt"], "toys": 100,
        "scan": [3000, 4000], "width": 0.1, "background": "dijet:3", "range": list(RANGE),
    }  # fmt: skip
    run_search(parse_config(settings), folder / "run", jobs=1)
    run_search(
        parse_config(settings | {"window": [3000, 3300], "scan": None, "width": None}), folder / "one", jobs=1
    )
    return folder


def test_a_blind_scan_does_not_tell_of_an_excess_in_another_window(run):
    assert json.loads((run / "run" / "results.json").read_text())["sidebands"] == []
    config = parse_config(json.loads(json.dumps(read_run(run / "run").config)))
    run_search(config, run / "run", unblind=True, jobs=1)
    (excess,) = json.loads((run / "run" / "results.json").read_text())["sidebands"]
    assert excess["low"] < 3700 < excess["high"]
    (note,) = [n for n in words.notes(read_run(run / "run")) if "sidebands" in n.title]
    assert "lies in the tested window 3630" in note.text


def test_the_report_suggests_a_mask(run):
    results = json.loads((run / "one" / "results.json").read_text())
    check_files(run / "one")
    (excess,) = results["sidebands"]
    (note,) = [n for n in words.notes(read_run(run / "one")) if "sidebands" in n.title]
    assert f"mask it (--mask {excess['low']:.5g}:{excess['high']:.5g})" in note.text
    assert "would lower the expectation" in note.text
    assert excess["window_without"] < excess["window_expected"]
    page = write_report(run / "one").read_text(encoding="utf-8")
    assert "excess in the sidebands" in page
    assert page.count('"fillcolor":"#d55e00"') + page.count('"fillcolor": "#d55e00"') >= 1
