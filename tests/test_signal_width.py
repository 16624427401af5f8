"""Windows that are made for the width of a signal, and what they hold of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from run_factory import write_run
from scipy import stats

from serendip.cli.parsing import gather_settings
from serendip.errors import InputError
from serendip.report.held import fraction_held, held_sentence
from serendip.report.html import write_report
from serendip.report.load import read_run
from serendip.search.config import parse_config


def config(**changes):
    return parse_config({"file": "x", "mass": "m", "features": "a", "scan": "2000:8000", **changes})


@pytest.mark.parametrize("width", [0.03, 0.08, 0.15])
def test_a_window_reaches_1_4_sigma_on_both_sides_of_a_peak(width):
    windows = config(signal_width=width).windows
    for window in windows:
        peak = window.low / (1 - 1.4 * width)
        assert window.high == pytest.approx(peak * (1 + 1.4 * width), rel=1e-6)
        held = np.diff(stats.norm.cdf([window.low, window.high], peak, width * peak))[0]
        assert held == pytest.approx(0.8385, abs=1e-3)
    # half overlapping: the middle between two peaks is never far from either
    lows = np.array([window.low for window in windows])
    size = windows[0].high / windows[0].low
    assert lows[1:] / lows[:-1] == pytest.approx(np.sqrt(size), rel=1e-6)
    assert windows[-1].high <= 8000
    assert config(signal_width=width, step=1).windows == windows[::2]


def test_several_widths_are_several_scans():
    both = config(signal_width="0.08, 0.03")
    assert both.signal_width == (0.03, 0.08)
    assert both.windows == config(signal_width=0.03).windows + config(signal_width=0.08).windows
    # without a cut there is one look in each window, with cuts one at each working point
    assert both.n_looks == len(both.windows)
    assert config(signal_width="0.08, 0.03", combination="sequential").n_looks == 2 * len(both.windows)


def test_what_was_written_is_what_was_chosen():
    one = config(signal_width=0.05)
    assert parse_config(json.loads(json.dumps(one.resolved()))).windows == one.windows
    assert yaml.safe_load(yaml.safe_dump(one.resolved()))["step"] == 0.5
    # a scan with the width of its windows is what it was
    assert config(width=0.1).step == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"signal_width": 0.05, "width": 0.1}, "not both"),
        ({"signal_width": 0.05, "scan": None, "window": "3000:3300"}, "requires a scan"),
        ({}, "needs a width.*signal_width"),
        ({"signal_width": 0.5}, "up to 0.3"),
        ({"signal_width": "wide"}, "signal_width"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, words):
    with pytest.raises(InputError, match=words):
        config(**changes)


def test_a_flag_takes_the_place_of_the_other_one_in_a_file(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("{file: x, mass: m, features: [a], scan: [2000, 8000], width: 0.1}")
    found = gather_settings([file], {"signal_width": "0.05", "width": None})
    assert parse_config(found).windows == config(signal_width=0.05).windows
    file.write_text("{file: x, mass: m, features: [a], scan: [2000, 8000], signal_width: 0.05}")
    found = gather_settings([file], {"signal_width": None, "width": 0.1})
    assert parse_config(found).windows == config(width=0.1).windows


def test_the_report_says_how_much_of_a_signal_the_windows_hold(tmp_path):
    assert fraction_held((3300.0, 3700.0), 3500.0, 200 / 3500) == pytest.approx(0.6827, abs=1e-4)
    run = write_run(tmp_path / "one", kind="blinded", n_windows=1, methods=("cwola",))
    text = held_sentence(read_run(run))
    held = np.diff(stats.norm.cdf([3300, 3700], 3500, 0.08 * 3500))[0]
    assert f"{100 * held:.0f} % for σ/m = 8 %" in text
    assert "between two" not in text

    scan = write_run(tmp_path / "scan", n_windows=5, methods=("cwola",))
    with (scan / "config.yaml").open("a") as file:
        file.write("signal_width: [0.02]\n")
    text = held_sentence(read_run(scan))
    windows = [(low, high) for low, high in read_run(scan).results.windows]
    edge = np.sqrt(windows[0][0] + windows[0][1]) * np.sqrt(windows[1][0] + windows[1][1]) / 2
    least = max(np.diff(stats.norm.cdf(window, edge, 0.02 * edge))[0] for window in windows)
    assert text.count("σ/m") == 1
    assert f"to {100 * least:.0f} % for σ/m = 2 %" in text
    write_report(scan)
    assert text in (scan / "report.html").read_text(encoding="utf-8")
