from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iminuit import Minuit

from serendip.errors import InputError
from serendip.statistics.fit import deviance, fit_spectrum
from serendip.statistics.model import BinnedModel, counting_data, counting_model
from serendip.statistics.scoring import fisher_scoring
from serendip.statistics.signals import gaussian, template_shape

EDGES = np.geomspace(2000.0, 7000.0, 51)
SHAPE = gaussian(3500.0, 110.0)


def falling(n: float) -> np.ndarray:
    """Expected counts of a power law with a running exponent, n events in total."""
    x = EDGES / 13000.0
    rest = np.diff(-((1 - x) ** 8) * x**-4.0)
    return n * rest / rest.sum()


TRUTH = falling(50_000)


def toys(n: int, seed: int, signal: float = 0.0) -> np.ndarray:
    mean = TRUTH + signal * SHAPE.fractions(EDGES)
    return np.random.default_rng(seed).poisson(mean, (n, len(mean))).astype(float)


@pytest.mark.parametrize("family", ["dijet:4", "exppoly:3", "poly:6", "turn-on:6", "bernstein:5"])
def test_fit_without_signal_is_the_fit_of_the_spectrum(family):
    data, edges = toys(1, 1)[0][:30], EDGES[:31]
    alone = fit_spectrum(data, edges, family)
    fit = BinnedModel.spectrum(edges, family, SHAPE).fit(data, 0.0)
    np.testing.assert_allclose(fit.expected[0], alone.expected, rtol=1e-5, atol=1e-4)
    assert fit.deviance[0] == pytest.approx(alone.deviance, abs=0.5)


def test_free_fit_agrees_with_minuit():
    data = toys(1, 2, signal=250)[0]
    model = BinnedModel.spectrum(EDGES, "dijet:4", SHAPE, yield_error=0.2, resolution_error=0.1)
    fit = model.fit(data)
    design, d_width = model.designs[0], model.variations["resolution"]

    def objective(*parameters: float) -> float:
        theta, mu, a, b = np.array(parameters[:4]), *parameters[4:]
        total = design.expected(theta[None])[0][:, 0] + mu * 1.2**a * (model.signal + b * d_width)
        if np.any(total <= 0):
            return 1e9
        return float(deviance(data, total)) + float(design.prior @ theta**2) + a**2 + b**2

    start = fit_spectrum(data, EDGES, "dijet:4").coefficients
    minuit = Minuit(objective, *start, 0.0, 0.0, 0.0)
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.strategy = 2
    minuit.migrad()
    minuit.hesse()
    assert fit.mu[0] == pytest.approx(minuit.values[4], rel=2e-3)
    assert fit.deviance[0] == pytest.approx(minuit.fval, abs=1e-4)
    assert fit.mu_error[0] == pytest.approx(minuit.errors[4], rel=0.1)
    np.testing.assert_allclose(fit.nuisance[0], minuit.values[5:], atol=5e-3)


def test_pulls_of_the_signal_are_standard_normal():
    model = BinnedModel.spectrum(EDGES, "dijet:4", SHAPE)
    for injected in (0.0, 300.0):
        fit = model.fit(toys(400, 3, injected))
        pull = (fit.mu - injected) / fit.mu_error
        assert abs(pull.mean()) < 3.5 / np.sqrt(400)
        assert 0.88 < pull.std() < 1.12


def test_a_signal_of_data_comes_back_as_mu():
    signal = 400.0
    exact = TRUTH + 1.7 * signal * SHAPE.fractions(EDGES)
    fit = BinnedModel.spectrum(EDGES, "exppoly:4", SHAPE, signal_yield=signal).fit(exact)
    assert fit.mu[0] == pytest.approx(1.7, abs=0.05)
    np.testing.assert_allclose(fit.expected[0], exact, rtol=0.06)


def test_many_data_sets_give_what_each_gives_alone():
    model = BinnedModel.spectrum(EDGES, "dijet", SHAPE, yield_error=0.1)
    data = toys(12, 4, 100)
    together = model.fit(data)
    for i, row in enumerate(data):
        alone = model.fit(row)
        assert together.member[i] == alone.member[0]
        assert together.mu[i] == pytest.approx(alone.mu[0], abs=1e-2)
        assert together.deviance[i] == pytest.approx(alone.deviance[0], abs=1e-5)


def test_order_is_chosen_in_every_data_set():
    x = np.log(EDGES[:-1] / 1000)
    bent = TRUTH * np.exp(1.5 * (x - x.mean()) ** 3)
    data = np.random.default_rng(5).poisson(np.array([TRUTH] * 40 + [20 * bent] * 40)).astype(float)
    member = BinnedModel.spectrum(EDGES, "dijet", SHAPE).fit(data).member
    assert (member[:40] == 0).mean() > 0.8
    assert (member[40:] > 0).mean() > 0.8


def test_envelope_takes_the_better_family_and_pays_for_parameters():
    bent = np.random.default_rng(6).poisson(TRUTH).astype(float)
    both = BinnedModel.spectrum(EDGES, ["dijet:4", "poly:1"], SHAPE, choice="envelope")
    fit = both.fit(bent)
    assert both.members[fit.member[0]][2] == "dijet-4"
    one = BinnedModel.spectrum(EDGES, "dijet:4", SHAPE).fit(bent)
    assert fit.deviance[0] == pytest.approx(one.deviance[0] + 4.0, abs=1e-6)
    # with the discrete choice free at every mu, the envelope can only widen the interval
    orders = BinnedModel.spectrum(EDGES, "dijet", SHAPE, choice="envelope")
    best = orders.fit(bent)
    for mu in (-100.0, 200.0):
        rise = orders.fit(bent, mu).deviance[0] - best.deviance[0]
        member = best.member
        fixed = orders.fit(bent, mu, member=member).deviance[0] - best.deviance[0]
        assert rise <= fixed + 1e-6


def test_masked_bins_have_no_influence():
    mask = np.zeros(len(TRUTH), dtype=bool)
    mask[-8:] = True
    data = toys(1, 7)[0]
    wild = np.where(mask, 1e5, data)
    model = BinnedModel.spectrum(EDGES, "dijet:4", SHAPE, mask=mask)
    a, b = model.fit(data), model.fit(wild)
    assert a.mu[0] == b.mu[0]
    assert a.expected.shape == (1, len(TRUTH))


@settings(max_examples=12, deadline=None)
@given(weight=st.floats(0.01, 100.0))
def test_a_common_weight_changes_neither_significance_nor_relative_strength(weight):
    data = toys(1, 8, 150)[0]
    plain = BinnedModel.spectrum(EDGES, "dijet:4", SHAPE)
    heavy = BinnedModel.spectrum(EDGES, "dijet:4", SHAPE, scale=weight)
    a, b = plain.fit(data), heavy.fit(data * weight)
    assert b.mu[0] == pytest.approx(a.mu[0] * weight, rel=1e-3)
    assert b.deviance[0] == pytest.approx(a.deviance[0], abs=1e-4)


def test_strong_deficit_and_empty_spectra_stay_finite():
    data = toys(1, 9)[0]
    inside = SHAPE.fractions(EDGES) > 0.02
    hole = np.where(inside, 0.0, data)
    sparse = np.random.default_rng(10).poisson(falling(60)).astype(float)
    fit = BinnedModel.spectrum(EDGES, "dijet:4", SHAPE).fit(np.stack([hole, sparse, np.zeros_like(data)]))
    assert np.isfinite(fit.mu).all()
    assert fit.mu[0] < -0.5 * TRUTH[inside].sum()


def test_statistics_of_a_signal_template_becomes_a_nuisance():
    few = template_shape(np.random.default_rng(11).normal(3500, 110, 25))
    model = BinnedModel.spectrum(EDGES, "dijet:4", few)
    assert model.yield_error == pytest.approx(0.2)
    assert model.nuisances == ("signal yield",)


def test_counting_model_is_the_on_off_likelihood():
    b, error, n = 10.0, 3.0, 21.0
    m, tau = (b / error) ** 2, b / error**2
    model, data = counting_model(b, error), counting_data(n, b, error)
    free = model.fit(data)
    assert free.mu[0] == pytest.approx(n - b, rel=1e-6)
    assert free.deviance[0] == pytest.approx(0.0, abs=1e-8)
    # background alone: the pooled rate
    pooled = (n + m) / (1 + tau)
    assert model.fit(data, 0.0).background[0, 0] == pytest.approx(pooled, rel=1e-6)


def test_scoring_reports_what_it_could_not_solve():
    class Linear:
        """No minimum: the objective falls forever."""

        def value(self, params, rows):
            return -params[:, 0]

        def slope(self, params, rows):
            return -np.ones_like(params), np.full((len(params), 1, 1), 1e-3)

    _, decrement = fisher_scoring(Linear(), np.zeros((1, 1)), np.zeros(1))
    assert decrement[0] > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"background": ["dijet", "poly:3"]}, "several families"),
        ({"shape": gaussian(20_000.0, 10.0)}, "outside the fitted bins between 2000 and 7000"),
        ({"background": "nothing"}, "unknown background"),
        ({"edges": np.array([2000.0, 3000.0, 5000.0])}, "bins outside the"),
    ],
)
def test_bad_models_are_explained(change, message):
    arguments = {"edges": EDGES, "background": "dijet", "shape": SHAPE, **change}
    with pytest.raises(InputError, match=message):
        BinnedModel.spectrum(**arguments)


@pytest.mark.parametrize("numbers", [(0.0, 1.0), (5.0, 0.0), (5.0, 1.0, 0.0)])
def test_bad_counting_models_are_explained(numbers):
    with pytest.raises(InputError, match="above zero"):
        counting_model(*numbers)
