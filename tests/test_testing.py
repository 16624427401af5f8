"""The public checks of methods and scores: what keeps a contract passes, and each broken promise is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.methods.base import Method, MethodConfig, as_splits, require_events
from serendip.methods.registry import get_method
from serendip.outliers import GaussianMixtureScore, IsolationForestScore, KernelDensity, Met
from serendip.outliers.base import OutlierScore
from serendip.testing import check_method, check_score

# methods -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [("bump-hunt", {}), ("cwola", {"members": 1}), ("isolation-forest", {"trees": 10}), ("gaussian-mixture", {"components": 2}), ("idealised", {"members": 1})],
)  # fmt: skip
def test_our_methods_keep_the_contract(name, options):
    check_method(get_method(name), options)


class Mean(Method):
    """Distance to the weighted mean of the events in the window, of each split."""

    name, title = "mean", "distance to a mean"

    def fit(self, events, window, splits=None):
        self._means = []
        for mask in as_splits(splits, len(events)):
            require_events(mask & window.contains(events.m), 10, "signal region", window)
            self._means.append(self.mean(events, mask & window.contains(events.m)))
        return self

    def mean(self, events, rows):
        return np.average(events.x[rows], axis=0, weights=events.weights[rows])

    def score(self, events, split=0):
        return -np.abs(events.x - self._means[split]).sum(axis=1)

    def save_model(self, folder, split):
        (folder / "mean.json").write_text(json.dumps(self._means[split].tolist()))

    def load_model(self, folder):
        self._means = [np.array(json.loads((folder / "mean.json").read_text()))]


class Untitled(Mean):
    title = ""


class Lax(Mean):
    Config = type("LaxConfig", (MethodConfig,), {"model_config": {"extra": "ignore"}})


class OneScore(Mean):
    def score(self, events, split=0):
        return np.float64(0.0)


class Infinite(Mean):
    def score(self, events, split=0):
        return np.where(events["f1"] > 0, np.inf, super().score(events, split))


class Neighbours(Mean):
    def score(self, events, split=0):
        return super().score(events, split) - events["f1"].mean()


class Chance(Mean):
    def mean(self, events, rows):
        return super().mean(events, rows) + np.random.default_rng().normal()


class Peeks(Mean):
    def fit(self, events, window, splits=None):
        super().fit(events, window, splits)
        self._means = [np.mean(self._means, axis=0)] * 2
        return self


class Weightless(Mean):
    def mean(self, events, rows):
        return events.x[rows & (events.weights > 0)].mean(axis=0)


class ZeroCounts(Mean):
    def mean(self, events, rows):
        return super().mean(events, rows) / events.x[rows].std(axis=0)


class Anonymous(Mean):
    name = None


class Refuses(Mean):
    def mean(self, events, rows):
        if events.weight is not None:
            raise InputError("this method knows no weights")
        return super().mean(events, rows)


class Early(Mean):
    trains = False  # so that a small sample is no reason to refuse

    def fit(self, events, window, splits=None):
        self._means = np.zeros((len(as_splits(splits, len(events))), events.x.shape[1]))
        return self


class Careless(Mean):
    def fit(self, events, window, splits=None):
        masks = as_splits(splits, len(events))
        self._means = [self.mean(events, mask & window.contains(events.m)) for mask in masks]
        return self


class Forgets(Mean):
    def save_model(self, folder, split):
        (folder / "mean.json").write_text("[0, 0, 0]")


@pytest.mark.parametrize("method", [Mean, Refuses, Early])
def test_small_methods_keep_the_contract(method):
    check_method(method)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Anonymous, "needs a name"),
        (Untitled, "needs a title"),
        (Lax, "accepts an unknown option"),
        (OneScore, "score gave the shape"),
        (Infinite, "not finite"),
        (Neighbours, "depends on the events that are scored with it"),
        (Chance, "the same seed gave other scores"),
        (Peeks, "outside its row of the splits"),
        (Weightless, "weights change nothing"),
        (ZeroCounts, "events of weight zero change the scores"),
        (Careless, "a sample of two events must be refused with an InputError"),
        (Forgets, "a saved model gives other scores"),
    ],
)
def test_a_broken_promise_of_a_method_is_named(method, message):
    with pytest.raises(AssertionError, match=message):
        check_method(method)


# scores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "score",
    [Met(), IsolationForestScore(20), GaussianMixtureScore(1), KernelDensity(3)],
    ids=lambda s: s.kind,
)
def test_our_scores_keep_the_contract(score):
    check_score(score)


class Distance(OutlierScore):
    """Distance to the mean."""

    kind = "distance"

    def _fit(self, x, weights):
        self._mean = np.average(x, axis=0, weights=weights)

    def _score(self, x):
        return np.abs(x - self._mean).sum(axis=1)

    def _state(self):
        return {}, {"mean": self._mean}

    def _restore(self, facts, arrays):
        self._mean = arrays["mean"]


def test_a_small_score_keeps_the_contract():
    assert Distance.title == "distance"
    check_score(Distance(), ("a", "b"))


class UpsideDown(Distance):
    def _score(self, x):
        return -super()._score(x)


class Crowd(Distance):
    def _score(self, x):
        return super()._score(x) - x.mean()


class Dice(Distance):
    def _fit(self, x, weights):
        self._mean = x.mean(axis=0) + np.random.default_rng().normal()


class Amnesia(Distance):
    def _restore(self, facts, arrays):
        self._mean = 0.0


class Undefined(Distance):
    def _score(self, x):
        return np.full(len(x), np.nan)


class Short(Distance):
    def _score(self, x):
        return super()._score(x)[1:]


class Trusting(Distance):
    def score_samples(self, X):
        return self._score(np.asarray(X))


class Narrow(Distance):
    def score_samples(self, X):
        values = np.asarray(X)
        if not np.isfinite(values).all():
            raise InputError("not finite")
        return np.abs(values - self._mean[: values.shape[1]]).sum(axis=1)


class Greedy(Distance):
    def fit(self, X, y=None, *, sample_weight=None, groups=None):
        return super().fit(X)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (UpsideDown, "higher must be more anomalous"),
        (Crowd, "depends on the events that are scored with it"),
        (Dice, "the same random_state gave other scores"),
        (Amnesia, "a saved score gives other numbers"),
        (Undefined, "not finite"),
        (Short, "59 scores for 60 events"),
        (Narrow, "a table with fewer columns must be refused"),
        (Greedy, "events of weight zero change the scores"),
        (Trusting, "NaN must be refused with an InputError; it was accepted"),
    ],
)
def test_a_broken_promise_of_a_score_is_named(score, message):
    with pytest.raises(AssertionError, match=message):
        check_score(score())
