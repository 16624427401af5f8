"""Whether the significance of an ABCD measurement rests on a single event of large weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError
from serendip.statistics.abcd.fit import exact_log_p_value
from serendip.statistics.abcd.regions import abcd_counts, abcd_regions
from serendip.statistics.pvalues import z_value

__all__ = ["HeavyEvent", "heaviest_event"]


@dataclass(frozen=True)
class HeavyEvent:
    """The event, or group of events, whose removal moves the significance most.

    Attributes
    ----------
    region
        ``"A"``, ``"B"``, ``"C"`` or ``"D"``.
    weight
        Its weight, or the sum over the group.
    z, z_without
        Significance with and without it.
    """

    region: str
    weight: float
    z: float
    z_without: float

    @property
    def shift(self) -> float:
        """By how much it raises the significance."""
        return self.z - self.z_without

    def to_dict(self) -> dict[str, Any]:
        """The event as plain numbers for JSON."""
        return vars(self) | {"shift": self.shift}


def heaviest_event(
    x: ArrayLike,
    y: ArrayLike,
    cut_x: float,
    cut_y: float,
    weights: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    closure: float = 0.0,
) -> HeavyEvent | None:
    """Remove the event with the largest weight of each region in turn, and find the one that changes the significance most.

    Parameters
    ----------
    x, y, cut_x, cut_y, weights, groups
        As for :func:`serendip.statistics.abcd.abcd_counts`. Events in A are counted.
    closure
        Relative uncertainty of the prediction.

    Returns
    -------
    HeavyEvent
        None for so many events that p is asymptotic and one event is negligible.
    """
    x, y, w = (np.asarray(values, dtype=float) for values in (x, y, weights))
    region = abcd_regions(x, y, cut_x, cut_y)
    code: NDArray[np.int64] = (
        np.arange(len(w)) if groups is None else np.unique(groups, return_inverse=True)[1]
    )

    def significance(kept: NDArray[np.bool_]) -> float | None:
        counts = abcd_counts(
            x[kept], y[kept], cut_x, cut_y, weights=w[kept], groups=None if groups is None else code[kept]
        )
        log_p = exact_log_p_value(counts, closure)
        return None if log_p is None else float(z_value(log_p=log_p))

    full = significance(np.ones(len(w), dtype=bool))
    if full is None:
        return None
    found = []
    for number, name in enumerate("ABCD"):
        sums = np.bincount(code, np.where(region == number, w, 0.0))
        if sums.max() <= 0:
            continue
        heaviest = int(np.argmax(sums))
        try:
            without = significance((code != heaviest) | (region != number))
        except InputError:
            # D had no other event: without it nothing is predicted
            continue
        if without is not None:
            found.append(HeavyEvent(name, float(sums[heaviest]), full, without))
    return max(found, key=lambda event: abs(event.shift), default=None)
