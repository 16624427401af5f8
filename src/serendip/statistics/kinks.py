r"""A kink in the window: two slopes that meet in the masked window.

Smooth functions round a kink off, and the window in which it lies then shows an excess. In addition to the smooth functions there are

.. math:: \ln f(m) = c_0 + c_1 u + c_h\, h(u) + c_2 u^2 + c_3 u^3 + c_4 u^4, \qquad u = \ln(m / m_k),

with :math:`h(u) = \max(0, u)` and the kink :math:`m_k` at places in the window, which the sidebands cannot exclude. The flanks of a
peak that is wider than the window are described by :math:`h(u) = e^{-u^2 / 2 w^2}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from serendip.statistics.design import BackgroundFamily
from serendip.statistics.fit import FitError, SpectrumFit, average_curves, fit_spectrum

__all__ = ["with_kinks"]

Array = NDArray[np.float64]

_N_PLACES = 5
_FEWEST_PARAMETERS, _MOST_PARAMETERS = 3, 6
# Widths of a peak whose flanks reach beyond the window, in units of the window's.
_PEAK_WIDTHS = (0.3, 0.45, 0.65, 1.0)


def with_kinks(fit: SpectrumFit, low: int, high: int) -> SpectrumFit:
    r"""The average of a fit and of functions with a kink in the bins ``low <= i < high``, where the sidebands require them.

    A function with a kink counts if, with its place, it has fewer parameters than the fit. The fit stays as it is unless the smallest
    :math:`\mathrm{AIC} = D + 2 (p + 1)` of those is below its own, and below that of the flanks of a peak, whose place and width count
    as parameters too: they look similar, and an error that covers a kink would hide the peak. The places share their weight
    :math:`e^{-\mathrm{AIC}/2}`, and the error of the average contains the spread
    (:func:`~serendip.statistics.fit.fit_spectrum`). ``kink_weight`` is the weight of all kinks.
    """
    most = min(fit.n_parameters - 2, _MOST_PARAMETERS)
    if most < _FEWEST_PARAMETERS:
        return fit
    places = np.geomspace(fit.edges[low], fit.edges[high], _N_PLACES)
    kinked = _fits(fit, [_family("kink", place, _kink, most) for place in places])
    smallest = min(map(_aic, kinked), default=np.inf) + 2.0
    if smallest >= _aic(fit):
        return fit
    # a peak on a straight line may also be a kink, which bends it: the function beneath it may bend
    above = min(most + 1, _MOST_PARAMETERS)
    widths = [share * np.log(places[-1] / places[0]) for share in _PEAK_WIDTHS]
    flanks = _fits(
        fit, [_family("flanks", m, partial(_peak, width=w), above) for m in places[1:-1] for w in widths]
    )
    if smallest >= min(map(_aic, flanks), default=np.inf) + 4.0:
        return fit
    evidence = np.array([_evidence(fit), *(_evidence(other) - 1.0 - np.log(_N_PLACES) for other in kinked)])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    expected, jacobian, covariance = average_curves(
        [(each.expected, each.jacobian) for each in (fit, *kinked)],
        [fit.coefficient_covariance, *(fit.noise_ratio * other.coefficient_covariance for other in kinked)],
        weights,
    )
    error = np.sqrt(np.maximum(np.einsum("ip,pq,iq->i", jacobian, covariance, jacobian), 0.0))
    return replace(
        fit, expected=expected, expected_error=error, jacobian=jacobian, coefficient_covariance=covariance,
        kink_weight=float(weights[1:].sum()),
    )  # fmt: skip


def _fits(fit: SpectrumFit, families: Iterable[BackgroundFamily]) -> list[SpectrumFit]:
    """The same sidebands with other functions, without those that have no minimum."""
    out = []
    for family in families:
        try:
            other = fit_spectrum(
                fit.counts,
                fit.edges,
                family,
                mask=~fit.kept,
                scale=fit.scale,
                alpha=fit.alpha,
                choice="average",
            )
        except FitError:
            continue
        out.append(other)
    return out


def _kink(u: Array) -> Array:
    return np.maximum(u, 0.0)


def _peak(u: Array, width: float) -> Array:
    return np.asarray(np.exp(-0.5 * (u / width) ** 2))


def _family(name: str, place: float, shape: Callable[[Array], Array], most: int) -> BackgroundFamily:
    sizes = tuple(range(_FEWEST_PARAMETERS, most + 1))

    def columns(mass: Array) -> Array:
        u = np.log(mass / place)
        return np.stack([np.ones_like(u), u, shape(u), u**2, u**3, u**4], axis=-1)[..., :most]

    return BackgroundFamily(
        spec=name,
        members=tuple(f"{name}-{n}" for n in sizes),
        n_parameters=sizes,
        parameter_names=("c0", "c1", "ch", "c2", "c3", "c4")[:most],
        columns=columns,
    )


def _aic(fit: SpectrumFit) -> float:
    return fit.deviance + 2.0 * fit.n_parameters


def _evidence(fit: SpectrumFit) -> float:
    """Logarithm of the sum of ``exp(-AIC / 2)`` over all orders of an average."""
    largest = max(tried.weight or 0.0 for tried in fit.tried)
    return -0.5 * _aic(fit) - float(np.log(largest))
