"""Boosting steps of a tree classifier, as many as do best on its validation part."""

from __future__ import annotations

from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

from serendip.classify.argos import argos, enough_template
from serendip.events.groups import held_out

__all__ = ["boost"]


def boost(
    options: dict[str, Any],
    codes: NDArray[np.float64],
    targets: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    max_iter: int,
    validation_fraction: float,
    patience: int,
    seed: int,
    select_by: Literal["loss", "argos"] = "argos",
    groups: NDArray[np.int64] | None = None,
) -> HistGradientBoostingClassifier:
    """Boost on one part, keep the number of steps with the largest ARGOS, or the smallest loss, on the other.

    Parameters
    ----------
    options
        Of :class:`sklearn.ensemble.HistGradientBoostingClassifier`, without those that follow.
    codes, targets, weights
        Features, class 0 or 1 (1 for data, 0 for template) and weights, shape ``(n, d)`` and ``(n,)``.
    max_iter
        Most steps.
    validation_fraction
        Part of the sample, stratified by class, on which the steps are evaluated.
    patience
        Stop after this many steps without a better one.
    seed
        Of the split and the trees.
    select_by
        Criterion.
    groups
        Events with the same number, shape ``(n,)``, are in one part; None: every event is its own.
    """
    training, validation = _parts(targets, validation_fraction, seed, groups)
    x, data, w = codes[validation], targets[validation] == 1, weights[validation]
    minimum = enough_template(w[~data].sum() ** 2 / (w[~data] ** 2).sum())
    model = HistGradientBoostingClassifier(
        **options, early_stopping=False, warm_start=True, random_state=seed, max_iter=0
    )
    values: list[float] = []
    while model.max_iter < max_iter and len(values) - (int(np.argmax(values)) if values else 0) <= patience:
        done = model.max_iter
        model.set_params(max_iter=min(done + patience, max_iter))
        model.fit(codes[training], targets[training], weights[training])
        stages = islice(model.staged_decision_function(x), done, None)
        values += [
            argos(data, score, w, min_template=minimum).value
            if select_by == "argos"
            else -float(np.average(np.logaddexp(0.0, np.where(data, -score, score)), weights=w))
            for score in stages
        ]
    # scikit-learn predicts with all trees that it keeps, and has no public way to take the last ones away
    del model._predictors[int(np.argmax(values)) + 1 :]
    return model


def _parts(
    targets: NDArray[np.int64], fraction: float, seed: int, groups: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows for training and for validation."""
    if groups is not None:
        back = held_out(fraction, np.random.default_rng(seed), groups, targets)
        if all(len(np.unique(targets[side])) == 2 for side in (back, ~back)):
            return np.flatnonzero(~back), np.flatnonzero(back)
        # too few groups to hold any back
        return np.arange(len(targets)), np.arange(len(targets))
    training, validation = train_test_split(
        np.arange(len(targets)), test_size=fraction, stratify=targets, random_state=seed
    )
    return training, validation
