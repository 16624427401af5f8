r"""Classifiers as ONNX graphs: raw features in, score and probabilities out.

Trees become one ``TreeEnsembleRegressor``. A node that cuts on the number of a quantile bin cuts on the feature itself
there:

.. math:: \mathrm{bin}(x) \le t \iff x \le e_{\lfloor t \rfloor}

with the bin edges :math:`e_j`, rounded down to float32, so that every float32 feature falls into the same leaf as
here. Networks become matrix products after their standardisation. Probabilities and the score
:math:`\ln p_1 - \ln p_0` are float64.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.classify.node_tables import BoostedTrees, member_of
from serendip.errors import InputError
from serendip.onnx_graph import Graph, Value

__all__ = ["export_classifier"]


def export_classifier(path: Path, estimator: Any, facts: dict[str, str] | None = None) -> None:
    """Write a fitted TreeEnsemble or NetworkEnsemble.

    Input ``features``, float32 ``(n, d)``; outputs ``score``, float64 ``(n,)``, and ``probability``, float64
    ``(n, 2)``. The score is that of :meth:`serendip.classify.splits.SplitClassifiers.score`.

    Raises
    ------
    InputError
        If ``onnx`` is not installed, or the classifier is of another kind.
    """
    graph = Graph("classifier")
    d = int(estimator.n_features_in_)
    x = graph.input("features", np.float32, ["n", d])
    if hasattr(estimator, "members_") and hasattr(estimator, "edges_"):
        log_odds = _trees(graph, x, [member_of(member) for member in estimator.members_], estimator.edges_)
    elif hasattr(estimator, "layers_"):
        log_odds = _network(graph, x, estimator)
    else:
        raise InputError(
            f"a classifier of type {type(estimator).__name__} cannot be exported; TreeEnsemble and NetworkEnsemble can"
        )
    # two sigmoids, not 1 - p: the digits of a p near 1 decide the order of the best events
    background, signal = (value.apply("Sigmoid").mean(1) for value in (-log_odds, log_odds))
    tiny = graph.constant(1e-300)
    graph.output(
        "score",
        graph.call("Max", signal, tiny).apply("Log") - graph.call("Max", background, tiny).apply("Log"),
        np.float64,
        ["n"],
    )
    probability = graph.concatenate([background.expand(1), signal.expand(1)], axis=1)
    graph.output("probability", probability, np.float64, ["n", 2])
    graph.write(path, facts or {})


def _trees(graph: Graph, x: Value, members: list[BoostedTrees], edges: list[NDArray[np.float64]]) -> Value:
    """Log-odds of each member, float64, shape ``(n, members)``."""
    nodes: dict[str, list[Any]] = {
        name: []
        for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    missing, leaves = [], {"treeids": [], "nodeids": [], "ids": [], "weights": []}  # type: ignore[var-annotated]
    tree_number = 0
    for target, member in enumerate(members):
        for tree in member.trees:
            right = tree.right_children()
            leaf = tree.feature < 0
            n = len(leaf)
            cuts = [
                0.0 if feature < 0 else _cut(edges[feature], threshold)
                for feature, threshold in zip(tree.feature, tree.threshold, strict=True)
            ]
            nodes["treeids"] += [tree_number] * n
            nodes["nodeids"] += range(n)
            nodes["featureids"] += np.maximum(tree.feature, 0).tolist()
            nodes["modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
            nodes["values"] += cuts
            nodes["truenodeids"] += np.where(leaf, 0, np.arange(1, n + 1)).tolist()
            nodes["falsenodeids"] += right.tolist()
            missing += tree.missing_left.astype(int).tolist()
            where = np.flatnonzero(leaf)
            leaves["treeids"] += [tree_number] * len(where)
            leaves["nodeids"] += where.tolist()
            leaves["ids"] += [target] * len(where)
            leaves["weights"] += tree.value[where].tolist()
            tree_number += 1
    margin = graph.call(
        "TreeEnsembleRegressor",
        x,
        domain="ai.onnx.ml",
        n_targets=len(members),
        aggregate_function="SUM",
        base_values=[member.baseline for member in members],
        nodes_missing_value_tracks_true=missing,
        **{f"nodes_{name}": values for name, values in nodes.items()},
        **{f"target_{name}": values for name, values in leaves.items()},
    )
    return margin.cast(np.float64)


def _cut(edges: NDArray[np.float64], threshold: float) -> float:
    """The largest float32 feature in a bin ``<= threshold``."""
    if not threshold < len(edges):
        return float(np.finfo(np.float32).max)
    if threshold < 0:
        return float(np.finfo(np.float32).min)
    edge = edges[int(threshold)]
    with np.errstate(over="ignore"):
        cut = np.float32(edge)
    return float(np.nextafter(cut, np.float32(-np.inf)) if cut > edge else cut)


def _network(graph: Graph, x: Value, ensemble: Any) -> Value:
    """Log-odds of each network, float64, shape ``(n, networks)``."""
    h = ((x.cast(np.float64) - ensemble.mean_) / ensemble.deviation_).cast(np.float32).expand(0)
    last = len(ensemble.layers_) - 1
    for i, (weight, bias) in enumerate(ensemble.layers_):
        h = h @ graph.constant(weight.numpy(), np.float32) + graph.constant(bias.numpy(), np.float32)
        h = h if i == last else h.apply("Relu")
    return graph.call("Transpose", h.squeeze(2), perm=[1, 0]).cast(np.float64)
