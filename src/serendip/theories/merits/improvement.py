r"""Many signals in many channels as three numbers: minimum, median and maximum of the total improvement.

The total improvement (TI) of a signal is the largest significance improvement over background efficiencies and over
the channels in which the signal appears (arXiv:2105.14027, arXiv:2207.07631). A model is judged by its smallest,
median and largest TI over the signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.theories.merits.figures import Merits, WorkingPoint, significance_improvement

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
        Standard errors.
    left_out
        Signals without any reliable point, where only reliable points were asked for.
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
        Shape ``(..., n_rows, n_targets)``; NaN where there is no number.

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

    Errors are the scatter of toys in which all points move at once: each :math:`\varepsilon_S` by its own binomial
    error, and the background efficiency of a channel by the same factor for all its signals, because they share the
    background events. Events behind a tight cut are also behind the looser ones, so points of one signal move
    partly together. A maximum over points with errors is biased upwards, a minimum downwards; both biases are of the
    size of the error and remain in the values.

    Parameters
    ----------
    results
        What was measured, by signal and channel; signals appear in one or more channels.
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
    scatter, spread = _errors(keys, points, ~np.isnan(si), targets, rng, toys)
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
    values = min_median_max(best)
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


def _errors(
    keys: list[tuple[str, str]],
    points: list[tuple[WorkingPoint, ...]],
    used: NDArray[np.bool_],
    targets: Array,
    rng: np.random.Generator,
    toys: int,
) -> tuple[Array, Array]:
    """Errors of the TI of each signal (sorted by name), and of their minimum, median and maximum."""
    eps_s, sigma = (
        np.array([[getattr(point, name) for point in row] for row in points])
        for name in ("eps_s", "eps_s_error")
    )
    relative = np.array([[p.si_error_background / p.si if p.si > 0 else 0.0 for p in row] for row in points])
    channels, channel = np.unique([key[1] for key in keys], return_inverse=True)
    signals = np.array([key[0] for key in keys])
    best, three = [], []
    for start in range(0, toys, _TOYS_AT_ONCE):
        n = min(_TOYS_AT_ONCE, toys - start)
        moved = np.clip(eps_s + sigma * _nested_normals(rng, eps_s, n), 0, 1)
        shared = _nested_normals(rng, np.tile(targets, (len(channels), 1)), n)[:, channel]
        si = significance_improvement(moved, targets.tolist()) * np.exp(relative * shared)
        _, ti = best_per_signal(signals, np.where(used, si, np.nan))
        best.append(ti)
        three.append(min_median_max(ti))
    return np.concatenate(best).std(axis=0, ddof=1), np.concatenate(three, axis=1).std(axis=1, ddof=1)


def _nested_normals(rng: np.random.Generator, size: Array, n: int) -> Array:
    """Standard normal numbers of shape ``(n, rows, columns)`` for samples of which each holds the next one.

    ``size`` falls along the columns; the correlation of two columns is that of counts, the root of the ratio of sizes.
    """
    rising = np.flip(np.maximum(size, 1e-9), axis=-1)
    steps = np.diff(rising, axis=-1, prepend=0.0)
    path = np.cumsum(rng.standard_normal((n, *size.shape)) * np.sqrt(np.maximum(steps, 0.0)), axis=-1)
    return np.flip(path / np.sqrt(np.maximum.accumulate(rising, axis=-1)), axis=-1)
