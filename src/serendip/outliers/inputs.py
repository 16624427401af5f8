"""Input handling of outlier scores: checks, standardisation, weights as repeated rows, evaluation in pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError

__all__ = [
    "DataError",
    "Standardiser",
    "in_blocks",
    "require_at_least",
    "require_choice",
    "require_finite",
    "weighted_rows",
]

Array = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]

_REACH = 10.0


class DataError(InputError, ValueError):
    """An :class:`~serendip.errors.InputError` that scikit-learn's tools know as a ``ValueError``."""


@dataclass(frozen=True, eq=False)
class Standardiser:
    r"""Columns in units of their spread in training, without those that are constant there.

    .. math:: z_j = \frac{x_j - \langle x_j \rangle}{\sigma_j}

    Attributes
    ----------
    centre, spread
        Weighted mean and standard deviation of the columns that are kept, shape ``(d,)``.
    kept
        Numbers of these columns, shape ``(d,)``.
    """

    centre: Array
    spread: Array
    kept: NDArray[np.int64]

    @classmethod
    def fit(cls, x: Array, weights: Array) -> Self:
        """Learn from background.

        Raises
        ------
        InputError
            If all columns are constant.
        """
        centre = np.average(x, axis=0, weights=weights)
        spread = np.sqrt(np.average((x - centre) ** 2, axis=0, weights=weights))
        # rounding makes the spread of equal values differ from 0
        kept = np.flatnonzero((np.ptp(x, axis=0) > 0) & (spread > 1e-12 * np.abs(centre)))
        if len(kept) == 0:
            raise DataError("every column is constant in the background: there is nothing to learn from")
        return cls(centre[kept], spread[kept], kept.astype(np.int64))

    def transform(self, x: Array, *, reach: float | None = _REACH) -> Array:
        """Standardised columns, shape ``(n, d)``; limited to ``reach`` spreads, where networks are still trained."""
        z: Array = (x[:, self.kept] - self.centre) / self.spread
        return z if reach is None else np.clip(z, -reach, reach)

    def arrays(self) -> Arrays:
        """Everything learnt, by name."""
        return {f"standardiser.{f.name}": getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Undo :meth:`arrays`."""
        return cls(**{f.name: arrays[f"standardiser.{f.name}"] for f in fields(cls)})


def weighted_rows(weights: Array, rng: np.random.Generator, size: int | None = None) -> NDArray[np.int64]:
    """Row numbers in proportion to the weights, for algorithms that know no weights.

    Systematic resampling: row i comes either floor or ceil of its expected number of times. Equal weights give
    every row once.

    Parameters
    ----------
    weights
        Shape ``(n,)``; positive.
    rng
        Draws the common offset.
    size
        How many rows; default: n.
    """
    size = len(weights) if size is None else size
    if size == len(weights) and np.ptp(weights) <= 1e-12 * weights.max():
        return np.arange(size)
    edges = np.cumsum(weights) / weights.sum() * size
    rows = np.searchsorted(edges, np.arange(size) + rng.random(), side="right")
    return np.minimum(rows, len(weights) - 1).astype(np.int64)


def in_blocks(function: Callable[[Array], Array], x: Array, rows: int = 16384) -> Array:
    """``function`` of pieces of the events, so that memory stays bounded; shape ``(n, ...)``."""
    return np.concatenate([function(x[low : low + rows]) for low in range(0, max(len(x), 1), rows)])


def require_finite(values: Array, names: Any = None) -> None:
    """Stop at the first value that is NaN or infinite.

    Raises
    ------
    InputError
        With row and column (counted from 0).
    """
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    place = [int(i) for i in np.argwhere(bad)[0]]
    value = values[tuple(place)]
    what = "NaN" if np.isnan(value) else f"{value:+.0f}"
    column = ", ".join(str(i) for i in place[1:])
    named = "" if names is None else f" ('{names[place[1]]}')"
    raise DataError(
        f"row {place[0]}, column {column}{named} is {what}; {np.count_nonzero(bad):,} values are not finite (NaN or "
        "inf): remove such events or replace the values"
    )


def require_at_least(low: float, **values: Any) -> None:
    """Stop if a number is below ``low``.

    Raises
    ------
    InputError
        With the name of the option.
    """
    for name, value in values.items():
        if not value >= low:
            raise DataError(f"{name} must be at least {low:g}, got {value}")


def require_choice(choices: tuple[str, ...], **values: Any) -> None:
    """Stop if an option is none of its choices.

    Raises
    ------
    InputError
        With the name of the option and the choices.
    """
    for name, value in values.items():
        if value not in choices:
            raise DataError(f"{name} must be one of {', '.join(choices)}, not '{value}'")
