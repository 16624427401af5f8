r"""Closure in shifted windows: how well the fit predicts windows of the same width beside the real one.

Each shifted window is masked together with the real one, and its count :math:`n_j` compared with the prediction
:math:`b_j \pm \sigma_j`. If the pulls are larger than they should be, the functions miss the spectrum by more than their error
says (a *spurious signal*), and the relative error

.. math:: \tau^2 = \frac{\sum_j (n_j - b_j)^2 - (b_j + \sigma_j^2)}{\sum_j b_j^2}

is added to the prediction in the real window.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, stats

from serendip.statistics.fit import FitError, SpectrumFit
from serendip.statistics.many import fit_many

__all__ = ["Closure", "shifted_windows", "with_closure"]

Array = NDArray[np.float64]

_MOST_PER_SIDE = 5
# p-value of the pulls below which the prediction is widened: one sound spectrum in ten pays for it.
_WIDENED = 0.1
_FEWEST_EVENTS = 5.0


@dataclass(frozen=True)
class Closure:
    r"""Closure of a fit in shifted windows.

    Attributes
    ----------
    pulls
        :math:`(n_j - b_j) / \sqrt{b_j + \\sigma_j^2}` of each shifted window.
    p
        p-value of their sum of squares.
    relative_error
        Relative error :math:`\tau` that was added to the prediction in the window; zero while ``p`` is above 0.1.
    """

    pulls: tuple[float, ...]
    p: float
    relative_error: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


def shifted_windows(mask: NDArray[np.bool_], low: int, high: int) -> NDArray[np.int_]:
    """Neighbouring windows with the number of bins of the window ``low <= i < high``, without bins of the mask.

    Each leaves half of its width between it and the end of the range, so that it is interpolated as the window is.

    Returns
    -------
    windows
        First bin and one past the last, shape ``(k, 2)``.
    """
    width = high - low
    side = max(2, -(-width // 2))
    out = []
    for first, step in ((high, 1), (low - width, -1)):
        start, found = first, 0
        while found < _MOST_PER_SIDE and side <= start and start + width + side <= len(mask):
            if not mask[start : start + width].any():
                out.append((start, start + width))
                found += 1
            start += step * width
    return np.array(sorted(out), dtype=int).reshape(-1, 2)


def with_closure(fit: SpectrumFit, low: int, high: int) -> SpectrumFit:
    """The fit with its closure, and with the error that it calls for in the bins ``low <= i < high``."""
    windows = shifted_windows(~fit.kept, low, high)
    if len(windows) < 2:
        return fit
    bins = np.arange(len(fit.mask))
    inside = (bins >= windows[:, :1]) & (bins < windows[:, 1:])
    try:
        others = fit_many(
            np.broadcast_to(fit.counts, inside.shape), fit.edges, fit.family, mask=inside | fit.mask, window=inside,
            offset=fit.offset, scale=fit.scale, alpha=fit.alpha, choice=fit.choice,
        )  # fmt: skip
    except FitError:
        return fit
    n = np.where(inside, fit.counts, 0.0).sum(axis=1) / fit.scale
    b, sigma = np.maximum(others.window, 0.0) / fit.scale, others.window_error / fit.scale
    usable = b > _FEWEST_EVENTS
    if usable.sum() < 2:
        return fit
    n, b, sigma = n[usable], b[usable], sigma[usable]
    variance = b + sigma**2
    pulls = (n - b) / np.sqrt(variance)
    p = float(stats.chi2.sf((pulls**2).sum(), len(pulls)))
    excess = float(((n - b) ** 2 - variance).sum() / (b**2).sum())
    tau = float(np.sqrt(max(excess, 0.0))) if p < _WIDENED else 0.0
    found = replace(fit, closure=Closure(tuple(float(pull) for pull in pulls), p, tau))
    if not tau:
        return found
    # one more direction: the expectation of the whole window goes up or down by tau
    window = (bins >= low) & (bins < high)
    jacobian = np.hstack([fit.jacobian, np.where(window, fit.expected, 0.0)[:, None]])
    covariance = linalg.block_diag(fit.coefficient_covariance, np.array([[tau**2]]))
    error = np.where(window, np.hypot(fit.expected_error, tau * fit.expected), fit.expected_error)
    return replace(found, jacobian=jacobian, coefficient_covariance=covariance, expected_error=error)
