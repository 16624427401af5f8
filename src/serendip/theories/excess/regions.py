r"""Signal regions of a classifier in weighted simulation, and the same regions in resampled simulation.

A region keeps the simulated events with scores above a threshold, as many as have a part :math:`\varepsilon_B` of the weight. All
that a test needs from a region are sums over groups :math:`g` (events that share particles), with :math:`W_{g}` the weight of a
group in the region and :math:`W_{ga}` its weight anywhere:

.. math:: W = \sum_g W_g, \qquad Q = \sum_g W_g^2, \qquad R = \sum_g W_g W_{ga}

Sorted by score, all three are cumulative sums over events, also if every group occurs a random number of times. So new
simulation costs no sorting: group :math:`g` occurs :math:`\mathrm{Poisson}(1)` times (bootstrap of a Poisson sample), the copies of
an event lie at random places between it and the next event, and the threshold is chosen again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEAR", "RegionSums", "SimulationTail"]

Array = NDArray[np.float64]

NEAR = 5.0
"""How many times larger the region is from which the mean squared weight is taken."""

_MARGIN = 1.6  # how far beyond the largest region the tail reaches, so that drawn simulation stays inside
_ROUNDING = 1e-12
_AT_ONCE = 2_000_000


@dataclass(frozen=True, eq=False)
class RegionSums:
    """One region in one or more simulations; all arrays have shape ``(n_simulations,)``.

    Attributes
    ----------
    weight, square, cross
        W, Q and R of the region.
    near
        Q / W of the region that is :data:`NEAR` times as large: the weight of one more group.
    total, total_square
        W and Q of all events.
    true
        Part of the weight of the *original* simulation above the threshold.
    """

    weight: Array
    square: Array
    cross: Array
    near: Array
    total: Array
    total_square: Array
    true: Array

    def variance(self, *, shape: bool) -> Array:
        r"""Relative variance of the expectation; infinite if the region is empty.

        With the normalisation to the weight :math:`W_c` outside the region (``shape``), and without,

        .. math:: v = k \sum_g \left(\frac{W_g}{W} - \frac{W_{gc}}{W_c}\right)^2, \qquad
            v = k\, \frac{Q}{W^2}, \qquad k = \max\left(1, \frac{Q_5 / W_5}{Q / W}\right)

        A region with few events underestimates Q together with W, if heavy events happen to be missing. The ratio
        :math:`Q_5/W_5` of the larger region suffers less.
        """
        outside = self.total - self.weight
        with np.errstate(divide="ignore", invalid="ignore"):
            v = self.square / self.weight**2
            if shape:
                outside_square = self.total_square - 2 * self.cross + self.square
                v = v - 2 * (self.cross - self.square) / (self.weight * outside) + outside_square / outside**2
            v = v * np.maximum(1.0, self.near * self.weight / self.square)
        return np.where(self.weight > 0, v, np.inf)


class SimulationTail:
    """The simulated events with the highest scores, sorted once.

    Parameters
    ----------
    scores, weights
        Shape ``(n,)``; weights above zero.
    groups
        Whole numbers, shape ``(n,)``.
    loosest
        Largest part of the weight that a region will keep.
    """

    def __init__(self, scores: Array, weights: Array, groups: NDArray[Any], loosest: float) -> None:
        order = np.argsort(-scores, kind="stable")
        s, w = scores[order], weights[order]
        numbers, g = np.unique(groups[order], return_inverse=True)
        group_weight = np.bincount(g, w, len(numbers))
        self.total = float(w.sum())
        self.total_square = float(np.sum(group_weight**2))
        self.heaviest = float(group_weight.max())
        cumulative = np.cumsum(w)
        reach = min(1.0, _MARGIN * NEAR * loosest) * self.total
        n = min(len(w), int(np.searchsorted(cumulative, reach, side="right")) + 50)
        first = np.flatnonzero(np.concatenate([[True], s[1:] != s[:-1]]))
        sizes = np.diff(np.append(first, len(s)))
        block, size = np.repeat(first, sizes), np.repeat(sizes, sizes)
        # weight of the same group at higher scores
        by_group = np.argsort(g, kind="stable")
        running = np.cumsum(w[by_group])
        before = running - w[by_group]
        starts = np.flatnonzero(np.concatenate([[True], np.diff(g[by_group]) > 0]))
        before -= np.repeat(before[starts], np.diff(np.append(starts, len(w))))
        earlier = np.empty(len(w))
        earlier[by_group] = before
        self.scores, self._w = s[:n], w[:n]
        self._block, self._tied = block[:n], size[:n] > 1
        self._below = (cumulative - w)[:n] / self.total
        self._square = (w * (2 * earlier + w))[:n]
        self._cross = (w * group_weight[g])[:n]
        inside, self._group = np.unique(g[:n], return_inverse=True)
        self._group_weight = group_weight[inside]
        self._rest = max(self.total - float(self._group_weight.sum()), 0.0)
        self._rest_square = max(self.total_square - float(np.sum(self._group_weight**2)), 0.0)

    def observed(self, eps_b: list[float]) -> tuple[list[RegionSums], list[float]]:
        """Regions of the simulation as it is, and their thresholds; events *above* the threshold are kept."""
        one = np.ones((1, len(self._w)))
        found, thresholds = [], []
        for eps, (sums, index) in zip(
            eps_b, self._regions(one, np.array([self.total]), np.array([self.total_square]), eps_b, None),
            strict=True,
        ):  # fmt: skip
            found.append(sums)
            thresholds.append(float(self.scores[index[0]]) if eps < 1 else -np.inf)
        return found, thresholds

    def drawn(self, eps_b: list[float], n: int, rng: np.random.Generator) -> list[RegionSums]:
        """Regions of ``n`` resampled simulations; ``eps_b`` from loose to tight."""
        step = max(1, min(n, _AT_ONCE // len(self._w)))
        parts = []
        for start in range(0, n, step):
            size = min(step, n - start)
            copies = rng.poisson(1.0, (size, len(self._group_weight))).astype(np.float64)
            total = copies @ self._group_weight + self._draw_rest(size, rng)
            square = copies @ self._group_weight**2 + self._rest_square
            parts.append(
                [sums for sums, _ in self._regions(copies[:, self._group], total, square, eps_b, rng)]
            )
        names = RegionSums.__dataclass_fields__
        return [
            RegionSums(**{name: np.concatenate([getattr(part[r], name) for part in parts]) for name in names})
            for r in range(len(eps_b))
        ]

    def _draw_rest(self, n: int, rng: np.random.Generator) -> Array:
        """Weight of the groups that have no event in the tail: its mean and variance are right, and it is positive."""
        if not self._rest > 0 or not self._rest_square > 0:
            return np.full(n, self._rest)
        scale = self._rest_square / self._rest
        return np.asarray(rng.gamma(self._rest / scale, scale, n))

    def _regions(
        self,
        copies: Array,
        total: Array,
        total_square: Array,
        eps_b: list[float],
        rng: np.random.Generator | None,
    ) -> list[tuple[RegionSums, NDArray[np.int64]]]:
        n = len(self._w)
        weight, square, cross = (
            np.concatenate([np.zeros((len(copies), 1)), np.cumsum(copies * values, axis=1)], axis=1)
            for values in (self._w, self._square, self._cross)
        )
        row = np.arange(len(copies))
        found = []
        ceiling = np.ones(len(copies))
        for eps in eps_b:
            target = eps * total * (1 + _ROUNDING)
            index = np.minimum(np.count_nonzero(weight[:, 1:] <= target[:, None], axis=1), n - 1)
            # nothing of a block of equal scores is kept, if not all of it can be
            tied = self._tied[index]
            index = np.where(tied, self._block[index], index)
            here = copies[row, index]
            part = np.floor((target - weight[row, index]) / self._w[index])
            part = np.where(tied, 0.0, np.clip(part, 0.0, np.maximum(here - 1, 0.0)))
            place = np.zeros(len(copies))
            if rng is not None:
                place = np.where(tied, 0.0, rng.beta(part + 1.0, np.maximum(here - part, 1.0)))
            true = np.minimum(self._below[index] + place * self._w[index] / self.total, ceiling)
            ceiling = true
            near = np.minimum(
                np.count_nonzero(weight[:, 1:] <= min(1.0, NEAR * eps) * total[:, None] * (1 + _ROUNDING), axis=1), n
            )  # fmt: skip
            with np.errstate(invalid="ignore"):
                one_more = square[row, near] / weight[row, near]
            sums = RegionSums(
                weight=weight[row, index] + part * self._w[index],
                square=square[row, index] + part * self._square[index],
                cross=cross[row, index] + part * self._cross[index],
                near=np.where(weight[row, near] > 0, one_more, self.heaviest),
                total=total,
                total_square=total_square,
                true=true,
            )
            found.append((sums, index))
        return found
