"""One spectrum with a signal in it: strength, errors, intervals and significance, each by the means that suit its events."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from serendip.statistics.feldman_cousins import feldman_cousins
from serendip.statistics.inference import expected_z, interval, likelihood_ratio
from serendip.statistics.model import BinnedModel
from serendip.statistics.order import choose_order

__all__ = ["FEW_EVENTS", "SignalFit", "fit_signal", "simplest"]

Array = NDArray[np.float64]

FEW_EVENTS = 15.0
"""Events under the signal, in the fit of background alone, below which intervals are those of Feldman and Cousins."""

_TOYS = 500
_LEVELS = (0.6827, 0.95)


@dataclass(frozen=True, eq=False)
class SignalFit:
    """A fitted signal.

    Attributes
    ----------
    mu, mu_error
        Signal strength and its symmetric error.
    interval_68, interval_95
        Intervals of the strength. The lower end of a likelihood interval may be negative.
    intervals
        How they were made: ``"likelihood"``, or ``"Feldman-Cousins, n=N"`` with N toys at each strength.
    under_signal
        Events under the signal in the fit of background alone, see
        :meth:`~serendip.statistics.model.BinnedModel.events_under_signal`.
    p, z
        One-sided p-value of background alone, asymptotic, and the signed significance.
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
    interval_68: tuple[float, float]
    interval_95: tuple[float, float]
    intervals: str
    under_signal: float
    p: float
    z: float
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
        Signal and background.
    counts
        Counts or sums of weights, shape ``(n_bins,)``.
    n_toys
        Toys at each strength for intervals with fewer than :data:`FEW_EVENTS` events under the signal; 0: 500.
    rng
        Their source of randomness.

    Raises
    ------
    FitError
        If there is no minimum, or the likelihood does not constrain the signal.
    InputError
        If there are too few toys.
    """
    best = model.fit(counts)
    z = float(np.sign(best.mu[0]) * np.sqrt(likelihood_ratio(model, counts, 0.0, best)[0]))
    # by the fit without signal: a choice by the events beside the signal would be one by the sign of the strength
    under = model.events_under_signal(model.fit(counts, 0.0).background[0])
    if under < FEW_EVENTS:
        n_toys = n_toys or _TOYS
        rng = np.random.default_rng(1) if rng is None else rng
        both = feldman_cousins(model, counts, _LEVELS, n_toys=n_toys, rng=rng)
        method = f"Feldman-Cousins, n={n_toys}"
    else:
        both = [interval(model, counts, level) for level in _LEVELS]
        method = "likelihood"
    return SignalFit(
        mu=float(best.mu[0]),
        mu_error=float(best.mu_error[0]),
        interval_68=both[0],
        interval_95=both[1],
        intervals=method,
        under_signal=under,
        p=float(stats.norm.sf(z)),
        z=z,
        expected_z=expected_z(model, counts),
        background=model.members[int(best.member[0])][2],
        nuisance=dict(zip(model.nuisances, best.nuisance[0].tolist(), strict=True)),
        expected=best.expected[0],
        background_counts=best.background[0],
    )


def simplest(model: BinnedModel, counts: ArrayLike) -> BinnedModel:
    """The model with the backgrounds of each family up to one order above the one that tests choose for one data set.

    Larger ones describe nothing in these data, and each would be fitted again at every strength and in every toy.

    Parameters
    ----------
    model
        Signal and background; without an envelope it stays as it is.
    counts
        Counts or sums of weights, shape ``(n_bins,)``.
    """
    if model.choice != "envelope" or len(model.members) == 1:
        return model
    fits = model.fit_each(counts)
    kept: list[int] = []
    for design in sorted({d for d, _, _ in model.members}):
        index = [k for k, (d, _, _) in enumerate(model.members) if d == design]
        sizes = [model.members[k][1] for k in index]
        deviances = [fits[k].deviance - p for k, p in zip(index, sizes, strict=True)]
        kept += index[: int(choose_order(deviances, sizes, model.alpha)[0]) + 2]
    return model.restricted(kept)
