"""Folds from event ids, and the training sets that each combination rule needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Plan", "assign_folds", "background_efficiency", "cross_training_plan"]

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_GOLDEN = 0x9E3779B97F4A7C15


def assign_folds(ids: NDArray[Any], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each event: a hash of its id and the seed, so that row order changes nothing.

    Parameters
    ----------
    ids
        Integers or strings, shape ``(n,)``.
    n_folds
        Number of folds.
    seed
        Seed of the search.

    Returns
    -------
    Folds ``0 … n_folds - 1``, shape ``(n,)``.
    """
    if np.issubdtype(ids.dtype, np.integer):
        keys = ids.astype(np.int64).view(np.uint64)
    else:
        digests = b"".join(
            hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in ids.tolist()
        )
        keys = np.frombuffer(digests, dtype=np.uint64)
    # splitmix64, twice: once to spread the seed, once to mix it with the id
    offset = np.uint64(((seed + 1) * _GOLDEN) & 0xFFFFFFFFFFFFFFFF)
    mixed = _splitmix(keys ^ _splitmix(np.asarray([offset], dtype=np.uint64)))
    return np.asarray(mixed % np.uint64(n_folds), dtype=np.int64)


def _splitmix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        values = values + np.uint64(_GOLDEN)
        values = (values ^ (values >> np.uint64(30))) * _MIX[0]
        values = (values ^ (values >> np.uint64(27))) * _MIX[1]
        return np.asarray(values ^ (values >> np.uint64(31)), dtype=np.uint64)


@dataclass(frozen=True)
class Plan:
    """Which events train which model, and which model scores which fold.

    Attributes
    ----------
    splits
        Shape ``(n_models, n_events)``: row ``k`` marks the events that model ``k`` may see.
    scores
        Pairs (fold, model). A fold without a pair is never tested.
    """

    splits: NDArray[np.bool_]
    scores: tuple[tuple[int, int], ...]


def cross_training_plan(fold: NDArray[np.int64], n_folds: int, combination: str) -> Plan:
    """Training sets of a combination rule.

    *Sequential*: fold ``f ≥ 1`` is scored by the model trained on folds ``0 … f - 1``; given the past, its count is
    Poisson. *K-fold*: fold ``f`` is scored by the model trained on all other folds.
    """
    if combination.startswith("sequential"):
        splits = np.stack([fold < f for f in range(1, n_folds)])
        return Plan(splits, tuple((f, f - 1) for f in range(1, n_folds)))
    return Plan(np.stack([fold != f for f in range(n_folds)]), tuple((f, f) for f in range(n_folds)))


def background_efficiency(
    score: NDArray[np.float64],
    fold: NDArray[np.int64],
    sideband: NDArray[np.bool_],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    r"""Background efficiency of a cut at each event's score, from the sideband events of its own fold.

    .. math:: \varepsilon(s) = \frac{\min_w + \sum_{i \in SB, s_i > s} w_i}{\sum_{i \in SB} w_i}

    where :math:`\min_w` stands for one sideband event. Selecting :math:`\varepsilon \le \varepsilon_B` keeps all events at
    or above the k-th highest sideband score, :math:`k = \lfloor \varepsilon_B N \rfloor`. The k-th event itself must be
    inside the cut: its expected efficiency in the signal region is then k/(N+1); cutting just above the (k+1)-th
    instead would select (k+1)/(N+1) there for k in the sideband, a bias of 1/k towards excesses.

    Parameters
    ----------
    score
        Anomaly score, shape ``(n,)``; NaN where the fold is not tested.
    fold, sideband, weights
        Fold, membership of the sidebands that define the efficiency, event weight; shape ``(n,)``.

    Returns
    -------
    Shape ``(n,)``; 1 at most; NaN where the score is NaN.
    """
    efficiency = np.full(len(score), np.nan)
    for f in np.unique(fold):
        here = (fold == f) & ~np.isnan(score)
        reference = here & sideband
        if not reference.any():
            continue
        order = np.argsort(score[reference])[::-1]
        descending = score[reference][order]
        w = weights[reference][order]
        above = np.concatenate([[0.0], np.cumsum(w)])
        n_above = np.searchsorted(-descending, -score[here], side="left")
        own = w[np.minimum(n_above, len(w) - 1)]
        efficiency[here] = np.minimum((above[n_above] + own) / above[-1], 1.0)
    return efficiency
