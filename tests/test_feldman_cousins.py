from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from serendip.errors import InputError
from serendip.statistics.feldman_cousins import bounded_ratio, critical_values, feldman_cousins
from serendip.statistics.inference import simplest
from serendip.statistics.model import BinnedModel, counting_data, counting_model
from serendip.statistics.signal_fit import fit_signal
from serendip.statistics.signals import gaussian

EDGES = np.linspace(110.0, 160.0, 41)
SHAPE = gaussian(140.0, 2.0)


def falling(n: float) -> np.ndarray:
    """Expected counts of an exponential, n events in total."""
    part = -np.diff(np.exp(-(EDGES - 110) / 15))
    return n * part / part.sum()


def exact_interval(n: int, b: float, level: float) -> tuple[float, float]:
    """Feldman and Cousins for a Poisson count over a known background, by enumeration."""
    counts = np.arange(0, 60)
    accepted = []
    for mu in np.arange(0.0, 20.0, 0.01):
        p = stats.poisson.pmf(counts, mu + b)
        rank = p / stats.poisson.pmf(counts, np.maximum(counts - b, 0.0) + b)
        less = p[rank < rank[n] * (1 - 1e-9)].sum()
        # the side measurement breaks the tie with toys of the same count, half of them to either side
        if less + 0.5 * p[n] > 1 - level:
            accepted.append(mu)
    return accepted[0], accepted[-1]


@pytest.mark.parametrize(("n", "b"), [(0, 3.0), (3, 3.0), (8, 3.0), (4, 1.0)])
def test_a_count_over_known_background_has_the_exact_interval(n, b):
    error = 1e-3 * b
    model, data = counting_model(b, error), counting_data(n, b, error)
    ((low, high),) = feldman_cousins(model, data, [0.9], n_toys=1500, rng=np.random.default_rng(1))
    exact_low, exact_high = exact_interval(n, b, 0.9)
    assert high == pytest.approx(exact_high, abs=0.1 + 0.06 * exact_high)
    assert low == pytest.approx(exact_low, abs=0.25)
    assert (low == 0) == (exact_low == 0)


def test_the_statistic_is_one_against_the_best_strength_that_is_not_negative():
    model = counting_model(100.0, 1.0)
    up, down = counting_data(120, 100.0, 1.0), counting_data(85, 100.0, 1.0)
    data = np.stack([up, down])
    got = bounded_ratio(model, data, 30.0)
    free, none, tested = (model.fit(data, mu).deviance for mu in (None, 0.0, 30.0))
    np.testing.assert_allclose(got, [tested[0] - free[0], tested[1] - none[1]], atol=1e-8)
    fit = model.fit(data, bounded=True)
    assert fit.mu[0] == pytest.approx(model.fit(up).mu[0])
    assert fit.mu[1] == 0.0


def test_limits_of_the_statistic_at_few_and_at_many_events():
    rng = np.random.default_rng(2)
    levels = (0.6827, 0.95)
    few, many = (BinnedModel.spectrum(EDGES, "exppoly:1", SHAPE) for _ in range(2))
    c = critical_values(few, falling(15.0), 0.0, levels, 1500, rng)
    # half of the toys and more prefer no signal, and for these the statistic is zero
    assert c[0] < 0.35
    wide = critical_values(many, falling(40_000.0), 4000.0, levels, 1500, rng)
    np.testing.assert_allclose(wide, stats.chi2.ppf(levels, 1), rtol=0.15)


def test_intervals_are_chosen_by_the_background_under_the_signal():
    model = BinnedModel.spectrum(EDGES, "exppoly:1", SHAPE)
    rng = np.random.default_rng(3)
    few = fit_signal(model, rng.poisson(falling(60.0)), n_toys=200, rng=rng)
    assert few.intervals == "Feldman-Cousins, n=200"
    assert few.under_signal < 15
    assert (
        0
        <= few.interval_95[0]
        <= few.interval_68[0]
        <= max(few.mu, 0)
        <= few.interval_68[1]
        < few.interval_95[1]
    )
    many = fit_signal(model, rng.poisson(falling(6000.0)))
    assert many.intervals == "likelihood"
    # of a normal signal of width s over a flat background of density rho lie 2 sqrt(pi) s rho under it
    density = 6000 * np.exp(-2.0) / 15 / (1 - np.exp(-50 / 15))
    assert many.under_signal == pytest.approx(2 * np.sqrt(np.pi) * 2.0 * density, rel=0.1)
    with pytest.raises(InputError, match="60 toys are too few"):
        fit_signal(model, falling(60.0), n_toys=60)


@pytest.mark.parametrize("background", ["poly:2", "bernstein:3"])
def test_few_events_are_answered_with_every_kind_of_function(background):
    """Negative strengths, for which an expectation would be negative, are not asked for."""
    model = BinnedModel.spectrum(EDGES, background, SHAPE)
    rng = np.random.default_rng(4)
    fit = fit_signal(model, rng.poisson(falling(60.0)), n_toys=100, rng=rng)
    assert np.isfinite(fit.interval_95).all()
    assert fit.interval_95[1] > 1.0


def test_an_envelope_keeps_the_orders_that_the_data_can_tell_apart():
    model = BinnedModel.spectrum(EDGES, ["exppoly", "exp"], SHAPE, choice="envelope")
    data = np.random.default_rng(5).poisson(falling(2000.0))
    small = simplest(model, data)
    assert len(small.members) < len(model.members)
    assert {d for d, _, _ in small.members} == {0, 1}
    # the parameters cost what they cost before, also if one function alone is left
    alone = model.restricted([0])
    assert alone.fit(data).deviance[0] == pytest.approx(model.fit_each(data)[0].deviance[0])
    single = BinnedModel.spectrum(EDGES, "exppoly:3", SHAPE, choice="envelope")
    assert simplest(single, data) is single
