"""Ranks, weights and the law of their sums; orders of the folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.search.folds import cross_training_plan
from serendip.statistics.combination import cauchy_log_p
from serendip.statistics.look_result import EffectiveEvents
from serendip.statistics.looks import analyse_look, fit_inclusive, make_edges
from serendip.statistics.orders import combine_orders, fold_positions
from serendip.statistics.ranks import leave_one_out_rank
from serendip.statistics.weighting import law_in_window, ratio_weights, signal_scale

WINDOW, RANGE = Window(3300.0, 3700.0), (2640.0, 5920.0)
FOLDS = 10


def falling(n: int, rng: np.random.Generator) -> np.ndarray:
    low, high = RANGE
    return (low**-6 + rng.random(n) * (high**-6 - low**-6)) ** (-1 / 6)


def ties(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 2**63, n).astype(np.uint64)


def ranks(score, fold, side, weights=None, groups=None, rng=None):
    rng = np.random.default_rng(0) if rng is None else rng
    w = np.ones(len(score)) if weights is None else weights
    return leave_one_out_rank(score, fold, side, w, ties(len(score), rng), groups)


def test_ranks_leave_the_event_out():
    score = np.array([5.0, 4.0, 3.0, 2.0, 4.5, 1.0])
    side = np.array([True, True, True, True, False, False])
    found = ranks(score, np.zeros(6, dtype=int), side)
    # the r-th of n beside the window has r / n, an event of the window with c above it (c + 1) / (n + 1)
    np.testing.assert_allclose(found, [1 / 4, 2 / 4, 3 / 4, 1.0, 2 / 5, 1.0])


def test_ranks_in_the_window_and_beside_it_have_one_distribution():
    """Also with few events, weights and groups; a sideband event compared with itself as well would fail this."""
    rng = np.random.default_rng(1)
    top = {True: [], False: []}
    for _ in range(3000):
        side = np.arange(60) < 12
        weights = np.exp(rng.standard_normal(60))
        groups = rng.integers(0, 50, 60)
        score = rng.random(50)[groups] + 1e-3 * rng.random(60)
        found = ranks(score, np.zeros(60, dtype=int), side, weights, groups, rng)
        for where in top:
            top[where].append(np.log(found[side == where]).mean())
    means, errors = zip(*((np.mean(v), np.std(v) / np.sqrt(len(v))) for v in top.values()), strict=True)
    assert abs(means[0] - means[1]) < 4 * np.hypot(*errors)
    # (c + 1) / (n + 1) for all would move the sideband by 1 / 12 in the logarithm
    assert np.hypot(*errors) < 0.02


def test_untested_folds_and_folds_without_sideband_have_no_rank():
    score = np.array([1.0, 2.0, np.nan, 4.0])
    found = ranks(score, np.array([0, 0, 0, 1]), np.array([True, False, True, False]))
    assert np.isnan(found[2:]).all()
    assert (found[:2] <= 1).all()


def test_the_signal_of_the_weights_is_one_of_five_sigma():
    background, n = 12_000.0, 5000.0
    scale = signal_scale(background, FOLDS, n)
    rank = np.geomspace(1 / n, 0.1, 4001)
    z2 = 0.0
    for f in range(1, FOLDS):
        ratio = scale / rank * (f / 9) ** 1.5
        z2 += 2 * background / FOLDS * np.trapezoid((1 + ratio) * np.log1p(ratio) - ratio, rank)
    assert np.sqrt(z2) == pytest.approx(5.0, abs=0.01)
    assert signal_scale(100 * background, FOLDS, n) < 0.2 * scale
    with pytest.raises(InputError, match="50 sideband events"):
        signal_scale(background, FOLDS, 49.0)


def test_weights_grow_with_the_training_and_fall_with_the_rank():
    rank = np.array([1e-3, 1e-3, 1e-2, 0.2, np.nan, 1e-3])
    found = ratio_weights(rank, np.array([9, 5, 9, 9, 9, 0]), FOLDS, 1e-3)
    np.testing.assert_allclose(
        found, [np.log(2), np.log1p((5 / 9) ** 1.5), np.log1p(0.1), 0, 0, 0], rtol=1e-12
    )


def test_law_follows_weights_that_change_with_the_mass():
    """Heavier weights at higher mass: the law in the window is that of its mass, not that of all sidebands."""
    rng = np.random.default_rng(2)
    m = falling(400_000, rng)
    ranked = np.where(rng.random(len(m)) < 0.05 + 0.15 * np.log(m / RANGE[0]), 10.0, 1.0)
    inside = WINDOW.contains(m)
    centre = float(np.log(m[inside]).mean())
    law = law_in_window(
        m, np.ones(len(m)), ranked, None, ~inside, np.zeros(len(m), bool), centre=centre, unit=1.0
    )
    truth = np.mean(ranked[inside] == 10.0)
    assert law.share @ (law.value > 5.0) == pytest.approx(truth, rel=0.03)
    assert np.mean(ranked[~inside] == 10.0) < 0.9 * truth


def test_heavy_events_of_the_window_enter_the_law_and_ranks_alone_do_not():
    rng = np.random.default_rng(3)
    m = falling(20_000, rng)
    inside = WINDOW.contains(m)
    weights, ranked = np.ones(len(m)), rng.random(len(m))

    def largest(w, r):
        law = law_in_window(m, w, r, None, ~inside, inside, centre=np.log(3490.0), unit=1.0)
        return law.value[-1]

    assert largest(weights, np.where(inside, 100.0, ranked)) < 1.0
    weights[np.flatnonzero(inside)[:5]] = 50.0
    assert largest(weights, np.full(len(m), 0.5)) == pytest.approx(25.0)


def experiment(rng: np.random.Generator, *, signal: int = 0, spread: float = 0.0) -> np.ndarray:
    """Significances of the weighted look and of cuts at 1e-2 and 1e-3, with scores of a classifier that learns."""
    m = falling(rng.poisson(30_000), rng)
    extra = rng.normal(3500.0, 60.0, signal)
    m = np.concatenate([m, extra])
    fold = rng.integers(0, FOLDS, len(m))
    score = rng.exponential(size=len(m))
    score[len(m) - signal :] += 6.0 * (fold[len(m) - signal :] / 9) ** 0.5
    weights = np.exp(spread * rng.standard_normal(len(m))) if spread else None
    w = np.ones(len(m)) if weights is None else weights
    side = ~WINDOW.contains(m)
    edges = make_edges(RANGE, WINDOW)
    inclusive = fit_inclusive(m, WINDOW, edges, "exppoly:3", weights=weights)
    rank = ranks(np.where(fold > 0, score, np.nan), fold, side, w, rng=rng)
    ranked = ratio_weights(rank, fold, FOLDS, signal_scale(4300.0, FOLDS, side.sum() / FOLDS))
    common = {"n_folds": FOLDS, "weights": weights}
    looks = [
        analyse_look(
            m, fold, ranked > 0, WINDOW, edges, inclusive, combination="weighted", ranked=ranked, **common
        )
    ]
    for cut in (1e-2, 1e-3):
        looks.append(
            analyse_look(m, fold, rank <= cut, WINDOW, edges, inclusive, combination="sequential", **common)
        )
    return np.array([look.z_local if look.z_local is not None else -8.0 for look in looks])


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_weighted_p_values_are_true_without_signal(spread):
    rng = np.random.default_rng(4)
    z = np.array([experiment(rng, spread=spread)[0] for _ in range(50)])
    # a measured expectation makes the count conservative, the more the fewer events it is worth
    assert -0.6 < z.mean() < 0.35
    assert 0.7 < z.std() < 1.25
    assert z.max() < 3.3


def test_weights_see_more_than_any_cut():
    rng = np.random.default_rng(5)
    z = np.median([experiment(rng, signal=60) for _ in range(8)], axis=0)
    assert z[0] > 1.1 * z[1:].max()
    assert z[0] > 3.5


def test_orders_put_every_fold_at_different_places():
    places = fold_positions(10, 4)
    np.testing.assert_array_equal(places[0], np.arange(10))
    assert all(sorted(place) == list(range(10)) for place in places)
    assert len({int(np.flatnonzero(place == 0)[0]) for place in places}) == 4
    kept = fold_positions(10, 3, keep_first=True)
    assert (kept[:, 0] == 0).all()
    assert len({tuple(place) for place in kept}) == 3


def test_a_plan_of_several_orders_never_scores_what_it_trained_on():
    fold = np.random.default_rng(6).integers(0, 5, 1000)
    plan = cross_training_plan(fold, 5, "weighted", fold_positions(5, 3))
    assert len(plan.orders) == 3
    for place, pairs in zip(fold_positions(5, 3), plan.orders, strict=True):
        assert len(pairs) == 4
        for f, model in pairs:
            np.testing.assert_array_equal(plan.splits[model], place[fold] < place[f])


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7])
def test_cauchy_combination_holds_its_level_under_dependence(n, correlation):
    rng = np.random.default_rng(7)
    common, own = rng.standard_normal(200_000), rng.standard_normal((n, 200_000))
    z = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
    p = np.exp(cauchy_log_p(stats.norm.logsf(z)))
    for level in (0.05, 0.01, 0.001):
        assert np.mean(p < level) < level + 3 * np.sqrt(level / 200_000)
    assert np.mean(p < 0.01) > 0.006


def test_cauchy_combination_of_tiny_p_values():
    # the smallest of n decides: p = n p_min, and 9 % for each doubling of n
    assert cauchy_log_p(np.array([-800.0, -1.0, -2.0, -0.5])) == pytest.approx(
        -800.0 + np.log(4 * 1.18), abs=1e-6
    )
    assert cauchy_log_p(np.array([-50.0, -50.0])) == pytest.approx(-50.0 + np.log(1.09))
    assert cauchy_log_p(np.array([-50.0])) == pytest.approx(-50.0)
    assert cauchy_log_p(np.array([-0.01, -0.01])) <= 0
    # a blind order does not silence the others
    assert np.exp(cauchy_log_p(np.log([0.001, 0.9999]))) < 0.0025


def test_orders_are_combined_and_kept():
    rng = np.random.default_rng(8)
    m = falling(20_000, rng)
    fold = rng.integers(0, 5, len(m))
    edges = make_edges(RANGE, WINDOW)
    inclusive = fit_inclusive(m, WINDOW, edges, "exppoly:3")
    looks = []
    for place in fold_positions(5, 2):
        ranked = ratio_weights(rng.random(len(m)), place[fold], 5, 1e-3)
        looks.append(
            analyse_look(
                m, place[fold], ranked > 0, WINDOW, edges, inclusive, combination="weighted", n_folds=5, ranked=ranked
            )
        )  # fmt: skip
    both = combine_orders(looks)
    assert both.orders == tuple(looks)
    assert both.log_p_local == pytest.approx(
        float(cauchy_log_p(np.array([look.log_p_local for look in looks])))
    )
    assert both.observed == pytest.approx(np.mean([look.observed for look in looks]))
    assert [fold.fold for fold in both.folds] == [1, 2, 3, 4]
    assert combine_orders(looks[:1]) is looks[0]
    assert both.expected == pytest.approx(np.mean([look.expected for look in looks]))
    np.testing.assert_allclose(
        both.spectrum.counts, np.mean([look.spectrum.counts for look in looks], axis=0)
    )
    # while the window is hidden, only the sidebands have an effective number
    for windows, found in (((10.0, 20.0), 15.0), ((None, None), None)):
        numbers = [
            EffectiveEvents(window, side) for window, side in zip(windows, (100.0, 300.0), strict=True)
        ]
        known = [replace(look, effective=number) for look, number in zip(looks, numbers, strict=True)]
        assert combine_orders(known).effective == EffectiveEvents(found, 200.0)
