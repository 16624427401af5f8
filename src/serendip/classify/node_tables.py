"""Boosted trees as node tables in preorder: a node, its left part, its right part.

So a stored tree contains no node numbers: any sequence of "inner node" and "leaf" that is complete is a tree, and none can
send a reader in circles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from serendip.errors import InputError
from serendip.io.models import Arrays, require

__all__ = ["BoostedTrees", "Tree", "member_of", "pack_trees", "unpack_trees"]

_LEAF = -1
_MISSING = 255
_ROWS = 8192


@dataclass(frozen=True)
class Tree:
    """One regression tree on the bin numbers of the features, nodes in preorder.

    Attributes
    ----------
    feature
        Feature that a node cuts on, -1 for a leaf; shape ``(n_nodes,)``.
    threshold
        A node sends bin numbers ``<= threshold`` to the left; shape ``(n_nodes,)``.
    missing_left
        True where a node sends missing values to the left; shape ``(n_nodes,)``.
    value
        Contribution of a leaf to the score; shape ``(n_nodes,)``.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    value: NDArray[np.float64]

    def right_children(self) -> NDArray[np.int64]:
        """Node to the right of each node (to the left is the next one), 0 for leaves; shape ``(n_nodes,)``.

        Raises
        ------
        InputError
            If the nodes are not one complete tree.
        """
        right = np.zeros(len(self.feature), dtype=np.int64)
        waiting: list[int] = []
        for node, feature in enumerate(self.feature.tolist()):
            if feature != _LEAF:
                waiting.append(node)
            elif waiting:
                right[waiting.pop()] = node + 1
            elif node != len(right) - 1:
                raise InputError("the nodes of a stored tree go on after its last leaf")
        if waiting or len(right) == 0:
            raise InputError("the nodes of a stored tree are not complete")
        return right

    def add_to(self, total: NDArray[np.float64], bins: NDArray[np.uint8]) -> None:
        """Add the value of each event's leaf to ``total``, shape ``(n,)``; ``bins`` has shape ``(d, n)``.

        Each leaf is a bit. The nodes of one feature together leave a set of leaves to each of its bins; the leaf
        of an event is the first one in the sets of all features.
        """
        leaves = np.flatnonzero(self.feature == _LEAF)
        if len(leaves) == 1:
            total += self.value[leaves[0]]
            return
        words = -(-len(leaves) // 64)
        allowed = self._allowed(words)
        for low in range(0, len(total), _ROWS):
            rows = slice(low, low + _ROWS)
            leaf = np.zeros(len(total[rows]), dtype=np.int64)
            for word in reversed(range(words)):
                left = np.full(len(leaf), np.iinfo(np.uint64).max, dtype=np.uint64)
                for feature, sets in allowed.items():
                    left &= sets[word].take(bins[feature, rows])
                # the lowest bit alone is a power of two, exact as float64
                first = np.frexp((left & (~left + np.uint64(1))).astype(np.float64))[1] - 1
                leaf = np.where(left != 0, 64 * word + first, leaf)
            total[rows] += self.value[leaves].take(leaf)

    def _allowed(self, words: int) -> dict[int, NDArray[np.uint64]]:
        """Leaves that each feature leaves to each bin, as bits; shape ``(words, 256)`` by feature."""
        right = self.right_children()
        before = np.cumsum(self.feature == _LEAF) - (self.feature == _LEAF)
        allowed: dict[int, NDArray[np.uint64]] = {}
        for node in np.flatnonzero(self.feature != _LEAF):
            sets = allowed.setdefault(
                int(self.feature[node]), np.full((words, 256), np.iinfo(np.uint64).max, dtype=np.uint64)
            )
            # an event that goes right cannot end in a leaf to the left
            first, last = int(before[node + 1]), int(before[right[node]])
            lost = ((1 << last) - 1) & ~((1 << first) - 1)
            goes_right = np.arange(256) > self.threshold[node]
            goes_right[_MISSING] = not self.missing_left[node]
            for word in range(words):
                sets[word, goes_right] &= np.uint64(~(lost >> 64 * word) & 0xFFFFFFFFFFFFFFFF)
        return allowed


@dataclass(frozen=True)
class BoostedTrees:
    """The sum of trees of one member; takes the place of a fitted HistGradientBoostingClassifier.

    Attributes
    ----------
    baseline
        Log-odds before the first tree.
    trees
        In the order of boosting.
    """

    baseline: float
    trees: tuple[Tree, ...]

    def predict_proba(self, codes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of both classes, shape ``(n, 2)``, at bin numbers ``(n, d)``; NaN is missing."""
        bins = np.where(np.isnan(codes), _MISSING, codes).T.astype(np.uint8)
        total = np.full(len(codes), self.baseline)
        for tree in self.trees:
            tree.add_to(total, bins)
        positive = expit(total)
        return np.column_stack([1.0 - positive, positive])


def member_of(fitted: Any) -> BoostedTrees:
    """The trees of a fitted HistGradientBoostingClassifier with two classes."""
    if isinstance(fitted, BoostedTrees):
        return fitted
    trees = tuple(_tree_of(predictor.nodes) for (predictor,) in fitted._predictors)
    return BoostedTrees(float(fitted._baseline_prediction[0, 0]), trees)


def _tree_of(nodes: NDArray[Any]) -> Tree:
    if nodes["is_categorical"].any():
        raise InputError("trees with categorical features cannot be stored")
    order = _preorder(nodes["left"], nodes["right"], nodes["is_leaf"].astype(bool))
    nodes = nodes[order]
    leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        np.where(leaf, _LEAF, nodes["feature_idx"]).astype(np.int64),
        np.where(leaf, 0.0, nodes["num_threshold"]),
        nodes["missing_go_to_left"].astype(bool) & ~leaf,
        np.where(leaf, nodes["value"], 0.0),
    )


def _preorder(left: NDArray[Any], right: NDArray[Any], leaf: NDArray[np.bool_]) -> NDArray[np.intp]:
    order, stack = [], [0]
    while stack:
        node = stack.pop()
        order.append(node)
        if not leaf[node]:
            stack += [int(right[node]), int(left[node])]
    return np.array(order)


def pack_trees(members: Sequence[BoostedTrees]) -> Arrays:
    """All trees of all members as a few arrays; inner nodes and leaves keep only what they need."""
    trees = [tree for member in members for tree in member.trees]
    feature = np.concatenate([tree.feature for tree in trees])
    inner = feature != _LEAF
    threshold = np.concatenate([tree.threshold for tree in trees])[inner]
    small = threshold.astype(np.float32)
    return {
        "baseline": np.array([member.baseline for member in members]),
        "trees": np.array([len(member.trees) for member in members], dtype=np.int32),
        "nodes": np.array([len(tree.feature) for tree in trees], dtype=np.int32),
        "feature": feature.astype(np.int16),
        "threshold": small if np.array_equal(small, threshold) else threshold,
        "missing_left": np.concatenate([tree.missing_left for tree in trees])[inner].astype(np.uint8),
        "value": np.concatenate([tree.value for tree in trees])[~inner],
    }


def unpack_trees(arrays: Arrays, n_features: int) -> list[BoostedTrees]:
    """Members from the arrays of :func:`pack_trees`.

    Raises
    ------
    InputError
        If lengths do not agree, a feature does not exist, nodes are no tree, or a number is not finite.
    """
    counts, sizes = (require(arrays, name, "iu", 1).astype(np.int64) for name in ("trees", "nodes"))
    baseline = require(arrays, "baseline", "f", 1)
    feature = require(arrays, "feature", "i", 1).astype(np.int64)
    inner = feature != _LEAF
    threshold, value = np.zeros(len(feature)), np.zeros(len(feature))
    missing = np.zeros(len(feature), dtype=bool)
    stored = [
        require(arrays, n, k, 1) for n, k in (("threshold", "f"), ("missing_left", "u"), ("value", "f"))
    ]
    lengths = [inner.sum(), inner.sum(), (~inner).sum()]
    if (
        [len(array) for array in stored] != lengths
        or len(baseline) != len(counts)
        or len(counts) == 0
        or counts.min() < 0
        or counts.sum() != len(sizes)
        or (sizes < 1).any()
        or sizes.sum() != len(feature)
    ):
        raise InputError("the numbers of trees, nodes and leaves do not agree")
    if ((feature < _LEAF) | (feature >= n_features)).any():
        raise InputError(f"a tree cuts on feature number {feature.max() + 1} of {n_features}")
    if not (np.isfinite(stored[2]).all() and np.isfinite(baseline).all()) or np.isnan(stored[0]).any():
        raise InputError("a threshold or a leaf is not a number")
    threshold[inner], missing[inner], value[~inner] = stored
    ends = np.cumsum(sizes)
    trees = [
        Tree(feature[low:high], threshold[low:high], missing[low:high], value[low:high])
        for low, high in zip(ends - sizes, ends, strict=True)
    ]
    for tree in trees:
        tree.right_children()
    last = np.cumsum(counts)
    return [
        BoostedTrees(float(base), tuple(trees[low:high]))
        for base, low, high in zip(baseline, last - counts, last, strict=True)
    ]
