r"""Can a classifier distinguish two weighted samples? Cross-validated AUC, its bootstrap error and its permutation null.

Both samples get the same total weight, so that only their shapes are compared. Each event is scored by a classifier that was not trained on it, and only events of one fold are compared with each other:

.. math:: A = \frac{1}{k} \sum_f A_f, \qquad
    A_f = \frac{\sum_{i \in 1, j \in 0} w_i w_j \left([s_i > s_j] + \tfrac12 [s_i = s_j]\right)}
    {\sum_{i \in 1} w_i \sum_{j \in 0} w_j}

A classifier two-sample test (arXiv:1610.06545). 0.5 = cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.classify.splits import SplitClassifiers, fit_splits
from serendip.errors import InputError
from serendip.runs.executor import as_finished, executor_or_local
from serendip.statistics.pvalues import toy_p_value

__all__ = [
    "FoldedAuc",
    "PermutationTest",
    "TwoSample",
    "balanced",
    "bootstrap_error",
    "cross_validate",
    "null_error",
    "permutation_test",
    "stratified_folds",
]

Array = NDArray[np.float64]

_FEWEST = 50


@dataclass(frozen=True, eq=False)
class TwoSample:
    """Two samples and the results of classifiers between them.

    Attributes
    ----------
    x, y, weights
        Events of both samples, shape ``(n, d)``; sample 1 or 0, and weight of each, shape ``(n,)``; both samples have the
        same total weight.
    fold
        Fold of each event, shape ``(n,)``.
    score
        Log-odds of sample 1 from the classifier that was not trained on the event, shape ``(n,)``; the logarithm of the ratio of
        the two densities.
    models
        Classifier ``f`` saw all folds but ``f``.
    auc
        The cross-validated AUC.
    """

    x: NDArray[np.float32]
    y: NDArray[np.bool_]
    weights: Array
    fold: NDArray[np.int64]
    score: Array
    models: SplitClassifiers
    auc: float


@dataclass(frozen=True)
class PermutationTest:
    """The AUC if the samples were one.

    Attributes
    ----------
    p
        ``(k + 1) / (N + 1)``.
    p_interval_68
        Clopper-Pearson interval of ``k / N``.
    n, n_reached
        ``N`` permutations, ``k`` of which reached the observed AUC.
    aucs
        AUC of each permutation, shape ``(N,)``.
    """

    p: float
    p_interval_68: tuple[float, float]
    n: int
    n_reached: int
    aucs: Array

    @property
    def deviation(self) -> float:
        """Standard deviation of the AUC without separation, training included."""
        return float(self.aucs.std(ddof=1))


class FoldedAuc:
    """AUC of fixed scores as a function of the weights.

    Parameters
    ----------
    y, score, fold
        Sample, score and fold of each event, shape ``(n,)``.
    """

    def __init__(self, y: NDArray[np.bool_], score: Array, fold: NDArray[np.int64]) -> None:
        self._folds = []
        for f in np.unique(fold):
            rows = np.flatnonzero(fold == f)
            rows = rows[np.argsort(score[rows], kind="stable")]
            group = np.cumsum(np.concatenate([[0], np.diff(score[rows]) > 0])).astype(np.int64)
            self._folds.append((rows, group, y[rows]))

    def __call__(self, weights: Array) -> float:
        """Mean AUC of the folds; NaN if a fold has no weight in one of the samples."""
        found = []
        for rows, group, y in self._folds:
            ones, zeros = (
                np.bincount(group, np.where(y == kind, weights[rows], 0.0)) for kind in (True, False)
            )
            total = ones.sum() * zeros.sum()
            below = np.cumsum(zeros) - 0.5 * zeros
            found.append(float(ones @ below) / total if total > 0 else np.nan)
        return float(np.mean(found))


def null_error(y: NDArray[np.bool_], weights: Array) -> float:
    r"""Error of an AUC without separation, :math:`\sqrt{(n_1 + n_0 + 1) / (12\, n_1 n_0)}`, with effective numbers."""
    n1, n0 = (float(w.sum() ** 2 / (w**2).sum()) for w in (weights[y], weights[~y]))
    return float(np.sqrt((n1 + n0 + 1) / (12 * n1 * n0)))


def balanced(y: NDArray[np.bool_], weights: Array) -> Array:
    """Weights with the same sum in both samples and mean 1 over all events, shape ``(n,)``.

    Raises
    ------
    InputError
        If a weight is negative or a sample has fewer than 50 events with weight.
    """
    if np.any(weights < 0) or not np.isfinite(weights).all():
        bad = int(np.count_nonzero((weights < 0) | ~np.isfinite(weights)))
        raise InputError(
            f"{bad} of {len(weights)} weights are negative or not finite, which no classifier can be trained with: "
            "leave these events out (--where), or combine the sample so that all weights are positive"
        )
    out = np.empty(len(weights))
    for kind, name in ((True, "first"), (False, "second")):
        rows = y == kind
        found = int(np.count_nonzero(weights[rows] > 0))
        if found < _FEWEST:
            raise InputError(
                f"the {name} sample has {found} events with weight; at least {_FEWEST} are needed"
            )
        out[rows] = weights[rows] * (0.5 * len(y) / weights[rows].sum())
    return out


def stratified_folds(y: NDArray[np.bool_], n_folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random folds with the same share of each sample, shape ``(n,)``."""
    fold = np.empty(len(y), dtype=np.int64)
    for kind in (True, False):
        rows = np.flatnonzero(y == kind)
        fold[rng.permutation(rows)] = np.arange(len(rows)) % n_folds
    return fold


def cross_validate(
    x: NDArray[np.float32],
    y: NDArray[np.bool_],
    weights: Array,
    estimator: Any,
    n_folds: int,
    rng: np.random.Generator,
) -> TwoSample:
    """Train a classifier without each fold in turn and score that fold.

    Parameters
    ----------
    x, y, weights
        Events of both samples, shape ``(n, d)``, ``(n,)`` and ``(n,)``; weights are balanced here.
    estimator
        Anything with scikit-learn's ``fit(X, y, sample_weight)`` and ``predict_proba``.

    Raises
    ------
    InputError
        If a weight is negative or a sample too small.
    """
    w = balanced(y, weights)
    fold = stratified_folds(y, n_folds, rng)
    models = fit_splits(estimator, x, y, w, np.stack([fold != f for f in range(n_folds)]))
    score = np.empty(len(x))
    for f in range(n_folds):
        score[fold == f] = models.score(x[fold == f], f)
    return TwoSample(x, y, w, fold, score, models, FoldedAuc(y, score, fold)(w))


def bootstrap_error(sample: TwoSample, n: int, rng: np.random.Generator) -> float:
    """Standard deviation of the AUC over ``n`` Poisson bootstraps of the scored events; the classifiers are unchanged.

    Folds share training events, so that the AUC of small samples scatters more than this (measured: 15 % more for 1000
    events in each); the spread of :attr:`PermutationTest.aucs`, which are retrained, includes that.
    """
    auc = FoldedAuc(sample.y, sample.score, sample.fold)
    found = [auc(sample.weights * rng.poisson(1.0, len(sample.y))) for _ in range(n)]
    return float(np.nanstd(found, ddof=1))


def permutation_test(
    sample: TwoSample,
    estimator: Any,
    n: int,
    rng: np.random.Generator,
    *,
    jobs: int | None = None,
) -> PermutationTest:
    r"""How often the AUC is as large if it is chance who belongs to which sample.

    Each permutation shuffles the membership, rebalances the weights and repeats the whole cross-validation, training
    included: the scores of different folds share training events, so that a shuffle of finished scores would be no valid
    null. Weights stay with their events. Since the samples may differ in their spread of weights, the test statistic is the studentised :math:`(A - 1/2)/\sigma_0` with the error of :func:`null_error`.

    Parameters
    ----------
    sample
        The observed samples.
    estimator
        The classifier between them.
    n
        Number of permutations; the smallest p-value is ``1 / (n + 1)``.
    jobs
        Worker processes; default: one for each core.
    """
    seeds = [int(seed) for seed in rng.integers(0, 2**63, n)]
    n_folds = int(sample.fold.max()) + 1
    aucs, pulls = np.empty(n), np.empty(n)
    place = {seed: i for i, seed in enumerate(seeds)}
    with executor_or_local(None, jobs, n) as pool:
        arguments = (sample.x, sample.y, sample.weights, estimator, n_folds)
        for batch, found in as_finished(pool, _permuted, _batches(seeds), *arguments):
            for seed, (auc, pull) in zip(batch, found, strict=True):
                aucs[place[seed]], pulls[place[seed]] = auc, pull
    observed = (sample.auc - 0.5) / null_error(sample.y, sample.weights)
    reached = int(np.count_nonzero(pulls >= observed))
    p, interval = toy_p_value(reached, n)
    return PermutationTest(p, interval, n, reached, aucs)


def _batches(seeds: Sequence[int], size: int = 5) -> list[tuple[int, ...]]:
    return [tuple(seeds[start : start + size]) for start in range(0, len(seeds), size)]


def _permuted(
    seeds: tuple[int, ...],
    x: NDArray[np.float32],
    y: NDArray[np.bool_],
    weights: Array,
    estimator: Any,
    n_folds: int,
) -> list[tuple[float, float]]:
    """AUC of permuted samples, and in units of its error."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        one = cross_validate(x, rng.permutation(y), weights, estimator, n_folds, rng)
        found.append((one.auc, (one.auc - 0.5) / null_error(one.y, one.weights)))
    return found
