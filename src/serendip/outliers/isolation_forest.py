r"""Isolation forest (Liu, Ting and Zhou 2008) as an outlier score.

Random cuts separate an event from the rest of a small subsample; the fewer are needed, the lonelier it is:

.. math:: s(x) = 2^{-\langle h(x) \rangle / c(n)}, \qquad c(n) = 2 (\ln(n-1) + \gamma) - 2 (n-1)/n

A leaf with m events adds :math:`c(m)` to the number of cuts h. Trees are grown by scikit-learn and kept as tables of numbers.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.outliers.base import Array, Arrays, Facts, OutlierScore
from serendip.outliers.inputs import DataError, in_blocks, require_at_least, weighted_rows

__all__ = ["IsolationForestScore"]


@dataclass(eq=False, repr=False)
class IsolationForestScore(OutlierScore):
    """Loneliness between 0 and 1; higher = more anomalous.

    With unequal weights rows are repeated or left out in proportion to them before the subsamples are drawn
    (systematic resampling), so weights are respected on average.

    Parameters
    ----------
    trees
        Trees that are averaged.
    subsample
        Events from which each tree is grown.
    random_state
        Seed of everything random.
    """

    kind = "isolation-forest"

    trees: int = 200
    _: KW_ONLY
    subsample: int = 256
    random_state: Any = 0

    def check_options(self) -> None:
        """Stop if an option is not valid."""
        require_at_least(1, trees=self.trees)
        require_at_least(2, subsample=self.subsample)

    def _fit(self, x: Array, weights: Array) -> None:
        from sklearn.ensemble import IsolationForest

        seed = self._seed()
        rows = weighted_rows(weights, np.random.default_rng(seed))
        self.subsample_ = min(self.subsample, len(rows))
        forest = IsolationForest(
            n_estimators=self.trees, max_samples=self.subsample_, random_state=seed, n_jobs=1
        )
        forest.fit(x[rows])
        parts = [tree.tree_ for tree in forest.estimators_]
        columns = forest.estimators_features_
        self._tables = {
            "roots": np.cumsum([0, *(part.node_count for part in parts[:-1])]),
            "left": _joined(parts, "children_left"),
            "right": _joined(parts, "children_right"),
            "feature": np.concatenate(
                [c[np.maximum(p.feature, 0)] for p, c in zip(parts, columns, strict=True)]
            ),
            "threshold": np.concatenate([part.threshold for part in parts]),
            "events": np.concatenate([part.n_node_samples for part in parts]).astype(np.int64),
        }

    def _score(self, x: Array) -> Array:
        # scikit-learn cuts in single precision
        cuts = in_blocks(self._mean_cuts, x.astype(np.float32).astype(np.float64))
        return np.asarray(2.0 ** (-cuts / _expected_cuts(np.array([self.subsample_]))[0]))

    def _mean_cuts(self, x: Array) -> Array:
        t = self._tables
        total, rows = np.zeros(len(x)), np.arange(len(x))
        for root in t["roots"]:
            node, depth, going = np.full(len(x), root), np.zeros(len(x)), rows
            while len(going := going[t["left"][node[going]] >= 0]):
                at = node[going]
                to_left = x[going, t["feature"][at]] <= t["threshold"][at]
                node[going] = np.where(to_left, t["left"][at], t["right"][at])
                depth[going] += 1
            total += depth + _expected_cuts(t["events"][node])
        return np.asarray(total / len(t["roots"]))

    def _state(self) -> tuple[Facts, Arrays]:
        return {"subsample": self.subsample_}, self._tables

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        self.subsample_, self._tables = int(facts["subsample"]), arrays
        n, places = len(arrays["left"]), np.arange(len(arrays["left"]))
        for name in ("left", "right"):
            # children come after their parents, so that no file can send the scoring in circles
            child = arrays[name]
            if np.any((child >= 0) & (child <= places)) or child.max(initial=-1) >= n:
                raise DataError("the nodes are not trees")


def _joined(parts: list[Any], name: str) -> NDArray[np.int64]:
    """Children of all trees with node numbers that count through them; -1 for leaves."""
    start, out = 0, []
    for part in parts:
        child = np.asarray(getattr(part, name), dtype=np.int64)
        out.append(np.where(child < 0, -1, child + start))
        start += part.node_count
    return np.concatenate(out)


def _expected_cuts(n: NDArray[Any]) -> Array:
    """Mean number of cuts of an unsuccessful search in a binary tree of n entries."""
    large = np.maximum(n, 3).astype(np.float64)
    value = 2.0 * (np.log(large - 1.0) + np.euler_gamma) - 2.0 * (large - 1.0) / large
    return np.asarray(np.where(n > 2, value, np.where(n == 2, 1.0, 0.0)))
