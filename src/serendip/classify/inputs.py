"""Checks of targets and weights that all classifiers share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight

__all__ = ["binary_targets", "checked_weights", "split_weights"]


def binary_targets(y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the two classes and the class numbers 0 and 1 of each event.

    Raises
    ------
    ValueError
        If ``y`` does not have exactly two classes.
    """
    check_classification_targets(y)
    classes, numbers = np.unique(np.asarray(y), return_inverse=True)
    if len(classes) > 2:
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
    if len(classes) < 2:
        raise ValueError(
            f"two classes are needed to train a classifier; y holds one class only: {classes[0]!r}"
        )
    return classes, numbers


def checked_weights(sample_weight: ArrayLike | None, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return weights, shape ``(n,)``, scaled so that those above zero have the mean 1.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are zero.
    """
    weights: NDArray[np.float64] = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if weights.min() < 0:
        row = int(np.argmin(weights))
        raise ValueError(f"sample_weight[{row}] = {weights[row]:g}: weights must not be negative")
    used = weights > 0
    if not used.any():
        raise ValueError("all sample weights are zero")
    scaled: NDArray[np.float64] = weights / weights[used].mean()
    return scaled


def split_weights(sample_weight: ArrayLike | None, splits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights of the events for each row of ``splits``; all 1 if none are given."""
    if sample_weight is None:
        return np.ones(splits.shape)
    return np.broadcast_to(np.asarray(sample_weight, dtype=np.float64), splits.shape)
