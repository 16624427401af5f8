from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import integrate, special, stats

from serendip.errors import InputError
from serendip.statistics.signals import double_crystal_ball, gaussian, parse_shape, template_shape, voigt

EDGES = np.geomspace(2500.0, 5000.0, 31)
TAILS = {"alpha_low": 1.3, "n_low": 3.0, "alpha_high": 1.8, "n_high": 6.0}


def crystal_ball_density(m, mass, width):
    """Unnormalised density, written as in the docstring."""
    t = (m - mass) / width
    a, n = (1.3, 3.0) if t < 0 else (1.8, 6.0)
    if abs(t) <= a:
        return np.exp(-0.5 * t**2)
    return np.exp(-0.5 * a**2) * (a / n * (n / a - a + abs(t))) ** -n


def test_gaussian_fractions_are_bin_integrals():
    shape = gaussian(3500.0, 120.0)
    expected = [
        integrate.quad(stats.norm(3500, 120).pdf, a, b, epsabs=1e-13)[0] for a, b in itertools.pairwise(EDGES)
    ]
    np.testing.assert_allclose(shape.fractions(EDGES), expected, atol=1e-12)


def test_crystal_ball_fractions_are_bin_integrals_of_its_density():
    shape = double_crystal_ball(3500.0, 120.0, **TAILS)
    cuts = [3500.0 - 1.3 * 120, 3500.0, 3500.0 + 1.8 * 120]
    total = sum(
        integrate.quad(crystal_ball_density, a, b, args=(3500.0, 120.0), epsabs=1e-12, limit=200)[0]
        for a, b in zip([-1e7, 0.0, *cuts, 1e5], [0.0, *cuts, 1e5, 1e7], strict=True)
    )
    got = shape.fractions(EDGES)
    for i, (a, b) in enumerate(itertools.pairwise(EDGES)):
        inside = [a, *[c for c in cuts if a < c < b], b]
        area = sum(
            integrate.quad(crystal_ball_density, u, v, args=(3500.0, 120.0), epsabs=1e-12)[0]
            for u, v in itertools.pairwise(inside)
        )
        # the low tail, n = 3, holds about 1e-7 of the total beyond the outer integration limit
        assert got[i] == pytest.approx(area / total, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("sigma", "natural"), [(1.5, 2.495), (2.5, 2.495), (3.0, 1.6)])
def test_voigt_fractions_are_bin_integrals_of_its_density(sigma, natural):
    edges = np.linspace(80.0, 102.0, 12)
    expected = [
        integrate.quad(lambda m: special.voigt_profile(m - 91.0, sigma, natural / 2), a, b, epsabs=1e-12)[0]
        for a, b in itertools.pairwise(edges)
    ]
    np.testing.assert_allclose(voigt(91.0, sigma, natural).fractions(edges), expected, atol=1e-6)
    # the floating width is the resolution
    wider = voigt(91.0, 1.2 * sigma, natural).fractions(edges)
    np.testing.assert_allclose(voigt(91.0, sigma, natural).fractions(edges, stretch=0.2), wider, atol=1e-6)


def test_crystal_ball_with_far_tails_is_a_gaussian():
    far = double_crystal_ball(3500.0, 120.0, alpha_low=8, n_low=5, alpha_high=8, n_high=5)
    np.testing.assert_allclose(far.fractions(EDGES), gaussian(3500.0, 120.0).fractions(EDGES), atol=1e-12)


@pytest.mark.parametrize("shape", [gaussian(3500.0, 120.0), double_crystal_ball(3500.0, 120.0, **TAILS)])
def test_scale_and_resolution_move_and_stretch(shape):
    m = np.array([3300.0, 3500.0, 3650.0])
    np.testing.assert_allclose(shape.cdf(m, 0.02, 0.0), shape.cdf(m - 70.0, 0.0, 0.0), atol=1e-12)
    stretched = 3500 + (m - 3500) / 1.25
    np.testing.assert_allclose(shape.cdf(m, 0.0, 0.25), shape.cdf(stretched, 0.0, 0.0), atol=1e-12)


def test_window_holds_the_share_that_was_asked_for():
    low, high = gaussian(3500.0, 120.0).window(0.8)
    assert low == pytest.approx(stats.norm.ppf(0.1, 3500, 120), abs=0.1)
    assert high == pytest.approx(stats.norm.ppf(0.9, 3500, 120), abs=0.1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        gaussian(3500.0, 120.0).window(1.0)


def test_template_fractions_are_the_histogram_of_its_events():
    rng = np.random.default_rng(1)
    m, w = rng.normal(3500, 120, 5000), rng.uniform(0.5, 1.5, 5000)
    shape = template_shape(m, w)
    np.testing.assert_allclose(
        shape.fractions(EDGES), np.histogram(m, EDGES, weights=w)[0] / w.sum(), atol=1e-12
    )
    assert shape.mass == pytest.approx(3500, abs=8)
    assert shape.width == pytest.approx(120, rel=0.05)
    assert shape.relative_error == pytest.approx(np.sqrt((w**2).sum()) / w.sum())


def test_template_moves_and_stretches_like_the_function_it_was_drawn_from():
    m = np.random.default_rng(2).normal(3500, 120, 200_000)
    drawn, exact = template_shape(m), gaussian(3500.0, 120.0)
    for change in ({"shift": 0.02}, {"stretch": 0.3}):
        np.testing.assert_allclose(
            drawn.fractions(EDGES, **change), exact.fractions(EDGES, **change), atol=0.004
        )


def test_events_without_weight_are_no_part_of_a_template():
    m = np.linspace(3000, 4000, 40)
    w = np.where(m < 3500, 1.0, 0.0)
    assert template_shape(m, w).fractions([3500.0, 5000.0])[0] == 0.0


def test_names_can_be_read_back():
    for shape in (
        gaussian(3500.0, 105.0),
        voigt(3500.0, 105.0, 140.0),
        double_crystal_ball(3500.0, 105.0, **TAILS),
    ):
        again = parse_shape(shape.name)
        np.testing.assert_allclose(again.fractions(EDGES), shape.fractions(EDGES), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gaussian(-1.0, 100.0), "positive mass and width"),
        (lambda: gaussian(3500.0, 0.0), "positive mass and width"),
        (
            lambda: double_crystal_ball(3500, 100, alpha_low=1, n_low=1, alpha_high=1, n_high=2),
            "low tail.*n > 1",
        ),
        (lambda: double_crystal_ball(3500, 100, alpha_low=1, n_low=2, alpha_high=0, n_high=2), "high tail"),
        (lambda: template_shape([1.0, 2.0]), "at least 10 events, not 2"),
        (lambda: template_shape(np.ones(20), -np.ones(20)), "is -20; a positive sum"),
        (lambda: voigt(3500.0, 100.0, 10.0), "take a Gaussian"),
        (lambda: parse_shape("gauss:3500"), "gauss:MASS:REL_WIDTH"),
        (lambda: parse_shape("breit:1:2"), "is not a signal shape"),
        (lambda: parse_shape("gauss:a:b"), "is not a signal shape"),
    ],
)
def test_bad_shapes_are_explained(make, message):
    with pytest.raises(InputError, match=message):
        make()


def nlo_sample(n: int, seed: int, negative: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Masses of a normal peak, a share of them with weight -1."""
    rng = np.random.default_rng(seed)
    return rng.normal(3500, 120, n), np.where(rng.random(n) < negative, -1.0, 1.0)


def test_weights_of_both_signs_are_summed_and_their_squares_are_the_error():
    m, w = nlo_sample(20_000, 3)
    shape = template_shape(m, w)
    edges = np.linspace(3200.0, 3800.0, 13)
    np.testing.assert_allclose(
        shape.fractions(edges), np.histogram(m, edges, weights=w)[0] / w.sum(), atol=1e-12
    )
    # 20 % of weight -1 leave (1 - 0.4)^2 of the events
    assert shape.sample.effective == pytest.approx(0.36 * 20_000, rel=0.03)
    assert shape.relative_error == pytest.approx(shape.sample.effective**-0.5)
    assert shape.mass == pytest.approx(3500, abs=6)
    assert shape.width == pytest.approx(120, rel=0.05)


def test_negative_bins_are_shared_with_their_neighbours_and_the_sum_stays():
    m = np.repeat([1.5, 2.5, 3.5, 4.5, 5.5], [30, 10, 4, 10, 30])
    w = np.concatenate([np.ones(30), np.ones(10), [1.0, -1.0, -1.0, -1.0], np.ones(10), np.ones(30)])
    shape = template_shape(m, w)
    edges = np.arange(1.0, 7.0)
    assert shape.negative_bins(edges) == 1
    total = w.sum()
    # -2 of the middle bin and 10 on either side are 6 in each
    np.testing.assert_allclose(shape.fractions(edges) * total, [30, 6, 6, 6, 30])
    assert template_shape(m, np.abs(w)).negative_bins(edges) == 0
    # at the end of the range there is a neighbour on one side only
    np.testing.assert_allclose(shape.fractions(edges[:4]) * total, [30, 4, 4])


def test_bins_far_below_zero_are_no_fluctuation():
    m = np.repeat([1.5, 2.5, 3.5], [400, 100, 400])
    w = np.where(m == 2.5, -1.0, 1.0)
    with pytest.raises(
        InputError, match=r"peak.root: between 2 and 3 GeV the sum of the weights is -0.143 \+- 0.014"
    ):
        template_shape(m, w, name="peak.root").negative_bins([1.0, 2.0, 3.0, 4.0])


def test_a_template_of_cancelling_weights_is_refused():
    m = np.linspace(3400, 3600, 100)
    w = np.where(np.arange(100) < 46, -1.0, 1.0)
    with pytest.raises(InputError, match=r"at least 10 events, not 100 \(0.64 effective events\)"):
        template_shape(m, w)
    with pytest.raises(InputError, match="check their sign"):
        template_shape(m, -w)
