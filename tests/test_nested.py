"""Nested validation: bad restarts are rejected, no event outside the split is seen, weights count."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from serendip.classify import NetworkEnsemble, TreeEnsemble, fit_splits
from serendip.classify.argos import efficiency_at
from serendip.classify.nested import NestedEnsemble
from serendip.classify.storage import load_classifier, save_classifier
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.cwola import Cwola, CwolaConfig

NETWORK = NetworkEnsemble(
    members=1,
    hidden=(16,),
    learning_rate=5e-3,
    steps_per_round=20,
    max_rounds=6,
    best_rounds=2,
    random_state=0,
)
BOTH = pytest.mark.parametrize(
    "base", [TreeEnsemble(members=1, max_iter=20, max_leaf_nodes=12), NETWORK], ids=["trees", "network"]
)
EITHER = pytest.mark.parametrize("select_by", ["efficiency", "argos"])


def with_options(**options):
    return NetworkEnsemble(**NETWORK.get_params() | options)


def sample(n=4000, seed=0, fraction=0.1):
    """Two classes of noise, and a blob in a part of class 1."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    signal = (y == 1) & (rng.random(n) < fraction)
    x = np.where(signal[:, None], rng.normal(2.0, 0.3, (n, 3)), rng.normal(size=(n, 3)))
    return x, y, signal


class Noise(ClassifierMixin, BaseEstimator):
    """Knows nothing: a hash of the features."""

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        p = np.modf(np.abs(np.sin(1e4 * np.asarray(X)[:, 0])))[0] * 0.98 + 0.01
        return np.column_stack([1 - p, p])


def test_efficiency_at_a_cut_counts_ties_together_and_weights():
    is_data = np.array([True, True, False, False, False, False])
    scores = np.array([3.0, 1.0, 2.0, 1.0, 0.0, 0.0])
    ones = np.ones(6)
    assert efficiency_at(is_data, scores, ones, 0.25) == 0.5
    assert efficiency_at(is_data, scores, ones, 0.5) == 1.0
    assert efficiency_at(is_data, scores, ones, 0.1) == 0.5
    assert efficiency_at(is_data, np.zeros(6), ones, 0.5) == 0.0
    assert efficiency_at(is_data, scores, np.array([3, 1, 1, 1, 1, 9.0]), 0.1) == 0.75


@EITHER
def test_restarts_that_learn_nothing_are_rejected(select_by):
    made = []

    def factory(seed):
        made.append(Noise() if len(made) % 3 != 1 else DecisionTreeClassifier(max_depth=4, random_state=seed))
        return made[-1]

    x, y, _ = sample()
    model = NestedEnsemble(factory, restarts=3, select_by=select_by, random_state=0).fit(x, y)
    assert model.quality_.shape == (4, 3)
    assert (model.quality_.argmax(axis=1) == 1).all()
    assert all(isinstance(kept, DecisionTreeClassifier) for kept in model.kept_)


@BOTH
@EITHER
def test_best_restart_of_each_inner_fold_is_kept_and_averaged(base, select_by):
    x, y, _ = sample()
    model = NestedEnsemble(base, restarts=3, select_by=select_by, random_state=1).fit(x, y)
    assert model.quality_.shape == (4, 3)
    assert (np.ptp(model.quality_, axis=1) > 0).any()
    mean = np.mean([kept.predict_proba(x)[:, 1] for kept in model.kept_], axis=0)
    np.testing.assert_allclose(model.predict_proba(x)[:, 1], mean)
    test_x, test_y, signal = sample(seed=5)
    use = signal | (test_y == 0)
    assert roc_auc_score(signal[use], model.predict_proba(test_x[use])[:, 1]) > 0.9


def test_criterion_decides_which_restart_is_kept():
    x, y, _ = sample(1500, fraction=0.02)
    base = TreeEnsemble(members=1, max_iter=8, max_leaf_nodes=8)
    options: list[dict] = [
        {"select_by": "efficiency"},
        {"select_by": "argos"},
        {"background_efficiency": 0.2},
        {"inner_folds": 3},
        {"restarts": 2},
        {"random_state": 3},
    ]
    made = [
        NestedEnsemble(base, **({"restarts": 6, "random_state": 2} | o)).fit(x, y).predict_proba(x)[:, 1]
        for o in options
    ]
    for i in range(len(made)):
        for other in made[i + 1 :]:
            assert np.abs(made[i] - other).max() > 1e-3


@BOTH
def test_events_outside_the_split_change_nothing(base):
    x, y, _ = sample(2000)
    first = np.arange(2000) % 4 < 2
    nested = NestedEnsemble(base, restarts=2, random_state=0)
    both = fit_splits(nested, x, y, np.ones(2000), np.stack([first, ~first]))
    other = np.where(first[:, None], x, -7.0 * x)
    again = fit_splits(nested, other, y, np.ones(2000), np.stack([first, ~first]))
    np.testing.assert_allclose(both.score(x, 0), again.score(x, 0), atol=1e-5)
    assert np.abs(both.score(x, 1) - again.score(x, 1)).max() > 0.1
    alone = nested.fit(x[first], y[first]).predict_proba(x)[:, 1]
    np.testing.assert_allclose(both.estimators[0].predict_proba(x)[:, 1], alone, atol=1e-5)


def test_inner_fold_that_judges_a_network_does_not_train_it():
    x, y, _ = sample(1200)
    judged = np.arange(1200) % 4 < 2
    masks = ~judged[None], judged[None]
    flipped = np.where(judged, 1 - y, y)
    first = {}
    for rounds in (1, 10):
        network = with_options(max_rounds=rounds, best_rounds=1, patience=10)
        (right,), (wrong,) = (
            network.fit_splits(x, t, None, masks[0], validation=masks[1]) for t in (y, flipped)
        )
        first[rounds] = float((right.layers_[0][0] - wrong.layers_[0][0]).abs().max())
    # one round is the same training whatever judges it; of ten another one is kept
    assert first[1] == 0.0
    assert first[10] > 0.01
    doubled = with_options(members=4)
    (whole,) = doubled.fit_splits(x, y, None, masks[0], validation=masks[1])
    parts = whole.parts(2)
    mean = np.mean([part.predict_proba(x) for part in parts], axis=0)
    np.testing.assert_allclose(mean, whole.predict_proba(x), rtol=1e-6)
    assert np.abs(parts[0].predict_proba(x) - parts[1].predict_proba(x)).max() > 1e-3
    with pytest.raises(ValueError, match="cannot be shared out to 3"):
        whole.parts(3)


@BOTH
def test_events_of_weight_zero_count_for_nothing(base):
    x, y, _ = sample(2000)
    w = np.random.default_rng(1).uniform(0.5, 2, 2000)
    poison = np.concatenate([x, np.full((400, 3), 2.0)]), np.concatenate([y, np.zeros(400)])
    nested = NestedEnsemble(base, restarts=2, random_state=0)
    clean = nested.fit(x, y, w).predict_proba(x)[:, 1]
    same = nested.fit(*poison, np.concatenate([w, np.zeros(400)])).predict_proba(x)[:, 1]
    np.testing.assert_allclose(same, clean, atol=1e-5)
    assert np.abs(nested.fit(x, y).predict_proba(x)[:, 1] - clean).max() > 1e-3


def test_other_estimators_are_trained_again_with_another_seed():
    x, y, _ = sample(1000)
    base = DecisionTreeClassifier(max_features=1, max_depth=3)
    model = NestedEnsemble(base, restarts=3, random_state=0).fit(x, y)
    assert (np.ptp(model.quality_, axis=1) > 0).all()
    assert NestedEnsemble(LogisticRegression(), restarts=2).fit(x, y).quality_.shape == (4, 2)
    for wrong in ({"inner_folds": 1}, {"restarts": 0}, {"select_by": "loss"}):
        with pytest.raises(ValueError, match=r"needed|expected"):
            NestedEnsemble(base, **wrong).fit(x, y)


@BOTH
def test_stored_and_read_again_it_predicts_the_same(base, tmp_path):
    x, y, _ = sample(1000)
    model = NestedEnsemble(base, restarts=2, inner_folds=2, random_state=0).fit(x, y)
    save_classifier(tmp_path / "model", model)
    np.testing.assert_array_equal(
        load_classifier(tmp_path / "model").predict_proba(x), model.predict_proba(x)
    )
    facts, arrays = model.to_arrays()
    arrays.pop(next(name for name in arrays if name.startswith("1.")))
    with pytest.raises(InputError):
        NestedEnsemble.from_arrays(facts, arrays)
    with pytest.raises(InputError, match="LogisticRegression cannot be stored"):
        NestedEnsemble(LogisticRegression(), restarts=1).fit(x, y).to_arrays()


# CWoLa hunting with nested validation


def test_cwola_options_reach_the_classifier():
    nested = Cwola(CwolaConfig(validation="nested", members=6, restarts=3), seed=4).classifier()
    assert (nested.estimator.members, nested.inner_folds, nested.restarts) == (2, 4, 3)
    assert (nested.select_by, nested.estimator.select_by, nested.random_state) == ("efficiency", "loss", 4)
    assert Cwola(CwolaConfig(validation="nested")).classifier().restarts == 5
    by_argos = Cwola(CwolaConfig(validation="nested", select_by="argos")).classifier()
    assert (by_argos.select_by, by_argos.estimator.select_by) == ("argos", "argos")
    assert isinstance(Cwola(CwolaConfig()).classifier(), TreeEnsemble)
    with pytest.raises(ValidationError, match="restarts requires validation 'nested'"):
        CwolaConfig(restarts=3)


def test_cwola_with_nested_validation_finds_a_signal_out_of_fold():
    rng = np.random.default_rng(0)
    label = np.arange(8150) >= 8000
    m = np.where(label, rng.normal(3500, 60, 8150), 2500 + rng.exponential(900, 8150))
    x = np.where(label[:, None], rng.normal(2.0, 0.3, (8150, 2)), rng.normal(size=(8150, 2)))
    events = Events({"m": m, "a": x[:, 0], "b": x[:, 1]}, mass="m", features=("a", "b"))
    first = rng.random(8150) < 0.5
    window = Window(3300.0, 3700.0)
    method = Cwola(CwolaConfig(validation="nested", members=4, restarts=2), seed=1)
    method.fit(events, window, np.stack([first, ~first]))
    test = window.contains(m) & ~first
    assert roc_auc_score(label[test], method.score(events.select(test), 0)) > 0.9
