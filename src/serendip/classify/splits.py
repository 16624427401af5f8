"""One classifier for each row of ``splits``: the same sample with different masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from serendip.classify.storage import load_classifier, save_classifier
from serendip.errors import InputError

__all__ = ["SplitClassifiers", "fit_splits"]


@dataclass(frozen=True)
class SplitClassifiers:
    """The classifiers of all splits.

    Attributes
    ----------
    estimators
        One fitted classifier for each split.
    """

    estimators: Sequence[Any]

    def __len__(self) -> int:
        return len(self.estimators)

    def score(self, X: ArrayLike, split: int = 0) -> NDArray[np.float64]:
        r"""Log-odds :math:`\ln[p / (1-p)]` of class 1 by the model of ``split``, shape ``(n,)``; finite."""
        X = np.asarray(X)
        if len(X) == 0:
            return np.empty(0)
        probability = np.asarray(self.estimators[split].predict_proba(X), dtype=np.float64)
        # Column 0 is kept as it is: 1 - p loses all digits where p is close to 1.
        probability = np.maximum(probability, 1e-300)
        return np.asarray(np.log(probability[:, 1]) - np.log(probability[:, 0]))

    def save(self, folder: str | Path, *splits: int) -> None:
        """Write the classifiers of some splits (default: of the first) into ``folder``.

        Raises
        ------
        InputError
            If they are of a kind that cannot be stored without pickle.
        """
        for place, split in enumerate(splits or (0,)):
            save_classifier(Path(folder) / str(place), self.estimators[split])

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read the files of :meth:`save`; the splits are numbered from 0 in the order of saving.

        Raises
        ------
        InputError
            If the folder contains no classifiers, or damaged ones.
        """
        places = sorted(int(p.name) for p in Path(folder).glob("*") if p.name.isdecimal())
        if not places or places != list(range(len(places))):
            raise InputError(f"{folder} contains no classifiers, or some are missing")
        return cls(tuple(load_classifier(Path(folder) / str(place)) for place in places))


def fit_splits(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    splits: ArrayLike,
    groups: NDArray[np.int64] | None = None,
) -> SplitClassifiers:
    """Train one classifier for each row of ``splits``; model ``k`` uses the rows of ``splits[k]`` only.

    An estimator with a ``fit_splits(X, y, sample_weight, splits)`` of its own (which returns one fitted
    estimator for each row) trains all rows together; any other is cloned for each row. All clones get the
    same ``random_state``, so a model depends on the events of its own split only.

    Parameters
    ----------
    estimator
        Anything with scikit-learn's ``fit(X, y, sample_weight)`` and ``predict_proba``.
    X
        Features, shape ``(n, d)``.
    y
        Class of each event, 0 or 1, shape ``(n,)``.
    sample_weight
        Shape ``(n,)``, or ``(n_models, n)`` where each model has weights of its own; None: all 1.
    splits
        Masks, shape ``(n_models, n)``.
    groups
        Events with the same number depend on each other, shape ``(n,)``: an estimator whose ``fit`` or ``fit_splits`` takes
        ``groups`` keeps them on one side when it holds events back. None: every event is its own.

    Raises
    ------
    InputError
        If a split has events of one class only, or weights are given to an estimator that ignores them.
    """
    X, y = np.asarray(X), np.asarray(y).astype(np.int64)
    masks = np.atleast_2d(np.asarray(splits, dtype=bool))
    if masks.shape[1] != len(X):
        msg = f"splits have {masks.shape[1]} columns for {len(X)} events"
        raise ValueError(msg)
    weights = (
        None if sample_weight is None else np.broadcast_to(np.asarray(sample_weight, np.float64), masks.shape)
    )
    for k, mask in enumerate(masks):
        used = mask if weights is None else mask & (weights[k] > 0)
        for number in (0, 1):
            if not np.any(y[used] == number):
                raise InputError(
                    f"split {k}: no events of class {number} among the {int(used.sum())} that the classifier "
                    "may see; use fewer folds, a wider window or more data"
                )
    if hasattr(estimator, "fit_splits"):
        takes = "groups" in signature(estimator.fit_splits).parameters
        more = {"groups": groups} if groups is not None and takes else {}
        return SplitClassifiers(tuple(estimator.fit_splits(X, y, weights, masks, **more)))
    grouped = groups is not None and has_fit_parameter(estimator, "groups")
    if weights is not None and not has_fit_parameter(estimator, "sample_weight"):
        raise InputError(
            f"{type(estimator).__name__} takes no sample_weight in fit(), but these events are weighted; "
            "use a classifier that supports weights"
        )

    def train(k: int) -> Any:
        mask = masks[k]
        more: dict[str, Any] = {} if weights is None else {"sample_weight": weights[k][mask]}
        if grouped and groups is not None:
            more["groups"] = groups[mask]
        return clone(estimator).fit(X[mask], y[mask], **more)

    return SplitClassifiers(tuple(train(k) for k in range(len(masks))))
