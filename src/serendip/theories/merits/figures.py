r"""How well a score separates a signal from background at a few background efficiencies.

The figures of merit of the Dark Machines challenge (arXiv:2105.14027) and of mixture-of-theories training
(arXiv:2207.07631), with errors: the area under the ROC curve, the signal efficiency :math:`\varepsilon_S` at the
background efficiencies :math:`\varepsilon_B = 10^{-2}, 10^{-3}, 10^{-4}`, and the significance improvement

.. math:: \mathrm{SI} = \varepsilon_S / \sqrt{\varepsilon_B}

:func:`serendip.theories.merits.improvement.total_improvement` joins signals and channels. Curves over all thresholds
are made by :mod:`serendip.methods.figures_of_merit`.

A cut cannot separate events with equal scores. Where a block of equal background scores contains the target
:math:`\varepsilon_B`, the convention decides:

``"strict"`` (default)
    The loosest cut between distinct scores that keeps at most the target. The whole block is rejected, so :math:`\varepsilon_S` is achievable with a cut without exceeding the target.
``"interpolated"``
    Events of the block are kept at random, with the probability that gives the target exactly (a randomised test).
    Without ties this is ``"strict"``, but for the efficiency of one event.
``"challenge"``
    The first point of the ROC curve that keeps at least the target, as in the published tables. The whole block is
    kept, so :math:`\varepsilon_S` may belong to a much larger :math:`\varepsilon_B`. For comparison with those tables only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.classify.argos import kept_sums
from serendip.errors import InputError
from serendip.statistics.pvalues import binomial_interval
from serendip.statistics.ranks import share_below
from serendip.theories.merits.samples import (
    LEVEL,
    SortedScores,
    effective_number,
    effective_of_fraction,
    fraction_interval,
    group_squares,
    sample,
    variance_of_mean,
)

__all__ = [
    "MIN_BACKGROUND",
    "TARGETS",
    "BackgroundScores",
    "Convention",
    "Merits",
    "WorkingPoint",
    "merits",
    "significance_improvement",
]

Array = NDArray[np.float64]
Convention = Literal["strict", "interpolated", "challenge"]

TARGETS = (1e-2, 1e-3, 1e-4)
"""Background efficiencies of the challenge."""
MIN_BACKGROUND = 10.0
"""Fewest background events expected to pass a reliable cut."""

_ROUNDING = 1e-12  # a sum of equal weights may miss their number by rounding


@dataclass(frozen=True)
class WorkingPoint:
    """A signal at one background efficiency.

    Attributes
    ----------
    target
        The requested background efficiency.
    threshold, kept_at_threshold
        Events above the threshold are kept, and this fraction of the events at the threshold.
    eps_s, eps_s_low, eps_s_high
        Signal efficiency and its 68 % Clopper-Pearson interval.
    eps_b, eps_b_low, eps_b_high
        Background efficiency of this cut in the sample, and the interval of its true value.
    si
        ``eps_s / sqrt(target)``.
    si_error
        Error of ``si`` from both samples.
    si_error_background
        Its part from the finite background sample, which all signals of a channel share; at most ``si``.
    background
        Background events expected to pass at the target (effective number, if they are weighted).
    tied
        The target lies inside a block of equal background scores.
    reliable
        Enough background events pass the cut, and the convention does not overstate the cut.
    reason
        Why it is not reliable; empty otherwise.
    """

    target: float
    threshold: float
    kept_at_threshold: float
    eps_s: float
    eps_s_low: float
    eps_s_high: float
    eps_b: float
    eps_b_low: float
    eps_b_high: float
    si: float
    si_error: float
    si_error_background: float
    background: float
    tied: bool
    reliable: bool
    reason: str

    @property
    def eps_s_error(self) -> float:
        """Half the length of the interval of ``eps_s``; never zero."""
        return 0.5 * (self.eps_s_high - self.eps_s_low)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers; an infinite threshold becomes None."""
        return asdict(self) | {
            "eps_s_error": self.eps_s_error,
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
        }


@dataclass(frozen=True)
class Merits:
    """One signal against the background of one channel.

    Attributes
    ----------
    n_signal, n_background
        Events with a weight above zero.
    auc, auc_error
        Area under the ROC curve (ties count half) and its error after DeLong et al., Biometrics 44 (1988) 837.
    convention
        Treatment of equal scores.
    points
        One for each target, from loose to tight.
    """

    n_signal: int
    n_background: int
    auc: float
    auc_error: float
    convention: Convention
    points: tuple[WorkingPoint, ...]

    def max_si(self, *, reliable: bool = False) -> WorkingPoint | None:
        """Return the point with the largest SI (mSI of the papers).

        The largest of several numbers with errors is somewhat too large.

        Parameters
        ----------
        reliable
            Among the reliable points only; None if there is none.
        """
        points = [point for point in self.points if point.reliable or not reliable]
        return max(points, key=lambda point: point.si, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, with ``max_si`` and ``max_si_reliable``."""
        best, safe = self.max_si(), self.max_si(reliable=True)
        return {
            "n_signal": self.n_signal,
            "n_background": self.n_background,
            "auc": self.auc,
            "auc_error": self.auc_error,
            "convention": self.convention,
            "points": [point.to_dict() for point in self.points],
            "max_si": None if best is None else best.si,
            "max_si_reliable": None if safe is None else safe.si,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Merits:
        """Undo :meth:`to_dict`.

        Raises
        ------
        KeyError, TypeError
            If it is something else.
        """
        points = []
        for entry in content["points"]:
            fields = {key: value for key, value in entry.items() if key != "eps_s_error"}
            if fields["threshold"] is None:
                fields["threshold"] = math.inf
            points.append(WorkingPoint(**fields))
        return cls(
            n_signal=content["n_signal"],
            n_background=content["n_background"],
            auc=content["auc"],
            auc_error=content["auc_error"],
            convention=content["convention"],
            points=tuple(points),
        )


class BackgroundScores:
    """Background scores of one channel, sorted once for all signals.

    Parameters
    ----------
    scores
        Shape ``(n,)``, higher = more signal-like. Infinite scores are allowed: equal ones are a block like any other.
    weights
        Shape ``(n,)``, not negative; default 1. Events of weight zero do not count.
    groups
        Events of the same number, shape ``(n,)``, are not independent (one generated event that was measured several times): in all errors the weights of those that pass a cut are summed before they are squared. Default: all independent.

    Raises
    ------
    InputError
        If there are fewer than two events, a score is NaN, a weight is negative or not finite, or groups do not belong to the
        scores.
    """

    def __init__(
        self,
        scores: ArrayLike,
        weights: ArrayLike | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        values, w = sample("background", scores, weights)
        self.n = len(values)
        order = np.argsort(values, kind="stable")
        self._scores, self._weights = values[order], w[order]
        # Falling already, so that the sort inside costs nothing.
        kept = kept_sums(np.zeros(self.n, dtype=bool), self._scores[::-1], self._weights[::-1])
        self._threshold, self._sum, self._sum2 = kept.threshold, kept.negative, kept.negative2
        self._groups: NDArray[np.int64] | None = None
        if groups is not None:
            counted = np.ones(np.shape(scores), dtype=bool) if weights is None else np.asarray(weights) > 0
            if np.shape(groups) != np.shape(scores):
                raise InputError(
                    f"{np.shape(groups)} groups for background scores of shape {np.shape(scores)}"
                )
            self._groups = np.asarray(groups)[counted][order]
            ends = np.searchsorted(-self._scores[::-1], -self._threshold, side="right") - 1
            self._sum2 = group_squares(self._groups[::-1], self._weights[::-1])[ends]
        self._eps = self._sum / self._sum[-1]
        largest = self._weights.max()
        if self._groups is not None:
            largest = np.bincount(np.unique(self._groups, return_inverse=True)[1], self._weights).max()
        self._heaviest = float(largest / self._sum[-1])

    def merits(
        self,
        signal: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        targets: Sequence[float] = TARGETS,
        convention: Convention = "strict",
        min_background: float = MIN_BACKGROUND,
    ) -> Merits:
        """Measure one signal; arguments as in :func:`merits`."""
        if convention not in ("strict", "interpolated", "challenge"):
            raise InputError(f"convention '{convention}' is not known; use strict, interpolated or challenge")
        aims = sorted((float(target) for target in targets), reverse=True)
        if not aims or not all(0 < target < 1 for target in aims) or len(set(aims)) < len(aims):
            raise InputError(
                f"background efficiencies must be different numbers between 0 and 1, not {targets}"
            )
        if not min_background >= 0:
            raise InputError(f"min_background must not be negative, not {min_background}")
        sorted_signal = SortedScores(*sample("signal", signal, weights))
        area, error = self._auc(sorted_signal)
        points = tuple(self._point(sorted_signal, target, convention, min_background) for target in aims)
        return Merits(len(sorted_signal.scores), self.n, area, error, convention, points)

    def _point(
        self, signal: SortedScores, target: float, convention: Convention, min_background: float
    ) -> WorkingPoint:
        total, total2 = self._sum[-1], self._sum2[-1]
        # First block that goes beyond the target, or (challenge) that reaches it.
        if convention == "challenge":
            block = int(np.searchsorted(self._eps, target * (1 - _ROUNDING), side="left"))
        else:
            block = int(np.searchsorted(self._eps, target * (1 + _ROUNDING), side="right"))
        threshold = float(self._threshold[block])
        below, below2 = (self._sum[block - 1], self._sum2[block - 1]) if block else (0.0, 0.0)
        inside, inside2 = self._sum[block] - below, self._sum2[block] - below2
        first, last = (np.searchsorted(self._scores, threshold, side=side) for side in ("left", "right"))
        between = min(target - below / total, self._eps[block] - target) > _ROUNDING * target
        tied = bool(last - first > 1 and between)
        share = {
            "strict": 0.0,
            "interpolated": (target - below / total) / (inside / total),
            "challenge": 1.0,
        }[convention]
        share = min(max(float(share), 0.0), 1.0)
        kept, kept2 = below + share * inside, below2 + share * inside2
        eps_b = min(float(kept / total), 1.0)
        # Events of unequal weight: the effective number of those near the cut.
        near, near2 = (kept, kept2) if kept > 0 else (below + inside, below2 + inside2)
        background = float(near**2 / near2 * target / (near / total))
        low, high = fraction_interval(eps_b, effective_of_fraction(kept, kept2, total, total2))
        eps_s, n_s = signal.efficiency(threshold, share)
        s_low, s_high = fraction_interval(eps_s, n_s)
        si = eps_s / math.sqrt(target)
        # variance of a ratio of weighted sums; (1 - eps_B) / (N_B eps_B) for equal weights
        rest2 = max(float(total2 - near2), 0.0) / float(total) ** 2
        # not above SI itself: with so few events the true efficiency of the cut may be anything larger
        from_background = si * min(0.5 * math.sqrt((1 - target) ** 2 / background + rest2), 1.0)
        from_signal = 0.5 * (s_high - s_low) / math.sqrt(target)
        reasons = []
        # The same slack as above: 1e-3 of 10,000 events are ten.
        if background < min_background * (1 - 1e-9):
            reasons.append(
                f"{background:.3g} background events are expected to pass eps_B = {target:g}, fewer than "
                f"{min_background:g}"
            )
        if target < self._heaviest * (1 - 1e-9):
            reasons.append(
                f"one background event has {self._heaviest:.2g} of the weight, more than all that may pass eps_B = {target:g}"
            )
        if convention == "challenge" and tied:
            reasons.append(
                f"eps_B = {target:g} lies in a block of {last - first} equal background scores, and the quoted eps_S "
                f"belongs to eps_B = {eps_b:.3g}"
            )
        return WorkingPoint(
            target=target,
            threshold=threshold,
            kept_at_threshold=share,
            eps_s=eps_s,
            eps_s_low=s_low,
            eps_s_high=s_high,
            eps_b=eps_b,
            eps_b_low=low,
            eps_b_high=high,
            si=si,
            si_error=math.hypot(from_signal, from_background),
            si_error_background=from_background,
            background=background,
            tied=tied,
            reliable=not reasons,
            reason="; ".join(reasons),
        )

    def _auc(self, signal: SortedScores) -> tuple[float, float]:
        below = share_below(signal.scores, self._scores, self._weights)
        above = 1.0 - share_below(self._scores, signal.scores, signal.weights)
        area = float(np.average(below, weights=signal.weights))
        variance = variance_of_mean(below, signal.weights) + variance_of_mean(
            above, self._weights, self._groups
        )
        if variance > 1e-24:
            return area, math.sqrt(variance)
        # All events on their side: the error of a fraction n/n of the smaller sample.
        n = max(1, int(min(effective_number(signal.weights), effective_number(self._weights))))
        low, high = binomial_interval(n, n, LEVEL)
        return area, high - low


def merits(
    background: ArrayLike,
    signal: ArrayLike,
    *,
    background_weights: ArrayLike | None = None,
    signal_weights: ArrayLike | None = None,
    targets: Sequence[float] = TARGETS,
    convention: Convention = "strict",
    min_background: float = MIN_BACKGROUND,
) -> Merits:
    r"""Measure one signal against background. For many signals, make :class:`BackgroundScores` once.

    With the half-length :math:`\sigma_S` of the interval of :math:`\varepsilon_S`, and :math:`N_B \varepsilon_B`
    background events passing the cut, the error is

    .. math:: \sigma_\mathrm{SI}^2 = \frac{\sigma_S^2}{\varepsilon_B} +
        \mathrm{SI}^2\, \frac{1 - \varepsilon_B}{4 N_B \varepsilon_B}

    With weights, :math:`N` is the number of events of equal weight that would have the same variance. That number does not account for events with large weights that happen not to pass the cut: a point is not reliable either if one event more of the largest weight
    would more than double the background there.

    Parameters
    ----------
    background, signal
        Scores, shapes ``(n_background,)`` and ``(n_signal,)``, higher = more signal-like; infinite ones are allowed.
    background_weights, signal_weights
        Not negative, same shapes; default 1.
    targets
        Background efficiencies.
    convention
        ``"strict"``, ``"interpolated"`` or ``"challenge"``, see above.
    min_background
        A point with fewer background events than this is not reliable.

    Raises
    ------
    InputError
        If a sample has fewer than two events, a score is NaN, a weight is negative or not finite, or an option is
        wrong.

    Examples
    --------
    >>> found = merits(range(1000), [985, 999, 2000, 2001], targets=[0.01])
    >>> found.points[0].eps_s, round(found.points[0].si, 3), found.points[0].reliable
    (0.75, 7.5, True)
    """
    return BackgroundScores(background, background_weights).merits(
        signal, signal_weights, targets=targets, convention=convention, min_background=min_background
    )


def significance_improvement(eps_s: ArrayLike, targets: Sequence[float] = TARGETS) -> Array:
    """Return ``eps_s / sqrt(targets)``; the last axis of ``eps_s`` is that of the targets."""
    return np.asarray(np.asarray(eps_s, dtype=np.float64) / np.sqrt(np.asarray(targets, dtype=np.float64)))
