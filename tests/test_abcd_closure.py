"""A dependence of the variables of an ABCD measurement, continued from B, C and D into A."""

from __future__ import annotations

import json
import logging
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from scipy import special, stats
from typer.testing import CliRunner

from serendip import Events, write
from serendip.cli.abcd import abcd
from serendip.errors import InputError
from serendip.statistics.abcd import (
    abcd_counts,
    abcd_regions,
    closure,
    exact_log_p_value,
    fit_abcd,
    heaviest_event,
)
from serendip.statistics.abcd.regions import group_squares, region_sums
from serendip.statistics.abcd.trend import fit_trend, upper_edges

RUNNER = CliRunner()
APP = typer.Typer()
APP.command()(abcd)


def normal(n: int, rho: float = 0.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two standard normal variables with correlation ``rho``, about ``n`` events."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rng.poisson(n))
    return x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=len(x))


def common_tail(n: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Independent but for a fraction of events in which both have one cause."""
    rng = np.random.default_rng(seed)
    x, y = normal(n, seed=seed)
    common = rng.random(len(x)) < fraction
    cause, smear = rng.normal(1.2, 0.8, len(x)), 0.3 * rng.normal(size=(2, len(x)))
    return np.where(common, cause + smear[0], x), np.where(common, cause + smear[1], y)


def scores(edges: np.ndarray) -> np.ndarray:
    """Means of the normal score between quantiles, by sampling the quantile finely."""
    fine = [np.linspace(low, high, 200_001) for low, high in pairwise(edges)]
    return np.array([special.ndtri(0.5 * (f[1:] + f[:-1])).mean() for f in fine])


FX, FY = np.array([0.0, 0.5, 0.9, 0.95, 1.0]), np.array([0.0, 0.3, 0.6, 0.85, 0.93, 1.0])


def trend_of_cells(n: np.ndarray):
    """Trend of a grid with one event in each cell but A, whose weight is the content of the cell."""
    i, j = (index.ravel()[:-1] for index in np.indices(n.shape))
    region = 3 - 2 * (i == 3) - (j == 4)
    return fit_trend(i * 1.0, j * 1.0, n.ravel()[:-1], region, [0.5, 1.5], [0.5, 1.5, 2.5])


@pytest.mark.parametrize(("linear", "tail"), [(1e-4, 0.0), (0.0, 1e-5), (-2e-4, 2e-5)])
def test_terms_are_recovered_and_continued(linear, tail):
    u, v = scores(FX), scores(FY)
    product = np.outer(u, v)
    # the second term is to be 2.4 times as large in A as beside it
    k = np.log(2.4) / np.mean(np.log([product[-1, -1] / product[-2, -1], product[-1, -1] / product[-1, -2]]))
    assert k > 2.2
    n = 1e6 * np.outer(np.diff(FX), np.diff(FY)) * (1 + linear * product + tail * np.abs(product) ** k)
    # A itself against B C / D
    kappa = n[-1, -1] * n[:-1, :-1].sum() / (n[-1, :-1].sum() * n[:-1, -1].sum())
    assert trend_of_cells(n).excess == pytest.approx(kappa - 1, rel=0.01)


def test_error_is_that_of_the_counts():
    """Against the numerical derivatives of the excess by the counts of all cells, at 280 to 12,000 Poisson counts."""
    n = 8e4 * np.outer(np.diff(FX), np.diff(FY))
    square = 0.0
    for cell in range(n.size - 1):
        up, down = n.copy().ravel(), n.copy().ravel()
        up[cell] *= 1.0001
        down[cell] *= 0.9999
        change = trend_of_cells(up.reshape(n.shape)).excess - trend_of_cells(down.reshape(n.shape)).excess
        square += n.ravel()[cell] * (change / (2e-4 * n.ravel()[cell])) ** 2
    i, j = (
        np.repeat(index.ravel()[:-1], n.ravel()[:-1].round().astype(int)) for index in np.indices(n.shape)
    )
    region = 3 - 2 * (i == 3) - (j == 4)
    found = fit_trend(i * 1.0, j * 1.0, np.ones(len(i)), region, [0.5, 1.5], [0.5, 1.5, 2.5])
    assert found.error == pytest.approx(np.sqrt(square), rel=2e-3)


def test_a_group_of_two_is_an_event_of_weight_two():
    """Also where only the events beside A have copies."""
    x, y = normal(5000, seed=4)
    region = abcd_regions(x, y, 1.5, 1.5)
    x, y, region = x[region > 0], y[region > 0], region[region > 0]
    grid = [0.0, 1.0], [0.0, 1.0]
    near = (x > 1.0) & (y > 0.5)
    heavy = fit_trend(x, y, np.where(near, 2.0, 1.0), region, *grid)
    order = np.concatenate([np.arange(len(x)), np.flatnonzero(near)])
    copied = fit_trend(x[order], y[order], np.ones(len(order)), region[order], *grid, groups=order)
    assert (copied.excess, copied.error, copied.z) == pytest.approx((heavy.excess, heavy.error, heavy.z))
    assert copied.error > 1.1 * fit_trend(x[order], y[order], np.ones(len(order)), region[order], *grid).error


def test_bins_have_equal_factors_of_events_and_end_at_the_cut():
    values = np.arange(10_000.0)
    edges = np.array(upper_edges(values, np.ones(10_000), 0.1, 1e6))
    above = np.concatenate([[1.0], 1 - 0.9 * edges / 10_000, [0.1]])
    assert np.diff(np.log(above)) == pytest.approx(np.log(0.1) / 5, abs=0.01)
    # 20 events in the strip above the other cut: the bin beside the cut has the five that it needs
    few = upper_edges(values, np.ones(10_000), 0.1, 20.0)
    assert (10_000 - few[-1]) / 10_000 * 20 == pytest.approx(5, abs=0.3)
    assert len(few) < len(edges)
    assert upper_edges(np.repeat([0.0, 1.0], 500), np.ones(1000), 0.1, 1e6) == [1.0]
    assert upper_edges(np.zeros(1000), np.ones(1000), 0.1, 1e6) == []


def test_trend_of_independent_variables_is_none_with_errors_that_hold():
    found = [closure(*normal(10_000, seed=seed), 1.6, 1.4).trend for seed in range(50)]
    pulls = np.array([t.excess / t.error for t in found])
    assert abs(pulls.mean()) < 3 / np.sqrt(50)
    assert pulls.std() == pytest.approx(1.0, abs=3.5 / np.sqrt(100))
    assert np.mean([abs(t.z) > 2 for t in found]) < 0.05 + 3 * np.sqrt(0.05 / 50)
    assert min(t.p_described for t in found) > 1e-4
    # further out the same events say less
    far = [closure(*normal(10_000, seed=seed), 2.0, 2.0).trend.error for seed in range(5)]
    assert np.mean(far) > 2 * np.mean([t.error for t in found])


@pytest.mark.parametrize("rho", [0.04, -0.04])
def test_correlation_is_found_with_its_sign_and_continued(rho):
    x, y = normal(300_000, rho, seed=3)
    found = closure(x, y, 2.0, 2.0)
    tail = stats.norm.sf(2.0)
    above = stats.multivariate_normal(cov=[[1, rho], [rho, 1]]).cdf([-2.0, -2.0])
    true = above * (1 - 2 * tail + above) / (tail - above) ** 2 - 1
    assert abs(found.trend.excess - true) < 2.5 * found.trend.error
    assert np.sign(found.trend.z) == np.sign(rho)
    assert abs(found.trend.z) > 5
    assert found.uncertainty == pytest.approx(abs(found.trend.excess) + found.trend.error)
    assert np.sign(found.mean) == np.sign(rho)


def test_uncertainty_without_a_dependence_is_error_and_excess_in_squares():
    found = closure(*normal(20_000, seed=2), 1.6, 1.4)
    assert abs(found.trend.z) < 2
    assert found.uncertainty == pytest.approx(np.hypot(found.trend.excess, found.trend.error))
    assert found.refusal is None


def test_copies_of_events_add_no_statistics():
    """Everything twice: as groups the same errors, without them smaller ones."""
    x, y = normal(20_000, seed=5)
    twice = np.concatenate([x, x]), np.concatenate([y, y])
    groups = np.tile(np.arange(len(x)), 2)
    one, two = closure(x, y, 1.6, 1.4), closure(*twice, 1.6, 1.4, groups=groups)
    wrong = closure(*twice, 1.6, 1.4)
    # given the same cuts: they depend on how many events there are
    cuts = {"validation_x": 0.9, "validation_y": 0.7}
    one, two = closure(x, y, 1.6, 1.4, **cuts), closure(*twice, 1.6, 1.4, groups=groups, **cuts)
    wrong = closure(*twice, 1.6, 1.4, **cuts)
    assert two.trend.error == pytest.approx(one.trend.error)
    assert two.trend.z == pytest.approx(one.trend.z)
    assert wrong.trend.error == pytest.approx(one.trend.error / np.sqrt(2))
    assert [t.error for t in two.tables] == pytest.approx([t.error for t in one.tables])
    assert two.mean_error == pytest.approx(one.mean_error)

    c1, c2 = abcd_counts(x, y, 1.6, 1.4), abcd_counts(*twice, 1.6, 1.4, groups=groups)
    assert c2.scale == (2.0, 2.0, 2.0, 2.0)
    assert c2.effective == (c1.a, c1.b, c1.c, c1.d)
    assert exact_log_p_value(c2, 0.1) == pytest.approx(exact_log_p_value(c1, 0.1))


def test_sums_of_groups():
    region, w = np.array([0, 0, 1, 3, 3]), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert group_squares(region, w, None).tolist() == [5.0, 9.0, 0.0, 41.0]
    # a group may lie in several regions
    assert group_squares(region, w, np.array([7, 7, 7, 2, 9])).tolist() == [9.0, 9.0, 0.0, 41.0]
    assert region_sums(region, w, ["a", "b", "c", "d", "d"])[1].tolist() == [5.0, 9.0, 0.0, 81.0]
    with pytest.raises(InputError, match="groups for 5 events"):
        region_sums(region, w, [1, 2, 3, 4])


def test_common_weight_changes_nothing_and_spread_weights_enlarge_the_error():
    x, y = normal(20_000, seed=6)
    cuts = {"validation_x": 0.9, "validation_y": 0.7}
    one = closure(x, y, 1.6, 1.4, **cuts).trend
    five = closure(x, y, 1.6, 1.4, weights=np.full(len(x), 5.0), **cuts).trend
    assert (five.excess, five.error, five.z) == pytest.approx((one.excess, one.error, one.z))
    uneven = np.random.default_rng(3).exponential(1.0, len(x))
    assert closure(x, y, 1.6, 1.4, weights=uneven, **cuts).trend.error == pytest.approx(
        np.sqrt(2) * one.error, rel=0.15
    )


def test_what_no_trend_describes_is_refused():
    """The width of y depends on x: not a correlation, and not in the tail alone."""
    x, y = normal(100_000, seed=7)
    found = closure(x, y * np.where(np.abs(x) < 0.7, 0.6, 1.4), 2.0, 2.0)
    assert found.refusal is not None
    assert "no trend describes" in found.refusal
    assert found.uncertainty == np.inf
    assert found.to_dict()["uncertainty"] is None
    n = abcd_counts(x, y, 2.0, 2.0)
    for ask in (
        lambda: exact_log_p_value(n, found.uncertainty),
        lambda: fit_abcd(n, closure=found.uncertainty),
    ):
        with pytest.raises(InputError, match="closure test gave no uncertainty"):
            ask()


def test_variables_with_few_values():
    rng = np.random.default_rng(8)
    x, y = rng.integers(0, 3, 5000).astype(float), rng.integers(0, 3, 5000).astype(float)
    found = closure(x, y, 2.0, 2.0)
    assert (found.trend.edges_x, found.trend.edges_y) == ((1.0,), (1.0,))
    assert abs(found.trend.excess) < 3 * found.trend.error
    # yes or no in one: only y can be divided below its cut
    binary = closure(np.minimum(x, 1.0), y, 1.0, 2.0)
    assert (binary.trend.edges_x, binary.trend.edges_y) == ((), (1.0,))
    # yes or no in both: nothing is left to test with
    with pytest.raises(InputError, match="closure cannot be tested"):
        closure(np.minimum(x, 1.0), np.minimum(y, 1.0), 1.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda seed: normal(20_000, seed=seed), "independent"),
        (lambda seed: normal(20_000, 0.05, seed=seed), "rho 0.05"),
        (lambda seed: normal(20_000, 0.1, seed=seed), "rho 0.1"),
        (lambda seed: common_tail(20_000, 0.003, seed=seed), "common tail"),
    ],
)
def test_rates_are_nominal(draw, name):
    """P(p < 0.05) and P(p < 0.01) of answers; a refusal counts as none."""
    p = []
    for seed in range(200):
        x, y = draw(seed)
        found = closure(x, y, 2.0, 2.0)
        answer = (
            np.exp(exact_log_p_value(abcd_counts(x, y, 2.0, 2.0), found.uncertainty))
            if not found.refusal
            else 1
        )
        p.append(answer)
    for level in (0.05, 0.01):
        assert np.mean(np.array(p) < level) < level + 2.5 * np.sqrt(level / 200), name


def test_one_heavy_event():
    """40 events of weight one are expected in A and found there; then one of weight 60 more."""
    region = np.repeat([0, 1, 2, 3], [40, 200, 200, 1000])
    x, y = np.where(region < 2, 1.0, -1.0), np.where(region % 2 == 0, 1.0, -1.0)
    w = np.ones(len(x))
    assert abs(heaviest_event(x, y, 0.0, 0.0, w).shift) < 0.3
    w[0] = 60.0
    found = heaviest_event(x, y, 0.0, 0.0, w)
    with_it, without = abcd_counts(x, y, 0.0, 0.0, weights=w), abcd_counts(x[1:], y[1:], 0.0, 0.0)
    assert (found.region, found.weight) == ("A", 60.0)
    assert found.z == pytest.approx(fit_abcd(with_it).z)
    assert found.z_without == pytest.approx(fit_abcd(without).z)
    # three copies of weight 20 in one group are the same
    w[:3], groups = 20.0, np.arange(len(x))
    groups[:3] = 0
    assert heaviest_event(x, y, 0.0, 0.0, w, groups=groups).weight == 60.0
    many = np.repeat([0, 1, 2, 3], 4000)
    assert (
        heaviest_event(np.where(many < 2, 1.0, -1.0), np.where(many % 2 == 0, 1.0, -1.0), 0, 0, many * 0 + 1)
        is None
    )


def test_command_says_what_the_closure_allows(tmp_path, caplog):
    path = tmp_path / "events.parquet"

    def run(x, y, *more: str, **columns):
        pq.write_table(pa.table({"x": x, "y": y} | columns), path)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            result = RUNNER.invoke(
                APP, [str(path), "--x", "x", "--y", "y", "--cut-x", "2", "--cut-y", "2", "--unblind", *more]
            )
        assert result.exit_code == 0, result.output
        return result.stdout, "\n".join(record.getMessage() for record in caplog.records)

    x, y = normal(20_000, seed=9)
    text, warned = run(x, y)
    assert "extrapolated into A: B C / D is " in text
    assert "p = " in text
    assert "% (from the events outside A" in text
    assert warned == ""
    _, warned = run(x, y, "--closure", "0.05")
    assert "--closure 0.05 is taken from the command line: the events outside A allow no less than" in warned

    x, y = normal(40_000, 0.15, seed=9)
    assert "x and y are correlated outside A" in run(x, y)[1]

    x, y = normal(100_000, seed=7)
    y *= np.where(np.abs(x) < 0.7, 0.6, 1.4)
    text, _ = run(x, y)
    assert "no significance and no limit: x and y are correlated outside A in a way" in text
    assert "p = " not in text.split("no significance")[0].splitlines()[-1]
    found = json.loads(run(x, y, "--json")[0])
    assert (found["fit"], found["limit"], found["expected_error"], found["closure"]["used"]) == (None,) * 4
    text, warned = run(x, y, "--closure", "0.5")
    assert "p = " in text
    assert "is taken from the command line: x and y are correlated" in warned

    x, y = normal(20_000, seed=9)
    w = np.ones(len(x))
    w[np.flatnonzero((x >= 2) & (y >= 2))[0]] = 50.0
    text, warned = run(x, y, "--weight", "w", "--closure", "0.1", w=w)
    assert "effective events: A " in text
    assert "one event of weight 50 in A moves the significance by" in warned


def test_command_groups_events_that_belong_together(tmp_path):
    x, y = normal(5000, seed=10)
    path = tmp_path / "events.parquet"
    twice = {"x": np.tile(x, 2), "y": np.tile(y, 2), "event": np.tile(np.arange(len(x)), 2)}
    arguments = [str(path), "--x", "x", "--y", "y", "--cut-x", "1.5", "--cut-y", "1.5", "--json", "--unblind"]

    def run(table, *more: str) -> dict:
        pq.write_table(pa.table(table), path)
        result = RUNNER.invoke(APP, [*arguments, "--closure", "0.1", *more])
        if result.exception is not None:
            raise result.exception
        return json.loads(result.stdout)

    with pytest.raises(InputError, match="--group"):
        run(twice)
    once = run({"x": x, "y": y})
    for how in ("event", "duplicates"):
        found = run(twice, "--group", how)
        assert found["counts"]["A"] == 2 * once["counts"]["A"]
        assert found["effective_events"] == once["effective_events"]
        assert found["fit"]["p"] == pytest.approx(once["fit"]["p"])
    # taken as independent they would be twice as many
    assert abs(run(twice, "--group", "none")["fit"]["z"]) > 1.2 * abs(once["fit"]["z"])


def test_the_mass_of_a_file_of_ours_may_be_a_variable(tmp_path):
    """Its weights are used without being named."""
    rng = np.random.default_rng(11)
    columns = {"m": rng.exponential(1.0, 4000) + 1, "x": rng.normal(size=4000), "w": rng.uniform(1, 2, 4000)}
    path = tmp_path / "events.parquet"
    write(Events(columns, mass="m", features=("x",), weight="w"), path)
    result = RUNNER.invoke(
        APP, [str(path), "--x", "x", "--y", "m", "--cut-x", "1", "--cut-y", "2.5", "--json", "--closure", "0"]
    )
    assert result.exit_code == 0, result.output
    inside = (columns["x"] >= 1) & (columns["m"] < 2.5)
    assert json.loads(result.stdout)["counts"]["B"] == pytest.approx(columns["w"][inside].sum())
