"""How wrong an expectation would have to be for an excess to be none."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

from serendip.statistics.combination import cauchy_log_p, folds_fitted
from serendip.statistics.look_result import LookResult
from serendip.statistics.pvalues import z_value

__all__ = ["expectation_margin"]

# An expectation that is wrong by more explains anything.
_MOST = 1e3


def expectation_margin(look: LookResult, z: float = 3.0) -> float | None:
    r"""Relative amount by which the background may be larger than expected, with ``z`` still left.

    The fit cannot detect everything: a selection that prefers masses inside the window alone creates an excess out of background. With the
    p-value as a function of expectation and error, this is the :math:`x` of

    .. math:: p\bigl(n \mid (1 + x)\, b,\, (1 + x)\, \sigma\bigr) = p(z).

    Parameters
    ----------
    look
        A look that is not blinded.
    z
        The remaining significance, in standard deviations.

    Returns
    -------
    ``0.3`` if the background may be 30 % larger. None if the look has less than ``z``, or no count with a single expectation: blinded, blind,
    calibrated, or with p-values of single folds.
    """
    if look.log_p_local is None or float(z_value(log_p=look.log_p_local)) <= z:
        return None
    if look.calibration is not None or folds_fitted(look.combination):
        return None
    orders = look.orders or (look,)

    def left(x: float) -> float:
        log_p = [_log_p(order, 1.0 + x) for order in orders]
        together = cauchy_log_p(np.array(log_p)) if len(log_p) > 1 else log_p[0]
        return float(z_value(log_p=float(together))) - z

    high = 0.1
    while left(high) > 0:
        high *= 2
        if high > _MOST:
            return None
    return float(brentq(left, 0.0, high, xtol=1e-4))


def _log_p(look: LookResult, factor: float) -> float:
    assert look.tail is not None
    assert look.observed is not None
    unit = look.spectrum.scale
    counts = (look.observed, factor * look.expected, factor * look.expected_error)
    return float(look.tail.log_p(*(value / unit for value in counts))[0])
