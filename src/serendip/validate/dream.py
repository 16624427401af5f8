r"""DREAM, density ratio estimation for automatic monitoring: two samples compared by a classifier.

Its AUC measures how well one sample describes the other (0.5: cannot be told apart); it is cross-validated, and extrapolated to
unlimited training events (:mod:`serendip.validate.learning_curve`). Its log-odds are the logarithm of the ratio of densities
:math:`\ln p_1(x)/p_0(x)`, its derivatives and the permutation importance rank the features by how badly they are described, and the ratio itself shows where in phase space. Only shapes are compared: both samples get the same total weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from serendip.classify.build import build_classifier
from serendip.classify.stacked import StackedClassifier
from serendip.errors import InputError
from serendip.validate.config import KindOptions
from serendip.validate.importance import Ranking, input_derivatives, permutation_importance
from serendip.validate.learning_curve import LearningCurve, extrapolate
from serendip.validate.ratio_map import Profile, Region, find_regions, ratio_profiles
from serendip.validate.twosample import (
    PermutationTest,
    TwoSample,
    cross_validate,
    permutation_test,
)

__all__ = ["Dream", "DreamOptions", "compare_samples"]

_SHARED = 0.5
_NETWORKS = 2


class DreamOptions(KindOptions):
    """How two samples are compared.

    Attributes
    ----------
    classifier
        ``"stacked"`` (logistic regressions and trees, :class:`~serendip.classify.stacked.StackedClassifier`), ``"trees"``
        or ``"network"``.
    members
        Classifiers that are averaged; at least 2 for ``"stacked"``.
    folds
        Folds of the cross-validation.
    permutations
        Permutations of the null, each with its own trainings; the smallest p-value is one over this plus one.
    bootstraps
        Bootstraps of the AUC, for its error.
    repeats
        Draws for the importance of each feature in each fold.
    derivatives
        Rank the features by derivatives too, which needs networks: they are trained besides the trees.
    max_events
        Events of each sample that are used at most, drawn at random.
    """

    classifier: Literal["stacked", "trees", "network"] = "stacked"
    members: PositiveInt = 3
    folds: int = Field(default=5, ge=2, le=20)
    permutations: int = Field(default=100, ge=9)
    bootstraps: int = Field(default=200, ge=20)
    repeats: PositiveInt = 3
    derivatives: bool = True
    max_events: int = Field(default=20_000, ge=200)


@dataclass(frozen=True, eq=False)
class Dream:
    """Results of the comparison of two samples; see :func:`compare_samples`.

    Attributes
    ----------
    sample
        Both samples and the scores.
    curve
        The AUC with all and with half of the training events.
    null
        Permutation test of the AUC.
    derivatives, importance
        Features ranked by derivatives of networks (None if not requested), and by permutation.
    profiles
        Ratio along each feature.
    regions
        Regions from the lowest to the highest ratio.
    """

    sample: TwoSample
    curve: LearningCurve
    null: PermutationTest
    derivatives: Ranking | None
    importance: Ranking
    profiles: tuple[Profile, ...]
    regions: tuple[Region, ...]

    @property
    def auc(self) -> float:
        """AUC of the best possible classifier: the measured one, extrapolated to unlimited training events."""
        return self.curve.limit

    @property
    def error(self) -> float:
        """Standard error of :attr:`auc`, including the uncertainty of the extrapolation."""
        return self.curve.error


def compare_samples(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    names: tuple[str, ...],
    *,
    first_weights: NDArray[np.float64] | None = None,
    second_weights: NDArray[np.float64] | None = None,
    options: DreamOptions | None = None,
    seed: int = 1,
    jobs: int | None = None,
) -> Dream:
    """Compare two samples of events.

    Parameters
    ----------
    first, second
        Features, shapes ``(n, d)`` and ``(k, d)``; finite.
    names
        Of the features.
    first_weights, second_weights
        Not negative, shapes ``(n,)`` and ``(k,)``; default: 1. Only relative weights within a sample matter.
    options
        How; default: ``DreamOptions()``.
    seed
        Everything random follows from it.
    jobs
        Worker processes; default: one for each core.

    Raises
    ------
    InputError
        If a weight is negative, a value is not finite, a sample is too small, or both hold the same events.
    """
    options = DreamOptions() if options is None else options
    rng = np.random.default_rng([seed, 0xD2EA])
    parts = []
    for x, weights in ((first, first_weights), (second, second_weights)):
        w = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
        rows = np.sort(rng.permutation(len(x))[: options.max_events])
        parts.append((np.asarray(x, dtype=np.float32)[rows], w[rows]))
    x, w = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    y = np.repeat([True, False], [len(part[0]) for part in parts])
    _check(x, y, names)
    estimator = _estimator(options, seed)
    sample = cross_validate(x, y, w, estimator, options.folds, rng)
    null = permutation_test(sample, estimator, options.permutations, rng, jobs=jobs)
    curve = extrapolate(sample, estimator, options.bootstraps, rng)
    derivatives = None
    if options.derivatives:
        networks = sample
        if options.classifier != "network":
            network = build_classifier("network", members=_NETWORKS, seed=seed)
            networks = cross_validate(x, y, w, network, options.folds, rng)
        derivatives = input_derivatives(networks, names)
    return Dream(
        sample,
        curve,
        null,
        derivatives,
        permutation_importance(sample, names, options.repeats, rng),
        ratio_profiles(sample, names),
        find_regions(sample, names, estimator, rng),
    )


def _estimator(options: DreamOptions, seed: int) -> Any:
    if options.classifier != "stacked":
        return build_classifier(options.classifier, members=options.members, seed=seed)
    if options.members < 2:
        raise InputError(
            "a stacked classifier with one member has no events to weigh its parts on: use 2 members or more"
        )
    return StackedClassifier(options.members, random_state=seed)


def _check(x: NDArray[np.float32], y: NDArray[np.bool_], names: tuple[str, ...]) -> None:
    bad = np.count_nonzero(~np.isfinite(x), axis=0)
    if bad.any():
        i = int(np.argmax(bad))
        raise InputError(
            f"'{names[i]}' is not a finite number in {bad[i]} of {len(x)} events: cut on it (--where), or leave it out"
        )
    rows = np.ascontiguousarray(x).view(np.dtype((np.void, x.dtype.itemsize * x.shape[1]))).ravel()
    shared = int(np.isin(rows[y], rows[~y]).sum())
    if shared > _SHARED * min(np.count_nonzero(y), np.count_nonzero(~y)):
        raise InputError(
            f"{shared} events of the first sample are in the second one too, with the same values of all features: two "
            "independent samples are needed"
        )
