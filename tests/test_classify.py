from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from serendip.classify import NetworkEnsemble, TreeEnsemble, build_classifier, fit_splits
from serendip.errors import InputError

TREES = TreeEnsemble(members=2, random_state=3)
NETWORK = NetworkEnsemble(members=2, hidden=(16,), max_rounds=8, steps_per_round=20, random_state=3)
BOTH = pytest.mark.parametrize("estimator", [TREES, NETWORK], ids=["trees", "network"])


def with_options(estimator, **options):
    return type(estimator)(**{**estimator.get_params(), **options})


def gaussians(n, rng, *, shift=0.5, d=4):
    """Two unit Gaussians, ``shift`` apart in each of ``d`` features: the best AUC is Phi(shift sqrt(d/2))."""
    y = np.arange(n) % 2
    return rng.normal(size=(n, d)) + shift * y[:, None], y


def expected_to_fail(estimator):
    if isinstance(estimator, NetworkEnsemble):
        return {"check_sample_weight_equivalence_on_dense_data": "mini-batches draw a repeated event twice"}
    return {}


@parametrize_with_checks(
    [
        TreeEnsemble(members=2, max_iter=20),
        NetworkEnsemble(
            members=1, hidden=(16,), learning_rate=0.02, batch_size=32, steps_per_round=20, max_rounds=4
        ),
    ],
    expected_failed_checks=expected_to_fail,
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@BOTH
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_auc_is_close_to_the_best_possible(estimator, shift):
    rng = np.random.default_rng(1)
    model = with_options(estimator, members=5).fit(*gaussians(6000, rng, shift=shift))
    x, y = gaussians(20_000, rng, shift=shift)
    best = norm.cdf(shift * np.sqrt(2))
    auc = roc_auc_score(y, model.predict_proba(x)[:, 1])
    assert best - 0.02 < auc < best + 3 * 0.5 / np.sqrt(10_000)


@BOTH
def test_probability_follows_the_class_weights(estimator):
    rng = np.random.default_rng(2)
    x, y = gaussians(4000, rng, shift=0.0, d=1)
    model = with_options(estimator, learning_rate=0.02).fit(x, y, np.where(y == 1, 3.0, 1.0))
    assert np.mean(model.predict_proba(x)[:, 1]) == pytest.approx(0.75, abs=0.01)


def test_trees_stop_on_the_weighted_loss():
    x, y = gaussians(2000, np.random.default_rng(2), shift=0.0)
    model = with_options(TREES).fit(x, y, np.where(y == 1, 3.0, 1.0))
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    for member in model.members_:
        assert -member.validation_score_[0] == pytest.approx(entropy, rel=1e-3)
        assert member.n_iter_ < model.max_iter


def test_networks_keep_the_rounds_of_the_lowest_weighted_loss():
    """Unweighted, the untrained network (p = 1/2) would be the best."""
    x, y = gaussians(2000, np.random.default_rng(2), shift=0.0)
    model = with_options(NETWORK, learning_rate=0.005, steps_per_round=5, max_rounds=40, patience=40)
    model.fit(x, y, np.where(y == 1, 3.0, 1.0))
    assert np.mean(model.predict_proba(x)[:, 1]) == pytest.approx(0.75, abs=0.04)


def test_weights_decide_where_the_trees_have_their_bins():
    rng = np.random.default_rng(3)
    x = rng.uniform(size=(5000, 1))
    model = with_options(TREES, max_bins=10).fit(x, np.arange(5000) % 2, np.where(x[:, 0] < 0.5, 9.0, 1.0))
    # 90 % of the weight below one half: nine of ten bins there
    np.testing.assert_allclose(model.edges_[0], np.arange(1, 10) / 18, atol=0.02)


@BOTH
def test_scale_of_the_weights_does_not_matter_but_their_ratios_do(estimator):
    rng = np.random.default_rng(4)
    x, y = gaussians(1000, rng)
    weights = rng.uniform(0.1, 2.0, 1000)
    one, two, other = (
        with_options(estimator).fit(x, y, w).predict_proba(x) for w in (weights, 2 * weights, weights[::-1])
    )
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 0.01


@BOTH
def test_events_of_zero_weight_are_not_seen(estimator):
    rng = np.random.default_rng(5)
    x, y = gaussians(600, rng)
    weights = (rng.random(600) < 0.7).astype(float)
    used = weights > 0
    model = with_options(estimator).fit(x, y, weights)
    alone = with_options(estimator).fit(x[used], y[used])
    np.testing.assert_allclose(model.predict_proba(x), alone.predict_proba(x), atol=1e-5)


@BOTH
def test_bad_weights_are_refused(estimator):
    x, y = gaussians(100, np.random.default_rng(6))
    weights = np.ones(100)
    weights[7] = -1
    with pytest.raises(ValueError, match=r"sample_weight\[7\] = -1"):
        with_options(estimator).fit(x, y, weights)
    with pytest.raises(ValueError, match="zero"):
        with_options(estimator).fit(x, y, np.zeros(100))
    with pytest.raises(ValueError, match="one class have zero weight"):
        with_options(estimator).fit(x, y, y.astype(float))


@BOTH
def test_same_seed_same_scores(estimator):
    x, y = gaussians(800, np.random.default_rng(7))
    first, again, other = (
        with_options(estimator, random_state=seed).fit(x, y).predict_proba(x) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize(
    "estimator", [TREES, NETWORK, LogisticRegression()], ids=["trees", "network", "any estimator"]
)
def test_a_model_depends_on_the_events_of_its_own_split_only(estimator):
    rng = np.random.default_rng(8)
    x, y = gaussians(1200, rng)
    splits = rng.random((2, 1200)) < 0.6
    before = fit_splits(estimator, x, y, np.ones(1200), splits)
    outside = ~splits[0]
    x[outside] += rng.normal(size=(outside.sum(), 4))
    y[outside] = rng.permutation(y[outside])
    after = fit_splits(estimator, x, y, np.where(outside, 2.0, 1.0), splits)
    np.testing.assert_array_equal(before.score(x, 0), after.score(x, 0))
    assert np.abs(before.score(x, 1) - after.score(x, 1)).max() > 1e-3


@pytest.mark.parametrize(
    "estimator",
    [TREES, with_options(NETWORK, learning_rate=0.02), LogisticRegression()],
    ids=["trees", "network", "any estimator"],
)
def test_each_split_has_its_own_weights(estimator):
    rng = np.random.default_rng(9)
    x, y = gaussians(2000, rng, shift=0.0)
    splits = np.ones((2, 2000), dtype=bool)
    weights = np.stack([np.ones(2000), np.where(y == 1, 3.0, 1.0)])
    models = fit_splits(estimator, x, y, weights, splits)
    assert np.median(models.score(x, 0)) == pytest.approx(0.0, abs=0.15)
    assert np.median(models.score(x, 1)) == pytest.approx(np.log(3), abs=0.15)


def test_networks_trained_together_are_those_trained_alone():
    """Splits of different size, one of which stops early: padding and removal of networks must not leak."""
    rng = np.random.default_rng(10)
    x, y = gaussians(3000, rng)
    y[:400] = rng.permutation(y[:400])
    splits = np.zeros((2, 3000), dtype=bool)
    splits[0, :400] = True
    splits[1, 400:] = True
    estimator = with_options(NETWORK, patience=2, max_rounds=20)
    together = fit_splits(estimator, x, y, None, splits)
    assert together.estimators[0].n_iter_ < together.estimators[1].n_iter_
    for k, mask in enumerate(splits):
        alone = with_options(estimator).fit(x[mask], y[mask])
        assert alone.n_iter_ == together.estimators[k].n_iter_
        np.testing.assert_allclose(together.estimators[k].predict_proba(x), alone.predict_proba(x), atol=1e-4)


def test_threads_change_nothing():
    x, y = gaussians(400, np.random.default_rng(11))
    one, two = (
        with_options(TREES, members=1, max_iter=3, threads=n).fit(x, y).predict_proba(x) for n in (1, 2)
    )
    np.testing.assert_allclose(one, two, rtol=1e-12)


def test_scores_are_finite_and_follow_the_probability():
    rng = np.random.default_rng(12)
    x, y = gaussians(500, rng, shift=3.0)
    models = fit_splits(RandomForestClassifier(20, random_state=1), x, y, None, np.ones((1, 500), dtype=bool))
    probability = models.estimators[0].predict_proba(x)[:, 1]
    assert probability.max() == 1
    assert probability.min() == 0
    scores = models.score(x)
    assert np.isfinite(scores).all()
    order = np.argsort(probability, kind="stable")
    assert (np.diff(scores[order]) >= 0).all()
    assert len(np.unique(scores)) == len(np.unique(probability))
    assert models.score(x[:0]).shape == (0,)


def test_a_split_with_one_class_is_named():
    x, y = gaussians(100, np.random.default_rng(13))
    splits = np.ones((2, 100), dtype=bool)
    splits[1] = y == 0
    with pytest.raises(InputError, match="split 1: no events of class 1 among the 50"):
        fit_splits(TREES, x, y, None, splits)
    with pytest.raises(InputError, match="split 0: no events of class 0"):
        fit_splits(TREES, x, y, y.astype(float), splits)


def test_weights_are_not_dropped_silently():
    x, y = gaussians(100, np.random.default_rng(14))
    with pytest.raises(InputError, match="KNeighborsClassifier takes no sample_weight"):
        fit_splits(KNeighborsClassifier(), x, y, np.ones(100), np.ones((1, 100), dtype=bool))


def test_diverging_network_is_reported():
    x, y = gaussians(200, np.random.default_rng(15))
    with pytest.raises(InputError, match=r"diverged in round \d+: the loss is not finite"):
        with_options(NETWORK, learning_rate=1e30).fit(x, y)


def test_trees_take_missing_values():
    rng = np.random.default_rng(16)
    x, y = gaussians(2000, rng, shift=1.0, d=2)
    x[rng.random(2000) < 0.3, 0] = np.nan
    model = with_options(TREES).fit(x, y)
    missing = np.isnan(x[:, 0])
    auc = [roc_auc_score(y[rows], model.predict_proba(x[rows])[:, 1]) for rows in (missing, ~missing)]
    assert auc[0] == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.07)
    assert auc[1] > auc[0] + 0.04


def test_networks_leave_the_number_of_torch_threads_alone():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with_options(NETWORK, threads=2, members=1, max_rounds=1).fit(*gaussians(100, np.random.default_rng(17)))
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "kind", "threads"), [("trees", TreeEnsemble, 1), ("network", NetworkEnsemble, 2)]
)
def test_classifiers_by_name(name, kind, threads):
    model = build_classifier(name, members=3, seed=5, threads=2)
    assert isinstance(model, kind)
    assert (model.members, model.random_state, model.threads) == (3, 5, threads)


def test_trees_do_not_wait_for_torch():
    code = "import sys; from serendip.classify import TreeEnsemble; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
