"""Sliding-window fits: windows, pulls, a spectrum that no global function describes, an excess."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serendip.errors import InputError
from serendip.statistics.fit import FitError, fit_spectrum
from serendip.statistics.functions import get_family, make_design
from serendip.statistics.sliding import sliding_window_fits, sliding_windows

EDGES = np.geomspace(2000.0, 6000.0, 45)


def truth(total: float) -> np.ndarray:
    design = make_design(EDGES, get_family("dijet:3"))
    expected = design.expected(np.linalg.solve(design.to_params, [0.0, 10.0, 5.0])[None])[0][:, 0]
    return expected * total / expected.sum()


@given(
    n_bins=st.integers(5, 60),
    half=st.integers(2, 12),
    core=st.integers(0, 3),
    wanted=st.floats(0.0, 500.0),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_windows_hold_their_bin_keep_their_size_and_have_their_events(n_bins, half, core, wanted, seed):
    counts = np.random.default_rng(seed).poisson(30.0, n_bins).astype(float)
    if core >= half or 2 * half + 1 > n_bins:
        with pytest.raises(InputError, match="sliding window"):
            sliding_windows(counts, half, core_bins=core, min_events_per_side=wanted)
        return
    windows = sliding_windows(counts, half, core_bins=core, min_events_per_side=wanted)
    for i, (low, high) in enumerate(windows):
        assert 0 <= low <= i < high <= n_bins
        assert high - low >= 2 * half + 1
        left, right = counts[low : max(i - core, 0)], counts[i + core + 1 : high]
        assert low == 0 or left.sum() >= wanted
        assert high == n_bins or right.sum() >= wanted
        # no longer than needed: without the outermost bin the side would miss its events or the window its size
        if high - low > 2 * half + 1:
            grown_left = low < i - half and left[1:].sum() < wanted
            grown_right = high > i + half + 1 and right[:-1].sum() < wanted
            assert grown_left or grown_right


def test_windows_are_centred_inside_and_shifted_at_the_ends():
    windows = sliding_windows(np.ones(20), 3, min_events_per_side=0.0)
    assert windows[10].tolist() == [7, 14]
    assert windows[0].tolist() == [0, 7]
    assert windows[2].tolist() == [0, 7]
    assert windows[19].tolist() == [13, 20]


def test_each_bin_is_the_fit_of_its_window():
    counts = np.random.default_rng(1).poisson(truth(2e4)).astype(float)
    fits = sliding_window_fits(counts, EDGES, "dijet:3", 8, core_bins=1)
    for i in (0, 12, 30):
        low, high = fits.windows[i]
        mask = np.abs(np.arange(low, high) - i) <= 1
        one = fit_spectrum(counts[low:high], EDGES[low : high + 1], "dijet:3", mask=mask)
        assert fits.expected[i] == pytest.approx(one.expected[i - low], rel=1e-4)
        assert fits.expected_error[i] == pytest.approx(one.expected_error[i - low], rel=0.02)


@pytest.mark.parametrize(("family", "core"), [("dijet:3", 1), ("exppoly:2", 2), ("dijet:3", None)])
def test_pulls_have_mean_zero_and_width_one_where_interpolated(family, core):
    n = 200
    expected = truth(2e4)
    toys = np.random.default_rng(2).poisson(expected, (n, 44)).astype(float)
    fits = sliding_window_fits(toys, EDGES, family, 8, core_bins=core)
    # the error is that of the logarithm
    pulls = np.log(fits.expected / expected) * fits.expected / fits.expected_error
    inside = fits.interpolated
    assert inside.sum() > 25
    assert np.all(np.abs(pulls.mean(axis=0)[inside]) < 4 / np.sqrt(n))
    assert np.all(np.abs(pulls.std(axis=0)[inside] - 1) < 0.2)


def test_extrapolated_bins_are_marked():
    counts = truth(2e4)
    fits = sliding_window_fits(counts, EDGES, "dijet:3", 8, core_bins=1, min_events_per_side=20.0)
    right = np.array([counts[i + 2 :].sum() for i in range(44)])
    left = np.array([counts[: max(i - 1, 0)].sum() for i in range(44)])
    assert np.array_equal(fits.interpolated, (right >= 20) & (left >= 20))
    assert not fits.interpolated[0]
    assert not fits.interpolated[-1]


def test_a_spectrum_with_two_slopes_is_described_in_windows_only():
    centre = 0.5 * (EDGES[1:] + EDGES[:-1])
    shape = np.where(centre < 3500.0, (centre / 3500.0) ** -4.0, (centre / 3500.0) ** -9.0) * np.diff(EDGES)
    # smooth over two bins
    shape = np.convolve(np.pad(shape, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    expected = shape * 3e6 / shape.sum()
    counts = np.random.default_rng(3).poisson(expected).astype(float)
    overall = fit_spectrum(counts, EDGES, "dijet:3")
    fits = sliding_window_fits(counts, EDGES, "dijet:3", 4)
    away = np.abs(np.arange(44) - np.searchsorted(EDGES, 3500.0)) > 9
    away &= fits.interpolated & (np.arange(44) > 4)
    assert overall.gof_p < 1e-12
    pulls = (counts - fits.expected) / np.sqrt(counts)
    assert np.all(np.abs(pulls[away]) < 3.5)
    assert np.abs((counts - overall.expected) / np.sqrt(counts))[away].max() > 8


def test_a_masked_core_is_not_drawn_up_by_an_excess():
    counts = truth(1e5)
    signal = np.zeros(44)
    signal[19:22] = np.array([0.25, 0.5, 0.25]) * 20 * np.sqrt(counts[20])
    masked = sliding_window_fits(counts + signal, EDGES, "dijet:3", 8, core_bins=1)
    open_ = sliding_window_fits(counts + signal, EDGES, "dijet:3", 8)
    plain = sliding_window_fits(counts, EDGES, "dijet:3", 8)
    assert masked.expected[20] == pytest.approx(counts[20], abs=0.1 * masked.expected_error[20])
    assert open_.expected[20] - plain.expected[20] > 0.1 * signal[20]
    assert masked.expected_error[20] > open_.expected_error[20]


def test_many_spectra_are_fitted_as_one_by_one():
    toys = np.random.default_rng(4).poisson(truth(5e3), (3, 44)).astype(float)
    first = sliding_window_fits(toys[0], EDGES, "dijet", 10, core_bins=1)
    together = sliding_window_fits(toys, EDGES, "dijet", 10, core_bins=1, windows=first.windows)
    for i in range(3):
        one = sliding_window_fits(toys[i], EDGES, "dijet", 10, core_bins=1, windows=first.windows)
        assert np.abs(together.expected[i] - one.expected).max() < 1e-3 * one.expected_error.min()
        assert np.array_equal(together.n_parameters[i], one.n_parameters)


def test_common_weight_and_options_reach_the_fits():
    counts = np.random.default_rng(5).poisson(truth(5e3)).astype(float)
    plain = sliding_window_fits(counts, EDGES, "dijet:3", 8)
    weighted = sliding_window_fits(4.0 * counts, EDGES, "dijet:3", 8, scale=4.0)
    assert np.array_equal(weighted.windows, plain.windows)
    assert weighted.expected == pytest.approx(4.0 * plain.expected, rel=1e-3)
    assert weighted.expected_error == pytest.approx(4.0 * plain.expected_error, rel=1e-2)
    orders = {
        a: sliding_window_fits(counts, EDGES, "dijet", 12, alpha=a).n_parameters.mean() for a in (1e-6, 0.9)
    }
    assert orders[1e-6] == 4.0
    assert orders[0.9] > 4.5
    assert json.loads(json.dumps(plain.to_dict()))["windows"][20] == plain.windows[20].tolist()


def test_wrong_requests_are_explained():
    counts = np.ones(44)
    with pytest.raises(InputError, match="does not fit into a spectrum of 44"):
        sliding_window_fits(counts, EDGES, "dijet:3", 30)
    with pytest.raises(InputError, match="core smaller"):
        sliding_window_fits(counts, EDGES, "dijet:3", 3, core_bins=3)
    with pytest.raises(InputError, match="core smaller"):
        sliding_window_fits(counts, EDGES, "dijet:3", 3, core_bins=-1)
    with pytest.raises(InputError, match="sliding windows for a spectrum"):
        sliding_window_fits(counts, EDGES, "dijet:3", 3, windows=np.array([[0, 7]]))
    with pytest.raises(ValueError, match="44 counts"):
        sliding_window_fits(counts, EDGES[:-1], "dijet:3", 3)


def test_a_failed_window_names_its_masses(monkeypatch):
    import serendip.statistics.sliding as sliding_module

    def fail(*_, **__):
        raise FitError("no minimum")

    monkeypatch.setattr(sliding_module, "fit_many", fail)
    with pytest.raises(FitError, match=r"from 2000 to \d+\.?\d* GeV: no minimum"):
        sliding_window_fits(np.ones(44), EDGES, "dijet:3", 3)
