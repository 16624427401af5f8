"""p-values and significances against closed forms, scipy and pyhf."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import pyhf_q0
from scipy import integrate, stats

from serendip.statistics.pvalues import (
    asimov_signal,
    asimov_z,
    binomial_interval,
    bonferroni,
    count_log_p_value,
    count_p_value,
    poisson_p,
    stouffer,
    toy_p_value,
    wilson_interval,
    z_value,
)


@pytest.mark.parametrize(("n", "b"), [(1, 0.1), (10, 3.0), (61, 20.3), (2, 5.0), (1100, 1000.0)])
def test_known_background_gives_the_poisson_tail(n, b):
    assert poisson_p(n, b) == pytest.approx(stats.poisson.sf(n - 1, b), rel=1e-10)


def test_nothing_observed_has_p_one_and_arrays_broadcast():
    p = count_p_value(np.array([[0], [3]]), np.array([0.0, 2.0, 50.0]), 0.5)
    assert p.shape == (2, 3)
    assert np.all(p[0] == 1.0)
    assert np.all(p[1, :2] < 1.0)
    assert poisson_p(1, 0.0) == 0.0


@pytest.mark.parametrize(("n", "m", "tau"), [(10, 4, 1.0), (30, 100, 5.0), (3, 0, 2.0), (140, 178, 1.9)])
def test_measured_background_is_the_exact_on_off_binomial(n, m, tau):
    # given n + m events, those in the window are Binomial(n + m, 1 / (1 + tau))
    exact = stats.binom.sf(n - 1, n + m, 1 / (1 + tau))
    b = m / tau
    sigma = np.sqrt(m) / tau if m else 1 / tau
    assert count_p_value(n, b, sigma) == pytest.approx(exact, rel=1e-9)


def test_measured_background_is_the_average_over_its_gamma_distribution():
    n, b, sigma = 25, 12.0, 3.0
    m, tau = (b / sigma) ** 2, b / sigma**2
    average = integrate.quad(
        lambda mean: stats.poisson.sf(n - 1, mean) * stats.gamma.pdf(mean, m + 1, scale=1 / tau), 0, 60
    )[0]
    assert count_p_value(n, b, sigma) == pytest.approx(average, rel=1e-6)


@given(n=st.integers(1, 200), b=st.floats(0.5, 100.0))
@settings(max_examples=60, deadline=None)
def test_small_errors_are_continuous_with_the_poisson_tail(n, b):
    assert count_log_p_value(n, b, 1.01e-6 * b) == pytest.approx(
        float(count_log_p_value(n, b, 0.0)), rel=1e-3, abs=1e-9
    )
    assert count_log_p_value(n, b, 1e-4 * b) == pytest.approx(
        float(count_log_p_value(n, b, 0.0)), rel=1e-3, abs=1e-5
    )


@given(n=st.floats(1.0, 300.0), b=st.floats(0.1, 100.0), sigma=st.floats(0.0, 20.0))
@settings(max_examples=100, deadline=None)
def test_p_falls_with_the_count_and_rises_with_the_background(n, b, sigma):
    p = count_log_p_value(n, b, sigma)
    assert p <= 1e-12
    assert count_log_p_value(n + 1, b, sigma) <= p
    assert count_log_p_value(n, 1.1 * b, 1.1 * sigma) >= p - 1e-9


def test_more_uncertainty_means_less_significance():
    z = z_value(log_p=count_log_p_value(60, 20.0, np.array([0.0, 1.0, 2.0, 5.0, 10.0])))
    assert np.all(np.diff(z) < 0)


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_far_tails_join_the_computable_range(sigma):
    # ln p is smooth over the place where the incomplete gamma and beta functions underflow
    n = np.arange(5.0, 2000.0, 5.0)
    log_p = count_log_p_value(n, 20.0, sigma)
    assert np.all(np.isfinite(log_p))
    assert log_p.min() < -1500
    # a wrong constant at the seam (about n = 370) would kink the slowly falling third difference
    third = np.diff(log_p[log_p < -100], 3)
    assert np.all(third > 0)
    assert np.all(np.diff(third) < 1e-9)
    z = z_value(log_p=log_p)
    assert np.all(np.isfinite(z))
    assert z.max() > 50


def test_far_poisson_tail_against_its_leading_terms():
    n, b = 400, 10.0
    terms = stats.poisson.logpmf(np.arange(n, n + 60), b)
    assert count_log_p_value(n, b) == pytest.approx(np.logaddexp.reduce(terms), rel=1e-12)


@pytest.mark.parametrize("z", [-5.0, -1.0, 0.0, 1.0, 2.5, 8.0, 15.0, 37.0])
def test_z_value_inverts_the_normal_tail(z):
    assert z_value(log_p=stats.norm.logsf(z)) == pytest.approx(z, abs=1e-6)
    assert z_value(stats.norm.sf(z)) == pytest.approx(z, abs=1e-6)


def test_z_value_at_the_ends():
    assert z_value(1.0) == pytest.approx(-8.2, abs=0.1)
    assert z_value(0.5) == pytest.approx(0.0, abs=1e-12)
    assert z_value(log_p=-1e5) == pytest.approx(np.sqrt(2e5), rel=1e-3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        z_value(1.1)
    with pytest.raises(ValueError, match="either"):
        z_value(0.1, log_p=-1.0)


@pytest.mark.parametrize(("n", "b", "sigma"), [(-1, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_negative_arguments_are_refused(n, b, sigma):
    with pytest.raises(ValueError, match="negative"):
        count_p_value(n, b, sigma)


def test_asimov_significance_against_pyhf():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyhf

    for s, b, sigma in [(10.0, 100.0, 1.0), (10.0, 50.0, 5.0), (15.0, 20.0, 4.0)]:
        workspace = {
            "channels": [
                {
                    "name": "window",
                    "samples": [
                        {
                            "name": "signal",
                            "data": [s],
                            "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
                        },
                        {
                            "name": "background",
                            "data": [b],
                            "modifiers": [{"name": "u", "type": "shapesys", "data": [sigma]}],
                        },
                    ],
                }
            ]
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = pyhf.Model(workspace, poi_name="mu")
            data = np.concatenate([[s + b], model.config.auxdata])
            q0 = pyhf_q0(data, model)
        assert asimov_z(s, b, sigma) == pytest.approx(np.sqrt(q0), rel=1e-3)


def test_asimov_limits():
    assert asimov_z(10.0, 100.0) == pytest.approx(np.sqrt(2 * (110 * np.log(1.1) - 10)))
    assert asimov_z(10.0, 100.0, 1e-3) == pytest.approx(float(asimov_z(10.0, 100.0)), rel=1e-5)
    assert asimov_z(0.0, 100.0, 3.0) == 0.0
    assert asimov_z(1.0, 1e6, 0.0) == pytest.approx(1e-3, rel=1e-3)
    with pytest.raises(ValueError, match="b > 0"):
        asimov_z(1.0, 0.0)


def test_asimov_signal_is_the_inverse_of_the_significance():
    b = np.geomspace(1e-3, 1e7, 50)
    for z in (1.0, 5.0):
        np.testing.assert_allclose(asimov_z(asimov_signal(z, b), b), z, rtol=1e-5)
    # much background: z sqrt(b), and a third of z squared more
    assert asimov_signal(5.0, 1e6) == pytest.approx(5e3 + 25 / 6, rel=1e-5)
    assert asimov_signal(0.0, 10.0) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="b > 0"):
        asimov_signal(5.0, 0.0)


def test_counting_significance_follows_the_asimov_formula():
    # the exact tail contains the observed count itself, hence half a count of difference
    n, b, sigma = 640.0, 500.0, 20.0
    assert z_value(count_p_value(n, b, sigma)) == pytest.approx(
        float(asimov_z(n - 0.5 - b, b, sigma)), abs=0.02
    )


def test_rejection_rate_with_a_measured_background_never_exceeds_the_nominal_one():
    rng = np.random.default_rng(7)
    for b, tau in [(3.0, 2.0), (30.0, 1.0), (200.0, 3.0)]:
        off, on = rng.poisson(b * tau, 40_000), rng.poisson(b, 40_000)
        sigma = np.where(off > 0, np.sqrt(off), 1.0) / tau
        p = count_p_value(on, off / tau, sigma)
        for alpha in (0.05, 0.01):
            assert np.mean(p < alpha) < alpha + 3 * np.sqrt(alpha / 40_000)
    # and it is not needlessly conservative where counts are large
    assert np.mean(p < 0.05) > 0.043


def test_bonferroni():
    assert bonferroni([0.2, 0.01, 0.5]) == pytest.approx(0.03)
    assert bonferroni([0.9, 0.8]) == 1.0
    assert bonferroni(np.full((4, 2), 0.1), axis=0) == pytest.approx([0.4, 0.4])


def test_stouffer_weights_and_correlation():
    z = np.array([1.0, 2.0, 3.0])
    assert stouffer(z, np.ones(3)) == pytest.approx(6 / np.sqrt(3))
    assert stouffer(z, [0, 0, 5.0]) == pytest.approx(3.0)
    assert stouffer(z, [1, 2, 3]) == pytest.approx(14 / np.sqrt(14))
    assert stouffer([2.0, 2.0], [1, 1], np.ones((2, 2))) == pytest.approx(2.0)
    rng = np.random.default_rng(0)
    c = np.full((3, 3), 0.5) + 0.5 * np.eye(3)
    toys = rng.multivariate_normal(np.zeros(3), c, 20_000)
    assert np.std(stouffer(toys, [1.0, 2.0, 4.0], c)) == pytest.approx(1.0, abs=0.02)
    assert np.std(stouffer(toys, [1.0, 2.0, 4.0])) > 1.15
    with pytest.raises(ValueError, match="weights"):
        stouffer(z, [0, 0, 0])


def test_binomial_intervals():
    low, high = binomial_interval(0, 100)
    assert low == 0.0
    assert high == pytest.approx(1 - (0.15865) ** (1 / 100), rel=1e-3)
    assert binomial_interval(100, 100)[1] == 1.0
    exact = stats.binomtest(7, 50).proportion_ci(0.6827, "exact")
    assert binomial_interval(7, 50) == pytest.approx((exact.low, exact.high))
    wilson = stats.binomtest(7, 50).proportion_ci(0.6827, "wilson")
    assert wilson_interval(7, 50) == pytest.approx((wilson.low, wilson.high))
    assert wilson_interval(0, 50)[0] == pytest.approx(0.0, abs=1e-12)


def test_toy_p_value_is_never_zero():
    p, (low, high) = toy_p_value(0, 999)
    assert p == 0.001
    assert low == 0.0
    assert high > 0.001
    assert toy_p_value(10, 10)[0] == 1.0
    with pytest.raises(ValueError, match="toys"):
        toy_p_value(3, 2)


@pytest.mark.parametrize("n", [1, 19, 100])
def test_toy_p_value_is_valid(n):
    # uniform ranks: P(p <= alpha) = floor(alpha (n + 1)) / (n + 1) <= alpha
    p = np.array([toy_p_value(k, n)[0] for k in range(n + 1)])
    for alpha in (0.01, 0.05, 0.5):
        assert np.mean(p <= alpha) <= alpha + 1e-12
