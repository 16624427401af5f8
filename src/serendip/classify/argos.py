r"""ARGOS: how good a score is, measured without labels (arXiv:2511.14832).

A score is to find a signal in data of which only a background template is known. With the efficiencies of data and
template at a threshold :math:`t`, both of held-out events,

.. math:: \mathrm{ARGOS} = \max_t \left[ \frac{\varepsilon_D(t)}{\sqrt{\varepsilon_T(t)}} -
    \sqrt{\varepsilon_T(t)} \right]

If the template is background without error and the data hold a fraction :math:`f` of signal, then
:math:`\varepsilon_D = f \varepsilon_S + (1-f) \varepsilon_B`, and the bracket is
:math:`f\,(\mathrm{SIC} - \sqrt{\varepsilon_B})`: the best model has the best significance improvement. A mismodelled template differs from data for the wrong reason and has a large ARGOS too, so it can be used to choose among
models with one template, but not among templates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError

__all__ = ["MIN_TEMPLATE", "ArgosPoint", "KeptSums", "argos", "efficiency_at", "enough_template", "kept_sums"]

MIN_TEMPLATE = 20.0
"""Fewest (effective) template events passing a cut."""


@dataclass(frozen=True)
class KeptSums:
    """Events passing each threshold, from tight to loose; arrays of shape ``(n_thresholds,)``.

    Attributes
    ----------
    threshold
        Events with at least this score are kept; equal scores are one threshold.
    positive, negative
        Sums of the weights kept of each class.
    positive2, negative2
        Sums of the squared weights.
    """

    threshold: NDArray[np.float64]
    positive: NDArray[np.float64]
    positive2: NDArray[np.float64]
    negative: NDArray[np.float64]
    negative2: NDArray[np.float64]

    @property
    def effective_negative(self) -> NDArray[np.float64]:
        r"""Effective number :math:`(\sum w)^2 / \sum w^2` of negative events kept."""
        out = np.zeros_like(self.negative)
        return np.divide(self.negative**2, self.negative2, out=out, where=self.negative2 > 0)


def kept_sums(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> KeptSums:
    """Sum the weights at or above every distinct score; all arrays of shape ``(n,)``."""
    order = np.argsort(-scores, kind="stable")
    positive, scores, w = positive[order], scores[order], weights[order]
    last_of_tie = np.append(scores[1:] != scores[:-1], True)
    sums = (
        np.cumsum(kept)[last_of_tie]
        for kept in (w * positive, w**2 * positive, w * ~positive, w**2 * ~positive)
    )
    return KeptSums(scores[last_of_tie], *sums)


@dataclass(frozen=True)
class ArgosPoint:
    """The cut at which ARGOS is largest.

    Attributes
    ----------
    threshold
        Events with at least this score are kept.
    eps_data, eps_template
        Efficiencies of data and template.
    value, error
        ARGOS and its binomial error at this cut. The maximum is taken over many cuts, so that without signal it is
        not zero but typically 1.5 errors, and in one of twenty cases more than 2.7.
    template
        Effective number of template events kept.
    """

    threshold: float
    eps_data: float
    eps_template: float
    value: float
    error: float
    template: float


def argos(
    is_data: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    min_template: float = MIN_TEMPLATE,
) -> ArgosPoint:
    r"""Return the cut with the largest ARGOS that keeps at least ``min_template`` template events.

    Events with equal scores are kept or rejected together. With the effective numbers :math:`n = (\sum w)^2 / \sum
    w^2` of data and template, the error at the cut is

    .. math:: \sigma^2 = \frac{\varepsilon_D (1 - \varepsilon_D)}{n_D\, \varepsilon_T} + \frac{(1 -
        \varepsilon_T)}{4 n_T} \left(1 + \frac{\varepsilon_D}{\varepsilon_T}\right)^2

    Parameters
    ----------
    is_data
        True for data, False for the template; shape ``(n,)``.
    scores
        Higher = more signal-like, shape ``(n,)``; finite, of events that the model was not trained on.
    weights
        Non-negative weights, shape ``(n,)``; default 1. Their scale does not matter in either class.
    min_template
        Fewest (effective) template events passing the cut.

    Raises
    ------
    InputError
        If there are no data, fewer template events than ``min_template``, or a score is not finite.
    """
    data, values = np.asarray(is_data, dtype=bool), np.asarray(scores, dtype=np.float64)
    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"score of event {int(np.argmin(np.isfinite(values)))} is not finite")
    if w[data].sum() <= 0 or w[~data].sum() <= 0:
        raise InputError("ARGOS needs data and template events with positive weight")
    kept = kept_sums(data, values, w)
    behind = kept.effective_negative
    # A sum of equal weights may fall short of their number by rounding.
    rows = np.flatnonzero((behind >= min_template * (1 - 1e-12)) & (kept.negative > 0))
    if len(rows) == 0:
        raise InputError(
            f"ARGOS needs {min_template:g} template events passing its cut, there are {behind[-1]:.0f} in total; lower "
            "min_template or use more events"
        )
    eps_d = np.minimum(kept.positive[rows] / kept.positive[-1], 1.0)
    eps_t = np.minimum(kept.negative[rows] / kept.negative[-1], 1.0)
    value = (eps_d - eps_t) / np.sqrt(eps_t)
    best = int(np.argmax(value))
    d, t = eps_d[best], eps_t[best]
    n_d, n_t = kept.positive[-1] ** 2 / kept.positive2[-1], behind[-1]
    variance = d * (1 - d) / (n_d * t) + (1 - t) / (4 * n_t) * (1 + d / t) ** 2
    return ArgosPoint(
        threshold=float(kept.threshold[rows[best]]),
        eps_data=float(d),
        eps_template=float(t),
        value=float(value[best]),
        error=float(np.sqrt(variance)),
        template=float(behind[rows[best]]),
    )


def enough_template(effective: float) -> float:
    """Fewest template events passing a cut in a small sample: :data:`MIN_TEMPLATE`, or half of the sample."""
    return min(MIN_TEMPLATE, 0.5 * effective)


def efficiency_at(
    is_data: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64], eps_template: float
) -> float:
    """Efficiency of data at the loosest cut that keeps at most a fraction ``eps_template`` of the template.

    Zero if equal scores leave no such cut.
    """
    kept = kept_sums(is_data, scores, weights)
    rows = np.flatnonzero(kept.negative <= eps_template * kept.negative[-1] * (1 + 1e-12))
    return float(kept.positive[rows[-1]] / kept.positive[-1]) if len(rows) else 0.0
