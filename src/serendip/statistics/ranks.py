r"""Where a score lies among reference scores: one function for each rule, since the rules differ on purpose.

===============================  ====================================  ==========================================================
function                         equal scores                          the event itself
===============================  ====================================  ==========================================================
:func:`leave_one_out_rank`       decided at random                     left out of the reference, the mean weight in its place
:func:`cut_efficiency`           decided at random                     the smallest weight in its place
:func:`fraction_kept`,           kept together                         the smallest weight in its place
:func:`pooled_efficiency`
:func:`randomised_efficiency`    one random place among all of them    one of ``k + 1``
:func:`share_below`              count half                            is not in the reference
===============================  ====================================  ==========================================================

An event whose rank becomes its *weight* needs :func:`leave_one_out_rank`: a sideband event that is compared with a sample that holds itself
lies one rank lower than an event of the window. A *cut* needs :func:`cut_efficiency`, which keeps the same number on both sides. Where a maximum
over cuts is taken (SIC, ARGOS), equal scores must stay equal: :func:`fraction_kept`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "above_and_equal",
    "cut_efficiency",
    "fraction_kept",
    "leave_one_out_rank",
    "pooled_efficiency",
    "randomised_efficiency",
    "share_below",
]

Array = NDArray[np.float64]


def leave_one_out_rank(
    score: Array,
    fold: NDArray[np.int64],
    sideband: NDArray[np.bool_],
    weights: Array,
    ties: NDArray[np.uint64],
    groups: NDArray[np.int64] | None = None,
) -> Array:
    r"""Rank of each event's score among the sideband events of its own fold, itself and its group left out.

    .. math:: \varepsilon_i = \frac{\bar w + \sum_{j \in SB \setminus i, s_j > s_i} w_j}{\bar w + \sum_{j \in SB \setminus i} w_j}

    with the mean weight :math:`\bar w` of a sideband event (or group) in place of the event itself. Events of the window and of the sidebands are treated identically, so that under background alone their ranks have one distribution. A sideband event that were compared with a
    sample that holds itself would lie one rank lower than an event of the window, just where the weights are largest.

    Parameters
    ----------
    score
        Anomaly score, shape ``(n,)``; NaN where the fold is not tested.
    fold, sideband, weights
        Fold, membership of the sidebands, event weight; shape ``(n,)``.
    ties
        Tie-breaker for equal scores, shape ``(n,)``.
    groups
        Numbers of groups of events that depend on each other, shape ``(n,)``.

    Returns
    -------
    Shape ``(n,)``, above 0 and at most 1; NaN where the score is NaN or the fold has no sideband.
    """
    rank = np.full(len(score), np.nan)
    for rows, w in _descending(score, fold, sideband, weights, ties):
        above, total = np.cumsum(w) - w, float(w.sum())
        if groups is None:
            own, own_above, n = w, np.zeros(len(w)), np.count_nonzero(w)
        else:
            own_above, group, sums = _within_groups(w, groups[rows])
            own, n = sums[group], np.count_nonzero(sums)
        mean = total / n
        rank[rows] = np.minimum(
            (np.maximum(above - own_above, 0.0) + mean) / (np.maximum(total - own, 0.0) + mean), 1.0
        )
    return rank


def cut_efficiency(
    score: Array,
    fold: NDArray[np.int64],
    sideband: NDArray[np.bool_],
    weights: Array,
    ties: NDArray[np.uint64],
    groups: NDArray[np.int64] | None = None,
) -> Array:
    r"""Background efficiency of a cut at each event's score, from the sideband events of its own fold.

    .. math:: \varepsilon(s) = \frac{\min_{SB} w + \sum_{i \in SB, s_i > s} w_i}{\sum_{i \in SB} w_i}

    Selecting :math:`\varepsilon \le \varepsilon_B` keeps all events at or above the k-th highest sideband score,
    :math:`k = \lfloor \varepsilon_B N \rfloor`. The k-th event itself must be inside the cut: its expected efficiency in
    the signal region is then k/(N+1); cutting just above the (k+1)-th instead would select (k+1)/(N+1) there for k in
    the sideband, a bias of 1/k towards excesses. For the same reason the smallest weight represents the event at the threshold, and not its own: whether an event is inside may depend only on the events above it.

    Parameters
    ----------
    score, fold, sideband, weights
        As in :func:`leave_one_out_rank`; the sidebands define the efficiency.
    ties
        Tie-breaker for equal scores (:func:`~serendip.search.folds.tie_breaker`), shape ``(n,)``. Trees trained on few events give whole
        blocks of equal scores, much larger than a tight working point.
    groups
        Numbers of groups of events that depend on each other, shape ``(n,)``. Members above an event do not count for those of
        their own group, and the smallest sum of a group represents the event at the threshold.

    Returns
    -------
    Shape ``(n,)``; 1 at most; NaN where the score is NaN or the fold has no sideband.
    """
    efficiency = np.full(len(score), np.nan)
    for rows, w in _descending(score, fold, sideband, weights, ties):
        above = np.cumsum(w) - w
        least = w[w > 0].min()
        if groups is not None:
            own_above, _, sums = _within_groups(w, groups[rows])
            above, least = above - own_above, sums[sums > 0].min()
        efficiency[rows] = np.minimum((above + least) / w.sum(), 1.0)
    return efficiency


def fraction_kept(scores: ArrayLike, reference: ArrayLike, weights: ArrayLike | None = None) -> Array:
    r"""Fraction of a reference sample that scores at least as high as each event; never 0.

    .. math:: \varepsilon(s) = \frac{\min w + \sum_{i, r_i \ge s} w_i}{\min w + \sum_i w_i}

    Scores of models that were trained on different events can be pooled after this: :math:`-\ln\varepsilon` is higher for more
    signal-like events. Equal scores stay equal: events with equal scores must not be ordered at random before a maximum over cuts is taken.

    Parameters
    ----------
    scores
        Shape ``(n,)``, finite.
    reference, weights
        Scores and weights of the reference, shape ``(k,)``; some weight is above zero, those that are not do not count. Default: 1.

    Returns
    -------
    Shape ``(n,)``, above 0 and at most 1.

    Examples
    --------
    >>> fraction_kept([0.5, 2.0, 9.0], [1.0, 2.0, 3.0]).tolist()
    [1.0, 0.75, 0.25]
    """
    r = np.asarray(reference, dtype=np.float64)
    w = np.ones(len(r)) if weights is None else np.asarray(weights, dtype=np.float64)
    r, w = r[w > 0], w[w > 0]
    order = np.argsort(r)
    below = np.concatenate([[0.0], np.cumsum(w[order])])
    least = w.min()
    above = below[-1] - below[np.searchsorted(r[order], np.asarray(scores, dtype=np.float64), side="left")]
    return np.asarray((above + least) / (below[-1] + least))


def pooled_efficiency(
    scores: Array, fold: NDArray[np.int64], sideband: NDArray[np.bool_], weights: Array
) -> Array:
    """:func:`fraction_kept` of the sideband events of each event's own fold, shape ``(n,)``.

    Parameters
    ----------
    scores
        Shape ``(n,)``; NaN where the fold is not tested.
    fold, sideband, weights
        Fold, membership of the sidebands, event weight; shape ``(n,)``.

    Returns
    -------
    Shape ``(n,)``; NaN where the score is NaN or the fold has no sideband.
    """
    efficiency = np.full(len(scores), np.nan)
    for f in np.unique(fold):
        here = np.flatnonzero((fold == f) & ~np.isnan(scores))
        beside = here[sideband[here] & (weights[here] > 0)]
        if len(beside):
            efficiency[here] = fraction_kept(scores[here], scores[beside], weights[beside])
    return efficiency


def randomised_efficiency(score: Array, order: Array, reference: Array) -> Array:
    r"""Fraction of a reference sample above each score, with a random rank among equals.

    .. math:: \varepsilon = \frac{\#\{r > s\} + (1 - u)\,(\#\{r = s\} + 1)}{k + 1}

    is exactly uniform for an event like those of the reference, however few they are.

    Parameters
    ----------
    score
        Scores of events, shape ``(n,)``.
    order
        Uniform numbers u between 0 and 1, shape ``(n,)``.
    reference
        Scores r of the reference, shape ``(k,)``.

    Returns
    -------
    Shape ``(n,)``.
    """
    above, equal = above_and_equal(score, np.sort(reference))
    return np.asarray((above + (1.0 - order) * (equal + 1)) / (len(reference) + 1))


def above_and_equal(score: Array, ordered: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of scores of a sample in rising order above and at each score, each of shape ``(n,)``."""
    right = np.searchsorted(ordered, score, side="right")
    return len(ordered) - right, right - np.searchsorted(ordered, score, side="left")


def share_below(scores: ArrayLike, ordered: ArrayLike, weights: ArrayLike) -> Array:
    """Share of the weight of a sample in rising order that lies below each score; equal scores count half.

    Parameters
    ----------
    scores
        Shape ``(n,)``.
    ordered, weights
        Scores in rising order and their weights, shape ``(k,)``.

    Returns
    -------
    Shape ``(n,)``, between 0 and 1. Its mean over signal is the area under the ROC curve.

    Examples
    --------
    >>> share_below([0.0, 2.0, 9.0], [1.0, 2.0, 3.0], [1.0, 1.0, 2.0]).tolist()
    [0.0, 0.375, 1.0]
    """
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    first, last = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return np.asarray(0.5 * (sums[first] + sums[last]) / sums[-1])


def _descending(
    score: Array,
    fold: NDArray[np.int64],
    sideband: NDArray[np.bool_],
    weights: Array,
    ties: NDArray[np.uint64],
) -> Iterator[tuple[NDArray[np.int64], Array]]:
    """Rows of each tested fold from the highest score down, and their weights, zero outside the sidebands."""
    for f in np.unique(fold):
        here = np.flatnonzero((fold == f) & ~np.isnan(score))
        rows = here[np.lexsort((ties[here], score[here]))][::-1]
        w = np.where(sideband[rows], weights[rows], 0.0)
        if np.any(w > 0):
            yield rows, w


def _within_groups(weights: Array, groups: NDArray[Any]) -> tuple[Array, NDArray[np.int64], Array]:
    """Sum of the weights of earlier members of each event's group, the number of that group, and the sum of each group."""
    group = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(group, weights).astype(float)
    order = np.argsort(group, kind="stable")
    before = np.empty(len(weights))
    before[order] = np.cumsum(weights[order]) - weights[order] - (np.cumsum(sums) - sums)[group[order]]
    return np.maximum(before, 0.0), group, sums
