r"""Pseudo-experiments of many looks at once, which share events as the looks of the data do.

Windows overlap, working points are nested, and methods with the same features select the same events. A toy therefore consists of whole events. The mass axis is cut at all bin edges of all looks. In a cell ``c``, events are taken at random, as
*donors*, from those that some look selects in the same part of the spectrum, but outside of every window that holds the
cell: a signal there would teach its own pattern. A donor at weight :math:`w_j` brings along which looks select it, in which fold. So that the toys
have the expectations of the fits and not the counts of the data, the bit of look ``l`` is kept with the probability
:math:`r_l(c)/\rho(c)`,

.. math:: r_l(c) = \frac{t_l(c)}{\sum_{j \in P(c)} w_j s_{lj}}, \qquad \rho(c) = \max_l r_l(c),

where :math:`t_l(c)` is the expected sum of weights of the look in the cell, :math:`P(c)` the donors and :math:`s_{lj}` the selection; donors are
drawn at the rate :math:`\rho(c)` each. The same random number is used for all looks. Counts of one look are then Poisson (compound Poisson
with weights) with exactly the expectation of its fit, and two looks share

.. math:: \min(r_l, r_{l'}) \sum_j w_j s_{lj} s_{l'j}

events: all for twice the same look, the tighter one for two working points, and by chance only for independent scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serendip.statistics.binning import window_bins
from serendip.statistics.look_result import TEMPLATE_COUNT, LookResult
from serendip.statistics.looks import folds_fitted

__all__ = ["EventToys", "LookEvents", "window_mask"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

# A look with few donors in a cell would make all others be drawn many times too often; what is above this multiple of
# the common rate is drawn for the look alone.
_MOST_ABOVE_COMMON = 4.0
_DRAWS_AT_ONCE = 1_000_000
_BINS_AT_ONCE = 20_000_000


@dataclass(frozen=True, eq=False)
class LookEvents:
    """Which events each look selects, wherever they lie.

    Attributes
    ----------
    mass, fold
        Mass in GeV and fold of every event, shape ``(n,)``.
    selected
        Rows that pass the cut of each look and are in a fold that it tests; None for a look without a cut.
    weights
        Event weights, shape ``(n,)``; None: ones.
    group
        Events with the same number are drawn together, at the mean of their masses, shape ``(n,)``; None: one by one.
    factors
        Factors for the weights of the selected rows in each look, shape of the rows; None: not at all.
    """

    mass: Array
    fold: Integers
    selected: tuple[Integers | None, ...]
    weights: Array | None = None
    group: Integers | None = None
    factors: tuple[Array | None, ...] | None = None

    def values(self, look: int) -> Array:
        """Weights with which the selected rows count in a look, shape of the rows."""
        rows, factor = self.selected[look], None if self.factors is None else self.factors[look]
        assert rows is not None
        w = np.ones(len(rows)) if self.weights is None else self.weights[rows]
        return w if factor is None else w * factor


@dataclass(frozen=True, eq=False)
class _Donors:
    """Events that pass a cut, in the order of their masses, and their contributions to the looks (rows of a sparse table)."""

    mass: Array
    fold: Integers
    weight: Array
    start: Integers  # of the entries of each donor, shape (n + 1,)
    look: Integers
    value: Array

    @classmethod
    def of(cls, events: LookEvents | None, n_looks: int) -> _Donors:
        cut = (
            []
            if events is None
            else [(i, rows) for i, rows in enumerate(events.selected) if rows is not None]
        )
        if events is None or not cut:
            empty: Array = np.empty(0)
            none = np.empty(0, dtype=np.int64)
            return cls(empty, none, empty, np.zeros(1, dtype=np.int64), none, empty)
        w = np.ones(len(events.mass)) if events.weights is None else events.weights
        unit = np.arange(len(events.mass)) if events.group is None else events.group
        rows = np.unique(np.concatenate([rows for _, rows in cut]))
        rows = rows[w[rows] > 0]
        _, first, member = np.unique(unit[rows], return_index=True, return_inverse=True)
        total: Array = np.bincount(member, w[rows], len(first)).astype(float)
        mass: Array = np.bincount(member, w[rows] * events.mass[rows], len(first)) / total
        order = mass.argsort(kind="stable")
        place = np.empty(len(events.mass), dtype=np.int64)
        place[rows] = np.argsort(order, kind="stable")[member]
        owner = np.concatenate([place[selected[w[selected] > 0]] for _, selected in cut])
        look = np.concatenate([np.full(np.count_nonzero(w[selected] > 0), i) for i, selected in cut])
        value = np.concatenate([events.values(i)[w[selected] > 0] for i, selected in cut])
        # events of a group that pass the same look are one entry
        key, entry = np.unique(owner * n_looks + look, return_inverse=True)
        start = np.searchsorted(key // n_looks, np.arange(len(first) + 1))
        return cls(
            mass[order],
            events.fold[rows][first][order],
            total[order],
            start,
            key % n_looks,
            np.bincount(entry, value, len(key)).astype(float),
        )


@dataclass(frozen=True, eq=False)
class _Cells:
    """Pieces of the mass axis and the donors of each: ``[begin, left)`` and ``[right, end)`` of the sorted donors."""

    edges: Array
    begin: Integers
    left: Integers
    right: Integers
    end: Integers

    @classmethod
    def of(cls, looks: Sequence[LookResult], donors: _Donors) -> _Cells:
        edges = np.unique(np.concatenate([look.spectrum.edges for look in looks]))
        centre = np.sqrt(edges[:-1] * edges[1:])[:, None]
        low, high = (np.array([getattr(look.window, side) for look in looks]) for side in ("low", "high"))
        first, last = (np.array([look.spectrum.edges[i] for look in looks]) for i in (0, -1))
        holds = (low <= centre) & (centre < high)
        apart = np.maximum(np.log(low / centre), np.log(centre / high))
        near = np.where(holds.any(axis=1, keepdims=True), holds, apart <= apart.min(axis=1, keepdims=True))
        inside = holds.any(axis=1)
        gap_low = np.where(inside, np.where(holds, low, np.inf).min(axis=1), centre[:, 0])
        gap_high = np.where(inside, np.where(holds, high, -np.inf).max(axis=1), centre[:, 0])
        bounds = (
            np.where(near, first, np.inf).min(axis=1),
            gap_low,
            gap_high,
            np.where(near, last, -np.inf).max(axis=1),
        )
        begin, left, right, end = (np.searchsorted(donors.mass, bound) for bound in bounds)
        return cls(edges, np.minimum(begin, left), left, right, np.maximum(end, right))

    @property
    def n_donors(self) -> Integers:
        """Donors of each cell."""
        return np.asarray(self.left - self.begin + self.end - self.right)

    def sums(self, cumulative: Array) -> Array:
        """Sum over the donors of each cell, from cumulative sums over all donors, shape ``(n_donors + 1,)``."""
        below = cumulative[self.left] - cumulative[self.begin]
        return np.asarray(below + cumulative[self.end] - cumulative[self.right])


class EventToys:
    """Draws selected spectra of all looks under their background expectations.

    Parameters
    ----------
    looks
        Their fits and expectations.
    events
        Their selection of the data. None: looks with a cut are drawn independently, which makes a global p-value larger than it
        need be.
    factors
        By how much the expectation in the window of each look is off in each toy, shape ``(n_looks, n_toys)``.
    """

    def __init__(self, looks: Sequence[LookResult], events: LookEvents | None, factors: Array) -> None:
        if events is not None and len(events.selected) != len(looks):
            msg = f"{len(events.selected)} selections for {len(looks)} looks"
            raise ValueError(msg)
        self.looks, self.factors = looks, factors
        self.donors = _Donors.of(events, len(looks))
        self.cells = _Cells.of(looks, self.donors)
        uncut = [False] * len(looks) if events is None else [rows is None for rows in events.selected]
        # without a cut all events count; they need no events for that
        self.uncut = [
            i
            for i, look in enumerate(looks)
            if uncut[i] or (look.spectrum.offset is None and look.statistic != TEMPLATE_COUNT)
        ]
        self.groups = [
            len(look.folds) if folds_fitted(look.combination) and i not in self.uncut else 1
            for i, look in enumerate(looks)
        ]
        self.n_bins = [len(look.spectrum.edges) - 1 for look in looks]
        self.row = np.concatenate([[0], np.cumsum(self.groups)]).astype(np.int64)
        sizes = np.multiply(self.groups, self.n_bins)
        self.column = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._place()
        self._rates()

    def _place(self) -> None:
        """Bin of each cell in each look (-1: none), whether it lies in the window, and the row of a fold."""
        n_cells, n_looks = len(self.cells.edges) - 1, len(self.looks)
        centre = 0.5 * (self.cells.edges[1:] + self.cells.edges[:-1])
        self.bin = np.empty((n_looks, n_cells), dtype=np.int64)
        self.inside = np.zeros((n_looks, n_cells), dtype=bool)
        most = int(max((fold.fold for look in self.looks for fold in look.folds), default=0))
        most = max(most, int(self.donors.fold.max(initial=0)))
        # a fold that a look does not test has no row, and its events are not among the selected ones
        self.fold_row = np.zeros((n_looks, most + 1), dtype=np.int64)
        self.target: list[Array] = []
        for i, look in enumerate(self.looks):
            edges, mask = look.spectrum.edges, window_mask(look)
            place = np.searchsorted(edges, centre, side="right") - 1
            known = (centre >= edges[0]) & (centre < edges[-1])
            self.bin[i] = np.where(known, place, -1)
            self.inside[i, known] = mask[place[known]]
            part = np.zeros(n_cells)
            part[known] = np.diff(self.cells.edges)[known] / np.diff(edges)[place[known]]
            expected = _expected(look, self.groups[i])
            target = np.zeros((self.groups[i], n_cells))
            target[:, known] = expected[:, place[known]] * part[known]
            self.target.append(target)
            if self.groups[i] > 1:
                for g, fold in enumerate(look.folds):
                    self.fold_row[i, fold.fold] = g
        # the same for each row of a look: the bin of all spectra, and whether it is in the window
        look_of_row = np.repeat(np.arange(n_looks), self.groups)
        group = np.arange(len(look_of_row)) - self.row[look_of_row]
        first = self.column[look_of_row] + group * np.asarray(self.n_bins, dtype=np.int64)[look_of_row]
        self.place = first[:, None] + self.bin[look_of_row]
        self.in_window = self.inside[look_of_row]

    def _rates(self) -> None:
        """Rate per donor and cell, of all looks together and of each, and the rest for each look alone."""
        donors, cells = self.donors, self.cells
        n_cells = len(cells.edges) - 1
        self.rate = np.zeros((int(self.row[-1]), n_cells))
        found = np.zeros_like(self.rate)
        owner = np.repeat(np.arange(len(donors.mass)), np.diff(donors.start))
        entry_row = self.row[donors.look] + self.fold_row[donors.look, donors.fold[owner]]
        self.entry_start = entry_row * n_cells
        for i in range(len(self.looks)):
            if i in self.uncut:
                continue
            for g in range(self.groups[i]):
                mine = np.flatnonzero(entry_row == self.row[i] + g)
                sums = np.bincount(owner[mine] + 1, donors.value[mine], len(donors.mass) + 1)
                row = self.row[i] + g
                found[row] = cells.sums(np.cumsum(sums))
                known = found[row] > 0
                self.rate[row, known] = self.target[i][g, known] / found[row, known]
        target = np.where(found > 0, self.rate * found, 0.0)
        common = target.sum(axis=0) / np.maximum(found.sum(axis=0, where=target > 0), 1e-300)
        largest = self.factors.max(axis=1, initial=1.0)
        need = np.zeros(n_cells)
        for i in range(len(self.looks)):
            rows = slice(self.row[i], self.row[i + 1])
            need = np.maximum(need, self.rate[rows].max(axis=0) * np.where(self.inside[i], largest[i], 1.0))
        self.density = np.minimum(need, _MOST_ABOVE_COMMON * common)
        # no more events pass a cut than there are
        weight = cells.sums(np.concatenate([[0.0], np.cumsum(donors.weight)]))
        for i in self.uncut:
            some = (self.bin[i] >= 0) & (weight > 0)
            limit = np.where(some, self.target[i][0] / np.where(some, weight, 1.0), np.inf)
            self.density = np.minimum(self.density, limit)
        self.rate = np.minimum(self.rate, self.density)
        self.alone: list[Array] = []
        for i in range(len(self.looks)):
            rows = slice(self.row[i], self.row[i + 1])
            drawn = (self.density * weight)[None] if i in self.uncut else self.rate[rows] * found[rows]
            left = np.where(self.bin[i] >= 0, np.maximum(self.target[i] - drawn, 0.0), 0.0)
            left[left < 1e-9 * self.target[i]] = 0.0
            self.alone.append(left)
        # the selection without a cut is the same in all such looks
        self.common = np.zeros(n_cells)
        if self.uncut:
            left = np.array([np.where(self.bin[i] >= 0, self.alone[i][0], np.inf) for i in self.uncut])
            self.common = np.where(np.isfinite(left).any(axis=0), left.min(axis=0), 0.0)

    def draw(self, rng: np.random.Generator) -> Iterator[tuple[slice, list[Array]]]:
        """Selected spectra in blocks of toys: which toys, and for each look shape ``(n, n_groups, n_bins)``.

        Groups are the tested folds where the combination of the look treats them one by one, else all folds are one.
        """
        n_toys = self.factors.shape[1]
        block = int(np.clip(_BINS_AT_ONCE // max(int(self.column[-1]), 1), 1, n_toys))
        for first in range(0, n_toys, block):
            toys = slice(first, min(first + block, n_toys))
            yield toys, self._block(self.factors[:, toys], rng)

    def _block(self, factors: Array, rng: np.random.Generator) -> list[Array]:
        n = factors.shape[1]
        flat = np.zeros((n, int(self.column[-1])))
        whole = np.zeros((n, len(self.cells.edges) - 1)) if self.uncut else None
        mean = self.density * self.cells.n_donors
        entries = max(len(self.donors.look) / max(len(self.donors.mass), 1), 1.0)
        step = int(np.clip(_DRAWS_AT_ONCE / max(mean.sum() * entries, 1.0), 1, n))
        for first in range(0, n, step):
            last = min(first + step, n)
            self._draw_events(flat, whole, factors, first, last, mean, rng)
        out = []
        for i, look in enumerate(self.looks):
            columns = slice(self.column[i], self.column[i + 1])
            counts = flat[:, columns].reshape(n, self.groups[i], self.n_bins[i])
            alone = self.alone[i] - self.common if i in self.uncut else self.alone[i]
            alone = np.where(self.bin[i] >= 0, np.maximum(alone, 0.0), 0.0)
            if alone.any():
                known = self.bin[i] >= 0
                unit = look.spectrum.scale
                per_bin = np.stack(
                    [np.bincount(self.bin[i][known], row[known], self.n_bins[i]) for row in alone]
                )
                true = np.where(window_mask(look), factors[i][:, None], 1.0)[:, None, :]
                counts = counts + unit * rng.poisson(per_bin / unit * true)
            out.append(counts)
        if whole is not None:
            unit = self.looks[self.uncut[0]].spectrum.scale
            whole += unit * rng.poisson(self.common / unit, whole.shape)
            for i in self.uncut:
                known = np.flatnonzero(self.bin[i] >= 0)
                starts = np.flatnonzero(np.diff(self.bin[i][known], prepend=-1))
                out[i] = out[i] + np.add.reduceat(whole[:, known], starts, axis=1)[:, None, :]
        return out

    def _draw_events(
        self,
        flat: Array,
        whole: Array | None,
        factors: Array,
        first: int,
        last: int,
        mean: Array,
        rng: np.random.Generator,
    ) -> None:
        """Add the events of toys ``first`` to ``last`` to the spectra of the looks."""
        cells, donors = self.cells, self.donors
        cell = np.repeat(np.arange(len(mean)), rng.poisson(mean * (last - first)))
        if not len(cell):
            return
        toy = rng.integers(first, last, len(cell))
        donor = cells.begin[cell] + (rng.random(len(cell)) * cells.n_donors[cell]).astype(np.int64)
        donor += np.where(donor >= cells.left[cell], cells.right[cell] - cells.left[cell], 0)
        chance = rng.random(len(cell)) * self.density[cell]
        if whole is not None:
            place = (toy - first) * whole.shape[1] + cell
            size = (last - first) * whole.shape[1]
            whole[first:last] += np.bincount(place, donors.weight[donor], size).reshape(last - first, -1)

        count = donors.start[donor + 1] - donors.start[donor]
        event = np.repeat(np.arange(len(cell)), count)
        entry = np.arange(len(event)) + np.repeat(donors.start[donor] - np.cumsum(count) + count, count)
        # most entries are not selected: the inputs of the others are computed for them alone
        where = self.entry_start[entry] + cell[event]
        wanted = self.rate.ravel()[where]
        some = np.flatnonzero(chance[event] < wanted * max(float(factors[:, first:last].max()), 1.0))
        event, entry, where, wanted = event[some], entry[some], where[some], wanted[some]
        inside = self.in_window.ravel()[where]
        wanted[inside] *= factors[donors.look[entry[inside]], toy[event[inside]]]
        kept = np.flatnonzero(chance[event] < wanted)
        width = flat.shape[1]
        place = (toy[event[kept]] - first) * width + self.place.ravel()[where[kept]]
        sums = np.bincount(place, donors.value[entry[kept]], (last - first) * width)
        flat[first:last] += sums.reshape(last - first, width)


def window_mask(look: LookResult) -> NDArray[np.bool_]:
    """The bins of the window of a look; a fit may leave out others too."""
    inside = np.zeros(len(look.spectrum.edges) - 1, dtype=bool)
    inside[slice(*window_bins(look.spectrum.edges, look.window))] = True
    return inside


def _expected(look: LookResult, n_groups: int) -> Array:
    """Expected sums of weights per group of folds and bin, shape ``(n_groups, n_bins)``."""
    spectrum = look.spectrum
    mask, shape = window_mask(look), spectrum.expected
    window = np.where(mask, shape, 0.0)
    if look.statistic == TEMPLATE_COUNT:
        side, b = np.zeros(len(shape)), look.expected
    elif shape[~mask].sum() > 0:
        side, b = np.where(mask, 0.0, shape), look.expected
    else:
        # nothing selected: the expectation is unknown below about one event, so one event it is
        shape = np.ones(len(mask)) if spectrum.offset is None else spectrum.offset
        side = np.where(mask, 0.0, shape) * spectrum.scale / shape[~mask].sum()
        window, b = np.where(mask, shape, 0.0), look.expected_error
    if window.sum() > 0:
        window = window * (b / window.sum())
    share = np.ones(1)
    if n_groups > 1:
        share = np.array([fold.expected for fold in look.folds])
        share = share / share.sum() if share.sum() > 0 else np.full(n_groups, 1.0 / n_groups)
    return np.asarray(share[:, None] * (side + window))
