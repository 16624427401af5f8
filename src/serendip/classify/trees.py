"""Boosted trees: many members, each trained and stopped on a fresh random half of the sample."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from serendip.classify.base import EnsembleClassifier, stored_classes
from serendip.classify.boosting import boost
from serendip.classify.inputs import binary_targets, checked_weights
from serendip.classify.node_tables import member_of, pack_trees, unpack_trees
from serendip.errors import InputError
from serendip.io.models import require

__all__ = ["TreeEnsemble"]

_MOST_EDGES = 254


@dataclass(eq=False, repr=False)
class TreeEnsemble(EnsembleClassifier):
    r"""Mean of gradient-boosted tree classifiers (arXiv:2309.13111).

    Each member draws its own random split of the sample, stratified by class, boosts trees on one part and
    stops when the weighted log-loss on the other part no longer falls:

    .. math:: p(x) = \frac{1}{M} \sum_{i=1}^{M} p_i(x)

    Features are replaced once by the number of their (weighted) quantile bin, which all members share.
    Weights are divided by their mean, so their overall scale does not matter. Missing values (NaN) are
    allowed.

    Parameters
    ----------
    members
        Number of classifiers ``M`` that are averaged.
    learning_rate, max_leaf_nodes, max_iter, min_samples_leaf, l2_regularization, n_iter_no_change
        Of each member, as in :class:`sklearn.ensemble.HistGradientBoostingClassifier`.
    max_bins
        Quantile bins of each feature, 2 to 255.
    select_by
        Criterion evaluated by a member on its validation part. ``"loss"``: it stops when the log-loss no longer falls.
        ``"argos"``: it keeps the steps with the largest ARGOS, :func:`serendip.classify.argos.argos`; class 1 is
        then the data and class 0 the template.
    validation_fraction
        Fraction of the sample used by a member for early stopping. Classes with fewer than ten events are too
        small to be split; members then train on everything and make all ``max_iter`` steps.
    threads
        OpenMP threads. Keep 1 and use processes for small samples: the threads of a tree wait for each other
        so often that on a busy machine two took 25 times as long as one.
    random_state
        Seed or generator; the same seed gives the same scores.

    Attributes
    ----------
    classes_
        The two classes; ``predict_proba`` has one column for each.
    members_
        The fitted members.
    n_iter_
        Boosting steps of the longest member.
    """

    _: KW_ONLY
    learning_rate: float = 0.1
    max_leaf_nodes: int = 31
    max_iter: int = 200
    min_samples_leaf: int = 20
    l2_regularization: float = 0.0
    max_bins: int = 127
    n_iter_no_change: int = 10

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> Self:
        """Train all members.

        Parameters
        ----------
        X
            Features, shape ``(n, d)``.
        y
            Two classes, shape ``(n,)``.
        sample_weight
            Non-negative weights, shape ``(n,)``; used for the bins, the trees and the stopping.
        groups
            Events with the same number, shape ``(n,)``, stay together when events are held back; None: every event is its own.
        """
        if self.members < 1:
            raise ValueError(f"members={self.members}: at least one is needed")
        if self.select_by not in ("loss", "argos"):
            raise ValueError(f"select_by='{self.select_by}': loss or argos is expected")
        checked = validate_data(
            self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=2
        )
        values: NDArray[np.float64] = checked[0]
        self.classes_, targets = binary_targets(checked[1])
        weights = checked_weights(sample_weight, values)
        used = weights > 0
        values, targets, weights = values[used], targets[used], weights[used]
        groups = None if groups is None else np.asarray(groups)[used]
        if len(np.unique(targets)) < 2:
            raise ValueError("all events of one class have zero weight; two classes are needed")
        self.edges_ = [_quantile_edges(column, weights, self.max_bins) for column in values.T]
        codes = self._codes(values)
        stop_early = int(np.bincount(targets).min()) >= 10
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=self.members)
        with threadpool_limits(limits=self.threads, user_api="openmp"):
            self.members_ = [
                self._boost(codes, targets, weights, int(seed), groups, stop_early=stop_early)
                for seed in seeds
            ]
        self.n_iter_ = max(member.n_iter_ for member in self.members_)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Mean of the members' probabilities, shape ``(n, 2)``."""
        check_is_fitted(self)
        codes = self._codes(
            validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        )
        positive = np.zeros(len(codes))
        with threadpool_limits(limits=self.threads, user_api="openmp"):
            for member in self.members_:
                positive += member.predict_proba(codes)[:, 1]
        positive /= len(self.members_)
        return np.column_stack([1.0 - positive, positive])

    def _keep(self, i: int, count: int) -> None:
        size = len(self.members_) // count
        self.members_ = self.members_[i * size : (i + 1) * size]

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Everything that prediction needs, as facts (JSON) and arrays; :meth:`from_arrays` is the way back."""
        check_is_fitted(self)
        facts = {"kind": "trees", "classes": self.classes_.tolist(), "rounds": int(self.n_iter_)}
        arrays = {
            "edges": np.concatenate([np.empty(0), *self.edges_]),
            "edge_counts": np.array([len(edges) for edges in self.edges_], dtype=np.int32),
        }
        return facts, arrays | pack_trees([member_of(member) for member in self.members_])

    @classmethod
    def from_arrays(cls, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return a fitted ensemble with the same predictions.

        Raises
        ------
        InputError
            If the arrays do not fit together.
        """
        counts = require(arrays, "edge_counts", "iu", 1).astype(np.int64)
        edges = require(arrays, "edges", "f", 1).astype(np.float64)
        if len(counts) == 0 or counts.min() < 0 or counts.max() > _MOST_EDGES or counts.sum() != len(edges):
            raise InputError("the numbers of features and bin edges do not agree")
        ends = np.cumsum(counts)
        columns = [edges[low:high] for low, high in zip(ends - counts, ends, strict=True)]
        if any(not (np.diff(column) > 0).all() or not np.isfinite(column).all() for column in columns):
            raise InputError("the bin edges of a feature do not rise")
        members = unpack_trees(arrays, len(columns))
        model = cls(members=len(members))
        model.classes_ = stored_classes(facts)
        model.edges_, model.members_ = columns, members
        model.n_features_in_, model.n_iter_ = len(columns), int(facts["rounds"])
        return model

    def _boost(
        self,
        codes: NDArray[np.float64],
        targets: NDArray[np.int64],
        weights: NDArray[np.float64],
        seed: int,
        groups: NDArray[np.int64] | None,
        *,
        stop_early: bool,
    ) -> Any:
        options = {
            "learning_rate": self.learning_rate,
            "max_leaf_nodes": self.max_leaf_nodes,
            "min_samples_leaf": self.min_samples_leaf,
            "l2_regularization": self.l2_regularization,
            "max_bins": self.max_bins,
        }
        if stop_early and (self.select_by == "argos" or groups is not None):
            return boost(
                options,
                codes,
                targets,
                weights,
                max_iter=self.max_iter,
                validation_fraction=self.validation_fraction,
                patience=self.n_iter_no_change,
                seed=seed,
                select_by=self.select_by,
                groups=groups,
            )
        return HistGradientBoostingClassifier(
            **options,
            max_iter=self.max_iter,
            early_stopping=stop_early,
            validation_fraction=self.validation_fraction,
            n_iter_no_change=self.n_iter_no_change,
            random_state=seed,
        ).fit(codes, targets, weights)

    def _codes(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        # HistGradientBoosting computes weighted quantiles one by one for every member, which costs ten times
        # the trees; it leaves columns with at most max_bins distinct values unchanged.
        codes = np.empty_like(X, order="F")
        for i, edges in enumerate(self.edges_):
            codes[:, i] = np.searchsorted(edges, X[:, i])
        codes[np.isnan(X)] = np.nan
        return codes

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _quantile_edges(
    column: NDArray[np.float64], weights: NDArray[np.float64], max_bins: int
) -> NDArray[np.float64]:
    """At most ``max_bins - 1`` edges; bin ``j``, ``edges[j-1] < x <= edges[j]``, has about equal weight."""
    present = ~np.isnan(column)
    column, weights = column[present], weights[present]
    distinct = np.unique(column)
    if len(distinct) <= max_bins:
        return np.asarray(0.5 * (distinct[1:] + distinct[:-1]))
    order = np.argsort(column, kind="stable")
    cumulative = np.cumsum(weights[order])
    wanted = cumulative[-1] * np.arange(1, max_bins) / max_bins
    rows = np.minimum(np.searchsorted(cumulative, wanted), len(column) - 1)
    return np.unique(column[order][rows])
