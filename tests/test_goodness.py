"""Goodness of fit by toys: level, power, agreement with the moments, runs and cumulative residuals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

import serendip.statistics.goodness as goodness_module
from serendip.errors import InputError
from serendip.statistics.fit import fit_spectrum
from serendip.statistics.functions import efficiency_family, get_family, make_design
from serendip.statistics.goodness import goodness_of_fit, pulls

EDGES = np.geomspace(2600.0, 6000.0, 35)
MASK = np.zeros(34, dtype=bool)
MASK[10:15] = True


def truth(total: float, params=(0.0, 10.0, 5.0)) -> np.ndarray:
    design = make_design(EDGES, get_family(f"dijet:{len(params)}"))
    expected = design.expected(np.linalg.solve(design.to_params, params)[None])[0][:, 0]
    return expected * total / expected.sum()


def data(total: float, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(truth(total), (n, 34)).astype(float)


@pytest.mark.parametrize("total", [200.0, 20_000.0])
def test_all_three_p_values_are_uniform_for_a_true_function(total):
    rng = np.random.default_rng(1)
    results = [
        goodness_of_fit(fit_spectrum(counts, EDGES, "dijet:3", mask=MASK), 50, rng)
        for counts in data(total, 80, seed=2)
    ]
    for name in ("deviance", "cumulative"):
        p = [getattr(r, name).p for r in results]
        # 51 possible values, the smallest 1/51
        assert stats.kstest(np.array(p) - rng.random(80) / 51, "uniform").pvalue > 1e-3, name
    # a discrete statistic: valid, not uniform
    runs = np.array([r.runs.p for r in results])
    assert np.mean(runs <= 0.1) < 0.1 + 3 * np.sqrt(0.09 / 80)
    assert np.mean(runs <= 0.5) > 0.25


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["dijet:3", "dijet"])
@pytest.mark.parametrize("total", [50, 500, 20_000])
def test_rates_of_small_p_values(total, spec):
    rng = np.random.default_rng(1)
    rates = []
    for counts in rng.poisson(truth(total), (300, 34)).astype(float):
        fit = fit_spectrum(counts, EDGES, spec, mask=MASK)
        result = goodness_of_fit(fit, 99, rng)
        tests = (result.deviance, result.runs, result.cumulative)
        rates.append([fit.gof_p <= 0.05, *(t.p <= 0.05 for t in tests)])
    moments, *toys = np.mean(rates, axis=0)
    print(f"{total} {spec}: moments {moments:.3f}; deviance, runs, cumulative", *(f"{r:.3f}" for r in toys))
    assert max(moments, *toys) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("total", [200.0, 20_000.0])
def test_deviance_agrees_with_its_moments(total):
    rng = np.random.default_rng(3)
    n = 1500
    for counts in data(total, 6, seed=4):
        fit = fit_spectrum(counts, EDGES, "dijet:3", mask=MASK)
        result = goodness_of_fit(fit, n, rng)
        assert result.moment_p == fit.gof_p
        # the scaled chi-square is an approximation: 0.03 beyond the error of the toys
        assert result.deviance.p == pytest.approx(
            fit.gof_p, abs=0.03 + 3 * np.sqrt(fit.gof_p * (1 - fit.gof_p) / n)
        )
        assert result.deviance.value == pytest.approx(fit.deviance, rel=1e-6)


def test_choice_of_the_order_is_repeated_in_the_toys(monkeypatch):
    seen = {}
    inner = goodness_module.fit_many

    def record(*arguments, **options):
        out = inner(*arguments, **options)
        seen.update(options, orders=out.n_parameters, family=arguments[2])
        return out

    monkeypatch.setattr(goodness_module, "fit_many", record)
    fit = fit_spectrum(data(20_000, 1, 5)[0], EDGES, "dijet", mask=MASK, alpha=0.3, choice="f-test")
    goodness_of_fit(fit, 200, np.random.default_rng(6))
    assert (seen["alpha"], seen["choice"], seen["family"].spec) == (0.3, "f-test", "dijet")
    assert set(seen["orders"]) == {4, 5, 6}


def test_a_step_is_seen_by_the_deviance_and_the_smallest_p_is_that_of_the_toys():
    counts = truth(50_000)
    counts[20:23] *= 1.5
    result = goodness_of_fit(fit_spectrum(counts, EDGES, "dijet:3"), 99, np.random.default_rng(7))
    assert result.deviance.n_reached == 0
    assert result.deviance.p == pytest.approx(0.01)
    low, high = result.deviance.p_interval_68
    assert low == 0.0
    assert high == pytest.approx(1 - 0.15865 ** (1 / 99), rel=1e-3)


def test_a_slow_wave_is_seen_by_runs_and_cumulative_residuals_first():
    wave = truth(20_000) * (1 + 0.06 * np.sin(np.arange(34) * 2 * np.pi / 17))
    rng = np.random.default_rng(8)
    found = {"deviance": 0, "runs": 0, "cumulative": 0}
    for counts in rng.poisson(wave, (25, 34)).astype(float):
        result = goodness_of_fit(fit_spectrum(counts, EDGES, "dijet:3"), 99, rng)
        for name in found:
            found[name] += getattr(result, name).p <= 0.05
    assert found["cumulative"] > found["deviance"]
    assert found["cumulative"] >= 15
    assert found["runs"] >= 8


def test_runs_and_cumulative_residuals_of_known_residuals():
    fit = fit_spectrum(truth(20_000), EDGES, "dijet:3")
    signs = np.where(np.arange(34) % 2 == 0, 1.0, -1.0)
    alternating = fit.expected + signs
    result = goodness_of_fit(goodness_module.replace(fit, counts=alternating), 50, np.random.default_rng(9))
    assert result.runs.value == 34
    assert result.runs.p > 0.9
    assert result.cumulative.value == pytest.approx(1 / np.sqrt(fit.expected.sum()), rel=1e-6)
    blocks = fit.expected + np.where(np.arange(34) < 17, 20.0, -20.0)
    result = goodness_of_fit(goodness_module.replace(fit, counts=blocks), 200, np.random.default_rng(9))
    assert result.runs.value == 2
    assert result.runs.p < 0.01
    assert result.cumulative.value == pytest.approx(17 * 20 / np.sqrt(fit.expected.sum()), rel=1e-6)


def test_masked_bins_do_not_matter():
    counts = data(5000, 1, 10)[0]
    other = counts.copy()
    other[MASK] = 1e5
    one, two = (
        goodness_of_fit(fit_spectrum(c, EDGES, "dijet:3", mask=MASK), 50, np.random.default_rng(11))
        for c in (counts, other)
    )
    assert one == two


def test_a_common_weight_does_not_matter():
    counts = data(5000, 1, 12)[0]
    plain = goodness_of_fit(fit_spectrum(counts, EDGES, "dijet:3"), 50, np.random.default_rng(13))
    fit = fit_spectrum(3.0 * counts, EDGES, "dijet:3", scale=3.0)
    weighted = goodness_of_fit(fit, 50, np.random.default_rng(13))
    assert weighted.deviance.value == pytest.approx(plain.deviance.value, rel=1e-6)
    assert weighted.cumulative.p == plain.cumulative.p
    assert pulls(fit) == pytest.approx(pulls(fit_spectrum(counts, EDGES, "dijet:3")), abs=1e-4)


def test_efficiency_fits_keep_their_offset():
    offset = truth(1e6)
    counts = np.random.default_rng(14).poisson(offset * 0.01).astype(float)
    fit = fit_spectrum(counts, EDGES, efficiency_family(), mask=MASK, offset=offset)
    result = goodness_of_fit(fit, 300, np.random.default_rng(15))
    assert result.deviance.p == pytest.approx(fit.gof_p, abs=0.1)


def test_pulls_add_up_to_the_deviance():
    fit = fit_spectrum(data(2000, 1, 16)[0], EDGES, "dijet:3", mask=MASK)
    p = pulls(fit)
    assert np.isnan(p[MASK]).all()
    assert np.nansum(p**2) == pytest.approx(fit.deviance, rel=1e-9)
    assert np.array_equal(p[~MASK] > 0, (fit.counts > fit.expected)[~MASK])


def test_results_are_json_ready_and_reproducible():
    fit = fit_spectrum(data(2000, 1, 17)[0], EDGES, "dijet", mask=MASK)
    one, two = (goodness_of_fit(fit, 40, np.random.default_rng(18)).to_dict() for _ in range(2))
    assert json.loads(json.dumps(one)) == json.loads(json.dumps(two))
    assert one["deviance"]["n_toys"] == 40
    assert one["deviance"]["p"] == (one["deviance"]["n_reached"] + 1) / 41


def test_unusable_requests_are_explained():
    rng = np.random.default_rng(0)
    fit = fit_spectrum(np.ones(34), EDGES, "dijet:3")
    with pytest.raises(InputError, match="at least one toy"):
        goodness_of_fit(fit, 0, rng)
    with pytest.raises(InputError, match="at least one event"):
        goodness_of_fit(fit_spectrum(np.zeros(34), EDGES, "dijet:3"), 10, rng)
    with pytest.raises(InputError, match="degree of freedom"):
        goodness_of_fit(fit_spectrum(np.ones(3), EDGES[:4], "dijet:3"), 10, rng)
