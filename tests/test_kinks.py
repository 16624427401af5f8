"""A kink in the window is no excess, a smooth spectrum pays nothing for that, and a peak with wide flanks is no kink."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from serendip.events.events import Window
from serendip.statistics.binning import make_edges, window_bins
from serendip.statistics.bump import bump_hunt
from serendip.statistics.fit import fit_spectrum
from serendip.statistics.kinks import with_kinks

WINDOW = Window(2500.0, 2750.0)
EDGES = make_edges((1500.0, 9000.0), WINDOW)
LOW, HIGH = window_bins(EDGES, WINDOW)


def kink(m):
    return np.where(m < 2600.0, (m / 2600.0) ** -5.0, (m / 2600.0) ** -7.0)


def dijet(m):
    x = m / 13000.0
    return (1 - x) ** 10 * x ** -(5 + 0.5 * np.log(x))


def expected_counts(density, n):
    grid = np.linspace(EDGES[:-1], EDGES[1:], 401)
    counts = np.trapezoid(density(grid), grid, axis=0)
    return n * counts / counts.sum()


def smooth_fit(counts, background="auto"):
    mask = np.zeros(len(counts), dtype=bool)
    mask[LOW:HIGH] = True
    return fit_spectrum(counts, EDGES, background, mask=mask, choice="average")


@pytest.mark.parametrize("background", ["auto", "exppoly", "dijet"])
def test_the_expectation_follows_a_kink_in_the_window(background):
    counts = expected_counts(kink, 300_000)
    true = counts[LOW:HIGH].sum()
    fit = smooth_fit(counts, background)
    b, sigma = fit.window(LOW, HIGH)
    assert true - b > 3.0 * sigma
    found = with_kinks(fit, LOW, HIGH)
    b, sigma = found.window(LOW, HIGH)
    assert found.kink_weight > 0.95
    assert abs(true - b) < sigma < 0.02 * true
    assert found.expected[LOW:HIGH].sum() == pytest.approx(b)
    np.testing.assert_allclose(
        found.expected_error**2,
        np.einsum("ip,pq,iq->i", found.jacobian, found.coefficient_covariance, found.jacobian),
    )


@pytest.mark.parametrize("density", [dijet, lambda m: m**-6.0])
def test_a_smooth_spectrum_stays_as_it_is(density):
    fit = smooth_fit(expected_counts(density, 30_000))
    assert with_kinks(fit, LOW, HIGH) is fit


def test_a_spectrum_that_a_parabola_describes_needs_no_kink():
    window = Window(9.3, 9.6)
    edges = make_edges((9.0, 9.7), window)
    low, high = window_bins(edges, window)
    mask = np.zeros(len(edges) - 1, dtype=bool)
    mask[low:high] = True
    rng = np.random.default_rng(5)
    for counts in rng.poisson(20_000 * np.diff(edges) / 0.7, (40, len(mask))):
        fit = fit_spectrum(counts, edges, "auto", mask=mask, choice="average")
        assert with_kinks(fit, low, high) is fit


@pytest.mark.parametrize(("sigma", "share"), [(150.0, 0.04), (200.0, 0.08), (120.0, 0.1)])
def test_the_flanks_of_a_peak_are_no_kink(sigma, share):
    counts = expected_counts(dijet, 100_000)
    counts += 100_000 * share * np.diff(stats.norm.cdf(EDGES, 2625.0, sigma))
    fit = smooth_fit(counts)
    assert fit.n_parameters >= 5
    assert with_kinks(fit, LOW, HIGH) is fit


def test_a_kink_in_the_window_is_not_claimed():
    grid = np.geomspace(1500.0, 9000.0, 4001)
    cumulative = np.concatenate([[0.0], np.cumsum(np.diff(grid) * kink(np.sqrt(grid[1:] * grid[:-1])))])
    claims, told = 0, 0
    for seed in range(3, 7):
        rng = np.random.default_rng([seed, 6])
        m = np.interp(rng.random(300_000) * cumulative[-1], cumulative, grid)
        found = bump_hunt(m, WINDOW)
        claims += found.p_local < 0.05
        told += any("a kink in the window" in text for text in found.warnings)
    # smooth functions claim all four
    assert claims <= 1
    assert told >= 3
