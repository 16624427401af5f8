from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyhf
import pytest
import typer
from scipy import integrate, optimize, stats
from typer.testing import CliRunner

from serendip.cli.abcd import abcd
from serendip.errors import InputError
from serendip.statistics.abcd import (
    AbcdCounts,
    abcd_counts,
    abcd_limit,
    abcd_regions,
    closure,
    exact_log_p_value,
    expected_z,
    fit_abcd,
)

RUNNER = CliRunner()
APP = typer.Typer()
APP.command()(abcd)


def counts(*n: float, scale: float = 1.0) -> AbcdCounts:
    a, b, c, d = (float(value) * scale for value in n)
    return AbcdCounts(a, b, c, d, (scale,) * 4)


def sample(n: int = 40_000, rho: float = 0.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, rho], [rho, 1]], n).T
    return x, y


def pyhf_model(n: AbcdCounts, signal: tuple[float, ...], delta: float) -> pyhf.Model:
    """The likelihood of the module as four channels with free normalisations."""
    factors = {"A": ("n", "rx", "ry"), "B": ("n", "rx"), "C": ("n", "ry"), "D": ("n",)}
    nominal = {"A": n.expected, "B": n.b, "C": n.c, "D": n.d}
    channels = []
    for (name, norms), s in zip(factors.items(), signal, strict=True):
        modifiers = [{"name": norm, "type": "normfactor", "data": None} for norm in norms]
        if name == "A" and delta:
            size = {"hi": 1 + delta, "lo": 1 / (1 + delta)}
            modifiers.append({"name": "closure", "type": "normsys", "data": size})
        samples = [{"name": "background", "data": [nominal[name]], "modifiers": modifiers}]
        if s:
            strength = [{"name": "mu", "type": "normfactor", "data": None}]
            samples.append({"name": "signal", "data": [s], "modifiers": strength})
        channels.append({"name": name, "samples": samples})
    spec = {"channels": channels, "parameters": [{"name": "mu", "bounds": [[-5.0, 20.0]], "inits": [1.0]}]}
    exponential = {"normsys": {"interpcode": "code1"}}
    return pyhf.Model(spec, poi_name="mu", modifier_settings=exponential, validate=False)


@pytest.fixture
def minuit_backend():
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
    yield
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer())


CASES = [
    ((60, 200, 300, 1200), (20.0, 3.0, 2.0, 1.0), 0.0),
    ((40, 200, 300, 1200), (20.0, 3.0, 2.0, 1.0), 0.1),
    ((5, 20, 30, 200), (4.0, 1.0, 0.5, 0.2), 0.2),
]


@pytest.mark.parametrize(("n", "signal", "delta"), CASES)
def test_pyhf_gives_the_same_strength_and_test_statistic(n, signal, delta, minuit_backend):
    ours = fit_abcd(counts(*n), signal, closure=delta)
    model = pyhf_model(counts(*n), signal, delta)
    data = [*map(float, n), *model.config.auxdata]
    best, lowest = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
    _, at_zero = pyhf.infer.mle.fixed_poi_fit(0.0, data, model, return_fitted_val=True)
    assert ours.mu == pytest.approx(float(best[model.config.poi_index]), abs=1e-3)
    assert ours.q0 == pytest.approx(float(at_zero - lowest), abs=1e-3)
    assert np.sign(ours.z_asymptotic) == np.sign(ours.mu)
    assert abs(ours.z_asymptotic) == pytest.approx(np.sqrt(ours.q0))
    for end in ours.mu_interval:
        _, value = pyhf.infer.mle.fixed_poi_fit(end, data, model, return_fitted_val=True)
        assert float(value - lowest) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("n", "signal", "delta"), CASES)
def test_pyhf_gives_the_same_limits(n, signal, delta, minuit_backend):
    ours = abcd_limit(counts(*n), signal, closure=delta)
    model = pyhf_model(counts(*n), signal, delta)
    data = [*map(float, n), *model.config.auxdata]
    bounds = [list(pair) for pair in model.config.suggested_bounds()]
    bounds[model.config.poi_index] = [0.0, 20.0]

    def cls(mu: float) -> tuple[float, list[float]]:
        observed, expected = pyhf.infer.hypotest(
            mu, data, model, par_bounds=bounds, test_stat="qtilde", return_expected_set=True
        )
        return float(observed), [float(value) for value in expected]

    observed = optimize.brentq(lambda mu: cls(mu)[0] - 0.05, 0.1, 10.0, rtol=1e-5)
    assert ours.observed == pytest.approx(observed, rel=1e-3)
    for i, value in enumerate(ours.expected):
        assert cls(value)[1][i] == pytest.approx(0.05, rel=3e-3)
    assert list(ours.expected) == sorted(ours.expected)
    assert abcd_limit(counts(*n), signal, closure=delta, level=0.9).observed < ours.observed


def test_contamination_and_closure_change_the_strength():
    n = counts(60, 200, 300, 1200)
    clean = fit_abcd(n, (20.0, 0.0, 0.0, 0.0))
    assert clean.mu == pytest.approx((60 - 50) / 20, abs=1e-3)
    assert clean.background == pytest.approx((50.0, 200.0, 300.0, 1200.0), rel=1e-3)
    # signal in B and C is taken for background there: the prediction falls once the fit knows of it
    dirty = fit_abcd(n, (20.0, 10.0, 10.0, 0.0))
    assert dirty.mu > 1.15 * clean.mu
    assert dirty.background[1] + 10 * dirty.mu == pytest.approx(200, rel=1e-3)
    loose = fit_abcd(n, (20.0, 0.0, 0.0, 0.0), closure=0.2)
    assert 0 < loose.z < 0.75 * clean.z
    assert (
        loose.mu_interval[0] < clean.mu_interval[0] < clean.mu < clean.mu_interval[1] < loose.mu_interval[1]
    )


def test_without_contamination_the_intervals_are_known():
    """mu = n_A - B C / D; in the Gaussian limit its error is that of error propagation."""
    n = counts(1_100_000, 1_000_000, 1_000_000, 1_000_000)
    fit = fit_abcd(n)
    error = np.sqrt(n.a + n.expected_error() ** 2)
    assert fit.mu == pytest.approx(100_000, abs=10)
    assert fit.mu_interval[1] - fit.mu == pytest.approx(error, rel=0.01)
    assert fit.mu - fit.mu_interval[0] == pytest.approx(error, rel=0.01)
    assert fit.p == fit.p_asymptotic


@pytest.mark.parametrize("n", [(3, 0, 5, 100), (30, 200, 250, 2000), (70, 200, 250, 2000), (5, 10, 0, 3)])
def test_exact_p_is_that_of_fisher(n):
    a, b, c, d = n
    assert exact_log_p_value(counts(*n)) == pytest.approx(
        np.log(stats.fisher_exact([[a, b], [c, d]], alternative="greater").pvalue), rel=1e-6
    )

    def given(theta: float) -> float:
        odds = 1.2**theta
        return float(stats.norm.pdf(theta) * stats.nchypergeom_fisher.sf(a - 1, sum(n), a + b, a + c, odds))

    expected = integrate.quad(given, -8, 8, limit=200)[0]
    assert exact_log_p_value(counts(*n), 0.2) == pytest.approx(np.log(expected), rel=1e-4)
    assert fit_abcd(counts(*n), closure=0.2).p == pytest.approx(expected, rel=1e-4)


def test_exact_p_for_nothing_and_for_very_many():
    assert exact_log_p_value(counts(0, 4, 5, 100)) == 0.0
    assert exact_log_p_value(counts(5000, 5000, 5000, 5000)) is None
    # where it ends the asymptotic one takes over without a step
    many = counts(1950, 1900, 1900, 1900)
    assert fit_abcd(many).z == pytest.approx(fit_abcd(many).z_asymptotic, abs=0.03)


def test_p_does_not_over_claim_for_few_events():
    """Fraction of p < 0.05 and 0.01 with 3 events expected from 15, 20 and 100; the asymptotic p has more."""
    rng = np.random.default_rng(3)
    n = rng.poisson([3.0, 15.0, 20.0, 100.0], (4000, 4))
    seen: dict[tuple[int, ...], float] = {}
    for row in map(tuple, n.tolist()):
        if row not in seen:
            seen[row] = np.exp(exact_log_p_value(counts(*row)))
    p = np.array([seen[row] for row in map(tuple, n.tolist())])
    for level in (0.05, 0.01):
        assert np.mean(p <= level) <= level + 3 * np.sqrt(level / len(p))
    assert np.mean(p <= 0.05) > 0.015


@pytest.mark.parametrize("delta", [0.15, pytest.param(0.0, marks=pytest.mark.slow)])
def test_p_is_uniform_and_the_interval_covers(delta):
    """Prior-predictive experiments: non-closure drawn from its constraint, 2 signal events per strength in B."""
    rng = np.random.default_rng(5)
    signal, mu, inside, p = np.array([20.0, 4.0, 2.0, 0.0]), 1.0, 0, []
    for _ in range(70):
        kappa = (1 + delta) ** rng.normal()
        n0 = rng.poisson([50 * kappa, 200, 250, 1000])
        p.append(fit_abcd(counts(*n0), signal, closure=delta).p_asymptotic)
        n1 = rng.poisson(np.array([50 * kappa, 200, 250, 1000]) + mu * signal)
        low, high = fit_abcd(counts(*n1), signal, closure=delta).mu_interval
        inside += low <= mu <= high
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert abs(inside / 70 - 0.6827) < 3 * np.sqrt(0.6827 * 0.3173 / 70)


def test_expected_significance_is_that_of_the_asimov_data():
    n, s = counts(0, 200, 300, 1200), (25.0, 2.0, 1.0, 0.0)
    asimov = AbcdCounts(n.expected + 25.0, 202.0, 301.0, 1200.0)
    assert expected_z(n, s, closure=0.1) == pytest.approx(
        fit_abcd(asimov, s, closure=0.1).z_asymptotic, abs=1e-3
    )
    assert expected_z(AbcdCounts(None, 200.0, 300.0, 1200.0), s, closure=0.1) == expected_z(n, s, closure=0.1)


def test_hidden_counts_give_the_expected_limit_only():
    hidden = AbcdCounts(None, 200.0, 300.0, 1200.0)
    limit = abcd_limit(hidden, closure=0.1)
    assert limit.observed is None
    assert limit.expected == pytest.approx(abcd_limit(counts(50, 200, 300, 1200), closure=0.1).expected)
    with pytest.raises(InputError, match="A is hidden"):
        fit_abcd(hidden)


def test_a_common_weight_changes_no_significance():
    n, s = (60, 200, 300, 1200), np.array([20.0, 3.0, 2.0, 1.0])
    one, seven = fit_abcd(counts(*n), s, closure=0.1), fit_abcd(counts(*n, scale=7.0), 7 * s, closure=0.1)
    assert seven.z == pytest.approx(one.z, abs=1e-4)
    assert seven.z_asymptotic == pytest.approx(one.z_asymptotic, abs=1e-4)
    assert seven.mu == pytest.approx(one.mu, abs=1e-3)
    assert seven.background == pytest.approx(7 * np.array(one.background), rel=1e-3)


def test_weights_of_a_region_enlarge_its_error():
    """100 events of weight 2 in B are not 200 events."""
    region = np.repeat([0, 1, 2, 3], [20, 100, 200, 2000])
    x, y = np.where(region < 2, 1.0, -1.0), np.where(region % 2 == 0, 1.0, -1.0)
    heavy = abcd_counts(x, y, 0.0, 0.0, weights=np.where(region == 1, 2.0, 1.0))
    assert (heavy.a, heavy.b, heavy.c, heavy.d) == (20.0, 200.0, 200.0, 2000.0)
    assert heavy.scale == (1.0, 2.0, 1.0, 1.0)
    assert heavy.expected_error() == pytest.approx(20 * np.sqrt(1 / 100 + 1 / 200 + 1 / 2000))
    light = fit_abcd(counts(20, 200, 200, 2000)).mu_interval
    assert fit_abcd(heavy).mu_interval[1] - light[1] == pytest.approx(
        np.sqrt(20 + heavy.expected_error() ** 2) - np.sqrt(20 + 4 + 0.2), rel=0.2
    )
    # the pull of weighted toys has width one
    rng, pulls = np.random.default_rng(2), []
    for _ in range(400):
        w = rng.exponential(1.0, rng.poisson(2000))
        u, v = rng.random((2, len(w)))
        n = abcd_counts(u, v, 0.9, 0.8, weights=w)
        pulls.append((n.a - n.expected) / np.hypot(n.expected_error(), np.sqrt(n.scale[0] * n.expected)))
    assert abs(np.mean(pulls)) < 0.2
    assert np.std(pulls) == pytest.approx(1.0, abs=3 / np.sqrt(800))


def test_regions_and_counts():
    x, y = np.array([1.0, 0.5, 0.4, 0.0]), np.array([2.0, 1.9, 2.0, 0.0])
    assert abcd_regions(x, y, 0.5, 2.0).tolist() == [0, 1, 2, 3]
    n = abcd_counts(x, y, 0.5, 2.0)
    assert (n.a, n.b, n.c, n.d, n.expected) == (1.0, 1.0, 1.0, 1.0, 1.0)
    hidden = abcd_counts(x, y, 0.5, 2.0, hidden=True)
    assert hidden.a is None
    assert hidden.b == 1.0


def test_exact_p_of_regions_with_different_weights():
    """Divided by their scales, counts with weights 2 in B have an odds ratio of two without signal."""
    n = AbcdCounts(30.0, 400.0, 250.0, 2000.0, (1.0, 2.0, 1.0, 1.0))
    expected = stats.nchypergeom_fisher.sf(29, 30 + 200 + 250 + 2000, 230, 280, 2.0)
    assert exact_log_p_value(n) == pytest.approx(np.log(expected), rel=1e-6)


def test_an_empty_region_has_the_error_of_one_event():
    n = counts(2, 0, 50, 100)
    assert n.expected == 0
    assert n.expected_error() == pytest.approx(0.5 * np.sqrt(1 + 1 / 50 + 1 / 100))
    assert fit_abcd(n).p == pytest.approx(stats.hypergeom.sf(1, 152, 2, 52))


def test_closure_of_independent_variables():
    """Over many samples: ratios with mean one and pulls of width one."""
    found = [closure(*sample(20_000, seed=seed), 1.3, 1.0) for seed in range(60)]
    for i, name in enumerate(("C+D", "B+D", "D")):
        tables = [one.tables[i] for one in found]
        assert {t.name for t in tables} == {name}
        pulls = np.array([t.pull for t in tables])
        assert abs(pulls.mean()) < 3 / np.sqrt(60)
        assert pulls.std() == pytest.approx(1.0, abs=3 / np.sqrt(120))
    mean_pulls = np.array([one.mean / one.mean_error for one in found])
    assert mean_pulls.std() == pytest.approx(1.0, abs=3 / np.sqrt(120))
    t = found[0].tables[0]
    x, y = sample(20_000, seed=0)
    cd = x < 1.3
    n = [np.sum(cd & a & b) for a in (x >= t.cut_x, x < t.cut_x) for b in (y >= 1.0, y < 1.0)]
    assert t.observed == n[0]
    assert t.ratio == pytest.approx(n[0] * n[3] / (n[1] * n[2]))
    assert t.error == pytest.approx(np.sqrt(np.sum(1 / np.array(n))))


def test_error_of_the_mean_closure_knows_of_shared_events():
    """Against the derivatives by the eight cells that the tables are made of."""
    x, y = sample(5000, seed=3)
    found = closure(x, y, 1.3, 1.0, validation_x=0.6, validation_y=0.3)
    i, j = np.digitize(x, [0.6, 1.3]), np.digitize(y, [0.3, 1.0])
    cells = np.array([[np.sum((i == a) & (j == b)) for b in range(3)] for a in range(3)])
    # rows and columns of each table: (x low, x high, y low, y high)
    tables = [([0], [1], [0, 1], [2]), ([0, 1], [2], [0], [1]), ([0], [1], [0], [1])]
    slopes = []
    for x_low, x_high, y_low, y_high in tables:
        slope = np.zeros((3, 3))
        for xs, ys, sign in (
            (x_high, y_high, 1),
            (x_high, y_low, -1),
            (x_low, y_high, -1),
            (x_low, y_low, 1),
        ):
            block = np.ix_(xs, ys)
            slope[block] += sign / cells[block].sum()
        slopes.append(slope.ravel())
    covariance = np.array(slopes) * cells.ravel() @ np.array(slopes).T
    weights = 1 / np.diag(covariance)
    assert [t.error for t in found.tables] == pytest.approx(np.sqrt(np.diag(covariance)))
    assert found.mean_error == pytest.approx(np.sqrt(weights @ covariance @ weights) / weights.sum())


def test_closure_finds_a_dependence_and_covers_it():
    x, y = sample(60_000, rho=0.15, seed=4)
    found = closure(x, y, 1.5, 1.2)
    n = abcd_counts(x, y, 1.5, 1.2)
    assert found.mean > 5 * found.mean_error
    true = np.log(n.a / n.expected)
    assert found.uncertainty > 0.4 * true
    assert abs(fit_abcd(n, closure=found.uncertainty).z) < 0.5 * abs(fit_abcd(n).z)
    # the dependence grows towards the corner
    along = [t for t in found.scan if t.name == "C+D"]
    assert [t.cut_x for t in along] == sorted(t.cut_x for t in along)
    assert along[-1].ratio > along[0].ratio > 1.0
    assert len(along) >= 5


def test_closure_never_looks_at_the_signal_region():
    x, y = sample(20_000, seed=7)
    inside = (x >= 1.3) & (y >= 1.0)
    assert closure(x[~inside], y[~inside], 1.3, 1.0, validation_x=0.8, validation_y=0.5) == closure(
        x, y, 1.3, 1.0, validation_x=0.8, validation_y=0.5
    )
    moved = np.where(inside, x + 1.0, x)
    assert closure(moved, y, 1.3, 1.0) == closure(x, y, 1.3, 1.0)


def test_closure_with_weights_and_given_cuts():
    x, y = sample(20_000, seed=8)
    one = closure(x, y, 1.3, 1.0, validation_x=0.8, validation_y=0.5)
    assert [(t.cut_x, t.cut_y) for t in one.tables] == [(0.8, 1.0), (1.3, 0.5), (0.8, 0.5)]
    three = closure(x, y, 1.3, 1.0, validation_x=0.8, validation_y=0.5, weights=np.full(len(x), 3.0))
    assert three.uncertainty == pytest.approx(one.uncertainty)
    assert three.tables[0].observed == 3 * one.tables[0].observed
    uneven = np.random.default_rng(1).exponential(1.0, len(x))
    assert closure(x, y, 1.3, 1.0, validation_x=0.8, validation_y=0.5, weights=uneven).tables[
        0
    ].error > 1.2 * (one.tables[0].error)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: AbcdCounts(1.0, 2.0, 3.0, 0.0), "region D .* is empty"),
        (lambda: AbcdCounts(1.0, -2.0, 3.0, 4.0), "not negative"),
        (lambda: AbcdCounts(1.0, 2.0, 3.0, 4.0, (1.0, 0.0, 1.0, 1.0)), "scale .* must be positive"),
        (lambda: abcd_counts([1.0, np.nan], [1.0, 2.0], 0.0, 0.0), "x is not finite in 1 event"),
        (lambda: abcd_counts([1.0], [1.0, 2.0], 0.0, 0.0), "equal length"),
        (lambda: abcd_counts([1.0], [1.0], np.inf, 0.0), "cuts must be numbers"),
        (lambda: abcd_counts([-1.0], [-1.0], 0.0, 0.0, weights=[-1.0]), "weights must be finite"),
        (lambda: fit_abcd(counts(9, 9, 9, 9), (0.0, 1.0, 1.0, 1.0)), "some in A"),
        (lambda: fit_abcd(counts(9, 9, 9, 9), (1.0, 1.0, 1.0, 0.0)), "makes no excess"),
        (lambda: fit_abcd(counts(9, 9, 9, 9), closure=-0.1), "closure uncertainty"),
        (lambda: abcd_limit(counts(9, 9, 9, 9), level=95), "between 0 and 1"),
        (lambda: closure(*sample(1000), 1.0, 1.0, validation_x=1.5), "must lie below"),
        (
            lambda: closure(*sample(60), 1.0, 1.0, validation_x=-3.0, validation_y=-3.0),
            "choose other validation cuts",
        ),
    ],
)
def test_what_cannot_be_used_is_explained(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_fits_of_any_counts_end_well():
    rng = np.random.default_rng(11)
    for _ in range(25):
        mean = 10 ** rng.uniform(-1, 6, 4)
        n = rng.poisson(mean)
        n[3] = max(n[3], 1)
        fit = fit_abcd(counts(*n), closure=float(rng.choice([0.0, 0.1, 0.5])))
        assert 0 <= fit.p <= 1
        assert np.isfinite([fit.z, fit.mu, fit.q0]).all()
        low, high = fit.mu_interval
        assert low < fit.mu < high
    limit = abcd_limit(counts(10**6, 10**6, 10**6, 10**6), closure=0.2)
    assert limit.observed == pytest.approx(limit.expected[2], rel=1e-3)


def test_command(tmp_path):
    x, y = sample(30_000, seed=12)
    rng = np.random.default_rng(3)
    sx, sy = rng.normal(2.5, 0.7, (2, 300))
    table = {"s1": np.concatenate([x, sx]), "s2": np.concatenate([y, sy]), "w": np.full(30_300, 2.0)}
    table["truth"] = np.repeat([0, 1], [30_000, 300])
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table(table), path)
    arguments = [str(path), "--x", "s1", "--y", "s2+1", "--cut-x", "1.5", "--cut-y", "2.5", "--json"]

    def run(*more: str) -> dict:
        result = RUNNER.invoke(APP, [*arguments, *more])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    hidden = run("--signal-label", "truth")
    assert hidden["counts"]["A"] is None
    assert hidden["fit"] is None
    assert hidden["limit"]["observed"] is None
    counted = abcd_counts(table["s1"], table["s2"] + 1, 1.5, 2.5)
    assert hidden["counts"]["B"] == counted.b
    assert hidden["signal"][0] == np.sum((sx >= 1.5) & (sy >= 1.5))
    assert hidden["signal_effective_events"] == pytest.approx(hidden["signal"][0])
    shown = run("--signal-label", "truth", "--unblind")
    assert shown["counts"]["A"] == counted.a
    assert shown["fit"]["mu"] == pytest.approx(1.0, abs=0.25)
    assert shown["fit"]["z"] > 2.5
    assert run("--closure", "0.05", "--unblind")["fit"]["z"] > 5
    assert shown["expected"] == hidden["expected"]
    assert run("--closure", "0.5", "--unblind")["fit"]["z"] < run("--closure", "0", "--unblind")["fit"]["z"]
    assert run("--weight", "w")["expected"] == pytest.approx(2 * hidden["expected"])
    assert run("--where", "s1 < 3", "--unblind")["counts"]["A"] < counted.a
    assert run("--validation-x", "0.3", "--validation-y", "1.4")["closure"]["tables"][0]["cut_x"] == 0.3
    signal = tmp_path / "signal.parquet"
    pq.write_table(pa.table({"s1": sx, "s2": sy, "w": np.full(300, 0.5)}), signal)
    scaled = run("--signal", str(signal), "--signal-weight", "w", "--unblind")
    assert scaled["fit"]["mu"] == pytest.approx(2 * shown["fit"]["mu"], rel=1e-3)

    text = RUNNER.invoke(APP, [*arguments[:-1], "--signal-label", "truth", "--unblind"]).stdout
    assert f"A {counted.a:g}, B {counted.b:g}" in text
    assert "excess" in text
    assert "add --unblind" in RUNNER.invoke(APP, arguments[:-1]).stdout
    both = RUNNER.invoke(APP, [*arguments, "--signal", str(signal), "--signal-label", "truth"])
    assert isinstance(both.exception, InputError)
    assert isinstance(RUNNER.invoke(APP, [*arguments, "--signal-weight", "w"]).exception, InputError)


def test_signal_with_negative_weights_is_summed(tmp_path):
    """Next-to-leading order: the yield is the sum of weights, its error comes from their squares."""
    rng = np.random.default_rng(4)
    data, signal = tmp_path / "data.parquet", tmp_path / "signal.parquet"
    events = dict(zip("xy", rng.random((2, 5000)), strict=True)) | {"v": np.repeat([1.0, -1.0], [4990, 10])}
    pq.write_table(pa.table(events), data)
    columns = dict(zip("xy", rng.uniform(0.85, 1, (2, 600)), strict=True))
    columns["w"] = np.where(rng.random(600) < 0.2, -0.1, 0.1)
    pq.write_table(pa.table(columns), signal)
    arguments = [
        str(data),
        "--x",
        "x",
        "--y",
        "y",
        "--cut-x",
        "0.9",
        "--cut-y",
        "0.9",
        "--signal",
        str(signal),
    ]

    result = RUNNER.invoke(APP, [*arguments, "--signal-weight", "w", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    inside = (columns["x"] >= 0.9) & (columns["y"] >= 0.9)
    total = columns["w"][inside].sum()
    assert found["signal"][0] == pytest.approx(total)
    assert found["signal_effective_events"] == pytest.approx(total**2 / (0.01 * inside.sum()))

    # a region in which the sum is negative: by chance, or because the sign is wrong
    columns["w"] = np.where(inside, 0.1, 0.0)
    few = np.flatnonzero((columns["x"] < 0.9) & (columns["y"] >= 0.9))[:5]
    columns["w"][few] = [0.1, 0.1, -0.1, -0.1, -0.1]
    pq.write_table(pa.table(columns), signal)
    found = json.loads(RUNNER.invoke(APP, [*arguments, "--signal-weight", "w", "--json"]).stdout)
    assert found["signal"][2] == 0.0
    wrong = RUNNER.invoke(APP, [*arguments, "--signal-weight", "-w"])
    assert isinstance(wrong.exception, InputError)
    assert re.search(
        r"signal.parquet: the sum of signal weights in A is -.*check --signal-weight",
        str(wrong.exception),
    )
    # data have no such weights
    assert "'v' is negative in 10 rows" in str(RUNNER.invoke(APP, [*arguments, "--weight", "v"]).exception)


def test_messages_name_what_the_user_gave(tmp_path, caplog):
    """The table needs no mass, so none is invented for it."""
    x, y = sample(2000, seed=5)
    x[:10] = np.nan
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"x": x, "y": y}), path)
    result = RUNNER.invoke(APP, [str(path), "--x", "x", "--y", "y", "--cut-x", "1", "--cut-y", "1"])
    assert result.exit_code == 0, result.output
    assert [record.getMessage() for record in caplog.records] == [
        "events.parquet: 10 rows left out (x is NaN or infinite: 10)"
    ]
