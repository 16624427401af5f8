r"""Event weights of both signs: their effective number of events, and where they cannot be used.

Simulation at next-to-leading order gives some events a negative weight. Sums of weights stay right, their error is
:math:`\sqrt{\sum w^2}`, and :math:`n` events are equivalent to :math:`n_\mathrm{eff} = (\sum w)^2 / \sum w^2` events of equal weight. A training, a fold or a
quantile needs events that each count for something.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError

__all__ = ["WeightSum", "explain_negative_weights", "one_each", "signed_weights", "unweight", "weight_sum"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WeightSum:
    """Sum of the weights of a sample.

    Attributes
    ----------
    n_events
        Events with a weight that is not zero.
    total, error
        Sum of weights and root of the sum of their squares.
    effective
        Events of equal weight with the same relative error.
    n_negative
        Events with a negative weight.
    negative_share
        Sum of the sizes of negative weights relative to that of all.
    """

    n_events: int
    total: float
    error: float
    effective: float
    n_negative: int
    negative_share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        text = f"{self.n_events} events, sum of weights {self.total:.4g} +- {self.error:.2g}, {self.effective:.4g} effective events"
        if self.n_negative:
            text += f"; {self.n_negative} ({self.n_negative / self.n_events:.1%}) with negative weight"
        return text


def weight_sum(weights: ArrayLike) -> WeightSum:
    """Sum up weights of any sign, shape ``(n,)``."""
    w = np.asarray(weights, dtype=float)
    # sums of squares of tiny or huge weights must not leave the range of numbers
    size = float(np.abs(w).max(initial=0.0)) or 1.0
    v = w / size
    total, square, absolute = float(v.sum()), float((v**2).sum()), float(np.abs(v).sum())
    return WeightSum(
        n_events=int(np.count_nonzero(w)),
        total=total * size,
        error=float(np.sqrt(square)) * size,
        effective=total**2 / square if square else 0.0,
        n_negative=int(np.count_nonzero(w < 0)),
        negative_share=float(-v[v < 0].sum() / absolute) if absolute else 0.0,
    )


def one_each(weights: ArrayLike | None, n: int) -> Array:
    """Weights as an array with one for each of ``n`` events, ones by default."""
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights, dtype=float)
    if w.shape != (n,):
        msg = f"{w.shape} weights for {n} events"
        raise ValueError(msg)
    return w


def signed_weights(weights: ArrayLike | None, n: int, what: str = "the events") -> Array:
    """Weights of ``n`` events for uses in which only sums enter, of any sign, ones by default.

    Parameters
    ----------
    weights
        Shape ``(n,)``.
    n
        Number of events.
    what
        Whose weights they are, for messages.

    Raises
    ------
    InputError
        If a weight is not finite, or their sum is not positive.
    """
    w = one_each(weights, n)
    if not np.all(np.isfinite(w)):
        raise InputError(
            f"the weights of {what} must be finite; {np.count_nonzero(~np.isfinite(w))} of {n} are not"
        )
    if n and not w.sum() > 0:
        raise InputError(
            f"the sum of the weights of {what} is {w.sum():.4g}; a positive sum is expected, so check their sign"
        )
    return w


def unweight(weights: ArrayLike, rng: np.random.Generator) -> NDArray[np.bool_]:
    r"""Draw events of weight one from weighted ones: each stays with probability :math:`w / w_\mathrm{max}`.

    The remaining events are distributed like the weighted sample, without duplicates.

    Parameters
    ----------
    weights
        Not negative, shape ``(n,)``.
    rng
        Draws ``n`` numbers.

    Returns
    -------
    Mask of the events that stay, shape ``(n,)``; :math:`\sum w / w_\mathrm{max}` on average.

    Raises
    ------
    InputError
        If a weight is negative.
    """
    w = np.asarray(weights, dtype=float)
    if w.min(initial=0.0) < 0:
        raise InputError(f"weights of the signal: {explain_negative_weights(w)}")
    return np.asarray(rng.random(len(w)) * w.max(initial=0.0) < w)


def explain_negative_weights(weights: ArrayLike) -> str:
    """Error message for negative weights where each event is used individually, with possible solutions.

    Parameters
    ----------
    weights
        Of all events, shape ``(n,)``.
    """
    found = weight_sum(weights)
    positive = float(np.maximum(np.asarray(weights, dtype=float), 0.0).sum())
    dropped = (
        "" if not found.total > 0 else f" (here the yield would rise by {positive / found.total - 1:.1%})"
    )
    return (
        f"{found.n_negative} of {found.n_events} events have a negative weight, and nothing can be trained on these or be sorted into "
        "folds. The ways that are known: generate events of one weight; resample to positive weights before (cell resampling, or "
        "a reweighting of each region of phase space to its mean weight); or drop them with a cut, weight>=0, and state the "
        f"bias of yield and shape{dropped}. Where only sums enter, they may stay: abcd --signal, fit --signal-file --signal-weight"
    )
