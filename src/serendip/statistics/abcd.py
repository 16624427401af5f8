r"""ABCD: background of a region from three others that two independent variables make.

Two variables x and y, each with a cut, divide the events into four regions:

=============  ==============  ==============
\              y below cut     y at or above
=============  ==============  ==============
x at or above  B               **A** (signal)
x below cut    D               C
=============  ==============  ==============

If x and y are independent for background, :math:`N_A = N_B N_C / N_D`. Whether they are is measured with *closure
ratios* :math:`\kappa = N_{A'} N_{D'} / (N_{B'} N_{C'})` of tables made inside B, C and D, where A is never looked at; what
they leave open is the relative uncertainty of the prediction (:func:`closure`).

The likelihood of all four counts, with signal in each of them, is in :mod:`serendip.statistics.abcd_fit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError

__all__ = [
    "AbcdCounts",
    "Closure",
    "ClosureTable",
    "abcd_counts",
    "abcd_regions",
    "closure",
    "region_sums",
]

Array = NDArray[np.float64]

_REGIONS = "ABCD"
# a validation table is cut like the signal region, but keeps about this many events where it predicts
_TABLE_EVENTS = 100.0
_SCAN_FRACTIONS = (0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02)
_MIN_TABLE_EVENTS = 5


@dataclass(frozen=True)
class AbcdCounts:
    """Events in the four regions.

    Attributes
    ----------
    a, b, c, d
        Sums of weights; ``a`` is None while hidden.
    scale
        ``sum(w^2)/sum(w)`` of each region: divided by it, counts are Poisson-like (1309.1287). Ones without weights.
    """

    a: float | None
    b: float
    c: float
    d: float
    scale: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        given = [value for value in (self.a, self.b, self.c, self.d) if value is not None]
        if not np.all(np.isfinite(given)) or min(given) < 0:
            raise InputError(f"counts of the regions must be finite and not negative, not {given}")
        if not np.all(np.isfinite(self.scale)) or min(self.scale) <= 0:
            raise InputError(f"the scale of each of the four regions must be positive, not {self.scale}")
        if self.d == 0:
            raise InputError(
                "region D (both variables below their cuts) is empty, so nothing can be predicted; tighten the cuts"
            )

    @property
    def expected(self) -> float:
        r"""Background in A without signal anywhere, :math:`N_B N_C / N_D`."""
        return self.b * self.c / self.d

    def expected_error(self, closure: float = 0.0) -> float:
        r"""Its error, :math:`N_A^2 (\sum_{i=B,C,D} s_i/N_i + \delta^2)`, with scale ``s`` and ``closure`` :math:`\delta`.

        For an empty B or C it is what one event there would have meant.
        """
        b, c, d = (max(n, s) for n, s in zip((self.b, self.c, self.d), self.scale[1:], strict=True))
        relative = self.scale[1] / b + self.scale[2] / c + self.scale[3] / d + closure**2
        return float(b * c / d * np.sqrt(relative))

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain numbers for JSON."""
        return {"A": self.a, "B": self.b, "C": self.c, "D": self.d, "scale": list(self.scale)}


@dataclass(frozen=True)
class ClosureTable:
    r"""An ABCD table inside B, C and D, where the answer is known.

    Attributes
    ----------
    name
        Which regions it is made of: ``"C+D"`` (x divided), ``"B+D"`` (y divided) or ``"D"`` (both divided).
    cut_x, cut_y
        Its cuts.
    observed, predicted
        Count in its upper corner, and :math:`N_{B'} N_{C'}/N_{D'}`.
    ratio, error
        ``observed / predicted`` and the statistical error of its logarithm.
    """

    name: str
    cut_x: float
    cut_y: float
    observed: float
    predicted: float
    ratio: float
    error: float

    @property
    def pull(self) -> float:
        """``ln(ratio) / error``."""
        return float(np.log(self.ratio) / self.error)


@dataclass(frozen=True)
class Closure:
    r"""How well the prediction holds where it can be checked.

    Attributes
    ----------
    uncertainty
        Relative uncertainty :math:`\delta` of the prediction: the non-closure beyond statistics, and what the tables are
        too small to see,

        .. math:: \delta^2 = \max\Bigl(\frac{\sum_t w_t \ln^2\kappa_t - T}{\sum_t w_t},\, 0\Bigr)
            + \mathrm{var}\Bigl(\frac{\sum_t w_t \ln \kappa_t}{\sum_t w_t}\Bigr), \qquad w_t = 1/\sigma_t^2,

        for T tables; for one table the larger of :math:`|\ln\kappa|` and :math:`\sigma`.
    mean, mean_error
        Weighted mean of :math:`\ln\kappa` over the tables and its error (the tables share events of D).
    tables
        The tables it was made of.
    scan
        Ratios for other cuts inside C+D and B+D: a trend towards the cuts of A says that x and y depend on each other.
    """

    uncertainty: float
    mean: float
    mean_error: float
    tables: tuple[ClosureTable, ...]
    scan: tuple[ClosureTable, ...]

    def to_dict(self) -> dict[str, Any]:
        """The closure as plain numbers for JSON."""
        return {
            "uncertainty": self.uncertainty,
            "mean": self.mean,
            "mean_error": self.mean_error,
            "tables": [vars(table) | {"pull": table.pull} for table in self.tables],
            "scan": [vars(table) | {"pull": table.pull} for table in self.scan],
        }


def abcd_regions(x: ArrayLike, y: ArrayLike, cut_x: float, cut_y: float) -> NDArray[np.int64]:
    """Region of each event as 0, 1, 2, 3 for A, B, C, D, shape ``(n,)``; larger values are signal-like.

    Raises
    ------
    InputError
        If a variable or a cut is not finite, or the variables differ in length.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"x and y must be two columns of equal length, not {x.shape} and {y.shape}")
    for name, values in (("x", x), ("y", y)):
        if not np.all(np.isfinite(values)):
            raise InputError(f"{name} is not finite in {np.count_nonzero(~np.isfinite(values))} events")
    if not (np.isfinite(cut_x) and np.isfinite(cut_y)):
        raise InputError(f"the cuts must be numbers, not {cut_x:g} and {cut_y:g}")
    return np.asarray(2 * (x < cut_x) + (y < cut_y), dtype=np.int64)


def region_sums(
    region: NDArray[np.int64], weights: ArrayLike | None = None, *, signed: bool = False
) -> tuple[Array, Array]:
    """Sums of weights and of squared weights in A, B, C, D, shape ``(4,)`` each.

    Parameters
    ----------
    region
        0, 1, 2, 3 for A, B, C, D, shape ``(n,)``.
    weights
        Event weights, shape ``(n,)``.
    signed
        Allow negative weights: right for simulation, of which only sums are used.

    Raises
    ------
    InputError
        If a weight is not finite, or negative without ``signed``.
    """
    w = np.ones(len(region)) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != region.shape:
        raise InputError(f"{w.shape} weights for {len(region)} events")
    if not np.all(np.isfinite(w)) or (np.any(w < 0) and not signed):
        raise InputError("event weights must be finite and not negative")
    total, square = (np.bincount(region, values, minlength=4) for values in (w, w**2))
    return total.astype(float), square.astype(float)


def abcd_counts(
    x: ArrayLike,
    y: ArrayLike,
    cut_x: float,
    cut_y: float,
    *,
    weights: ArrayLike | None = None,
    hidden: bool = False,
) -> AbcdCounts:
    """Count events in the four regions.

    Parameters
    ----------
    x, y
        Two scores or features, larger = more signal-like, shape ``(n,)``.
    cut_x, cut_y
        An event at the cut is above it.
    weights
        Event weights, shape ``(n,)``.
    hidden
        Do not count A.

    Raises
    ------
    InputError
        If values, cuts or weights cannot be used, or region D is empty.
    """
    total, square = region_sums(abcd_regions(x, y, cut_x, cut_y), weights)
    filled = total > 0
    # an empty region takes the scale of all others; so does A while hidden
    counted = np.array([not hidden, True, True, True]) & filled
    common = square[1:].sum() / total[1:].sum() if total[1:].sum() > 0 else 1.0
    scale = np.where(counted, square / np.where(filled, total, 1.0), common)
    a = None if hidden else float(total[0])
    s_a, s_b, s_c, s_d = (float(s) for s in scale)
    return AbcdCounts(a, float(total[1]), float(total[2]), float(total[3]), (s_a, s_b, s_c, s_d))


def closure(
    x: ArrayLike,
    y: ArrayLike,
    cut_x: float,
    cut_y: float,
    *,
    weights: ArrayLike | None = None,
    validation_x: float | None = None,
    validation_y: float | None = None,
) -> Closure:
    """Test the prediction with ABCD tables inside B, C and D; region A is not used.

    Parameters
    ----------
    x, y, cut_x, cut_y, weights
        As for :func:`abcd_counts`.
    validation_x, validation_y
        Cuts, below those of A, that divide the regions anew. Default: the value that keeps the same fraction of D as
        the cut itself keeps of B+D (C+D), or so much more that about 100 events are left to be predicted.

    Raises
    ------
    InputError
        If a validation cut is not below the cut of A, or no table has enough events.
    """
    region = abcd_regions(x, y, cut_x, cut_y)
    total, square = region_sums(region, weights)
    if total[3] == 0:
        raise InputError("region D is empty: there is nothing to test the closure with; tighten the cuts")
    w = np.ones(len(region)) if weights is None else np.asarray(weights, dtype=float)
    outside = (region != 0) & (w > 0)
    first, second = np.asarray(x, dtype=float)[outside], np.asarray(y, dtype=float)[outside]
    w, region = w[outside], region[outside]
    cuts = []
    for name, values, cut, given, kept, predicted in (
        ("x", first, cut_x, validation_x, 1, 2),
        ("y", second, cut_y, validation_y, 2, 1),
    ):
        if given is not None and not given < cut:
            raise InputError(f"the validation cut on {name} ({given:g}) must lie below its cut ({cut:g})")
        effective = total[predicted] ** 2 / square[predicted] if total[predicted] > 0 else 0.0
        fraction = max(total[kept] / (total[kept] + total[3]), _TABLE_EVENTS / max(effective, 1.0))
        cuts.append(_upper_quantile(values, w, region, min(fraction, 0.5)) if given is None else given)
    inner_x, inner_y = cuts
    grid = [("C+D", inner_x, cut_y), ("B+D", cut_x, inner_y), ("D", inner_x, inner_y)]
    found = [_table(name, first, second, w, region, *own) for name, *own in grid]
    used = [entry for entry in found if entry is not None]
    if not used:
        raise InputError(
            f"closure cannot be tested: no validation table (x at {inner_x:g}, y at {inner_y:g}) has at least "
            f"{_MIN_TABLE_EVENTS} events in each cell; choose other validation cuts, or give the closure uncertainty"
        )
    log = np.array([np.log(table.ratio) for table, _ in used])
    # every event pulls on each table it is part of
    influence = np.stack([slope for _, slope in used])
    covariance = influence @ influence.T
    precision = 1.0 / np.diag(covariance)
    mean = float(precision @ log / precision.sum())
    variance = float(precision @ covariance @ precision / precision.sum() ** 2)
    beyond = max(float(precision @ log**2 - len(used)) / float(precision.sum()), 0.0)
    scan = []
    for fraction in _SCAN_FRACTIONS:
        at_x, at_y = (_upper_quantile(values, w, region, fraction) for values in (first, second))
        scan += [
            _table("C+D", first, second, w, region, at_x, cut_y),
            _table("B+D", first, second, w, region, cut_x, at_y),
        ]
    return Closure(
        uncertainty=float(np.sqrt(beyond + variance)),
        mean=mean,
        mean_error=float(np.sqrt(variance)),
        tables=tuple(table for table, _ in used),
        scan=tuple(sorted((e[0] for e in scan if e is not None), key=lambda t: (t.name, t.cut_x, t.cut_y))),
    )


def _upper_quantile(values: Array, weights: Array, region: NDArray[np.int64], fraction: float) -> float:
    """Value that a fraction of the events of D lies at or above."""
    own = region == 3
    order = np.argsort(values[own])[::-1]
    above = np.cumsum(weights[own][order])
    row = int(np.searchsorted(above, fraction * above[-1], side="left"))
    return float(values[own][order][min(row, len(order) - 1)])


def _table(
    name: str, x: Array, y: Array, w: Array, region: NDArray[np.int64], cut_x: float, cut_y: float
) -> tuple[ClosureTable, Array] | None:
    """One table and ``w d(ln ratio)/d(count)`` of every event; None if a cell has too few events."""
    used = region == 3
    for other in name.split("+"):
        used |= region == _REGIONS.index(other)
    cell = abcd_regions(x, y, cut_x, cut_y)
    n, n2 = region_sums(cell[used], w[used])
    if n.min() <= 0 or (n**2 / np.where(n2 > 0, n2, 1.0)).min() < _MIN_TABLE_EVENTS:
        return None
    predicted = n[1] * n[2] / n[3]
    slope = np.where(used, w * np.array([1.0, -1.0, -1.0, 1.0])[cell] / n[cell], 0.0)
    return (
        ClosureTable(
            name=name,
            cut_x=cut_x,
            cut_y=cut_y,
            observed=float(n[0]),
            predicted=float(predicted),
            ratio=float(n[0] / predicted),
            error=float(np.sqrt(np.sum(n2 / n**2))),
        ),
        slope,
    )
