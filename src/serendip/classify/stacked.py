"""Logistic regressions and boosted trees, weighted by how well each predicts held-out events."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, ndtr, ndtri
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from serendip.classify.base import TwoClassClassifier
from serendip.classify.inputs import binary_targets, checked_weights

__all__ = ["NormalScores", "StackedClassifier"]

Array = NDArray[np.float64]

_KNOTS = ndtr(np.linspace(-3.6, 3.6, 145))
_MOST_PRODUCTS = 200
_RIDGE = 0.1
_TREES = {
    "learning_rate": 0.2,
    "max_leaf_nodes": 16,
    "min_samples_leaf": 50,
    "max_iter": 200,
    "early_stopping": True,
    "n_iter_no_change": 5,
}


class NormalScores:
    r"""Maps each feature to a normal one, :math:`z = \Phi^{-1}(F(x))`, with its weighted distribution function :math:`F`.

    Equal values get the middle of their ranks; between at most 145 knots :math:`z` is linear, beyond them constant.

    Parameters
    ----------
    X, weights
        Events of the distribution, shapes ``(n, d)`` and ``(n,)``.
    """

    def __init__(self, X: Array, weights: Array) -> None:
        self._curves = []
        for column in X.T:
            order = np.argsort(column)
            ordered = column[order]
            first = np.flatnonzero(np.concatenate([[True], np.diff(ordered) > 0]))
            values, sums = ordered[first], np.add.reduceat(weights[order], first)
            middle = (np.cumsum(sums) - 0.5 * sums) / sums.sum()
            if len(values) > len(_KNOTS):
                kept = np.unique(np.clip(np.searchsorted(middle, _KNOTS), 0, len(values) - 1))
                values, middle = values[kept], middle[kept]
            self._curves.append((values, ndtri(middle)))

    def __call__(self, X: Array) -> Array:
        """Scores, shape ``(n, d)``."""
        return np.column_stack(
            [np.interp(column, *curve) for column, curve in zip(X.T, self._curves, strict=True)]
        )

    def bins(self, X: Array) -> Array:
        """Number of the interval between knots that holds each value, shape ``(n, d)``."""
        return np.column_stack(
            [np.searchsorted(values, column) for column, (values, _) in zip(X.T, self._curves, strict=True)]
        ).astype(np.float64)


@dataclass(eq=False, repr=False)
class StackedClassifier(TwoClassClassifier):
    r"""Weighted sum of log-odds of a linear and a quadratic logistic regression and of boosted trees (stacking).

    .. math:: s(x) = a_0 + \sum_k a_k \frac{1}{M} \sum_{m=1}^{M} s_{k,m}(x), \qquad a_k \ge 0

    The sample is cut into ``M`` parts; model :math:`s_{k,m}` learns from all parts but ``m``, and the :math:`a_k` minimise the
    log-loss of the scores of the events in part ``m`` by :math:`s_{k,m}` (Wolpert, Neural Networks 5 (1992) 241; van der Laan,
    Polley, Hubbard, Stat. Appl. Genet. Mol. Biol. 6 (2007) 25). A shift, a width or a correlation needs a handful of parameters,
    which few events fix well; the trees find the rest, and get no weight if there is none.

    The inputs of the regressions are normal scores (:class:`NormalScores`), their squares and products; of more than 20 features the squares
    alone.

    Parameters
    ----------
    members
        Number of parts ``M``, at least 2.
    random_state
        Seed of the parts and the trees.

    Attributes
    ----------
    classes_
        The two classes; ``predict_proba`` has one column for each.
    mixture_
        :math:`a_0` and the :math:`a_k` of the linear regression, the quadratic one and the trees, shape ``(4,)``.
    """

    members: int = 3
    _: KW_ONLY
    random_state: Any = None

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train on one sample.

        Parameters
        ----------
        X
            Features, shape ``(n, d)``; finite.
        y
            Two classes, shape ``(n,)``, each with at least ``members`` events with weight.
        sample_weight
            Non-negative weights, shape ``(n,)``; used everywhere. Their overall scale does not matter.
        """
        if self.members < 2:
            raise ValueError(f"members={self.members}: at least two parts are needed")
        values, labels = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        self.classes_, targets = binary_targets(labels)
        weights = checked_weights(sample_weight, values)
        used = weights > 0
        values, targets, weights = values[used], targets[used], weights[used]
        counts = np.bincount(targets, minlength=2)
        if counts.min() < self.members:
            raise ValueError(f"a class has {counts.min()} events with weight for {self.members} parts")
        rng = np.random.default_rng(self.random_state)
        part = np.empty(len(targets), dtype=np.int64)
        for kind in (0, 1):
            part[targets == kind] = rng.permutation(counts[kind]) % self.members
        self.normal_ = NormalScores(values, weights)
        basis, codes = self._inputs(values)
        d = values.shape[1]
        held = np.empty((len(targets), 3))
        coefficients, self.trees_ = np.empty((self.members, 2, basis.shape[1])), []
        with threadpool_limits(limits=1):
            for m in range(self.members):
                back = part == m
                own, own_targets, own_weights = basis[~back], targets[~back], weights[~back]
                for k, columns in enumerate((d + 1, basis.shape[1])):
                    coefficients[m, k] = _regression(own, columns, own_targets, own_weights)
                trees = HistGradientBoostingClassifier(**_TREES, random_state=int(rng.integers(2**31)))
                trees.fit(
                    codes[~back],
                    own_targets,
                    own_weights,
                    X_val=codes[back],
                    y_val=targets[back],
                    sample_weight_val=weights[back],
                )
                self.trees_.append(trees)
                held[back] = np.column_stack(
                    [basis[back] @ coefficients[m].T, trees.decision_function(codes[back])]
                )
            self.mixture_ = _mixture(held, targets, weights)
        self.coefficients_ = self.mixture_[1:3] @ coefficients.mean(axis=0)
        return self

    def decision_function(self, X: ArrayLike) -> Array:
        """Log-odds of the second class, shape ``(n,)``."""
        check_is_fitted(self)
        basis, codes = self._inputs(validate_data(self, X, reset=False, dtype=np.float64))
        score = self.mixture_[0] + basis @ self.coefficients_
        if self.mixture_[3] > 0:
            with threadpool_limits(limits=1):
                for trees in self.trees_:
                    score += self.mixture_[3] / self.members * trees.decision_function(codes)
        return np.asarray(score)

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of both classes, shape ``(n, 2)``."""
        score = self.decision_function(X)
        return np.column_stack([expit(-score), expit(score)])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the more probable class, shape ``(n,)``."""
        return np.asarray(self.classes_[(self.decision_function(X) > 0).astype(int)])

    def _inputs(self, X: Array) -> tuple[Array, Array]:
        """Inputs of the regressions (1, scores, their squares and products), and of the trees."""
        z = self.normal_(X)
        d = z.shape[1]
        i, j = np.triu_indices(d) if d * (d - 1) // 2 <= _MOST_PRODUCTS else (np.arange(d), np.arange(d))
        return np.column_stack([np.ones(len(z)), z, z[:, i] * z[:, j]]), self.normal_.bins(X)


def _regression(basis: Array, columns: int, targets: NDArray[np.int64], weights: Array) -> Array:
    """Coefficients of a logistic regression on the first columns, zero for the others, shape ``(basis.shape[1],)``."""
    model = LogisticRegression(C=1 / _RIDGE, solver="newton-cholesky", max_iter=50)
    model.fit(basis[:, 1:columns], targets, weights)
    return np.concatenate([model.intercept_, model.coef_[0], np.zeros(basis.shape[1] - columns)])


def _mixture(scores: Array, targets: NDArray[np.int64], weights: Array) -> Array:
    """Intercept and non-negative factors of the log-odds ``scores`` with the smallest log-loss."""
    sign = np.where(targets == 1, 1.0, -1.0)
    w = weights / weights.sum()

    def loss(a: Array) -> tuple[float, Array]:
        margin = sign * (a[0] + scores @ a[1:])
        slope = -sign * expit(-margin) * w
        return float(w @ np.logaddexp(0.0, -margin)), np.concatenate([[slope.sum()], slope @ scores])

    n = scores.shape[1]
    start = np.concatenate([[0.0], np.full(n, 1 / n)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None)] + [(0.0, None)] * n)
    return np.asarray(found.x)
