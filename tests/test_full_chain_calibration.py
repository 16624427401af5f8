"""p-values from a measured null distribution, and the search that uses them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from run_files import check_files
from samples import search_settings as table_settings
from samples import write_table
from scipy import stats

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.search.calibration import Calibration, Curve, read_calibration, search_settings
from serendip.search.config import parse_config
from serendip.search.engine import read_events, run_search
from serendip.search.measure import prepare_window
from serendip.statistics.calibration import NullDistribution, cross_calibrated, fit_upper_half
from serendip.statistics.looks import SUMMED_WARNING, analyse_look, calibrate_look, fit_inclusive, make_edges
from serendip.statistics.pvalues import binomial_interval, count_log_p_value, z_value

WINDOW = Window(3300.0, 3700.0)


def below(k: int, n: int, rate: float) -> bool:
    """Whether k of n is compatible with a rate, at three binomial errors."""
    return k <= n * rate + 3 * np.sqrt(n * rate * (1 - rate))


def compatible(k: int, n: int, rate: float) -> bool:
    return below(k, n, rate) and k >= n * rate - 3 * np.sqrt(n * rate * (1 - rate))


# the line -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "width"), [(0.0, 1.0), (0.4, 1.6), (-0.7, 0.6), (25.0, 0.01)])
def test_line_equals_the_censored_fit_of_scipy(mean, width):
    z = np.random.default_rng(3).normal(mean, width, 501)
    fit = fit_upper_half(z)
    cut = np.median(z)
    censored = stats.CensoredData(
        uncensored=z[z >= cut],
        left=np.full(np.count_nonzero(z < cut), cut),
        right=[],
        interval=np.empty((0, 2)),
    )
    location, scale = stats.norm.fit(censored, loc=mean, scale=width)
    assert 1 / fit.slope == pytest.approx(scale, rel=1e-3)
    assert -fit.intercept / fit.slope == pytest.approx(location, abs=2e-3 * width)


def test_errors_of_the_line_are_the_spread_of_lines():
    rng = np.random.default_rng(4)
    lines = np.array([fit_upper_half(rng.normal(0.2, 1.4, 300)).line(6.0) for _ in range(400)])
    true = (6.0 - 0.2) / 1.4
    assert lines[:, 0].mean() == pytest.approx(true, rel=0.02)
    assert lines[:, 0].std() == pytest.approx(lines[:, 1].mean(), rel=0.1)
    inflation = np.array([fit_upper_half(rng.normal(0.2, 1.4, 300)).inflation for _ in range(400)])
    assert inflation[:, 0].mean() == pytest.approx(1.4**2, rel=0.02)
    assert inflation[:, 0].std() == pytest.approx(inflation[:, 1].mean(), rel=0.1)


def test_line_does_not_look_below_the_median():
    z = np.random.default_rng(5).normal(0, 1.3, 301)
    spoiled = np.where(z < np.median(z), -8.2, z)
    assert fit_upper_half(spoiled) == fit_upper_half(z)


def test_line_of_equal_values_is_none():
    assert fit_upper_half(np.ones(50)) is None
    assert NullDistribution(np.ones(150)).tail is None


# p-values -------------------------------------------------------------------------------------------------------


def test_p_counts_experiments_and_ties():
    z = np.repeat(np.arange(40.0), 5) / 20
    null = NullDistribution(z)
    for value, k in ((0.03, 195), (1.0, 100), (1.0 + 1e-12, 100), (1.001, 95), (1.95, 5)):
        found = null.p_value(value)
        assert (found.n_reached, found.n_experiments, found.extrapolated) == (k, 200, False)
        assert found.p == pytest.approx((k + 1) / 201)
        assert found.z == pytest.approx(stats.norm.isf((k + 1) / 201))
        low, high = binomial_interval(k, 200)
        assert found.z_interval_68 == pytest.approx((stats.norm.isf(high), stats.norm.isf(low)))
        assert found.z_naive == value


@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy"])
def test_empirical_p_holds_for_any_distribution(draw):
    rng = np.random.default_rng(6)
    p = np.array(
        [
            NullDistribution(values[:-1]).p_value(values[-1]).p
            for values in getattr(rng, draw)(size=(1500, 50))
        ]
    )
    for level in (0.06, 0.2, 0.5):
        assert compatible(np.count_nonzero(p <= level + 1e-9), 1500, level)


def test_extrapolated_p_holds_beyond_the_experiments():
    rng = np.random.default_rng(7)
    n, width, trials, level = 100, 1.6, 20_000, 1e-3
    found = naive = reached = 0
    for _ in range(trials):
        # only what exceeds all experiments can be extrapolated, and only that is slow
        observed = rng.normal(0, width)
        naive += stats.norm.sf(observed) <= level if observed > 2 else 0
        if observed < 1.5 * width:
            continue
        z = rng.normal(0, width, n)
        if z.max() >= observed:
            reached += 1
            continue
        found += NullDistribution(z).p_value(observed).p <= level
    assert reached > 100
    assert below(found, trials, level)
    assert found > 0.3 * trials * level
    assert naive > 20 * trials * level


@pytest.mark.parametrize("name", ["t", "expon"])
def test_tail_that_is_no_normal_one_is_not_extrapolated(name):
    z = getattr(stats, name).rvs(*((3,) if name == "t" else ()), size=500, random_state=8)
    null = NullDistribution(z)
    assert fit_upper_half(z).p < 0.01
    assert null.tail is None
    found = null.p_value(100.0)
    assert (found.p, found.extrapolated) == (pytest.approx(1 / 501), False)
    assert found.z_interval_68[1] == np.inf


def test_normal_tails_are_refused_as_often_as_the_level_says():
    rng = np.random.default_rng(17)
    refused = sum(fit_upper_half(rng.normal(1.0, 3.0, 120)).p < 0.05 for _ in range(600))
    assert compatible(refused, 600, 0.05)


def test_few_experiments_are_not_extrapolated():
    z = np.random.default_rng(9).normal(size=99)
    assert NullDistribution(z).tail is None
    assert NullDistribution(z).p_value(20.0).p == pytest.approx(1 / 100)
    assert NullDistribution(np.append(z, 0.0)).tail is not None


def test_extrapolation_stays_between_the_bound_and_the_naive_significance():
    rng = np.random.default_rng(10)
    narrow = NullDistribution(rng.normal(-0.5, 0.5, 400))
    found = narrow.p_value(4.0)
    assert found.extrapolated
    assert (found.z, found.p) == (4.0, pytest.approx(stats.norm.sf(4.0)))
    wide = NullDistribution(rng.normal(0, 2.0, 400))
    just_above = float(wide.z.max()) + 0.01
    assert wide.p_value(just_above).p <= 1 / 401 + 1e-12
    far = wide.p_value(12.0)
    low, high = far.z_interval_68
    line, error = wide.tail.line(12.0)
    assert far.z == pytest.approx(line / np.sqrt(1 + error**2))
    assert high - low == pytest.approx(2 * error)
    assert 5.0 < far.z < 6.5


def test_calibrated_p_never_rises_with_the_excess():
    null = NullDistribution(np.random.default_rng(11).normal(0.1, 1.3, 300))
    p = [null.p_value(z).p for z in np.linspace(-6, 12, 400)]
    assert np.all(np.diff(p) <= 1e-15)


@pytest.mark.parametrize("z", [np.zeros(19), np.append(np.zeros(30), np.nan), np.zeros((30, 2))])
def test_unusable_null_distributions_are_refused(z):
    with pytest.raises(InputError, match="at least 20 experiments"):
        NullDistribution(z)


def test_an_experiment_does_not_calibrate_itself():
    z = np.random.default_rng(12).normal(0, 1.5, 200)
    z[7] = 50.0
    p = cross_calibrated(z)
    assert p[7] < 1e-6
    assert p[8] == pytest.approx((np.count_nonzero(z[np.arange(200) % 5 != 3] >= z[8]) + 1) / 161)
    assert compatible(np.count_nonzero(p < 0.05), 200, 0.05)


def summed_folds(rng: np.random.Generator, k: int = 5, cells: int = 2000) -> float:
    """Naive Z of a classifier that keeps the fullest one per cent of cells of the other folds."""
    counts = rng.poisson(12_000 / cells / k, (k, cells))
    others = counts.sum(axis=0) - counts + rng.random((k, cells))
    best = np.argpartition(others, -cells // 100, axis=1)[:, -cells // 100 :]
    observed = np.take_along_axis(counts, best, axis=1).sum()
    expected = rng.poisson(120 * 20) / 20
    return float(z_value(log_p=count_log_p_value(observed, expected, np.sqrt(expected / 20))))


def test_calibration_cures_the_sum_over_dependent_folds():
    rng = np.random.default_rng(13)
    null = NullDistribution([summed_folds(rng) for _ in range(500)])
    z = np.array([summed_folds(rng) for _ in range(1000)])
    p = np.array([null.p_value(value).p for value in z])
    # measured before with known background: 3.4 times too many at 2 sigma with five folds
    assert 2.5 < np.mean(z > 2) / stats.norm.sf(2) < 4.5
    assert null.tail is not None
    inflation, error = null.tail.inflation
    assert inflation - 3 * error < np.var(z) < inflation + 3 * error
    assert inflation > 1.5
    for level in (0.05, stats.norm.sf(2), 0.003):
        # the experiments of the calibration are few as well
        spread = np.sqrt(level * (1 - level) * (1 / 500 + 1 / 1000))
        assert abs(np.mean(p <= level) - level) < 3 * spread, level
    assert np.mean(z > stats.norm.isf(0.003)) > 0.003 + 5 * np.sqrt(0.003 / 1000)


# looks ----------------------------------------------------------------------------------------------------------


def look(blinded: bool = False):
    rng = np.random.default_rng(14)
    mass = 2640 * (1 - rng.random(30_000) * (1 - 2.2**-6)) ** (-1 / 6)
    fold = rng.integers(0, 5, len(mass))
    chosen = rng.random(len(mass)) < np.where(WINDOW.contains(mass), 0.015, 0.01)
    edges = make_edges((2640.0, 5800.0), WINDOW)
    return analyse_look(
        mass, fold, chosen, WINDOW, edges, fit_inclusive(mass, WINDOW, edges, "dijet:3"),
        combination="kfold-summed", n_folds=5, blinded=blinded,
    )  # fmt: skip


def test_calibrated_look_keeps_counts_and_cites_its_source():
    naive, null = look(), NullDistribution(np.linspace(-3, 6, 500))
    assert naive.warning == SUMMED_WARNING
    found = calibrate_look(naive, null, "null.json")
    k = np.count_nonzero(null.z >= naive.z_local)
    assert 0 < k < 400
    assert (found.observed, found.expected, found.folds) == (naive.observed, naive.expected, naive.folds)
    assert found.p_local == pytest.approx((k + 1) / 501)
    assert found.log_p_local == pytest.approx(np.log(found.p_local))
    assert found.z_local == pytest.approx(stats.norm.isf((k + 1) / 501))
    assert "500 background-only experiments" in found.warning
    assert "null.json" in found.warning
    assert found.calibration.z_naive == naive.z_local
    assert naive.calibration is None


def test_warning_says_where_p_is_a_bound_or_extrapolated():
    naive, z = look(), np.random.default_rng(15).normal(0, 1.0, 400)
    few, many = NullDistribution(z[:50] - 3), NullDistribution(z - 3)
    assert "upper bound" in calibrate_look(naive, few, "x").warning
    assert "extrapolated" in calibrate_look(naive, many, "x").warning


def test_blinded_look_stays_blinded():
    found = calibrate_look(look(blinded=True), NullDistribution(np.zeros(50)), "null.json")
    assert (found.p_local, found.z_local, found.calibration) == (None, None, None)
    assert "null.json" in found.warning


# search ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("calibrated") / "events.parquet", 8000, 0, seed=3)


def settings(table, **more):
    given = table_settings(
        table, method="cwola", options={"cwola": {"members": 1}}, working_points="0.05,0.02", folds=3,
        combination="kfold-summed", toys=100,
    )  # fmt: skip
    return parse_config(given | more)


def write_calibration(path, config, z, **more):
    events = read_events(config)
    fit = prepare_window(events, WINDOW, config.model_copy(update={"calibration": None}))
    curve = {
        "method": "cwola", "options": config.method_config("cwola").model_dump(mode="json"),
        "window": (3300.0, 3700.0), "events": float(fit.sideband(events.m).sum()),
        "z": tuple(z), "observed": (1.0,) * len(z), "expected": (1.0,) * len(z),
    }  # fmt: skip
    curves = [Curve(**(curve | {"working_point": point} | more)) for point in config.working_points]
    Calibration(settings=search_settings(config), source={"source": "model"}, curves=tuple(curves)).write(
        path
    )
    return str(path)


def test_search_quotes_calibrated_p_and_cites_the_file(table, tmp_path):
    z = np.random.default_rng(16).normal(0, 2, 300)
    path = write_calibration(tmp_path / "null.json", settings(table), z)
    naive = run_search(settings(table), tmp_path / "naive", unblind=True, jobs=1).results
    config = settings(table, calibration=path)
    assert read_calibration(config).curves[0].z == tuple(z)
    found = run_search(config, tmp_path / "calibrated", unblind=True, jobs=1).results
    for before, after in zip(naive["looks"], found["looks"], strict=True):
        k = np.count_nonzero(z >= before["z_local"])
        assert after["p_local"] == pytest.approx((k + 1) / 301)
        assert after["calibration"]["n_reached"] == k
        assert (after["observed"], after["expected"]) == (before["observed"], before["expected"])
        assert "overstates the significance" in before["warning"]
        assert path in after["warning"]
    check_files(tmp_path / "calibrated")
    overall = found["global"]
    smallest = min(one["p_local"] for one in found["looks"])
    assert overall["p"] >= min(1.0, 2 * smallest) - 1e-12
    assert "Bonferroni" in overall["trials"]
    assert "Bonferroni" not in naive["global"]["trials"]


def test_blind_search_checks_the_calibration_and_hides_p(table, tmp_path):
    path = write_calibration(tmp_path / "null.json", settings(table), np.zeros(50))
    found = run_search(settings(table, calibration=path), tmp_path / "run", jobs=1).results
    assert all(one["p_local"] is None and one["calibration"] is None for one in found["looks"])
    with pytest.raises(InputError, match="folds"):
        run_search(settings(table, calibration=path, folds=4), tmp_path / "other", jobs=1)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 4}, "folds .there 3, here 4"),
        ({"background": "dijet"}, "background"),
        ({"range": "2500:6000"}, "range"),
        ({"where": "f1>-9"}, "where"),
        ({"features": "f1,f2"}, "features"),
        ({"options": {"cwola": {"members": 2}}}, r"other options of 'cwola' \(members\)"),
        ({"window": "3300:3701"}, "has no method 'cwola' in 3300-3701 GeV"),
        ({"working_points": "0.01"}, "working point 0.01"),
    ],
)
def test_calibration_of_other_settings_is_refused(table, tmp_path, change, message):
    path = write_calibration(tmp_path / "null.json", settings(table), np.zeros(50))
    config = settings(table, calibration=path, **change)
    with pytest.raises(InputError, match=message):
        prepare_window(read_events(config), config.windows[0], config)


@pytest.mark.parametrize(("factor", "refused"), [(0.85, True), (0.95, False), (1.05, False), (1.2, True)])
def test_calibration_of_another_sample_size_is_refused(table, tmp_path, factor, refused):
    config = settings(table)
    events = read_events(config)
    n = prepare_window(events, WINDOW, config).sideband(events.m).sum()
    path = write_calibration(tmp_path / "null.json", config, np.zeros(50), events=factor * n)
    config = settings(table, calibration=path)
    if refused:
        with pytest.raises(InputError, match="as many events"):
            prepare_window(events, WINDOW, config)
    else:
        prepare_window(events, WINDOW, config)


def test_calibration_of_another_version_is_refused(table, tmp_path):
    path = tmp_path / "null.json"
    write_calibration(path, settings(table), np.zeros(50))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"serendip": "0.0.0"}))
    config = settings(table, calibration=str(path))
    with pytest.raises(InputError, match=r"version 0\.0\.0"):
        prepare_window(read_events(config), WINDOW, config)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 2}'])
def test_files_that_are_no_calibration_are_refused(table, tmp_path, text):
    path = tmp_path / "null.json"
    path.write_text(text)
    with pytest.raises(InputError, match="expected a calibration"):
        read_calibration(settings(table, calibration=str(path)))


def test_missing_calibration_is_named(table, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_calibration(settings(table, calibration=str(tmp_path / "nothing.json")))


def test_calibration_belongs_to_kfold_summed(table):
    with pytest.raises(InputError, match="kfold-summed"):
        settings(table, calibration="null.json", combination="sequential")
