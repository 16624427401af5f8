r"""Significance improvement, quoted with the number of background events passing the cut.

.. math:: \mathrm{SIC}(t) = \frac{\varepsilon_S(t)}{\sqrt{\varepsilon_B(t)}}

is the factor by which a cut on the score improves :math:`S/\sqrt{B}`. Far in the tail it is decided by a
handful of background events, so the maximum is taken only where at least ``min_background`` of them remain.
The discovery potential of a cut is measured by the smallest signal that can be discovered with it (:func:`smallest_strength`).
Without labels, :func:`argos` takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.classify.argos import ArgosPoint, argos, kept_sums
from serendip.errors import InputError
from serendip.statistics.pvalues import asimov_signal

__all__ = [
    "ArgosPoint",
    "SicCurve",
    "SicPoint",
    "argos",
    "max_sic",
    "sic_at",
    "sic_curve",
    "smallest_strength",
]


@dataclass(frozen=True)
class SicCurve:
    """One entry for each possible threshold, from tight to loose; arrays of shape ``(n_thresholds,)``.

    Attributes
    ----------
    threshold
        Events with at least this score are kept.
    eps_s, eps_b
        Signal and background efficiency.
    sic, error
        Significance improvement and its binomial error; zero and infinite where no background is left.
    background
        Effective number of background events kept (their number, if all weights are equal).
    """

    threshold: NDArray[np.float64]
    eps_s: NDArray[np.float64]
    eps_b: NDArray[np.float64]
    sic: NDArray[np.float64]
    error: NDArray[np.float64]
    background: NDArray[np.float64]


@dataclass(frozen=True)
class SicPoint:
    """One working point of a :class:`SicCurve`; attributes as there."""

    threshold: float
    eps_s: float
    eps_b: float
    sic: float
    error: float
    background: float


def sic_curve(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, min_background: float = 20
) -> SicCurve:
    r"""Return the significance improvement at every threshold passed by enough background events.

    Events with equal scores are kept or rejected together. The error is that of two binomial efficiencies,
    with :math:`n` the effective number :math:`(\sum w)^2 / \sum w^2` of events of each kind,

    .. math:: \left(\frac{\sigma}{\mathrm{SIC}}\right)^2 =
        \frac{1-\varepsilon_S}{n_S \varepsilon_S} + \frac{1-\varepsilon_B}{4 n_B \varepsilon_B}

    Parameters
    ----------
    labels
        True for signal, shape ``(n,)``.
    scores
        Higher = more signal-like, shape ``(n,)``; finite.
    weights
        Event weights, shape ``(n,)``; default 1.
    min_background
        Leave out thresholds with fewer (effective) background events than this.

    Raises
    ------
    InputError
        If there is no signal or no background, or a score is not finite.
    """
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"score of event {int(np.argmin(np.isfinite(values)))} is not finite")
    if w[truth].sum() <= 0 or w[~truth].sum() <= 0:
        raise InputError("a significance improvement needs signal and background events with positive weight")
    kept = kept_sums(truth, values, w)
    signal, background, behind = kept.positive, kept.negative, kept.effective_negative
    n_s, n_b = signal[-1] ** 2 / kept.positive2[-1], behind[-1]
    eps_s, eps_b = np.minimum(signal / signal[-1], 1.0), np.minimum(background / background[-1], 1.0)
    sic = np.divide(eps_s, np.sqrt(eps_b), out=np.zeros_like(eps_s), where=eps_b > 0)
    # Squared error divided by eps_B, written so that it stays finite at eps_S = 0.
    variance = np.divide(
        eps_s * (1 - eps_s) / n_s + sic**2 * (1 - eps_b) / (4 * n_b),
        eps_b,
        out=np.full_like(eps_s, np.inf),
        where=eps_b > 0,
    )
    # A sum of equal weights may fall short of their number by rounding.
    enough = behind >= min_background * (1 - 1e-12)
    columns = (kept.threshold, eps_s, eps_b, sic, np.sqrt(variance), behind)
    return SicCurve(*(column[enough] for column in columns))


def _require_thresholds(curve: SicCurve) -> None:
    if len(curve.sic) == 0:
        raise InputError(
            "no threshold leaves enough background events; lower min_background or use more events"
        )


def max_sic(curve: SicCurve) -> SicPoint:
    """Return the threshold with the largest significance improvement.

    Raises
    ------
    InputError
        If the curve is empty.
    """
    _require_thresholds(curve)
    return _point(curve, int(np.argmax(curve.sic)))


def sic_at(curve: SicCurve, eps_b: float) -> SicPoint:
    """Return the loosest threshold whose background efficiency does not exceed ``eps_b``.

    Raises
    ------
    InputError
        If every threshold of the curve keeps more background than that.
    """
    rows = np.flatnonzero(curve.eps_b <= eps_b * (1 + 1e-12))
    if len(rows) == 0:
        raise InputError(
            f"no threshold with a background efficiency of {eps_b:g} or less leaves enough background events"
        )
    return _point(curve, int(rows[-1]))


def smallest_strength(
    curve: SicCurve, background: float | None = None, z: float = 5.0
) -> tuple[float, SicPoint]:
    r"""Return the smallest :math:`S/\sqrt{B}` from which the best cut reaches an Asimov significance ``z``, and that cut.

    .. math:: \sigma_\mathrm{min} = \min_{\varepsilon_B}
        \frac{s_z(\varepsilon_B B)}{\varepsilon_S \sqrt{B}}

    with the signal :math:`s_z(b)` that reaches ``z`` over ``b`` known background events
    (:func:`~serendip.statistics.pvalues.asimov_signal`). Where much background is left this is ``z / SIC``; where little is left more
    is needed. Figure of merit of arXiv:2604.20965.

    Parameters
    ----------
    curve
        Of events in the window, up to the threshold that keeps all; thresholds with too little background are not in it.
    background
        (Effective) number of background events in the window of the search; default: those of the curve.
    z
        The significance.

    Raises
    ------
    InputError
        If the curve is empty.
    """
    _require_thresholds(curve)
    total = float(curve.background[-1] if background is None else background)
    behind = curve.background * (total / curve.background[-1])
    # weighted events that are kept may be heavier than others: one effective event of them is then more of the signal
    weight = curve.eps_b * total / behind
    with np.errstate(divide="ignore"):
        strength = asimov_signal(z, behind) * weight / (curve.eps_s * np.sqrt(total))
    best = int(np.argmin(strength))
    return float(strength[best]), _point(curve, best)


def _point(curve: SicCurve, row: int) -> SicPoint:
    return SicPoint(
        threshold=float(curve.threshold[row]),
        eps_s=float(curve.eps_s[row]),
        eps_b=float(curve.eps_b[row]),
        sic=float(curve.sic[row]),
        error=float(curve.error[row]),
        background=float(curve.background[row]),
    )
