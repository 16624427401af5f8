from __future__ import annotations

import numpy as np
import pytest

from serendip.search.folds import assign_folds, cross_training_plan, distinct, tie_breaker
from serendip.statistics.ranks import cut_efficiency


def test_folds_are_a_hash_of_id_and_seed() -> None:
    ids = np.arange(20_000)
    fold = assign_folds(ids, 10, seed=1)
    shuffled = np.random.default_rng(0).permutation(ids)
    assert np.array_equal(assign_folds(shuffled, 10, seed=1), fold[shuffled])
    counts = np.bincount(fold, minlength=10)
    assert abs(counts - 2000).max() < 5 * np.sqrt(2000 * 0.9)
    other = assign_folds(ids, 10, seed=2)
    assert np.mean(other == fold) == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 20_000))


def test_string_ids_hash_by_content() -> None:
    ids = np.array([f"run{i % 7}:event{i}" for i in range(5000)], dtype=object)
    fold = assign_folds(ids, 5, seed=3)
    assert np.array_equal(assign_folds(ids[::-1], 5, seed=3), fold[::-1])
    assert np.bincount(fold, minlength=5).min() > 850


@pytest.mark.parametrize(
    "combination", ["sequential", "sequential-stouffer", "kfold-bonferroni", "kfold-summed"]
)
def test_no_event_is_scored_by_a_model_that_saw_it(combination: str) -> None:
    fold = assign_folds(np.arange(3000), 6, seed=1)
    plan = cross_training_plan(fold, 6, combination)
    for f, model in plan.scores:
        assert not plan.splits[model][fold == f].any()
        if combination.startswith("sequential"):
            assert set(np.unique(fold[plan.splits[model]])) == set(range(f))
        else:
            assert set(np.unique(fold[plan.splits[model]])) == set(range(6)) - {f}
    tested = {f for f, _ in plan.scores}
    assert tested == (set(range(1, 6)) if combination.startswith("sequential") else set(range(6)))


TIES = tie_breaker(np.arange(4000), seed=1)


@pytest.mark.parametrize("weighting", ["equal", "exponential", "a few heavy"])
def test_the_cut_keeps_the_same_fraction_of_sideband_and_window(weighting: str) -> None:
    """A threshold just above the (k+1)-th sideband score would keep (k+1)/k more of the window than of the sideband.

    An event whose own weight decided whether it fits under the threshold would be rejected because it is heavy.
    """
    rng = np.random.default_rng(5)
    inside, outside = [], []
    n, sideband = 2000, np.arange(2000) < 1000
    for _ in range(400):
        score = rng.normal(size=n)
        weights = {
            "equal": np.ones(n),
            "exponential": rng.exponential(size=n),
            "a few heavy": np.where(rng.random(n) < 0.05, 10.0, 1.0),
        }[weighting]
        efficiency = cut_efficiency(score, np.zeros(n, int), sideband, weights, TIES[:n])
        selected = efficiency <= 0.00401
        inside.append(weights[selected & ~sideband].sum())
        outside.append(weights[selected & sideband].sum())
    if weighting == "equal":
        assert np.all(np.array(outside) == 4)
    difference = np.array(inside) - 1000 / 1001 * np.array(outside)
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(400)


def test_efficiency_is_taken_within_the_fold_and_with_weights() -> None:
    score = np.array([0.1, 0.2, 0.3, 0.25, 10.1, 10.2, 10.3, 10.25, np.nan])
    fold = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2])
    sideband = np.array([1, 1, 1, 0, 1, 1, 1, 0, 1], bool)
    weights = np.array([1, 1, 2, 1, 1, 1, 2, 1, 1.0])
    efficiency = cut_efficiency(score, fold, sideband, weights, TIES[:9])
    assert efficiency[:4] == pytest.approx([1.0, 0.75, 0.25, 0.75])
    assert efficiency[4:8] == pytest.approx(efficiency[:4])
    assert np.isnan(efficiency[8])
    without = cut_efficiency(score, fold, sideband, weights * (fold != 1), TIES[:9])
    assert np.isnan(without[4:8]).all()


def test_tied_scores_are_cut_at_the_working_point_and_alike_on_both_sides() -> None:
    n = 4000
    score = np.random.default_rng(3).integers(0, 3, n).astype(float)
    sideband = np.arange(n) % 2 == 0
    efficiency = cut_efficiency(score, np.zeros(n, int), sideband, np.ones(n), TIES)
    selected = efficiency <= 0.0501
    assert selected[sideband].sum() == 100
    assert abs(selected[~sideband].sum() - 100) < 4 * np.sqrt(200)
    assert np.all(score[selected] == 2)
    shuffled = np.random.default_rng(4).permutation(n)
    again = cut_efficiency(score[shuffled], np.zeros(n, int), sideband[shuffled], np.ones(n), TIES[shuffled])
    assert np.array_equal(again, efficiency[shuffled])
    assert not np.array_equal(tie_breaker(np.arange(n), seed=2), TIES)


@pytest.mark.parametrize("smearing", [0.0, 0.3])
def test_groups_keep_the_same_fraction_of_sideband_and_window(smearing: float) -> None:
    """Four members each: one group more or less than there should be would be a bias of a tenth."""
    rng = np.random.default_rng(11)
    inside, beside, expected = 0.0, 0.0, 0.0
    for _ in range(400):
        groups = np.repeat(np.arange(600), 4)
        sideband = np.repeat(rng.random(600) < 0.5, 4)
        score = rng.normal(size=600)[groups] + smearing * rng.normal(size=2400)
        ties = rng.integers(0, 1 << 62, 2400).astype(np.uint64)
        efficiency = cut_efficiency(
            score, np.zeros(2400, dtype=np.int64), sideband, np.ones(2400), ties, groups
        )
        chosen = efficiency <= 0.035
        if smearing == 0.0:
            # copies stand or fall together
            assert np.all(np.bincount(groups, chosen) % 4 == 0)
        inside += chosen[~sideband].mean()
        beside += chosen[sideband].mean()
        expected += 0.035
    # ten groups of 300: an error of 1/sqrt(10 * 400) each, and one place in n + 1 that is lost
    assert inside / beside == pytest.approx(1.0, abs=0.06)
    assert beside / expected == pytest.approx(1.0, abs=0.08)


def test_groups_of_one_change_nothing() -> None:
    rng = np.random.default_rng(12)
    score, fold, sideband = rng.normal(size=500), rng.integers(0, 3, 500), rng.random(500) < 0.6
    weights, ties = rng.exponential(size=500), rng.integers(0, 1 << 62, 500).astype(np.uint64)
    alone = cut_efficiency(score, fold, sideband, weights, ties)
    grouped = cut_efficiency(score, fold, sideband, weights, ties, rng.permutation(500))
    assert grouped == pytest.approx(alone, rel=1e-12, nan_ok=True)


def test_events_beside_the_window_train_all_models_that_do_not_score_them() -> None:
    fold, inside = np.arange(50) % 5, np.arange(50) % 3 == 0
    places = np.array([[0, 1, 2, 3, 4], [2, 3, 4, 0, 1]])
    plan = cross_training_plan(fold, 5, "weighted", places, inside)
    assert plan.splits.shape == (8, 50)
    for place, pairs in zip(places, plan.orders, strict=True):
        for f, model in pairs:
            np.testing.assert_array_equal(plan.splits[model][inside], (place[fold] < place[f])[inside])
            np.testing.assert_array_equal(plan.splits[model][~inside], (fold != f)[~inside])
    # all orders share one density for each fold
    masks, number = distinct(plan.splits & ~inside)
    assert masks.shape == (5, 50)
    np.testing.assert_array_equal(masks[number], plan.splits & ~inside)
    # a model that scores two folds sees neither, and k folds without an order are what they were
    shared = cross_training_plan(fold, 5, "weighted", np.array([[0, 1, 2, 3, 4], [0, 2, 3, 4, 1]]), inside)
    scores = [f for pairs in shared.orders for f, model in pairs if model == 0]
    assert len(set(scores)) == 2
    np.testing.assert_array_equal(shared.splits[0][~inside], ~np.isin(fold, scores)[~inside])
    kfold = cross_training_plan(fold, 5, "kfold-bonferroni")
    again = cross_training_plan(fold, 5, "kfold-bonferroni", inside=inside)
    np.testing.assert_array_equal(again.splits, kfold.splits)
