"""Counts of the four regions, with weights and groups of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.wording import counted

__all__ = ["AbcdCounts", "abcd_counts", "abcd_regions", "group_squares", "region_sums"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AbcdCounts:
    """Events in the four regions.

    Attributes
    ----------
    a, b, c, d
        Sums of weights; ``a`` is None while hidden.
    scale
        ``sum(w^2)/sum(w)`` of each region, for groups of events ``sum_g (sum w)^2 / sum(w)``: divided by it, counts are
        Poisson-like (1309.1287). Ones without weights and groups.
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
    def effective(self) -> tuple[float | None, float, float, float]:
        """Number of independent events of weight one that would be as precise, in each region."""
        b, c, d = (n / s for n, s in zip((self.b, self.c, self.d), self.scale[1:], strict=True))
        return None if self.a is None else self.a / self.scale[0], b, c, d

    @property
    def expected(self) -> float:
        r"""Background in A without signal anywhere, :math:`N_B N_C / N_D`."""
        return self.b * self.c / self.d

    def expected_error(self, closure: float = 0.0) -> float:
        r"""Its error, :math:`N_A^2 (\sum_{i=B,C,D} s_i/N_i + \delta^2)`, with scale ``s`` and ``closure`` :math:`\delta`.

        For an empty B or C it is that of one event.
        """
        b, c, d = (max(n, s) for n, s in zip((self.b, self.c, self.d), self.scale[1:], strict=True))
        relative = self.scale[1] / b + self.scale[2] / c + self.scale[3] / d + closure**2
        return float(b * c / d * np.sqrt(relative))

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain numbers for JSON."""
        return {"A": self.a, "B": self.b, "C": self.c, "D": self.d, "scale": list(self.scale)}


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
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise InputError(f"{name} is not finite in {counted(bad, 'event')}")
    if not (np.isfinite(cut_x) and np.isfinite(cut_y)):
        raise InputError(f"the cuts must be numbers, not {cut_x:g} and {cut_y:g}")
    return np.asarray(2 * (x < cut_x) + (y < cut_y), dtype=np.int64)


def region_sums(
    region: NDArray[np.int64],
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    *,
    signed: bool = False,
) -> tuple[Array, Array]:
    """Sums of weights in A, B, C, D and their variances (sums of squares), shape ``(4,)`` each.

    Parameters
    ----------
    region
        0, 1, 2, 3 for A, B, C, D, shape ``(n,)``.
    weights
        Event weights, shape ``(n,)``.
    groups
        Code of the group of each event, shape ``(n,)``: events of a group depend on each other (copies, candidates of one
        event), so that the variance is the sum over groups of the squared sum of weights.
    signed
        Allow negative weights: right for simulation, of which only sums are used.

    Raises
    ------
    InputError
        If a weight is not finite, or negative without ``signed``, or ``groups`` has another length.
    """
    w = np.ones(len(region)) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != region.shape:
        raise InputError(f"{w.shape} weights for {len(region)} events")
    if not np.all(np.isfinite(w)) or (np.any(w < 0) and not signed):
        raise InputError("event weights must be finite and not negative")
    total = np.bincount(region, w, minlength=4)
    return total.astype(float), group_squares(region, w, groups)


def group_squares(region: NDArray[np.int64], weights: Array, groups: ArrayLike | None) -> Array:
    """Sum over groups of the squared sum of weights in each region, shape ``(4,)``; without groups each event is its own."""
    if groups is None:
        return np.bincount(region, weights**2, minlength=4).astype(float)
    code = np.unique(np.asarray(groups), return_inverse=True)[1]
    if code.shape != region.shape:
        raise InputError(f"{code.shape} groups for {len(region)} events")
    pairs, place = np.unique(4 * code.astype(np.int64) + region, return_inverse=True)
    sums = np.bincount(place, weights, minlength=len(pairs))
    return np.bincount(pairs % 4, sums**2, minlength=4).astype(float)


def abcd_counts(
    x: ArrayLike,
    y: ArrayLike,
    cut_x: float,
    cut_y: float,
    *,
    weights: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    hidden: bool = False,
) -> AbcdCounts:
    """Count events in the four regions.

    Parameters
    ----------
    x, y
        Two scores or features, larger = more signal-like, shape ``(n,)``.
    cut_x, cut_y
        An event at the cut is above it.
    weights, groups
        Event weights and groups, see :func:`region_sums`, shape ``(n,)`` each.
    hidden
        Do not count A.

    Raises
    ------
    InputError
        If values, cuts or weights cannot be used, or region D is empty.
    """
    total, square = region_sums(abcd_regions(x, y, cut_x, cut_y), weights, groups)
    filled = total > 0
    # an empty region takes the scale of all others; so does A while hidden
    counted = np.array([not hidden, True, True, True]) & filled
    common = square[1:].sum() / total[1:].sum() if total[1:].sum() > 0 else 1.0
    scale = np.where(counted, square / np.where(filled, total, 1.0), common)
    a = None if hidden else float(total[0])
    s_a, s_b, s_c, s_d = (float(s) for s in scale)
    return AbcdCounts(a, float(total[1]), float(total[2]), float(total[3]), (s_a, s_b, s_c, s_d))
