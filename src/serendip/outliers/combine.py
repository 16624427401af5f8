r"""Several outlier scores as one, on the common scale of background ranks (arXiv:2106.10164; 2105.14027, section 4.13).

.. math:: r(x) = \frac{N_B(s < s(x)) + \tfrac12 N_B(s = s(x))}{N_B}

is the *anomaly rank*: uniform in [0, 1] for new background, near 1 for anomalous events. The events of :math:`N_B` must not be training events of the scores. Ranks are combined by

=========== ============================================ =================================
``"and"``   smallest rank                                 anomalous for every score
``"or"``    largest rank                                  anomalous for at least one
``"prod"``  product of the ranks
``"avg"``   mean of the ranks
=========== ============================================ =================================

The papers write :math:`f(x) = N_B(s > s(x))/N_B` and combine f with AND = min; their code combines :math:`1 - f`, which is the rank
here without the half of the ties. The names AND and OR have their literal meaning for ranks; with f as printed they would swap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from serendip.outliers.base import Array, Arrays, Facts, OutlierScore
from serendip.outliers.inputs import DataError, require_at_least, require_choice, require_finite
from serendip.outliers.registry import load_score
from serendip.statistics.ranks import share_below

__all__ = ["RULES", "SVDD_RULES", "CombinedScore", "RankMap", "combine_ranks", "flow_and_svdd"]

Rule = Literal["and", "or", "prod", "avg"]

RULES = ("and", "or", "prod", "avg")
"""Names of the rules of :func:`combine_ranks`."""
SVDD_RULES = {"and": "min", "or": "max", "prod": "product", "avg": "mean"}
"""The same rules for the members of a deep SVDD ensemble (``combine``)."""


@dataclass(frozen=True, eq=False)
class RankMap:
    r"""Scores to anomaly ranks by the exact distribution of held-out background.

    Attributes
    ----------
    values
        The different background scores, rising, shape ``(k,)``.
    at
        Part of the background weight at each of them, shape ``(k,)``.
    events
        Effective number of background events, :math:`(\sum w)^2 / \sum w^2`. Ranks are not finer than its inverse: events
        above all of the background have rank 1 together.
    """

    values: Array
    at: Array
    events: float

    @classmethod
    def fit(cls, scores: ArrayLike, weights: ArrayLike | None = None) -> Self:
        """Learn from background that has trained none of the scores.

        Parameters
        ----------
        scores
            Shape ``(n,)``; finite; higher = more anomalous.
        weights
            Event weights, shape ``(n,)``, not negative. Default: ones.

        Raises
        ------
        InputError
            If there are no scores, one is not finite, or the weights do not belong to them.
        """
        s = _scores(scores)
        w = np.ones(len(s)) if weights is None else np.asarray(weights, dtype=np.float64)
        if w.shape != s.shape or not np.isfinite(w).all() or np.any(w < 0) or not w.sum() > 0:
            raise DataError(
                f"the weights (shape {w.shape}) must be finite, not negative, not all zero, and as many as the {len(s)} scores"
            )
        values, place = np.unique(s[w > 0], return_inverse=True)
        at = np.bincount(place, weights=w[w > 0]) / w.sum()
        return cls(values, at, float(w.sum() ** 2 / np.sum(w**2)))

    def __call__(self, scores: ArrayLike) -> Array:
        """Anomaly ranks in [0, 1], shape ``(n,)``.

        Raises
        ------
        InputError
            If a score is not finite.
        """
        s = _scores(scores, empty=True)
        return share_below(s, self.values, self.at)


def combine_ranks(ranks: ArrayLike, rule: Rule) -> Array:
    """Combine anomaly ranks; see the module for the rules.

    Parameters
    ----------
    ranks
        Shape ``(k, n)``: one row for each score, in [0, 1].
    rule
        ``"and"``, ``"or"``, ``"prod"`` or ``"avg"``.

    Returns
    -------
    Array
        Shape ``(n,)``; higher = more anomalous. Only the order has a meaning: it is not uniform for background.

    Raises
    ------
    InputError
        If the rule is not known or a rank is outside [0, 1].
    """
    require_choice(RULES, rule=rule)
    r = np.asarray(ranks, dtype=np.float64)
    if r.ndim != 2 or len(r) == 0 or not np.all((r >= 0) & (r <= 1)):
        raise DataError(f"ranks must have shape (scores, events) and lie in [0, 1], got shape {r.shape}")
    how: dict[str, Callable[..., Any]] = {"and": np.min, "or": np.max, "prod": np.prod, "avg": np.mean}
    return np.asarray(how[rule](r, axis=0))


class CombinedScore(OutlierScore):
    """Scores that are trained on one part of the background and ranked on the rest; higher = more anomalous.

    Parameters
    ----------
    scores
        Unfitted outlier scores, at least two.
    rule
        As in :func:`combine_ranks`.
    holdout
        Part of the background that trains no score and makes the ranks.
    random_state
        Seed of the division of the background; the scores have seeds of their own.

    Attributes
    ----------
    scores_
        The fitted scores.
    rank_maps_
        :class:`RankMap` of each.
    """

    kind = "combined"

    def __init__(
        self,
        scores: Sequence[OutlierScore],
        rule: Rule = "and",
        *,
        holdout: float = 0.2,
        random_state: Any = 0,
    ) -> None:
        self.scores = scores
        self.rule = rule
        self.holdout = holdout
        self.random_state = random_state

    def ranks(self, X: ArrayLike) -> Array:
        """Anomaly rank of each score, shape ``(k, n)``."""
        return np.stack(
            [
                to_rank(score.score_samples(X))
                for score, to_rank in zip(self.scores_, self.rank_maps_, strict=True)
            ]
        )

    def _fit(self, x: Array, weights: Array) -> None:
        require_choice(RULES, rule=self.rule)
        require_at_least(2, **{"number of scores": len(self.scores)})
        if not 0 < self.holdout < 1:
            raise DataError(f"holdout must be between 0 and 1, got {self.holdout}")
        order = np.random.default_rng(self._seed()).permutation(len(x))
        n = max(1, round(self.holdout * len(x)))
        held, rest = order[:n], order[n:]
        self.scores_: list[OutlierScore] = []
        self.rank_maps_: list[RankMap] = []
        for score in self.scores:
            fitted: OutlierScore = clone(score).fit(x[rest], sample_weight=weights[rest])
            self.scores_.append(fitted)
            self.rank_maps_.append(RankMap.fit(fitted.score_samples(x[held]), weights[held]))

    def _score(self, x: Array) -> Array:
        return combine_ranks(self.ranks(x), self.rule)

    def _state(self) -> tuple[Facts, Arrays]:
        arrays: Arrays = {}
        for i, ranks in enumerate(self.rank_maps_):
            arrays |= {f"{i}.values": ranks.values, f"{i}.at": ranks.at}
        return {"events": [ranks.events for ranks in self.rank_maps_]}, arrays

    def _restore(self, facts: Facts, arrays: Arrays) -> None:
        self.rank_maps_ = [
            RankMap(arrays[f"{i}.values"], arrays[f"{i}.at"], float(events))
            for i, events in enumerate(facts["events"])
        ]

    def _parameters_to_store(self) -> Facts:
        return super()._parameters_to_store() | {"scores": []}

    def _save_parts(self, folder: Path) -> None:
        for i, score in enumerate(self.scores_):
            score.save(folder / f"score{i}")

    def _load_parts(self, folder: Path) -> None:
        self.scores_ = [load_score(folder / f"score{i}") for i in range(len(self.rank_maps_))]
        self.scores = [clone(score) for score in self.scores_]


def flow_and_svdd(
    rule: Rule = "and",
    *,
    flow: OutlierScore | None = None,
    svdd: OutlierScore | None = None,
    holdout: float = 0.2,
    random_state: int = 0,
) -> CombinedScore:
    """Flow likelihood and deep SVDD ensemble combined, the best unsupervised models of arXiv:2105.14027.

    The same rule joins the members of the ensemble, as in arXiv:2106.10164: AND = min, OR = max.

    Parameters
    ----------
    rule, holdout
        As in :class:`CombinedScore`.
    flow, svdd
        Unfitted scores with other options; the rule of a given ``svdd`` is left as it is.
    random_state
        Seed of everything random.
    """
    from serendip.outliers.flow import FlowLikelihood
    from serendip.outliers.svdd import DeepSVDD

    require_choice(RULES, rule=rule)
    inside: dict[str, Any] = SVDD_RULES
    scores = [
        FlowLikelihood(random_state=random_state) if flow is None else deepcopy(flow),
        DeepSVDD(combine=inside[rule], random_state=random_state) if svdd is None else deepcopy(svdd),
    ]
    return CombinedScore(scores, rule, holdout=holdout, random_state=random_state)


def _scores(scores: ArrayLike, *, empty: bool = False) -> NDArray[np.float64]:
    s = np.asarray(scores, dtype=np.float64)
    if s.ndim != 1 or (len(s) == 0 and not empty):
        raise DataError(f"scores must have shape (n,), one for each event, got {s.shape}")
    require_finite(s[:, None])
    return s
