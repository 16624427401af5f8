r"""The AUC of classifiers with unlimited training events, extrapolated from all and half of them.

A classifier that learned from finitely many events orders others imperfectly, so that its AUC is too small on average. The
loss is of second order in the errors of the learned score, and the variance of fitted parameters falls like one over the
number of events: with half the events it is twice as large, and

.. math:: A_\infty \approx A + \delta, \qquad \delta = A - A_{1/2}

(Richardson extrapolation). Classifiers that have not yet found the relevant features improve more slowly, which is why the error is
:math:`\sqrt{\sigma^2 + \delta^2}` with the sampling error :math:`\sigma`. A difference that no classifier has begun to learn is in neither: the AUC is then a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from serendip.classify.splits import fit_splits
from serendip.validate.twosample import FoldedAuc, TwoSample, stratified_folds

__all__ = ["LearningCurve", "extrapolate"]


@dataclass(frozen=True)
class LearningCurve:
    """AUC against the number of training events.

    Attributes
    ----------
    auc, half
        With all training events, and with half of them.
    sampling_error
        Standard deviation of :attr:`limit` over bootstraps of the scored events; the classifiers are unchanged.
    """

    auc: float
    half: float
    sampling_error: float

    @property
    def gain(self) -> float:
        """Gain from the second half of the training events, used as an estimate of that from all further ones."""
        return self.auc - self.half

    @property
    def limit(self) -> float:
        """The AUC with unlimited training events."""
        return self.auc + self.gain

    @property
    def error(self) -> float:
        """Standard error of :attr:`limit`: sampling error and extrapolation, in quadrature."""
        return float(np.hypot(self.sampling_error, self.gain))


def extrapolate(
    sample: TwoSample, estimator: Any, bootstraps: int, rng: np.random.Generator
) -> LearningCurve:
    """Train on each half of the events that each classifier saw, and compare the AUCs on the same held-out events.

    Parameters
    ----------
    sample
        Classifier results for all events.
    estimator
        The classifier.
    bootstraps
        Poisson bootstraps of the scored events.
    """
    folds = range(int(sample.fold.max()) + 1)
    masks = []
    for f in folds:
        training = np.flatnonzero(sample.fold != f)
        half = np.full(len(sample.y), -1)
        half[training] = stratified_folds(sample.y[training], 2, rng)
        masks += [half == h for h in (0, 1)]
    models = fit_splits(estimator, sample.x, sample.y, sample.weights, np.stack(masks))
    scores = np.empty((2, len(sample.y)))
    for f in folds:
        here = sample.fold == f
        for h in (0, 1):
            scores[h, here] = models.score(sample.x[here], 2 * f + h)
    full, *halves = (FoldedAuc(sample.y, score, sample.fold) for score in (sample.score, *scores))
    drawn = []
    for _ in range(bootstraps):
        w = sample.weights * rng.poisson(1.0, len(sample.y))
        drawn.append(2 * full(w) - np.mean([auc(w) for auc in halves]))
    half_auc = float(np.mean([auc(sample.weights) for auc in halves]))
    return LearningCurve(sample.auc, half_auc, float(np.nanstd(drawn, ddof=1)))
