"""Common base of all two-class classifiers."""

from __future__ import annotations

from abc import abstractmethod
from copy import copy
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from serendip.errors import InputError

__all__ = ["EnsembleClassifier", "TwoClassClassifier", "stored_classes"]


class TwoClassClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of two classes with scikit-learn's interface; subclasses write ``fit`` and ``predict_proba``."""

    @abstractmethod
    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of both classes, shape ``(n, 2)``."""

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the more probable class, shape ``(n,)``."""
        probability = self.predict_proba(X)
        return np.asarray(self.classes_[(probability[:, 1] > probability[:, 0]).astype(int)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


@dataclass(eq=False, repr=False)
class EnsembleClassifier(TwoClassClassifier):
    """A mean of ``members`` classifiers that can be shared out; subclasses write ``_keep`` too.

    Parameters
    ----------
    members
        Classifiers that are averaged.
    select_by
        Early-stopping criterion on the validation part: ``"loss"`` or ``"argos"``.
    validation_fraction
        That part of the sample.
    threads
        Of each training.
    random_state
        Seed or generator.
    """

    members: int = 10
    _: KW_ONLY
    select_by: Literal["loss", "argos"] = "loss"
    validation_fraction: float = 0.5
    threads: int = 1
    random_state: Any = None

    def parts(self, count: int) -> list[Self]:
        """Return ``count`` fitted ensembles that share the members out in their order."""
        check_is_fitted(self)
        if self.members % count:
            raise ValueError(f"{self.members} members cannot be shared out to {count} ensembles")
        out: list[Self] = []
        for i in range(count):
            part: Self = copy(self)
            part.members = self.members // count
            part._keep(i, count)
            out.append(part)
        return out

    @abstractmethod
    def _keep(self, i: int, count: int) -> None:
        """Keep the fitted members of part ``i`` of ``count``."""


def stored_classes(facts: dict[str, Any]) -> NDArray[Any]:
    """Return the two classes of a file.

    Raises
    ------
    InputError
        If there are not two.
    """
    classes = np.array(facts["classes"])
    if classes.shape != (2,):
        raise InputError(f"{len(classes)} classes instead of two")
    return classes
