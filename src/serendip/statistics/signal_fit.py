"""One spectrum with a signal in it: strength, errors, intervals and significance, each by the means that suit its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from serendip.statistics.feldman_cousins import feldman_cousins
from serendip.statistics.floating import float_interval
from serendip.statistics.inference import expected_z, interval, likelihood_ratio
from serendip.statistics.model import BinnedModel, ModelFits

__all__ = ["FEW_EVENTS", "FittedFloat", "SignalFit", "fit_signal", "spread_over_functions"]

Array = NDArray[np.float64]

FEW_EVENTS = 15.0
"""Events under the signal, in the fit of background alone, below which intervals are those of Feldman and Cousins."""

_TOYS = 500
_LEVELS = (0.6827, 0.95)


@dataclass(frozen=True)
class FittedFloat:
    """Mass or width of a peak, fitted together with its strength: value, error and likelihood intervals in GeV."""

    value: float
    error: float
    interval_68: tuple[float, float]
    interval_95: tuple[float, float]


@dataclass(frozen=True, eq=False)
class SignalFit:
    """A fitted signal.

    Attributes
    ----------
    mu, mu_error
        Signal strength and its symmetric error, the spread over functions included.
    spread
        Standard deviation of the strengths that the functions of an envelope find, with their Akaike weights.
    interval_68, interval_95
        Intervals of the strength. The lower end of a likelihood interval may be negative.
    intervals
        How they were made: ``"likelihood"``, or ``"Feldman-Cousins, n=N"`` with N toys at each strength.
    under_signal
        Events under the signal in the fit of background alone, see
        :meth:`~serendip.statistics.model.BinnedModel.events_under_signal`.
    p, z
        One-sided p-value of background alone, asymptotic, and the signed significance. With floating mass or width there is no
        p: ``z`` is the root of the likelihood ratio, at the place that the data chose.
    floats
        Floating parameters of the peak, by name.
    expected_z
        Median significance of signal strength one: Asimov data. None above some 40 standard deviations, where the number has
        no meaning and background alone no fit.
    background
        Name of the background function.
    nuisance
        Fitted nuisance parameters in standard deviations, by name.
    expected, background_counts
        Per bin with and without signal, in the units of the data, shape ``(n_bins,)``.
    """

    mu: float
    mu_error: float
    spread: float
    interval_68: tuple[float, float]
    interval_95: tuple[float, float]
    intervals: str
    under_signal: float
    p: float | None
    z: float
    floats: dict[str, FittedFloat]
    expected_z: float | None
    background: str
    nuisance: dict[str, float]
    expected: Array
    background_counts: Array

    def to_dict(self) -> dict[str, Any]:
        """The fit as plain numbers for JSON."""
        return {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in asdict(self).items()
        }


def fit_signal(
    model: BinnedModel, counts: ArrayLike, *, n_toys: int = 0, rng: np.random.Generator | None = None
) -> SignalFit:
    """Fit one data set.

    Parameters
    ----------
    model
        Signal and background; a floating peak is at its position in the data, see :func:`~serendip.statistics.floating.settled`.
    counts
        Counts or sums of weights, shape ``(n_bins,)``.
    n_toys
        Toys at each strength for intervals with fewer than :data:`FEW_EVENTS` events under the signal; 0: 500.
    rng
        Their source of randomness.

    Raises
    ------
    FitError
        If there is no minimum, the likelihood does not constrain the signal, or nothing constrains a floating peak.
    InputError
        If there are too few toys.
    """
    best = model.fit(counts)
    spread = float(spread_over_functions(model, counts)[0])
    z = float(np.sign(best.mu[0]) * np.sqrt(likelihood_ratio(model, counts, 0.0, best)[0]))
    # by the fit without signal: a choice based on the fit with signal would depend on the sign of the strength
    under = model.events_under_signal(model.fit(counts, 0.0).background[0])
    method = "likelihood"
    if under < FEW_EVENTS and not model.floats:
        n_toys = n_toys or _TOYS
        rng = np.random.default_rng(1) if rng is None else rng
        both = feldman_cousins(model, counts, _LEVELS, n_toys=n_toys, rng=rng)
        method = f"Feldman-Cousins, n={n_toys}"
    else:
        both = [interval(model, counts, level) for level in _LEVELS]
    floats = {}
    for name, value, error in zip(model.floats, best.floats[0], best.float_errors[0], strict=True):
        ends = [float_interval(model, counts, name, level) for level in _LEVELS]
        floats[name] = FittedFloat(float(value), float(error), *ends)
    fixed = model.moved(floats=()) if model.floats else model
    return SignalFit(
        mu=float(best.mu[0]),
        mu_error=float(np.hypot(best.mu_error[0], spread)),
        spread=spread,
        interval_68=both[0],
        interval_95=both[1],
        intervals=method,
        under_signal=under,
        p=None if model.floats else float(stats.norm.sf(z)),
        z=z,
        floats=floats,
        expected_z=expected_z(fixed, counts),
        background=model.members[int(best.member[0])][2],
        nuisance=dict(zip(model.nuisances, best.nuisance[0].tolist(), strict=True)),
        expected=best.expected[0],
        background_counts=best.background[0],
    )


def spread_over_functions(
    model: BinnedModel, counts: ArrayLike, fits: Sequence[ModelFits] | None = None
) -> Array:
    """Standard deviation of the strength over the functions of an envelope, with their Akaike weights, shape ``(t,)``.

    Parameters
    ----------
    model
        Signal and background.
    counts
        Data sets, shape ``(t, n_bins)`` or ``(n_bins,)``.
    fits
        Their fits with each of the functions, if they are known.
    """
    data = np.atleast_2d(np.asarray(counts, dtype=float))
    if model.choice != "envelope" or len(model.members) == 1:
        return np.zeros(len(data))
    fits = model.fit_each(data) if fits is None else fits
    # the envelope has charged one unit for each parameter, Akaike's criterion two
    aic = np.array([fit.deviance + p for fit, (_, p, _) in zip(fits, model.members, strict=True)])
    mu = np.array([fit.mu for fit in fits])
    weights = np.exp(-0.5 * (aic - aic.min(axis=0)))
    weights /= weights.sum(axis=0)
    mu = np.where(weights > 0, mu, 0.0)
    mean = (weights * mu).sum(axis=0)
    return np.asarray(np.sqrt((weights * (mu - mean) ** 2).sum(axis=0)))
