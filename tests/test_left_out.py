"""What the fit of a search leaves out of the spectrum is drawn and told in its report, and stays hidden while blinded."""

from __future__ import annotations

import json

import matplotlib.colors
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import special

import serendip.search.diagnostics as diagnostics_module
from serendip.cli.main import run
from serendip.events.events import Window
from serendip.events.read import read
from serendip.report import figures, plots, words
from serendip.report.load import read_run
from serendip.search.config import parse_config
from serendip.search.diagnostic_records import LeftOut, LeftOutSide
from serendip.search.measure import prepare_window
from serendip.statistics.ranges import outer_edges


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A power law above 1 TeV with a turn-on at 1.3 TeV."""
    rng = np.random.default_rng(7)
    m = 1000.0 * (1 - rng.random(60_000)) ** (-1 / 5.0)
    m = m[(rng.random(len(m)) < 0.5 * (1 + special.erf((m - 1300) / 60))) & (m < 6000)]
    path = tmp_path_factory.mktemp("turn-on") / "t.parquet"
    pq.write_table(pa.table({"m": m, "x": rng.normal(size=len(m))}), path)
    return path, m


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    base = [
        "search",
        str(table[0]),
        "--mass",
        "m",
        "--features",
        "x",
        "--method",
        "bump-hunt",
        "--toys",
        "100",
    ]
    assert run([*base, "--window", "1800:2000", "--mask", "2500:2700", "--unblind", "--out", str(out)]) == 0
    return out


def test_the_run_has_every_event_that_is_left_out(table, finished):
    _, m = table
    record = read_run(finished).diagnostics.spectra[0]
    (side,) = record.left_out.sides
    assert 1250 < record.edges[0] < 1700
    assert side.edges[0] == pytest.approx(m.min())
    assert side.edges[-1] == pytest.approx(record.edges[0])
    assert side.n_events == sum(side.observed) == np.count_nonzero(m < record.edges[0])
    assert side.n_events + sum(record.observed) == len(m)
    assert record.masks == ((2500.0, 2700.0),)


def test_the_report_marks_it_and_says_why(table, finished):
    _, m = table
    found = read_run(finished)
    record = found.diagnostics.spectra[0]
    text = words.left_out_sentence(record, "GeV")
    n = words.counted(int(np.count_nonzero(m < record.edges[0])), "event")
    assert (
        f"Left out, in grey: {n} below {record.edges[0]:.5g} GeV (no function describes the sidebands" in text
    )
    assert text.endswith("Masked: 2500–2700 GeV.")
    assert text.strip() in (finished / "report.html").read_text(encoding="utf-8")
    figure = figures.spectrum(record, "m")
    top, bottom = figure.axes
    grey = matplotlib.colors.to_rgba(figures.LEFT_OUT)
    drawn = [p for p in top.patches if hasattr(p, "get_data") and p.get_edgecolor() == grey]
    assert drawn[0].get_data().values.sum() == record.left_out.sides[0].n_events
    assert {"masked", "left out of the fit"} <= set(top.get_legend_handles_labels()[1])
    assert bottom.get_xlim()[0] == pytest.approx(m.min())
    # no pull where nothing was fitted
    pulls = bottom.patches[-1].get_data().values
    hidden = (np.array(record.edges[1:]) > 2500) & (np.array(record.edges[:-1]) < 2700)
    assert hidden.sum() > 1
    assert not pulls[hidden].any()
    assert np.count_nonzero(pulls[~hidden]) > 10
    page = plots.spectrum(record, "m", "GeV")
    assert [line["name"] for line in page["data"] if line.get("name") == "left out of the fit"]
    assert page["layout"]["xaxis"]["range"][0] == pytest.approx(m.min())


def test_a_fit_of_everything_says_nothing(finished):
    record = read_run(finished).diagnostics.spectra[0].model_copy(update={"left_out": None, "masks": ()})
    assert words.left_out_sentence(record, "GeV") == ""
    assert figures.spectrum(record, "m").axes[1].get_xlim()[0] == pytest.approx(record.edges[0])


def test_one_event_is_one_event(finished):
    record = read_run(finished).diagnostics.spectra[0]
    side = LeftOutSide(edges=(7000.0, 8000.0), observed=(1.0,), n_events=1)
    one = record.model_copy(update={"left_out": LeftOut(reason="as asked for", sides=(side,)), "masks": ()})
    assert words.left_out_sentence(one, "GeV").startswith(" Left out, in grey: 1 event above ")
    assert "(as asked for)" in words.left_out_sentence(one, "GeV")


def test_hidden_windows_stay_hidden_outside_the_range(table):
    path, m = table
    events = read(path, mass="m", features=["x"])
    settings = {
        "file": str(path),
        "mass": "m",
        "features": ["x"],
        "window": "1800:2000",
        "range": "1500:5000",
    }
    fit = prepare_window(events, Window(1800.0, 2000.0), parse_config(settings))
    hidden = Window(1300.0, 1400.0)
    below, above = diagnostics_module._left_out(events, fit, [hidden]).sides
    edges = np.asarray(below.edges)
    touched = (edges[:-1] < 1400) & (edges[1:] > 1300)
    assert [n is None for n in below.observed] == touched.tolist()
    # the total would give away what is hidden
    assert below.n_events is None
    assert above.n_events == np.count_nonzero(m >= 5000)
    shown = fit.left_out.to_dict()
    assert (shown["reason"], shown["below"]) == ("as asked for", np.count_nonzero(m < 1500))


def test_bins_outside_are_as_wide_as_their_neighbours():
    edges = np.geomspace(100.0, 200.0, 11)
    below, above = outer_edges(np.array([55.0, 150.0, 1e6]), edges)
    assert (below[0], below[-1], above[0]) == (55.0, 100.0, 200.0)
    assert below[1] / below[0] == pytest.approx(edges[1] / edges[0], rel=0.1)
    assert len(above) == 61
    assert above[-1] > 1e6
    assert outer_edges(np.array([100.0, 199.0]), edges) == []


def test_bump_draws_the_same_bins(table, tmp_path, capfd):
    figure = tmp_path / "f.png"
    arguments = [
        "bump",
        str(table[0]),
        "--mass",
        "m",
        "--window",
        "1800:2000",
        "--figure",
        str(figure),
        "--json",
    ]
    assert run(arguments) == 0
    assert json.loads(capfd.readouterr().out)["left_out"]["below"] > 1000
    assert figure.read_bytes()[:4] == b"\x89PNG"
