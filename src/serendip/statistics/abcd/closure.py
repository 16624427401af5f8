"""How well the prediction of A holds inside B, C and D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.statistics.abcd.regions import abcd_regions, region_sums
from serendip.statistics.abcd.trend import Trend, fit_trend, upper_edges

__all__ = ["Closure", "ClosureTable", "closure"]

Array = NDArray[np.float64]

_REGIONS = "ABCD"
# a validation table is cut like the signal region, but keeps about this many events where it predicts
_TABLE_EVENTS = 100.0
_SCAN_FRACTIONS = (0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02)
_MIN_TABLE_EVENTS = 5
# a dependence beyond this many sigma counts as a bias, and a fit with a smaller p does not describe it
_SIGNIFICANT = 2.0
_MIN_P_DESCRIBED = 1e-3


@dataclass(frozen=True)
class ClosureTable:
    r"""An ABCD table inside B, C and D, where the answer is known.

    Attributes
    ----------
    name
        The regions used: ``"C+D"`` (x divided), ``"B+D"`` (y divided) or ``"D"`` (both divided).
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
    r"""Closure of the prediction outside A, and the resulting uncertainty in A.

    Attributes
    ----------
    uncertainty
        Relative uncertainty :math:`\delta` of :math:`N_B N_C / N_D`: with the excess :math:`\epsilon \pm \sigma` that the
        trend expects in A, :math:`\sqrt{\epsilon^2 + \sigma^2}`, or :math:`|\epsilon| + \sigma` where the dependence is
        significant (2 sigma), since the bias is then no longer a random one. Infinite if none is valid, see ``refusal``.
    refusal
        Why no p-value can rest on this prediction; None if it can.
    trend
        Dependence of x and y outside A, continued into A; None if there are too few events to measure it.
    mean, mean_error
        Weighted mean of :math:`\ln\kappa` over the tables and its error (the tables share events of D).
    tables
        Three tables with cuts a little below those of A.
    scan
        Ratios for other cuts inside C+D and B+D.
    """

    uncertainty: float
    refusal: str | None
    trend: Trend | None
    mean: float
    mean_error: float
    tables: tuple[ClosureTable, ...]
    scan: tuple[ClosureTable, ...]

    def to_dict(self) -> dict[str, Any]:
        """The closure as plain numbers for JSON; an infinite uncertainty is None."""
        return {
            "uncertainty": self.uncertainty if np.isfinite(self.uncertainty) else None,
            "refusal": self.refusal,
            "trend": None if self.trend is None else self.trend.to_dict(),
            "mean": self.mean,
            "mean_error": self.mean_error,
            "tables": [vars(table) | {"pull": table.pull} for table in self.tables],
            "scan": [vars(table) | {"pull": table.pull} for table in self.scan],
        }


def closure(
    x: ArrayLike,
    y: ArrayLike,
    cut_x: float,
    cut_y: float,
    *,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    validation_x: float | None = None,
    validation_y: float | None = None,
) -> Closure:
    """Test the prediction inside B, C and D, and extrapolate the result into A; events of A are not used.

    Parameters
    ----------
    x, y, cut_x, cut_y, weights, groups
        As for :func:`serendip.statistics.abcd.abcd_counts`.
    validation_x, validation_y
        Cuts, below those of A, for a separate division of the regions. Default: for the tables the value that keeps the same fraction
        of D as the cut itself keeps of B+D (C+D), or so much more that about 100 events are left to be predicted; for the
        trend several, in equal steps of the logarithm of the fraction above.

    Raises
    ------
    InputError
        If a validation cut is not below the cut of A, or no table has enough events.
    """
    region = abcd_regions(x, y, cut_x, cut_y)
    total, square = region_sums(region, weights, groups)
    if total[3] == 0:
        raise InputError("region D is empty: there is nothing to test the closure with; tighten the cuts")
    w = np.ones(len(region)) if weights is None else np.asarray(weights, dtype=float)
    outside = (region != 0) & (w > 0)
    sample = _Sample(
        np.asarray(x, dtype=float)[outside],
        np.asarray(y, dtype=float)[outside],
        w[outside],
        region[outside],
        None if groups is None else np.unique(np.asarray(groups)[outside], return_inverse=True)[1],
    )
    in_d = sample.region == 3
    cuts, edges, scans = [], [], []
    for name, values, cut, given, kept, predicted in (
        ("x", sample.x, cut_x, validation_x, 1, 2),
        ("y", sample.y, cut_y, validation_y, 2, 1),
    ):
        if given is not None and not given < cut:
            raise InputError(f"the validation cut on {name} ({given:g}) must lie below its cut ({cut:g})")
        effective = total[predicted] ** 2 / square[predicted] if total[predicted] > 0 else 0.0
        above = total[kept] / (total[kept] + total[3])
        fraction = max(above, _TABLE_EVENTS / max(effective, 1.0))
        quantile, *steps = _upper_quantiles(values, sample, (min(fraction, 0.5), *_SCAN_FRACTIONS))
        cuts.append(quantile if given is None else given)
        scans.append(steps)
        found = upper_edges(values[in_d], sample.w[in_d], above, effective) if given is None else [given]
        edges.append(found)
    inner_x, inner_y = cuts
    grid = [("C+D", inner_x, cut_y), ("B+D", cut_x, inner_y), ("D", inner_x, inner_y)]
    used = [entry for entry in (_table(sample, *own) for own in grid) if entry is not None]
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
    trend = fit_trend(sample.x, sample.y, sample.w, sample.region, edges[0], edges[1], sample.groups)
    uncertainty, refusal = _uncertainty(trend)
    scan = []
    for at_x, at_y in zip(*scans, strict=True):
        scan += [_table(sample, "C+D", at_x, cut_y), _table(sample, "B+D", cut_x, at_y)]
    return Closure(
        uncertainty=uncertainty,
        refusal=refusal,
        trend=trend,
        mean=float(precision @ log / precision.sum()),
        mean_error=float(np.sqrt(precision @ covariance @ precision) / precision.sum()),
        tables=tuple(table for table, _ in used),
        scan=tuple(sorted((e[0] for e in scan if e is not None), key=lambda t: (t.name, t.cut_x, t.cut_y))),
    )


def _uncertainty(trend: Trend | None) -> tuple[float, str | None]:
    """Relative uncertainty of the prediction, and why there is none."""
    if trend is None:
        return float("inf"), (
            "the regions are too coarse or too empty to extrapolate a dependence of x and y into A"
        )
    bias, error = abs(trend.excess), trend.error
    if trend.p_described < _MIN_P_DESCRIBED:
        return float("inf"), (
            f"x and y are correlated outside A in a way that no trend describes (p = {trend.p_described:.1g})"
        )
    if abs(trend.z) > _SIGNIFICANT:
        return bias + error, None
    return float(np.hypot(bias, error)), None


@dataclass(frozen=True, eq=False)
class _Sample:
    """Events outside A, with weights above zero."""

    x: Array
    y: Array
    w: Array
    region: NDArray[np.int64]
    groups: NDArray[np.int64] | None


def _upper_quantiles(values: Array, sample: _Sample, fractions: Sequence[float]) -> list[float]:
    """Values that fractions of the events of D lie at or above."""
    own = sample.region == 3
    order = np.argsort(values[own])[::-1]
    above = np.cumsum(sample.w[own][order])
    rows = np.searchsorted(above, np.array(fractions) * above[-1], side="left")
    return [float(value) for value in values[own][order][np.minimum(rows, len(order) - 1)]]


def _table(sample: _Sample, name: str, cut_x: float, cut_y: float) -> tuple[ClosureTable, Array] | None:
    """One table and ``w d(ln ratio)/d(count)`` of every event or group; None if a cell has too few events."""
    used = sample.region == 3
    for other in name.split("+"):
        used |= sample.region == _REGIONS.index(other)
    cell = abcd_regions(sample.x, sample.y, cut_x, cut_y)
    groups = None if sample.groups is None else sample.groups[used]
    n, n2 = region_sums(cell[used], sample.w[used], groups)
    if n.min() <= 0 or (n**2 / np.where(n2 > 0, n2, 1.0)).min() < _MIN_TABLE_EVENTS:
        return None
    predicted = n[1] * n[2] / n[3]
    slope = np.where(used, sample.w * np.array([1.0, -1.0, -1.0, 1.0])[cell] / n[cell], 0.0)
    if sample.groups is not None:
        slope = np.bincount(sample.groups, slope)
    return (
        ClosureTable(
            name=name,
            cut_x=cut_x,
            cut_y=cut_y,
            observed=float(n[0]),
            predicted=float(predicted),
            ratio=float(n[0] / predicted),
            error=float(np.sqrt(slope @ slope)),
        ),
        slope,
    )
