"""The AUC with unlimited training events: bias and error against closed forms, and what the classifiers saw."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.naive_bayes import GaussianNB

from serendip.classify.stacked import StackedClassifier
from serendip.validate.learning_curve import LearningCurve, extrapolate
from serendip.validate.twosample import FoldedAuc, cross_validate, null_error


def shifted(n: int, d: int, shift: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of ``n`` events whose first feature differs by ``shift`` standard deviations."""
    x = rng.normal(size=(2 * n, d))
    x[:n, 0] += shift
    return x.astype(np.float32), np.repeat([True, False], n)


class Mean(GaussianNB):
    """Linear discriminant with known widths, which takes weights."""

    def fit(self, X, y, sample_weight=None):
        self.seen_ = X[:, 0].tolist()
        self.direction_ = np.average(X[y == 1], axis=0, weights=sample_weight[y == 1]) - np.average(
            X[y == 0], axis=0, weights=sample_weight[y == 0]
        )
        return self

    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-(X @ self.direction_)))
        return np.column_stack([1 - p, p])


def test_limit_is_unbiased_where_the_measured_auc_is_not_and_its_error_covers():
    true = stats.norm.cdf(0.6 / np.sqrt(2))
    found = []
    for seed in range(100):
        rng = np.random.default_rng([1, seed])
        x, y = shifted(300, 8, 0.6, rng)
        sample = cross_validate(x, y, np.ones(600), Mean(), 3, rng)
        curve = extrapolate(sample, Mean(), 30, rng)
        found.append((curve.auc, curve.half, curve.limit, curve.error))
    measured, half, limit, error = np.array(found).T
    spread = limit.std() / 10
    assert np.mean(measured) - true < -0.01
    assert np.mean(half) < np.mean(measured) - 0.01
    assert np.mean(limit) == pytest.approx(true, abs=3 * spread)
    # 68 % with the binomial error of 100, and a little more since the error contains the extrapolation
    assert 0.55 < np.mean(np.abs(limit - true) < error) < 0.9
    assert np.mean(np.abs(limit - true) < 2 * error) > 0.9


def test_the_extrapolation_is_part_of_the_error():
    curve = LearningCurve(0.60, 0.57, 0.04)
    assert curve.limit == pytest.approx(0.63)
    assert curve.error == pytest.approx(0.05)


def test_halves_are_halves_and_score_what_they_did_not_see(monkeypatch):
    seen = []
    fit = Mean.fit

    def recorded(self, X, y, sample_weight=None):
        fit(self, X, y, sample_weight)
        seen.append(set(self.seen_))
        return self

    rng = np.random.default_rng(2)
    x, y = shifted(90, 2, 1.0, rng)
    sample = cross_validate(x, y, np.ones(180), Mean(), 3, rng)
    monkeypatch.setattr(Mean, "fit", recorded)
    curve = extrapolate(sample, Mean(), 20, rng)
    assert len(seen) == 6
    scores = np.empty((2, 180))
    for f in range(3):
        training, here = set(x[sample.fold != f, 0].tolist()), sample.fold == f
        first, second = seen[2 * f], seen[2 * f + 1]
        assert first | second == training
        assert not first & second
        assert len(first) == len(second) == 60
        for h, rows in enumerate((first, second)):
            mine = np.isin(x[:, 0], list(rows))
            direction = x[mine & y].mean(axis=0) - x[mine & ~y].mean(axis=0)
            scores[h, here] = x[here] @ direction
    expected = np.mean([FoldedAuc(y, score, sample.fold)(np.ones(180)) for score in scores])
    assert curve.half == pytest.approx(expected, abs=1e-12)


def test_sampling_error_knows_the_weights_and_the_noise_of_the_extrapolation():
    rng = np.random.default_rng(4)
    found = []
    for _ in range(30):
        x, y = shifted(200, 3, 0.0, rng)
        w = rng.exponential(size=400) ** 2
        sample = cross_validate(x, y, w, Mean(), 2, rng)
        found.append(extrapolate(sample, Mean(), 30, rng).sampling_error / null_error(y, sample.weights))
    # of 2 A - (B + C) / 2, where A shares half of its events with B and half with C: sqrt(4 + 1/2 - 4 / sqrt 2)
    assert np.mean(found) == pytest.approx(1.29, abs=0.13)


@pytest.mark.parametrize(("shift", "tolerance"), [(0.2, 0.006), (0.5, 0.003)], ids=["AUC 0.556", "AUC 0.638"])
def test_known_shifts_of_correlated_features_are_measured_as_they_are(shift, tolerance):
    rng = np.random.default_rng(3)
    n, d = 5000, 5
    covariance = np.full((d, d), 0.6) + 0.4 * np.eye(d)
    direction = np.linalg.solve(covariance, np.eye(d)[0])
    # distance of the means in units of the width along the best direction
    distance = shift / np.sqrt(direction[0])
    x = rng.multivariate_normal(np.zeros(d), covariance, 2 * n)
    x[:n, 0] += distance
    y = np.repeat([True, False], n)
    assert np.sqrt(distance**2 * direction[0]) == pytest.approx(shift)
    best = FoldedAuc(y, x @ direction, np.zeros(2 * n, dtype=np.int64))(np.ones(2 * n))
    assert best == pytest.approx(stats.norm.cdf(shift / np.sqrt(2)), abs=0.02)
    stacked = StackedClassifier(random_state=0)
    sample = cross_validate(x.astype(np.float32), y, np.ones(2 * n), stacked, 5, rng)
    curve = extrapolate(sample, stacked, 20, rng)
    assert curve.limit == pytest.approx(best, abs=tolerance)
    assert curve.error < 0.012
