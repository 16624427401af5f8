r"""Many signals in many channels as three numbers: minimum, median and maximum of the total improvement.

The total improvement (TI) of a signal is the largest significance improvement over background efficiencies and over
the channels in which the signal appears (arXiv:2105.14027, arXiv:2207.07631). Models are compared by their smallest, median and largest TI over the signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv, ndtr

from serendip.errors import InputError
from serendip.theories.merits.figures import Merits, WorkingPoint, significance_improvement
from serendip.theories.merits.samples import LEVEL

__all__ = ["SignalImprovement", "TotalImprovement", "best_per_signal", "min_median_max", "total_improvement"]

Array = NDArray[np.float64]

_TOYS_AT_ONCE = 200


@dataclass(frozen=True)
class SignalImprovement:
    """Total improvement of one signal.

    Attributes
    ----------
    signal
        Its name.
    value, error
        TI and its error.
    channel, target
        Where it is reached.
    reliable
        Whether that point is reliable.
    """

    signal: str
    value: float
    error: float
    channel: str
    target: float
    reliable: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class TotalImprovement:
    """Total improvement of a model over all signals.

    Attributes
    ----------
    signals
        One entry per signal, in the order given.
    minimum, median, maximum
        Over the signals.
    minimum_error, median_error, maximum_error
        68 % errors, see :func:`total_improvement`.
    left_out
        Signals without any reliable point, if only reliable points were requested.
    """

    signals: tuple[SignalImprovement, ...]
    minimum: float
    minimum_error: float
    median: float
    median_error: float
    maximum: float
    maximum_error: float
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)


def best_per_signal(
    signals: Sequence[str] | NDArray[np.str_], si: ArrayLike
) -> tuple[NDArray[np.str_], Array]:
    """Take the largest SI of each signal over its rows (channels) and background efficiencies.

    Parameters
    ----------
    signals
        Name of the signal of each row, shape ``(n_rows,)``.
    si
        Shape ``(..., n_rows, n_targets)``; NaN if there is none.

    Returns
    -------
    names
        Signals with any number, sorted, shape ``(n_signals,)``.
    best
        Their TI, shape ``(..., n_signals)``.
    """
    rows = np.asarray(signals, dtype=np.str_)
    order = np.argsort(rows, kind="stable")
    names, first = np.unique(rows[order], return_index=True)
    values = np.asarray(si, dtype=np.float64)
    largest = np.where(np.isnan(values), -np.inf, values).max(axis=-1)
    best = np.maximum.reduceat(largest[..., order], first, axis=-1)
    some = np.any(best > -np.inf, axis=tuple(range(best.ndim - 1)))
    return names[some], best[..., some]


def min_median_max(values: ArrayLike, axis: int = -1) -> Array:
    """Return minimum, median and maximum along an axis, stacked along a new first axis."""
    array = np.asarray(values, dtype=np.float64)
    return np.stack([array.min(axis=axis), np.median(array, axis=axis), array.max(axis=axis)])


def total_improvement(
    results: Mapping[tuple[str, str], Merits],
    rng: np.random.Generator,
    *,
    reliable: bool = False,
    toys: int = 1000,
) -> TotalImprovement:
    r"""Join signals and channels.

    Errors hold 68 % of toys in which all points move at once: each :math:`\varepsilon_S` by its own binomial
    error, and the background efficiency of a channel by the same factor for all its signals, because they share the
    background events. If n (effective) events of the sample pass a cut, the true number is drawn from :math:`\Gamma(n + 1)`, the distribution of an order statistic,

    .. math:: \mathrm{SI}' = \frac{\varepsilon_S'}{\sqrt{\varepsilon_B}} \sqrt{n / g}, \qquad g \sim \Gamma(n + 1),

    so that a cut that hardly any event passes has a large error and no infinite one. Events that pass a tight cut also pass the looser ones, so points of one signal are partly correlated. A maximum over points with errors is biased upwards, a minimum
    downwards; both biases are of the size of the error, which contains them, and remain in the values.

    Parameters
    ----------
    results
        The results, by signal and channel; signals appear in one or more channels.
    rng
        For the toys.
    reliable
        Use reliable points only.
    toys
        Number of toys, at least 2.

    Raises
    ------
    InputError
        If there are no results, no point is left, or the targets differ.
    """
    if not results:
        raise InputError("a total improvement needs at least one signal in one channel")
    if toys < 2:
        raise InputError(f"errors need at least 2 toys, not {toys}")
    keys = list(results)
    all_targets = {tuple(point.target for point in results[key].points) for key in keys}
    if len(all_targets) > 1:
        raise InputError("results with different background efficiencies cannot be joined")
    targets = np.array(next(iter(all_targets)))
    points = [results[key].points for key in keys]
    si = np.array(
        [[point.si if point.reliable or not reliable else np.nan for point in row] for row in points]
    )
    row_signal = np.array([signal for signal, _ in keys])
    names, best = best_per_signal(row_signal, si)
    if len(names) == 0:
        raise InputError(
            "no point of any signal is reliable; use more background events, larger background efficiencies or all points"
        )
    toys_of = _toys(keys, points, ~np.isnan(si), targets, rng, toys)
    values = min_median_max(best)
    scatter = _distance(toys_of, best)
    spread = _distance(min_median_max(toys_of), values[:, None], axis=1)
    entries = []
    for name in dict.fromkeys(row_signal.tolist()):
        rows = np.flatnonzero(row_signal == name)
        if np.isnan(si[rows]).all():
            continue
        row, column = np.unravel_index(int(np.nanargmax(si[rows])), (len(rows), len(targets)))
        point, i = points[rows[row]][column], int(np.searchsorted(names, name))
        entries.append(
            SignalImprovement(
                signal=name,
                value=float(best[i]),
                error=float(scatter[i]),
                channel=keys[rows[row]][1],
                target=point.target,
                reliable=point.reliable,
            )
        )
    return TotalImprovement(
        signals=tuple(entries),
        minimum=float(values[0]),
        minimum_error=float(spread[0]),
        median=float(values[1]),
        median_error=float(spread[1]),
        maximum=float(values[2]),
        maximum_error=float(spread[2]),
        left_out=tuple(name for name in dict.fromkeys(row_signal.tolist()) if name not in names),
    )


def _distance(toys: Array, value: Array, axis: int = 0) -> Array:
    """Distance from the value within which 68 % of the toys lie."""
    return np.asarray(np.quantile(np.abs(toys - value), LEVEL, axis=axis))


def _toys(
    keys: list[tuple[str, str]],
    points: list[tuple[WorkingPoint, ...]],
    used: NDArray[np.bool_],
    targets: Array,
    rng: np.random.Generator,
    toys: int,
) -> Array:
    """Toys of the TI of each signal (sorted by name), shape ``(toys, n_signals)``."""
    eps_s, sigma = (
        np.array([[getattr(point, name) for point in row] for row in points])
        for name in ("eps_s", "eps_s_error")
    )
    channels, channel = np.unique([key[1] for key in keys], return_inverse=True)
    # the background is the same for all signals of a channel; without its error it has infinitely many events
    behind = np.full((len(channels), len(targets)), np.inf)
    np.minimum.at(behind, channel, [[_events_behind(p) for p in row] for row in points])
    signals = np.array([key[0] for key in keys])
    best = []
    for start in range(0, toys, _TOYS_AT_ONCE):
        n = min(_TOYS_AT_ONCE, toys - start)
        moved = np.clip(eps_s + sigma * _nested_normals(rng, eps_s, n), 0, 1)
        shared = _nested_normals(rng, np.tile(targets, (len(channels), 1)), n)
        finite = np.where(np.isfinite(behind), behind, 1.0)
        factor = np.where(
            np.isfinite(behind), np.sqrt(finite / gammaincinv(finite + 1.0, ndtr(-shared))), 1.0
        )[:, channel]
        si = significance_improvement(moved, targets.tolist()) * factor
        best.append(best_per_signal(signals, np.where(used, si, np.nan))[1])
    return np.concatenate(best)


def _events_behind(point: WorkingPoint) -> float:
    """Effective number of background events that gives the error of the background, all of the sample included."""
    if point.si <= 0 or point.si_error_background <= 0:
        return np.inf
    return min(0.25 * (point.si / point.si_error_background) ** 2, point.background)


def _nested_normals(rng: np.random.Generator, size: Array, n: int) -> Array:
    """Standard normal numbers of shape ``(n, rows, columns)`` for samples of which each holds the next one.

    ``size`` falls along the columns; the correlation of two columns is that of counts, the root of the ratio of sizes.
    """
    rising = np.flip(np.maximum(size, 1e-9), axis=-1)
    steps = np.diff(rising, axis=-1, prepend=0.0)
    path = np.cumsum(rng.standard_normal((n, *size.shape)) * np.sqrt(np.maximum(steps, 0.0)), axis=-1)
    return np.flip(path / np.sqrt(np.maximum.accumulate(rising, axis=-1)), axis=-1)
