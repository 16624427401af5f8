"""The global p-value: calibration, nesting, agreement with closed forms, speed."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.statistics.event_toys import LookEvents
from serendip.statistics.looks import analyse_look, fit_inclusive, make_edges
from serendip.statistics.pvalues import z_value
from serendip.statistics.trials import draw_looks, global_p_value

FOLDS = 4
WINDOWS = [Window(low, 1.1 * low) for low in (3000.0, 3300.0, 3630.0, 3993.0)]


def build(*args, **options):
    return build_with_events(*args, **options)[0]


def build_with_events(
    seed=0, windows=WINDOWS, points=(0.01, 0.05), combination="sequential", n=40_000, methods=("a",)
):
    rng = np.random.default_rng(seed)
    low, high = 2200.0, 8000.0
    mass = (low**-6 + rng.random(n) * (high**-6 - low**-6)) ** (-1 / 6)
    fold = rng.integers(0, FOLDS, n)
    looks, rows = [], []
    tested = fold >= (1 if combination.startswith("sequential") else 0)
    for method in methods:
        score = rng.random(n)
        for window in windows:
            edges = make_edges((window.low / 1.25, window.high * 1.6), window)
            inclusive = fit_inclusive(mass, window, edges, "dijet:3")
            looks += [
                analyse_look(
                    mass,
                    fold,
                    score < point,
                    window,
                    edges,
                    inclusive,
                    n_folds=FOLDS,
                    combination=combination,
                    method=method,
                    working_point=point,
                )
                for point in points
            ]
            rows += [np.flatnonzero((score < point) & tested) for point in points]
    return looks, LookEvents(mass, fold, tuple(rows))


@pytest.fixture(scope="module")
def looks():
    return build()


def with_log_p(looks, index, log_p):
    """The same looks with another observed p-value in one place and 0.5 elsewhere."""
    values = [np.log(0.5)] * len(looks)
    values[index] = log_p
    return [
        replace(look, log_p_local=v, p_local=float(np.exp(v))) for look, v in zip(looks, values, strict=True)
    ]


@pytest.mark.parametrize("combination", ["sequential", "sequential-stouffer", "kfold-bonferroni"])
def test_each_look_is_calibrated_or_conservative_in_its_own_toys(combination):
    looks = build(windows=WINDOWS[:1], combination=combination)
    p = np.exp(draw_looks(looks, 4000, np.random.default_rng(1)))
    assert p.shape == (2, 4000)
    for row in p:
        for alpha in (0.05, 0.01):
            assert np.mean(row < alpha) < alpha + 3 * np.sqrt(alpha / 4000)
        assert np.mean(row < 0.05) > 0.01
    if combination == "sequential":
        # hundreds of events: nearly continuous, nearly exact
        assert np.mean(p[1] < 0.05) > 0.035


def test_tighter_selection_is_part_of_the_looser_one():
    nested, events = build_with_events(windows=WINDOWS[:1], points=(0.04, 0.05))
    rng = np.random.default_rng(2)
    together = stats.spearmanr(*draw_looks(nested, 3000, rng, events)).statistic
    alone = stats.spearmanr(*draw_looks(nested, 3000, rng)).statistic
    # counts that share 80 % of their events correlate with sqrt(0.8)
    assert together == pytest.approx(np.sqrt(0.8), abs=0.07)
    # drawn alone they share the error of the spectrum before the cut, and nothing else
    b = np.array([look.expected for look in nested])
    variance = b + np.array([look.expected_error for look in nested]) ** 2
    shared = nested[0].shape_error * nested[1].shape_error * b.prod() / np.sqrt(variance.prod())
    assert alone == pytest.approx(shared, abs=0.06)


def test_independent_looks_cost_their_number():
    looks = build(points=(0.05,))
    p_min = 0.01
    result = global_p_value(with_log_p(looks, 2, np.log(p_min)), 3000, np.random.default_rng(3))
    exact = 1 - (1 - p_min) ** len(looks)
    assert result.best_look == 2
    assert 0.6 * exact < result.p < exact + 3 * np.sqrt(exact / 3000)
    assert result.bonferroni == pytest.approx(len(looks) * p_min)


def test_global_p_is_larger_than_local_and_grows_with_the_looks(looks):
    rng = np.random.default_rng(4)
    few = global_p_value(with_log_p(looks[:2], 0, np.log(0.02)), 2000, rng)
    many = global_p_value(with_log_p(looks, 0, np.log(0.02)), 2000, rng)
    assert few.p < many.p
    assert many.p > 0.03


def test_global_p_is_not_below_the_local_one(looks):
    """A local p-value that leans to the safe side, here one that hardly any toy reaches, is not undercut."""
    result = global_p_value(with_log_p(looks[:1], 0, np.log(0.5)), 200, np.random.default_rng(4))
    assert result.p >= 0.5
    assert min(result.p_interval_68) >= 0.5


def test_global_p_of_background_only_searches_is_not_small_too_often():
    p = []
    for seed in range(16):
        result = global_p_value(
            build(seed=seed + 100, windows=WINDOWS[:2], n=6000), 100, np.random.default_rng(seed)
        )
        p.append(result.p)
    assert np.mean(np.array(p) < 0.1) <= 0.1 + 3 * np.sqrt(0.09 / 16)
    assert np.mean(np.array(p) < 0.5) < 0.85


def test_a_huge_excess_is_quoted_by_bonferroni_where_toys_are_exhausted(looks):
    result = global_p_value(with_log_p(looks, 1, -800.0), 500, np.random.default_rng(5))
    assert result.n_reached == 0
    assert result.z == pytest.approx(float(z_value(log_p=-800.0 + np.log(len(looks)))))
    assert result.p_interval_68[0] < 1e-300
    assert result.bonferroni < 1e-300
    assert result.gross_vitells < 1e-100
    # no toy would come near: a few are enough to count up-crossings
    assert result.n_toys == 100
    assert "n=100" in result.trials


def test_toys_are_quoted_where_they_say_more_than_bonferroni(looks):
    log_p = np.log(0.9 / (500 * len(looks)))
    result = global_p_value(with_log_p(looks, 1, log_p), 500, np.random.default_rng(5))
    assert result.n_reached == 0
    assert result.p == pytest.approx(0.9 / 500)
    assert result.p < 1 / 501
    assert result.n_toys == 500


def test_single_look_is_its_own_trial():
    look = build(windows=WINDOWS[:1], points=(0.05,))
    result = global_p_value(with_log_p(look, 0, np.log(0.1)), 4000, np.random.default_rng(6))
    assert result.p == pytest.approx(0.1, abs=0.03)
    assert result.gross_vitells is None
    assert result.bonferroni == pytest.approx(0.1)


def test_up_crossings_agree_with_independent_looks():
    windows = [Window(low, 1.1 * low) for low in 2800.0 * 1.1 ** np.arange(6)]
    looks = build(windows=windows, points=(0.05,))
    p_local = stats.norm.sf(2.5)
    result = global_p_value(with_log_p(looks, 0, np.log(p_local)), 3000, np.random.default_rng(7))
    independent = 1 - (1 - p_local) ** 6
    assert result.gross_vitells == pytest.approx(independent, rel=0.5)
    # counts are discrete and the binomial p-value is conservative, so toys reach p_local less often than p_local
    assert 0.4 * independent < result.p <= independent


def test_up_crossings_need_a_scan_and_an_excess(looks):
    rng = np.random.default_rng(8)
    assert global_p_value(with_log_p(looks[:4], 0, np.log(0.01)), 50, rng).gross_vitells is None
    assert global_p_value(with_log_p(looks, 0, np.log(0.4)), 50, rng).gross_vitells is None


def test_toys_repeat_with_the_seed_and_differ_without(looks):
    one, two, three = (draw_looks(looks[:2], 50, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, three)


def test_unit_weights_and_scaled_weights_give_the_same_toys():
    look = build(windows=WINDOWS[:1], points=(0.05,))[0]
    spectrum = look.spectrum
    doubled = replace(
        look,
        expected=2 * look.expected,
        expected_error=2 * look.expected_error,
        spectrum=replace(spectrum, counts=2 * spectrum.counts, expected=2 * spectrum.expected, scale=2.0),
    )
    one, two = (draw_looks([item], 300, np.random.default_rng(0)) for item in (look, doubled))
    assert one == pytest.approx(two)


def test_empty_selection_never_gives_a_small_global_p():
    look = build(windows=WINDOWS[:1], points=(0.0, 0.05))
    result = global_p_value(with_log_p(look, 0, np.log(0.2)), 500, np.random.default_rng(9))
    assert result.p > 0.15


def test_forty_looks_and_a_thousand_toys_are_quick(looks):
    forty = [replace(look, method=f"m{i}") for i in range(5) for look in looks]
    start = time.process_time()
    global_p_value(forty, 250, np.random.default_rng(10))
    assert time.process_time() - start < 15  # 250 toys; 30 s for a thousand leave room for slow machines


def test_result_is_json_ready_and_says_how(looks):
    result = global_p_value(looks, 100, np.random.default_rng(11))
    json.dumps(vars(result), allow_nan=False)
    assert result.trials == "toys, refitted, n=100"
    assert result.p_interval_68[0] <= result.p <= 1


def test_misuse_is_refused(looks):
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="no looks"):
        global_p_value([], 10, rng)
    with pytest.raises(InputError, match="toy"):
        global_p_value(looks, 0, rng)
    with pytest.raises(ValueError, match="blinded"):
        global_p_value([replace(looks[0], log_p_local=None)], 10, rng)


@pytest.mark.parametrize("kind", ["weights", "groups"])
def test_local_and_global_p_agree_for_uneven_events(kind):
    """One look: the toys are as uneven as the data, and their p-values mean what the local one means."""
    rng = np.random.default_rng(21)
    low, high, n = 2200.0, 8000.0, 20_000
    mass = (low**-6 + rng.random(n) * (high**-6 - low**-6)) ** (-1 / 6)
    fold, score = rng.integers(0, FOLDS, n), rng.random(n)
    weights, groups = np.where(rng.random(n) < 0.02, 50.0, 1.0), None
    if kind == "groups":
        groups = np.repeat(np.arange(n), np.where(rng.random(n) < 0.02, 50, 1))
        mass, fold, score, weights = mass[groups], fold[groups], score[groups], None
    window = WINDOWS[0]
    edges = make_edges((window.low / 1.25, window.high * 1.6), window)
    inclusive = fit_inclusive(mass, window, edges, "dijet:3", weights=weights, groups=groups)
    look = analyse_look(
        mass, fold, score < 0.02, window, edges, inclusive, n_folds=FOLDS, weights=weights, groups=groups
    )
    rows = np.flatnonzero((score < 0.02) & (fold > 0))
    events = LookEvents(mass, fold, (rows,), weights, groups)
    p = np.exp(draw_looks([look], 3000, np.random.default_rng(22), events)[0])
    for level in (0.05, 0.01, 0.003):
        assert np.mean(p < level) < level + 3 * np.sqrt(level / 3000)
    assert np.mean(p < 0.05) > 0.015
    # the law of the jumps is that of the look, not the Poisson one
    scaled = np.exp(draw_looks([replace(look, tail=None)], 3000, np.random.default_rng(22), events)[0])
    assert np.mean(np.abs(np.log(scaled / p)) > 0.02) > 0.3
