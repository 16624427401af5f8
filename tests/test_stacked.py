"""Stacked classifiers: what they learn, from which events, and how little they lose."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from serendip.classify.stacked import NormalScores, StackedClassifier


def test_normal_scores_are_those_of_the_weighted_distribution():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 1))
    # the weights turn the exponential of a standard normal number into that of one with mean 0.8
    scores = NormalScores(np.exp(x), np.exp(0.8 * x[:, 0]))
    at = np.linspace(-1.5, 2.5, 9)[:, None]
    np.testing.assert_allclose(scores(np.exp(at)), at - 0.8, atol=0.06)
    assert scores(np.array([[1e9]]))[0, 0] == scores(np.exp(x).max(axis=0)[None])[0, 0]


def test_equal_values_get_the_middle_of_their_ranks():
    x, w = np.array([[0.0], [0.0], [1.0], [2.0]]), np.array([1.0, 2.0, 3.0, 2.0])
    scores = NormalScores(x, w)
    expected = stats.norm.ppf(np.array([1.5, 1.5, 4.5, 7.0]) / 8)
    np.testing.assert_allclose(scores(x)[:, 0], expected)
    assert scores.bins(x)[:, 0].tolist() == [0, 0, 1, 2]


def correlation(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Normal features, and the ratio of densities of a correlation of 0.5 between two of them."""
    x = rng.normal(size=(n, 3))
    return x, np.exp(0.5 * x[:, 1] ** 2 - 0.5 * (x[:, 1] - 0.5 * x[:, 0]) ** 2 / 0.75) / np.sqrt(0.75)


def waves(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Uniform features and a ratio of densities in which no regression sees more than its slope."""
    x = rng.uniform(-np.pi, np.pi, size=(n, 3))
    return x, 1 + 0.7 * np.sin(4 * x[:, 0])


def drawn(make, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``n`` events of each class, the class, and the logarithm of the ratio of densities."""
    x, ratio = make(20 * n, rng)
    kept = np.flatnonzero(rng.random(20 * n) * 10 < ratio)[:n]
    assert len(kept) == n
    other, other_ratio = make(n, rng)
    return (
        np.concatenate([x[kept], other]),
        np.repeat([1, 0], n),
        np.log(np.concatenate([ratio[kept], other_ratio])),
    )


CASES = pytest.mark.parametrize(
    ("make", "loss", "part"), [(correlation, 0.004, 2), (waves, 0.02, 3)], ids=["correlation", "waves"]
)


@CASES
def test_little_is_lost_to_the_ratio_of_densities(make, loss, part):
    rng = np.random.default_rng(2)
    x, y, _ = drawn(make, 4000, rng)
    model = StackedClassifier(random_state=0).fit(x, y)
    assert np.argmax(model.mixture_[1:]) + 1 == part
    x, y, best = drawn(make, 4000, rng)
    score = model.decision_function(x)
    assert roc_auc_score(y, best) - roc_auc_score(y, score) < loss
    # log-odds are the logarithm of the ratio, not only in the same order
    assert np.polyfit(score, best, 1)[0] == pytest.approx(1, abs=0.15)
    np.testing.assert_allclose(model.predict_proba(x)[:, 1], 1 / (1 + np.exp(-score)))
    assert np.array_equal(model.predict(x), (score > 0).astype(int))


@CASES
def test_weights_are_as_good_as_events(make, loss, part):
    # both classes hold the same events; all that tells them apart are the weights of class 1
    rng = np.random.default_rng(4)
    x, ratio = make(6000, rng)
    model = StackedClassifier(random_state=0)
    model.fit(np.concatenate([x, x]), np.repeat([1, 0], 6000), np.concatenate([ratio, np.ones(6000)]))
    assert np.argmax(model.mixture_[1:]) + 1 == part
    x, y, best = drawn(make, 4000, rng)
    assert roc_auc_score(y, best) - roc_auc_score(y, model.decision_function(x)) < loss


def test_scores_of_a_model_are_those_of_its_weighted_events():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(4000, 1))
    model = StackedClassifier(random_state=0).fit(x, np.repeat([1, 0], 2000), np.exp(0.8 * x[:, 0]))
    assert model.normal_(np.array([[0.8]]))[0, 0] == pytest.approx(0, abs=0.1)


def test_noise_gets_no_weight():
    # judged on the events that they learned from, 65 coefficients and the trees would seem to know something
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(600, 10)), np.repeat([1, 0], 300)
    model = StackedClassifier(random_state=0).fit(x, y)
    assert np.std(model.decision_function(x)) < 0.2


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_the_scale_of_weights_does_not_matter(scale):
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(800, 2)), rng.exponential(size=800)
    y = np.repeat([1, 0], 400)
    x[:400] += 0.5
    one, other = (StackedClassifier(random_state=0).fit(x, y, v) for v in (w, scale * w))
    np.testing.assert_allclose(one.decision_function(x), other.decision_function(x), rtol=1e-6, atol=1e-9)
