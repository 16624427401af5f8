r"""Nested validation: of several restarts, the one that does best on held-out events is kept.

CWoLa hunting (arXiv:1902.02634) looks for a small signal, which most trainings miss. The training sample of a model is split into inner folds. Each of them in turn evaluates classifiers trained several times on the others; the best
one is kept, and the kept ones are averaged:

.. math:: p(x) = \frac{1}{K} \sum_{v=1}^{K} p_{v, r^*(v)}(x), \qquad
    r^*(v) = \arg\max_r \; Q\!\left(p_{v,r};\, \text{fold } v\right)

where :math:`Q` is the efficiency of class 1 at a cut that leaves 2 % of class 0, or ARGOS.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from inspect import signature
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from serendip.classify.argos import argos, efficiency_at, enough_template
from serendip.classify.base import TwoClassClassifier
from serendip.classify.inputs import binary_targets, split_weights
from serendip.classify.splits import SplitClassifiers, fit_splits
from serendip.errors import InputError
from serendip.events.groups import random_parts

__all__ = ["NestedEnsemble"]


@dataclass(eq=False, repr=False)
class NestedEnsemble(TwoClassClassifier):
    """Mean of the best of several restarts, one for each inner fold.

    Parameters
    ----------
    estimator
        The classifier, or a function ``seed -> classifier`` that makes one for each restart. Restarts of a
        TreeEnsemble or NetworkEnsemble are groups of its members, trained as one batch; a network is also evaluated round by round on the inner fold. Any other classifier is trained again with another ``random_state``.
    inner_folds
        Number of inner folds ``K``, each stratified by class.
    restarts
        Trainings for each inner fold, of which one is kept.
    select_by
        ``"efficiency"``: efficiency of class 1 at the cut that leaves ``background_efficiency`` of class 0;
        ``"argos"``: :func:`serendip.classify.argos.argos` with class 1 as the data.
    background_efficiency
        Fraction of class 0 passing the cut of ``"efficiency"``.
    random_state
        Seed or generator of the inner folds and the restarts.

    Attributes
    ----------
    classes_
        The two classes; ``predict_proba`` has one column for each.
    kept_
        The kept classifier of each inner fold.
    quality_
        Result of each restart on its inner fold, shape ``(inner_folds, restarts)``.
    """

    estimator: Any
    _: KW_ONLY
    inner_folds: int = 4
    restarts: int = 5
    select_by: Literal["efficiency", "argos"] = "efficiency"
    background_efficiency: float = 0.02
    random_state: Any = None

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on one sample.

        Parameters
        ----------
        X
            Features, shape ``(n, d)``.
        y
            Two classes, shape ``(n,)``.
        sample_weight
            Non-negative weights, shape ``(n,)``; used in the trainings and in the choice.

        Raises
        ------
        InputError
            If an inner fold leaves no events of a class.
        """
        model = self.fit_splits(X, y, sample_weight, np.ones((1, np.shape(X)[0]), dtype=bool))[0]
        self.__dict__.update({name: value for name, value in vars(model).items() if name.endswith("_")})
        return self

    def fit_splits(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        splits: NDArray[np.bool_],
        groups: NDArray[np.int64] | None = None,
    ) -> list[Self]:
        """Train one model for each row of ``splits``, on the events of that row only.

        Parameters
        ----------
        X, y
            Features, shape ``(n, d)``, and two classes, shape ``(n,)``.
        sample_weight
            Shape ``(n,)`` or ``(n_models, n)``; None: all 1.
        splits
            Masks, shape ``(n_models, n)``.
        groups
            Events with the same number, shape ``(n,)``, are in one inner fold; None: every event is its own.
        """
        if self.inner_folds < 2 or self.restarts < 1:
            raise ValueError("at least two inner folds and one restart are needed")
        if self.select_by not in ("efficiency", "argos"):
            raise ValueError(f"select_by='{self.select_by}': efficiency or argos is expected")
        values, labels = validate_data(
            self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=2
        )
        classes, targets = binary_targets(labels)
        weights = split_weights(sample_weight, splits)
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=1 + self.restarts)
        inner = np.stack(
            [
                _stratified(targets, split & (w > 0), self.inner_folds, seeds[0], groups)
                for split, w in zip(splits, weights, strict=True)
            ]
        )
        number = np.arange(self.inner_folds)[None, :, None]
        judged = (inner[:, None] == number).reshape(-1, len(values))
        trained = ((inner[:, None] != number) & (inner[:, None] >= 0)).reshape(-1, len(values))
        repeated = np.repeat(weights, self.inner_folds, axis=0)
        candidates = self._candidates(values, targets, repeated, trained, judged, seeds[1:], groups)
        models = []
        for k in range(len(splits)):
            model = clone(self)
            model.classes_, model.n_features_in_ = classes, self.n_features_in_
            own = range(k * self.inner_folds, (k + 1) * self.inner_folds)
            model.quality_ = np.array(
                [
                    [
                        self._quality(
                            candidate, values[judged[i]], targets[judged[i]], repeated[i, judged[i]]
                        )
                        for candidate in candidates[i]
                    ]
                    for i in own
                ]
            )
            best = model.quality_.argmax(axis=1)
            model.kept_ = [candidates[i][r] for i, r in zip(own, best, strict=True)]
            models.append(model)
        return models

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Mean probability of the kept classifiers, shape ``(n, 2)``."""
        check_is_fitted(self)
        values = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        return np.asarray(np.mean([kept.predict_proba(values) for kept in self.kept_], axis=0))

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Everything that prediction needs, as facts (JSON) and arrays; :meth:`from_arrays` is the way back.

        Raises
        ------
        InputError
            If the kept classifiers are of a kind that could be stored as pickle only.
        """
        check_is_fitted(self)
        if not all(hasattr(kept, "to_arrays") for kept in self.kept_):
            raise InputError(
                f"classifiers of type {type(self.kept_[0]).__name__} cannot be stored: they have no file format that "
                "is safe to open"
            )
        parts = [kept.to_arrays() for kept in self.kept_]
        facts = {"kind": "nested", "classes": self.classes_.tolist(), "parts": [facts for facts, _ in parts]}
        return facts, {
            f"{i}.{name}": array for i, (_, part) in enumerate(parts) for name, array in part.items()
        }

    @classmethod
    def from_arrays(cls, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return a fitted ensemble with the same predictions.

        Raises
        ------
        InputError
            If the arrays do not fit together.
        """
        from serendip.classify.networks import NetworkEnsemble
        from serendip.classify.trees import TreeEnsemble

        kinds: dict[str, Any] = {"trees": TreeEnsemble, "network": NetworkEnsemble}
        kept = []
        for i, part in enumerate(facts["parts"]):
            start = f"{i}."
            own = {
                name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
            }
            kept.append(kinds[part["kind"]].from_arrays(part, own))
        if not kept or len({model.n_features_in_ for model in kept}) > 1:
            raise InputError("the parts of a nested classifier do not fit together")
        model = cls(clone(kept[0]), inner_folds=len(kept))
        model.classes_, model.kept_ = np.array(facts["classes"]), kept
        model.n_features_in_ = kept[0].n_features_in_
        return model

    def _candidates(
        self,
        x: NDArray[np.float64],
        targets: NDArray[np.int64],
        weights: NDArray[np.float64],
        trained: NDArray[np.bool_],
        judged: NDArray[np.bool_],
        seeds: NDArray[np.int64],
        groups: NDArray[np.int64] | None,
    ) -> list[list[Any]]:
        """All restarts for each row of ``trained``."""
        base = self.estimator
        if hasattr(base, "parts") and hasattr(base, "members"):
            base = clone(base).set_params(members=base.members * self.restarts, random_state=int(seeds[0]))
            fitted = (
                base.fit_splits(x, targets, weights, trained, validation=judged)
                if "validation" in signature(getattr(base, "fit_splits", _nothing)).parameters
                else fit_splits(base, x, targets, weights, trained, groups).estimators
            )
            return [ensemble.parts(self.restarts) for ensemble in fitted]
        columns = [
            fit_splits(_restart(base, int(seed)), x, targets, weights, trained, groups).estimators
            for seed in seeds
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def _quality(
        self, model: Any, x: NDArray[np.float64], targets: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> float:
        score, positive = SplitClassifiers((model,)).score(x), targets == 1
        if self.select_by == "efficiency":
            return efficiency_at(positive, score, weights, self.background_efficiency)
        negative = weights[~positive]
        minimum = enough_template(negative.sum() ** 2 / (negative**2).sum())
        return argos(positive, score, weights, min_template=minimum).value


def _nothing() -> None:
    """Placeholder for a missing method."""


def _restart(estimator: Any, seed: int) -> Any:
    if callable(estimator) and not hasattr(estimator, "fit"):
        return estimator(seed)
    model = clone(estimator)
    return model.set_params(random_state=seed) if "random_state" in model.get_params() else model


def _stratified(
    targets: NDArray[np.int64],
    used: NDArray[np.bool_],
    folds: int,
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Inner fold of each event, -1 where it is not used, shape ``(n,)``; equally many of each class, or groups, in each."""
    rng = np.random.default_rng(seed)
    out = np.full(len(targets), -1)
    if groups is not None:
        return np.where(used, random_parts(len(targets), folds, rng, groups), -1)
    for number in (0, 1):
        rows = np.flatnonzero(used & (targets == number))
        out[rng.permutation(rows)] = np.arange(len(rows)) % folds
    return out
