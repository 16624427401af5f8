"""Spectrum fits: truth recovered, an independent minimiser, the fast fit of many spectra, odd inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iminuit import Minuit
from scipy import optimize, special, stats

import serendip.statistics.fit as fit_module
from serendip.errors import InputError
from serendip.statistics.fit import FitError, deviance, fit_spectrum
from serendip.statistics.functions import efficiency_family, get_family, make_design
from serendip.statistics.many import fit_many
from serendip.statistics.minimise import Objective
from serendip.statistics.pvalues import count_p_value

EDGES = np.geomspace(2600.0, 6000.0, 35)
MASK = np.zeros(34, dtype=bool)
MASK[10:15] = True
PARAMS = {
    "dijet:3": np.array([0.0, 10.0, 5.0]),
    "dijet:4": np.array([0.0, 10.0, 5.0, 1.0]),
    "dijet:5": np.array([0.0, 10.0, 5.0, 1.0, 1.5]),
}


def truth(spec: str = "dijet:4", total: float = 30_000.0) -> np.ndarray:
    design = make_design(EDGES, get_family(spec))
    expected = design.expected(np.linalg.solve(design.to_params, PARAMS[spec])[None])[0][:, 0]
    return expected * total / expected.sum()


def pseudo_data(n: int, seed: int = 1, **kwargs) -> np.ndarray:
    return np.random.default_rng(seed).poisson(truth(**kwargs), (n, 34)).astype(float)


def test_pulls_of_the_window_have_mean_zero_and_width_one():
    expected = truth(total=20_000)
    b = expected[MASK].sum()
    pulls = []
    for counts in pseudo_data(200, total=20_000):
        fit = fit_spectrum(counts, EDGES, "dijet:4", mask=MASK)
        value, sigma = fit.window(10, 15)
        pulls.append((value - b) / sigma)
    assert abs(np.mean(pulls)) < 3 / np.sqrt(200)
    assert 0.85 < np.std(pulls) < 1.15


def test_parameters_are_recovered_in_the_family_form():
    fit = fit_spectrum(truth(total=1e8), EDGES, "dijet:4")
    assert fit.params[1:] == pytest.approx(PARAMS["dijet:4"][1:], rel=1e-2)
    assert fit.function == "dijet-4"
    assert fit.covariance.shape == (4, 4)
    low, high = EDGES[3], EDGES[4]
    grid = np.linspace(low, high, 1001)
    assert np.trapezoid(fit.density(grid), grid) == pytest.approx(fit.expected[3], rel=1e-5)


def test_fit_agrees_with_an_independent_minimiser():
    counts = pseudo_data(1, seed=4)[0]
    centre, width = 0.5 * (EDGES[1:] + EDGES[:-1]), np.diff(EDGES)

    def expected(p):
        # Simpson's rule and the printed formula: nothing shared with the package
        total = np.zeros(34)
        for m, w in ((EDGES[:-1], 1), (centre, 4), (EDGES[1:], 1)):
            x = m / 13000.0
            total += w * np.exp(p[0] + p[1] * np.log(1 - x) - p[2] * np.log(x / 0.25)) / 6.0
        return total * width

    keep = ~MASK
    start = np.array([np.log(counts[0] / width[0]), 8.0, 4.0])
    best = optimize.minimize(
        lambda p: (expected(p) - counts * np.log(expected(p)))[keep].sum(),
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-10, "maxiter": 20_000, "maxfev": 20_000},
    )
    fit = fit_spectrum(counts, EDGES, "dijet:3", mask=MASK)
    assert fit.expected == pytest.approx(expected(best.x), rel=2e-4)
    assert fit.deviance == pytest.approx(float(deviance(counts[keep], expected(best.x)[keep])), abs=1e-3)


@pytest.mark.parametrize("spec", ["dijet", "exppoly", "dijet:5"])
@pytest.mark.parametrize("total", [40.0, 3000.0, 1e6])
def test_many_fits_agree_with_single_ones(spec, total):
    toys = pseudo_data(6, seed=2, total=total)
    many = fit_many(toys, EDGES, spec, mask=MASK)
    for i, counts in enumerate(toys):
        one = fit_spectrum(counts, EDGES, spec, mask=MASK)
        assert many.n_parameters[i] == one.n_parameters
        assert many.expected[i, MASK] == pytest.approx(one.expected[MASK], rel=1e-4 if total > 100 else 2e-3)
        assert many.deviance[i] == pytest.approx(one.deviance, abs=2e-3)
        b, sigma = one.window(10, 15)
        assert many.window[i] == pytest.approx(b, rel=1e-4 if total > 100 else 2e-3)
        assert many.window_error[i] == pytest.approx(sigma, rel=0.02 if total > 100 else 0.15)


@pytest.mark.parametrize("spec", ["dijet:4", "exppoly:3", "dijet:5", "turn-on:5"])
@pytest.mark.parametrize("total", [40.0, 3000.0, 1e6])
def test_the_minimum_is_that_of_minuit(spec, total):
    family = get_family(spec).on(EDGES)
    design = make_design(EDGES, family)
    for counts in pseudo_data(3, seed=2, total=total):
        fit = fit_spectrum(counts, EDGES, family, mask=MASK)
        objective = Objective(counts[~MASK], design.bins(~MASK).order(fit.n_parameters), design)
        minuit = Minuit(objective, 1.001 * fit.coefficients + 1e-3, grad=objective.gradient)
        minuit.errordef, minuit.tol = Minuit.LEAST_SQUARES, 1e-5
        minuit.migrad()
        assert objective(fit.coefficients) < minuit.fval + 1e-5
        moved = np.asarray(minuit.values) - fit.coefficients
        assert moved @ np.linalg.inv(fit.coefficient_covariance) @ moved < 1e-3


def test_many_efficiency_fits_agree_with_single_ones():
    offset = truth(total=1e5)
    toys = np.random.default_rng(5).poisson(offset * 0.01, (8, 34)).astype(float)
    many = fit_many(toys, EDGES, efficiency_family(), mask=MASK, offset=offset)
    for i, counts in enumerate(toys):
        one = fit_spectrum(counts, EDGES, efficiency_family(), mask=MASK, offset=offset)
        assert many.window[i] == pytest.approx(one.window(10, 15)[0], rel=2e-4)


def test_window_error_is_the_spread_of_the_estimate():
    toys = pseudo_data(2000, seed=9, total=5000)
    many = fit_many(toys, EDGES, "dijet:4", mask=MASK)
    assert np.std(many.window) == pytest.approx(np.mean(many.window_error), rel=0.06)
    assert np.mean(many.window) == pytest.approx(truth(total=5000)[MASK].sum(), rel=0.01)


def test_masked_bins_have_no_influence():
    counts = pseudo_data(1)[0]
    other = counts.copy()
    other[MASK] = 1e6
    one, two = (fit_spectrum(c, EDGES, "dijet", mask=MASK) for c in (counts, other))
    assert np.array_equal(one.expected, two.expected)
    assert one.function == two.function
    assert not np.allclose(fit_spectrum(other, EDGES, "dijet").expected, one.expected, rtol=1e-3)


def test_order_grows_only_where_the_data_ask_for_it():
    assert fit_spectrum(truth("dijet:4", 1e6), EDGES, "dijet").function == "dijet-4"
    fit = fit_spectrum(truth("dijet:5", 1e8), EDGES, "dijet")
    assert fit.n_parameters >= 5
    assert [t.name for t in fit.tried] == ["dijet-4", "dijet-5", "dijet-6"]
    assert fit.tried[0].p is None
    assert fit.tried[1].p < 1e-3
    deviances = [t.deviance for t in fit.tried]
    assert np.all(np.diff(deviances) < 1e-3)


def test_alpha_sets_how_often_an_unneeded_order_is_taken():
    toys = pseudo_data(1500, seed=3, spec="dijet:4", total=20_000)
    taken = {
        a: np.mean(fit_many(toys, EDGES, "dijet", mask=MASK, alpha=a).n_parameters > 4) for a in (0.05, 0.3)
    }
    # two nested alternatives share the level
    assert 0.03 < taken[0.05] < 0.11
    assert taken[0.3] > 3 * taken[0.05]


def test_average_over_orders_is_the_weighted_sum_of_fixed_orders():
    counts = pseudo_data(1, seed=5, spec="dijet:5", total=50_000)[0]
    fit = fit_spectrum(counts, EDGES, "dijet", mask=MASK, choice="average")
    single = [fit_spectrum(counts, EDGES, f"dijet:{p}", mask=MASK) for p in (4, 5, 6)]
    chosen = fit_spectrum(counts, EDGES, "dijet", mask=MASK).n_parameters
    aic = np.array([f.deviance + 2 * f.n_parameters for f in single])
    weights = np.exp(-0.5 * (aic - aic.min())) * [p <= chosen + 1 for p in (4, 5, 6)]
    weights /= weights.sum()
    assert [t.weight for t in fit.tried] == pytest.approx(weights, rel=1e-3)
    assert fit.averaged
    assert fit.function == single[int(weights.argmax())].function
    mixed = sum(w * f.expected for w, f in zip(weights, single, strict=True))
    assert fit.expected == pytest.approx(mixed, rel=1e-4)
    b, sigma = np.array([f.window(10, 15) for f in single]).T
    mean = weights @ b
    assert fit.window(10, 15) == pytest.approx(
        (mean, np.sqrt(weights @ (sigma**2 + (b - mean) ** 2))), rel=1e-3
    )
    assert not fit_spectrum(counts, EDGES, "dijet:4", mask=MASK, choice="average").averaged


@pytest.mark.parametrize(
    ("spec", "total"), [("dijet", 20_000), ("exppoly", 3000), ("exppoly", 40), ("turn-on", 20_000)]
)
def test_averages_of_many_fits_agree_with_single_ones(spec, total):
    toys = np.vstack([pseudo_data(4, seed=2, total=total), np.zeros((1, 34))])
    many = fit_many(toys, EDGES, spec, mask=MASK, choice="average")
    for i, counts in enumerate(toys):
        one = fit_spectrum(counts, EDGES, spec, mask=MASK, choice="average")
        assert (many.window[i], many.window_error[i]) == pytest.approx(one.window(10, 15), rel=0.03, abs=1e-9)
        assert many.expected[i] == pytest.approx(one.expected, rel=0.02, abs=1e-9)


@pytest.mark.parametrize("degree", [3, 4])
def test_an_average_fluctuates_as_it_says_where_a_chosen_order_does_not(degree):
    # half a standard deviation of curvature: too little for a test to see, and too much for the window
    smooth = fit_spectrum(truth("dijet:5", 60_000), EDGES, f"exppoly:{degree}").expected
    toys = np.random.default_rng(degree).poisson(smooth, (1500, 34)).astype(float)

    def pulls(choice):
        fits = fit_many(toys, EDGES, "exppoly", mask=MASK, choice=choice)
        return (toys[:, MASK].sum(axis=1) - fits.window) / np.sqrt(fits.window + fits.window_error**2)

    average, chosen = pulls("average"), pulls("lrt")
    assert np.mean(average**2) < 1.06
    assert np.mean(chosen**2) > 1.05 * np.mean(average**2)
    assert 0.01 < np.mean(average > 1.645) < 0.06


@given(factor=st.floats(1e-3, 1e3))
@settings(max_examples=15, deadline=None)
def test_common_weight_scales_everything_and_changes_no_choice(factor):
    counts = pseudo_data(1, seed=6, total=4000)[0]
    plain = fit_spectrum(counts, EDGES, "dijet", mask=MASK)
    scaled = fit_spectrum(counts * factor, EDGES, "dijet", mask=MASK, scale=factor)
    assert scaled.function == plain.function
    assert scaled.expected == pytest.approx(plain.expected * factor, rel=1e-6)
    assert scaled.expected_error == pytest.approx(plain.expected_error * factor, rel=1e-3)
    assert scaled.deviance == pytest.approx(plain.deviance, rel=1e-6)
    assert scaled.density(3000.0) == pytest.approx(plain.density(3000.0) * factor, rel=1e-6)


def test_window_error_includes_correlations():
    fit = fit_spectrum(pseudo_data(1)[0], EDGES, "dijet:4", mask=MASK)
    _, sigma = fit.window(10, 15)
    # neighbouring bins of a smooth function move together: linear, not quadratic, sum of errors
    assert sigma > 0.8 * fit.expected_error[10:15].sum()
    assert fit.window(12, 13) == pytest.approx((fit.expected[12], fit.expected_error[12]))


def test_normalisation_is_that_of_the_data():
    counts = pseudo_data(1)[0]
    fit = fit_spectrum(counts, EDGES, "dijet", mask=MASK)
    assert fit.expected[~MASK].sum() == pytest.approx(counts[~MASK].sum(), rel=1e-5)


@pytest.mark.parametrize("total", [0.5, 5.0, 1e9])
def test_extreme_counts(total):
    rng = np.random.default_rng(11)
    for counts in rng.poisson(truth(total=total), (4, 34)).astype(float):
        fit = fit_spectrum(counts, EDGES, "dijet", mask=MASK)
        many = fit_many(counts, EDGES, "dijet", mask=MASK)
        assert np.all(np.isfinite(fit.expected))
        assert fit.expected[~MASK].sum() == pytest.approx(counts[~MASK].sum(), rel=1e-4, abs=1e-4)
        assert many.expected[0].sum() == pytest.approx(fit.expected.sum(), rel=1e-2, abs=1e-4)


def test_all_events_in_one_bin():
    counts = np.zeros(34)
    counts[3] = 5
    fit = fit_spectrum(counts, EDGES, "dijet", mask=MASK)
    assert np.all(np.isfinite(fit.expected))
    assert np.isfinite(fit.window(10, 15)[1])


def test_empty_selection_keeps_a_one_event_error():
    offset = truth(total=1000)
    fit = fit_spectrum(np.zeros(34), EDGES, efficiency_family(), mask=MASK, offset=offset)
    b, sigma = fit.window(10, 15)
    assert b == 0.0
    assert sigma == pytest.approx(offset[MASK].sum() / offset[~MASK].sum())
    many = fit_many(np.zeros((2, 34)), EDGES, efficiency_family(), mask=MASK, offset=offset)
    assert many.window_error == pytest.approx([sigma, sigma])


def test_polynomial_finds_a_line_and_a_parabola():
    centre, width = 0.5 * (EDGES[1:] + EDGES[:-1]), np.diff(EDGES)
    line = (20.0 - 3.0 * centre / 1000.0) * width
    fit = fit_spectrum(line, EDGES, "poly:1", mask=MASK)
    # 20 - 3 m/TeV from 2.6 to 6 TeV, about the middle of the range
    assert fit.params == pytest.approx([20.0 - 3.0 * 4.3, -3.0 * 1.7], rel=1e-4)
    assert fit.expected == pytest.approx(line, rel=1e-5)
    parabola = fit_spectrum(line, EDGES, "poly:2", mask=MASK)
    assert parabola.params[2] == pytest.approx(0.0, abs=0.05)


def test_polynomial_pulls_and_toys():
    centre, width = 0.5 * (EDGES[1:] + EDGES[:-1]), np.diff(EDGES)
    expected = (8.0 - 1.0 * centre / 1000.0) * width
    toys = np.random.default_rng(8).poisson(expected, (60, 34)).astype(float)
    many = fit_many(toys, EDGES, "poly:2", mask=MASK)
    pulls = (many.window - expected[MASK].sum()) / many.window_error
    assert abs(pulls.mean()) < 3 / np.sqrt(60)
    assert 0.75 < pulls.std() < 1.25


def test_a_polynomial_that_touches_zero_is_fitted():
    """Few events and many degrees: the minimum lies where second derivatives jump, and is the constrained one all the same."""
    edges, rng = np.linspace(60.0, 120.0, 37), np.random.default_rng(3)
    mask = np.zeros(36, dtype=bool)
    mask[15:19] = True
    centre = (edges[1:] + edges[:-1]) / 2
    basis = np.polynomial.chebyshev.chebvander((centre - 90) / 30, 6)
    touching = 0
    for toy in rng.poisson(34 / 36, (12, 36)).astype(float):
        n = toy[~mask]
        fit = fit_spectrum(toy, edges, "poly:6", mask=mask)
        touching += fit.expected.min() < 1e-3

        def half(theta, n=n):
            mu = np.maximum(basis[~mask] @ theta, 1e-12)
            return float(np.sum(mu - special.xlogy(n, mu)))

        def slope(theta, n=n):
            return basis[~mask].T @ (1 - n / np.maximum(basis[~mask] @ theta, 1e-12))

        bounded = optimize.minimize(
            half, [n.mean(), *np.zeros(6)], jac=slope, method="SLSQP", options={"maxiter": 500, "ftol": 1e-12},
            constraints={"type": "ineq", "fun": lambda t: basis @ t, "jac": lambda t: basis},
        )  # fmt: skip
        curve = np.maximum(basis @ bounded.x, 1e-12)
        assert deviance(n, fit.expected[~mask]) == pytest.approx(deviance(n, curve[~mask]), abs=0.05)
        assert fit.expected[mask].sum() == pytest.approx(curve[mask].sum(), abs=0.05)
    assert touching >= 4


def test_polynomial_never_predicts_negative_counts():
    counts = np.zeros(34)
    counts[:6] = [50, 30, 10, 4, 1, 1]
    fit = fit_spectrum(counts, EDGES, "poly:2", mask=MASK)
    assert np.all(fit.expected >= 0)


def test_goodness_of_fit_is_uniform_for_sparse_and_dense_spectra():
    for total in (150, 50_000):
        p = [
            fit_spectrum(c, EDGES, "dijet:3").gof_p
            for c in pseudo_data(80, seed=12, spec="dijet:3", total=total)
        ]
        assert stats.kstest(p, "uniform").pvalue > 1e-3
    wrong = truth(total=50_000)
    wrong[20:23] *= 1.5
    assert fit_spectrum(wrong, EDGES, "dijet:3").gof_p < 1e-6


def test_sampled_masses_follow_the_fit():
    fit = fit_spectrum(truth(total=1e5), EDGES, "dijet:4")
    mass = fit.sample(20_000, 3000.0, 4000.0, np.random.default_rng(0))
    assert mass.min() >= 3000.0
    assert mass.max() <= 4000.0
    grid = np.linspace(3000.0, 4000.0, 5001)
    cumulative = np.cumsum(fit.density(grid))
    assert stats.kstest(mass, lambda m: np.interp(m, grid, cumulative / cumulative[-1])).pvalue > 1e-3


def test_results_are_json_ready():
    fit = fit_spectrum(pseudo_data(1)[0], EDGES, "dijet:4").to_dict()
    assert set(fit["parameters"]) == {"ln p0", "p1", "p2", "p3"}
    assert fit["function"] == "dijet-4"
    assert [t["name"] for t in fit["tried"]] == ["dijet-4"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": np.full(34, np.nan)}, "finite"),
        ({"counts": np.full(34, -1.0)}, "negative"),
        ({"mask": np.ones(34, dtype=bool)}, "no bin is left"),
        ({"mask": np.arange(34) > 1}, "only 2 bins"),
        ({"offset": np.zeros(34)}, "positive"),
        ({"family": "cubic"}, "cubic"),
    ],
)
def test_unusable_input_is_explained(change, message):
    arguments = {"counts": np.ones(34), "family": "dijet", "mask": MASK, "offset": None, **change}
    with pytest.raises(InputError, match=message):
        fit_spectrum(arguments.pop("counts"), EDGES, arguments.pop("family"), **arguments)


def test_wrong_shapes_are_a_programming_error():
    with pytest.raises(ValueError, match="33 counts"):
        fit_spectrum(np.ones(33), EDGES, "dijet")
    with pytest.raises(ValueError, match="scale"):
        fit_spectrum(np.ones(34), EDGES, "dijet", scale=0.0)


def test_no_valid_minimum_is_an_error_that_names_the_range(monkeypatch):
    monkeypatch.setattr(fit_module, "minimise", lambda *_: None)
    with pytest.raises(FitError, match="2600 and 6000 GeV"):
        fit_spectrum(np.ones(34), EDGES, "dijet")


@pytest.mark.slow
@pytest.mark.parametrize("total", [1_000, 10_000, 100_000])
def test_rates_of_the_count_by_choice_of_the_order(total):
    """Rate of p < 0.05 and 0.01 and variance of the pulls of a masked window; printed for docs/statistics.md."""
    shapes = {
        "dijet-4, p = (10, 5, 0.5)": ("dijet:4", [0.0, 10.0, 5.0, 0.5]),
        "dijet-4, p = (0, 8, 2)": ("dijet:4", [0.0, 0.0, 8.0, 2.0]),
        "dijet-5, p = (10, 5, 1, 1)": ("dijet:5", [0.0, 10.0, 5.0, 1.0, 1.0]),
    }
    rng = np.random.default_rng(total)
    for name, (spec, params) in shapes.items():
        design = make_design(EDGES, get_family(spec))
        mu = design.expected(np.linalg.solve(design.to_params, np.array(params))[None])[0][:, 0]
        toys = rng.poisson(mu * total / mu.sum(), (4000, 34)).astype(float)
        observed, cells = toys[:, MASK].sum(axis=1), []
        for family in ("dijet", "exppoly"):
            for choice in ("lrt", "average"):
                fits = fit_many(toys, EDGES, family, mask=MASK, choice=choice)
                p = count_p_value(observed, fits.window, fits.window_error)
                variance = np.mean((observed - fits.window) ** 2 / (fits.window + fits.window_error**2))
                rates = np.mean(p < 0.05), np.mean(p < 0.01)
                cells.append("{:.3f} / {:.3f}, {:.2f}".format(*rates, variance))
                if choice == "average":
                    assert rates[0] < 0.06
                    assert rates[1] < 0.016
                    assert variance < 1.12
        print(f"| {total:,} | {name} | {' | '.join(cells)} |")
