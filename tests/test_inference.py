from __future__ import annotations

import numpy as np
import pytest
from iminuit import Minuit
from scipy import stats

from serendip.errors import InputError
from serendip.statistics.fit import FitError, deviance
from serendip.statistics.inference import (
    discovery_z,
    expected_z,
    interval,
    likelihood_ratio,
    toy_discovery,
)
from serendip.statistics.limits import BANDS, cls_asymptotic, cls_toys, q_tilde, upper_limit
from serendip.statistics.model import BinnedModel, counting_data, counting_model
from serendip.statistics.pvalues import asimov_z, count_p_value
from serendip.statistics.signal_fit import fit_signal
from serendip.statistics.signals import gaussian

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver")

EDGES = np.geomspace(2500.0, 6000.0, 36)
SHAPE = gaussian(3500.0, 110.0)
BACKGROUND = 20_000 * np.diff(-(EDGES**-5.0)) / (EDGES[0] ** -5 - EDGES[-1] ** -5)
MODEL = BinnedModel.spectrum(EDGES, "dijet:3", SHAPE)


def toys(n: int, seed: int, signal: float = 0.0) -> np.ndarray:
    mean = BACKGROUND + signal * SHAPE.fractions(EDGES)
    return np.random.default_rng(seed).poisson(mean, (n, len(mean))).astype(float)


def pyhf_model(signal: float, background: float, error: float, upper: float = 60.0):
    pyhf = pytest.importorskip("pyhf")
    samples = [
        {"name": "s", "data": [signal], "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]},
        {
            "name": "b",
            "data": [background],
            "modifiers": [{"name": "u", "type": "shapesys", "data": [error]}],
        },
    ]
    spec = {
        "channels": [{"name": "c", "samples": samples}],
        "parameters": [{"name": "mu", "bounds": [[0.0, upper]]}],
    }
    return pyhf, pyhf.Model(spec, poi_name="mu")


@pytest.mark.parametrize(("n", "b", "error"), [(20, 10.0, 3.0), (130, 100.0, 8.0), (8, 3.0, 0.5)])
def test_counting_significance_agrees_with_pyhf_and_the_closed_form(n, b, error):
    z = float(discovery_z(counting_model(b, error), counting_data(n, b, error))[0])
    assert z == pytest.approx(float(asimov_z(n - b, b, error)), abs=1e-6)
    pyhf, model = pyhf_model(1.0, b, error)
    p = float(pyhf.infer.hypotest(0.0, [n, *model.config.auxdata], model, test_stat="q0"))
    assert z == pytest.approx(stats.norm.isf(p), abs=1e-3)


@pytest.mark.parametrize(
    ("n", "b", "s", "error"), [(20, 10.0, 5.0, 3.0), (5, 10.0, 5.0, 3.0), (100, 100.0, 10.0, 10.0)]
)
def test_limits_agree_with_pyhf(n, b, s, error):
    limit = upper_limit(counting_model(b, error, s), counting_data(n, b, error))
    pyhf, model = pyhf_model(s, b, error)
    observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(
        [n, *model.config.auxdata], model, scan=None, rtol=1e-3
    )
    assert limit.observed == pytest.approx(float(observed), rel=2e-3)
    np.testing.assert_allclose(limit.expected, [float(e) for e in expected], rtol=2e-3)


def test_limit_with_a_signal_error_agrees_with_pyhf():
    pyhf = pytest.importorskip("pyhf")
    n, b, error, s, relative = 14, 10.0, 3.0, 5.0, 0.2
    samples = [
        {
            "name": "s",
            "data": [s],
            "modifiers": [
                {"name": "mu", "type": "normfactor", "data": None},
                # log-normal, as here
                {"name": "eff", "type": "normsys", "data": {"hi": 1.2, "lo": 1 / 1.2}},
            ],
        },
        {"name": "b", "data": [b], "modifiers": [{"name": "u", "type": "shapesys", "data": [error]}]},
    ]
    spec = {
        "channels": [{"name": "c", "samples": samples}],
        "parameters": [{"name": "mu", "bounds": [[0.0, 60.0]]}],
    }
    model = pyhf.Model(spec, poi_name="mu")
    observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(
        [n, *model.config.auxdata], model, scan=None, rtol=1e-3
    )
    limit = upper_limit(counting_model(b, error, s, relative), counting_data(n, b, error))
    assert limit.observed == pytest.approx(float(observed), rel=5e-3)
    np.testing.assert_allclose(limit.expected, [float(e) for e in expected], rtol=0.02)


def test_cls_of_one_strength_agrees_with_pyhf_far_out():
    pyhf, model = pyhf_model(5.0, 10.0, 3.0)
    data = [6, *model.config.auxdata]
    for mu in (0.3, 2.0, 8.0):
        observed, expected = pyhf.infer.hypotest(
            mu, data, model, test_stat="qtilde", return_expected_set=True
        )
        ours, bands = cls_asymptotic(counting_model(10.0, 3.0, 5.0), counting_data(6, 10.0, 3.0), mu)
        assert ours[0] == pytest.approx(float(observed), rel=2e-3)
        np.testing.assert_allclose(bands[0], [float(e) for e in expected], rtol=5e-3)


def test_toys_agree_with_the_asymptotic_limit_where_that_holds():
    model, data = counting_model(100.0, 10.0, 10.0), counting_data(108, 100.0, 10.0)
    exact = upper_limit(model, data)
    drawn = upper_limit(model, data, n_toys=1500, rng=np.random.default_rng(1))
    assert drawn.method == "toys, n=1500"
    assert drawn.observed == pytest.approx(exact.observed, rel=0.08)
    np.testing.assert_allclose(drawn.expected[1:4], exact.expected[1:4], rtol=0.1)


def test_toys_differ_from_the_asymptotic_form_at_few_events():
    # b = 0.5 known well, nothing seen: the exact CLs limit is -ln(0.05) = 3.0
    model, data = counting_model(0.5, 0.01), counting_data(0, 0.5, 0.01)
    drawn = upper_limit(model, data, n_toys=1500, rng=np.random.default_rng(2))
    assert drawn.observed == pytest.approx(3.0, rel=0.1)
    assert upper_limit(model, data).observed < 2.4


def test_level_moves_the_limit_and_bands_are_ordered():
    model, data = counting_model(50.0, 7.0), counting_data(55, 50.0, 7.0)
    tight, loose = upper_limit(model, data, level=0.9), upper_limit(model, data, level=0.99)
    assert tight.observed < upper_limit(model, data).observed < loose.observed
    assert list(tight.expected) == sorted(tight.expected)
    assert tight.to_dict()["bands"] == list(BANDS)


def test_q_tilde_by_hand():
    model, b, error = counting_model(100.0, 1.0), 100.0, 1.0
    up, down = counting_data(120, b, error), counting_data(85, b, error)
    assert q_tilde(model, up, 10.0)[0] == 0.0
    for data, reference in ((up, None), (down, 0.0)):
        fits = [model.fit(data, mu).deviance[0] for mu in (30.0, reference)]
        assert q_tilde(model, data, 30.0)[0] == pytest.approx(fits[0] - fits[1], abs=1e-9)


def test_ninety_five_per_cent_limits_cover():
    model = BinnedModel.spectrum(EDGES, "dijet:3", SHAPE)
    for injected in (40.0, 150.0):
        data = toys(250, 3, injected)
        cls, _ = cls_asymptotic(model, data, injected)
        covered = np.count_nonzero(cls > 0.05)
        # CLs covers at least as often as it says
        assert covered > 250 * 0.95 - 2.5 * np.sqrt(250 * 0.05 * 0.95)


def test_intervals_are_those_of_minos():
    data = toys(1, 4, 200)[0]
    low, high = interval(MODEL, data)
    design = MODEL.designs[0]

    def objective(*parameters: float) -> float:
        theta, mu = np.array(parameters[:-1]), parameters[-1]
        total = design.expected(theta[None])[0][:, 0] + mu * MODEL.signal
        return float(deviance(data, total)) + float(design.prior @ theta**2) if np.all(total > 0) else 1e9

    minuit = Minuit(objective, *np.r_[9.0, np.zeros(design.n_parameters - 1), 0.0])
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.migrad(ncall=20_000)
    minuit.migrad()
    name = minuit.parameters[-1]
    minuit.minos(name)
    minos = minuit.merrors[name]
    assert low == pytest.approx(minuit.values[name] + minos.lower, rel=0.01)
    assert high == pytest.approx(minuit.values[name] + minos.upper, rel=0.01)


def test_coverage_of_68_and_95_per_cent_intervals():
    for injected in (0.0, 250.0):
        data = toys(500, 5, injected)
        ratio = likelihood_ratio(MODEL, data, injected, MODEL.fit(data))
        for level in (0.6827, 0.95):
            covered = np.mean(ratio < stats.chi2.ppf(level, 1))
            assert abs(covered - level) < 3.3 * np.sqrt(level * (1 - level) / 500)


def test_signed_significance_is_standard_normal_without_signal():
    z = discovery_z(MODEL, toys(500, 6))
    assert stats.kstest(stats.norm.sf(z), "uniform").pvalue > 1e-3
    assert (z < 0).any()


def test_fit_signal_puts_everything_together():
    data = toys(1, 7, 400)[0]
    fit = fit_signal(MODEL, data)
    assert fit.interval_95[0] < fit.interval_68[0] < fit.mu < fit.interval_68[1] < fit.interval_95[1]
    assert abs(fit.mu - 400) < 4 * fit.mu_error
    assert fit.p == pytest.approx(stats.norm.sf(fit.z))
    assert fit.background == "dijet-3"
    assert fit.z == pytest.approx(float(discovery_z(MODEL, data)[0]))
    numbers = fit.to_dict()
    np.testing.assert_allclose(
        np.subtract(numbers["expected"], numbers["background_counts"]), fit.mu * MODEL.signal, atol=1e-8
    )


def test_expected_significance_is_the_median_of_toys():
    z = discovery_z(MODEL, toys(300, 8, 300))
    asimov = expected_z(MODEL, BACKGROUND, 300.0)
    assert np.median(z) == pytest.approx(asimov, abs=4 * 1.25 / np.sqrt(300))
    for signal in (1e-9, 0.01, 20.0, 150.0):
        model, data = counting_model(50.0, 5.0), counting_data(50, 50.0, 5.0)
        assert expected_z(model, data, signal) == pytest.approx(float(asimov_z(signal, 50, 5)), rel=2e-3)
    assert expected_z(model, data, 1e6) is None


def test_toy_p_value_agrees_with_the_exact_one_for_few_events():
    b, error, n = 2.0, 0.02, 6
    p, z, (low, high) = toy_discovery(
        counting_model(b, error), counting_data(n, b, error), 5000, np.random.default_rng(9)
    )
    # the side measurement, as good as known here, decides between toys with the observed count
    smallest, largest = (float(count_p_value(k, b, error)) for k in (n + 1, n))
    assert smallest < p < largest
    assert low < p < high * 1.2
    assert z == pytest.approx(stats.norm.isf(p))


def test_hopeless_questions_are_refused():
    data = counting_data(5, 5.0, 1.0)
    model = counting_model(5.0, 1.0)
    with pytest.raises(InputError, match="between 0 and 1"):
        upper_limit(model, data, level=95)
    with pytest.raises(InputError, match="toys are too few"):
        upper_limit(model, data, n_toys=20)
    with pytest.raises(ValueError, match="above zero"):
        cls_asymptotic(model, data, 0.0)
    assert cls_toys(model, data, 5.0, 200, np.random.default_rng(0)).error > 0


def test_a_flat_likelihood_ends_the_search_for_an_interval(monkeypatch):
    monkeypatch.setattr("serendip.statistics.inference.likelihood_ratio", lambda *_: np.zeros(1))
    with pytest.raises(FitError, match="does not fall off"):
        interval(counting_model(5.0, 1.0), counting_data(5, 5.0, 1.0))


def test_a_fit_of_the_same_counts_heeds_other_auxiliary_measurements():
    model = BinnedModel.spectrum(EDGES, "dijet:3", SHAPE, scale_error=0.02)
    counts = np.round(BACKGROUND)[None]
    assert model.fit(counts, 0.0).nuisance == pytest.approx(0.0, abs=1e-9)
    assert model.fit(counts, 0.0, auxiliary=np.array([[1.5]])).nuisance == pytest.approx(1.5)
    # and the counts are not those of the fit before
    assert model.fit(2.0 * counts, 0.0).background.sum() == pytest.approx(2.0 * counts.sum(), rel=1e-3)
