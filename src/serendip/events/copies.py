r"""Detection of correlated events in a table.

Three criteria, each compared with the expectation for independent events:

*Copies*: rows that are equal in all columns. Independent events on a lattice (rounded or whole numbers) are equal by chance, and
then as often one step apart: the number of values that occur twice or more is compared with the number of pairs of
neighbours on the lattice. Whatever the lattice is, independent events do not all come in twos or threes.

*Repeated values*: one column that has the same value in several rows, although the rows differ: candidates of one event share event-level quantities. With :math:`n_k` values that occur :math:`k` times, independent events in cells of any
probabilities have :math:`n_1 n_3 \ge \tfrac{2}{3} n_2^2` on average (a mixture of Poisson distributions;
Cauchy-Schwarz), and copies have not.

*Near copies*: events much closer to each other than to the next ones. In a smooth density of dimension :math:`D`, the distances
:math:`r_1 < r_2 < \dots` to the nearest neighbours obey :math:`D\, j \ln(r_{j+1} / r_j) \sim \mathrm{Exp}(1)` (Rényi's
representation for the :math:`r_j^D`), whatever the density is. In groups of :math:`j + 1` near copies this is larger. The columns
are replaced by their ranks, equal values in random order, which makes spiked and rounded columns smooth; :math:`D` is that of the
data, from the median over :math:`j`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import binom, poisson

from serendip.events.identity import content_codes

__all__ = ["Dependence", "find_dependence"]

# chance of an alarm in one test of independent events
_LEVEL = 2e-6
_STEPS = (*range(1, 17), 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# distinct repeated values required to distinguish copies from a few spikes, for a single column
_FEWEST_VALUES = 20
_MOST_EQUAL = 30
_PROBED = 200_000
_VALUES = 500_000
_LATTICE = 500_000

_NEIGHBOURS = 16
_QUERIES = 2000
_TREE = 60_000
_THINNED = (1, 8, 64)
# correlation of ranks above which a column is a function of another
_SAME = 0.99
_FEWEST_EVENTS = 100
_COLUMNS = 8
_CLIP = 3.0
_CLIPPED_MEAN = 1 - np.exp(-_CLIP)
_CLIPPED_ERROR = float(np.sqrt(2 - 2 * (1 + _CLIP) * np.exp(-_CLIP) - _CLIPPED_MEAN**2))
_TOLERANCE = 0.02
_SIGMA = 6.0
_FAR = 12.0
_FEWEST_GROUPS = 8


@dataclass(frozen=True)
class Dependence:
    """A sign that events depend on each other.

    Attributes
    ----------
    kind
        ``"copies"``, ``"values"`` or ``"near"``.
    count
        Rows that are there again (copies), or whose value is there again (values), or an estimate of the events with a near copy.
    size
        Most frequent size of a group.
    rows
        Two rows that belong together.
    column
        Number of the column with repeated values; -1 otherwise.
    """

    kind: str
    count: int
    size: int
    rows: tuple[int, int]
    column: int = -1


def find_dependence(columns: Sequence[NDArray[Any]], seed: int = 0) -> list[Dependence]:
    """Look for copies, repeated values and near copies.

    Parameters
    ----------
    columns
        The mass and all features, finite, shape ``(n,)`` each. With one column, near copies cannot be detected.
    seed
        Of the choice of events for near copies.

    Returns
    -------
    The findings: copies alone, if there are any, since they make the other signs too.
    """
    if len(columns) == 0 or len(columns[0]) < 2:
        return []
    copies = _copies(columns)
    if copies is not None:
        return [copies]
    found = [_values(values, i) for i, values in enumerate(columns)] if len(columns) > 1 else []
    return [sign for sign in [*found, _near(columns, np.random.default_rng(seed))] if sign is not None]


def _copies(columns: Sequence[NDArray[Any]]) -> Dependence | None:
    order, counts = _multiplicities(content_codes(columns))
    if order is None:
        return None
    if _common_size(counts) == 1 and not _beyond_chance(columns, order, counts):
        return None
    return _found("copies", order, counts)


def _beyond_chance(
    columns: Sequence[NDArray[Any]], order: NDArray[np.int64], counts: NDArray[np.int64]
) -> bool:
    """Whether there are more repeated rows than a lattice makes of independent events."""
    alone = len(columns) == 1
    first = order[np.cumsum(counts) - counts]
    again = (counts > 1) & (counts <= _MOST_EQUAL) if alone else counts > 1
    if alone and np.count_nonzero(again) < _FEWEST_VALUES:
        return False
    if len(first) > _LATTICE:
        # a slice of the mass has all neighbours of its rows, too
        mass = columns[0][first]
        low, high = np.quantile(mass[:: len(first) // _LATTICE], [0.5, 0.5 + 0.5 * _LATTICE / len(first)])
        part = (mass >= low) & (mass <= high)
        if np.count_nonzero(again & part) >= _FEWEST_VALUES:
            first, again = first[part], again[part]
    neighbours, steps = _neighbours(columns, first)
    few = int(np.count_nonzero(again))
    # Neighbours are as frequent as repeated rows, or twice as frequent where both are rare; a factor of two too few is tolerated.
    return bool(binom.sf(few - 1, few + neighbours, 2 / (2 + steps)) <= _LEVEL)


def _values(values: NDArray[Any], column: int) -> Dependence | None:
    codes = content_codes([values])
    # a part of the values, each with all of its rows
    part = -(-len(codes) // _VALUES)
    rows = np.flatnonzero(codes.view(np.uint64) % np.uint64(part) == 0) if part > 1 else np.arange(len(codes))
    order, counts = _multiplicities(codes[rows])
    if order is None:
        return None
    once, twice, thrice = (int(np.count_nonzero(counts == k)) for k in (1, 2, 3))
    if _common_size(counts) == 1:
        # the error of n_2 enters twice
        least = 2 / 3 * max(twice - 6 * np.sqrt(twice), 0.0) ** 2 / (once + 6 * np.sqrt(once + 1))
        if twice < _FEWEST_VALUES or poisson.cdf(thrice, least) > _LEVEL:
            return None
    found = _found("values", rows[order], counts, column)
    return replace(found, count=found.count * part)


def _found(kind: str, order: NDArray[np.int64], counts: NDArray[np.int64], column: int = -1) -> Dependence:
    at = int(counts[: int(np.argmax(counts > 1))].sum())
    a, b = sorted((int(order[at]), int(order[at + 1])))
    size = int(np.bincount(counts[counts > 1]).argmax())
    return Dependence(kind, int((counts - 1).sum()), size, (a, b), column)


def _multiplicities(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Rows in the order of their codes, and how often each code occurs; None if all differ."""
    ordered = np.sort(codes)
    if not np.any(ordered[1:] == ordered[:-1]):
        return None, np.empty(0, dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    return order, np.diff(starts)


def _common_size(counts: NDArray[np.int64]) -> int:
    """Greatest common divisor of all multiplicities, if there are enough of them; else 1."""
    return int(np.gcd.reduce(counts)) if len(counts) >= _FEWEST_VALUES else 1


def _neighbours(columns: Sequence[NDArray[Any]], rows: NDArray[np.int64]) -> tuple[int, int]:
    """Pairs of rows that differ by a step of one column, for the column with most, and the number of steps that were tried."""
    probed = rows[:: -(-len(rows) // _PROBED)]
    cells = [_cells(values[rows]) for values in columns]
    known = np.sort(content_codes(cells))
    looked = [values[:: -(-len(rows) // _PROBED)] for values in cells]
    best, tried = 0, 1
    for i, values in enumerate(cells):
        span = int(values.max()) - int(values.min())
        steps = [step for step in _STEPS if 20 * step <= span] or [1]
        pairs = 0
        for step in steps:
            wanted = content_codes([v + step if k == i else v for k, v in enumerate(looked)])
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            pairs += int(np.count_nonzero(known[at] == wanted))
        if pairs * tried > best * len(steps) or i == 0:
            best, tried = pairs, len(steps)
    return round(best * len(rows) / len(probed)), tried


def _cells(values: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers of the values on their lattice: decimals, or else the floating-point numbers with as few digits."""
    numbers = np.asarray(values, dtype=np.float64) + 0.0
    bits = numbers.view(np.int64)
    single = not np.bitwise_or.reduce(bits) & ((1 << 29) - 1)
    relative = 1.2e-7 if single else 4e-16
    largest = float(np.abs(numbers).max())
    for digits in range(9):
        scaled = numbers * 10.0**digits
        if largest * 10.0**digits * relative > 0.02:
            break
        whole = np.rint(scaled)
        if np.all(np.abs(scaled - whole) <= relative * np.abs(scaled)):
            steps = (whole - whole.min()).astype(np.int64)
            return np.asarray(steps // max(int(np.gcd.reduce(steps)), 1))
    # in the order of the values, the negative ones too
    ordered = np.where(bits < 0, np.int64(-(2**63)) - bits, bits)
    common = int(np.bitwise_or.reduce(ordered))
    return np.asarray(ordered >> ((common & -common).bit_length() - 1 if common else 0))


def _near(columns: Sequence[NDArray[Any]], rng: np.random.Generator) -> Dependence | None:
    rows = _region(columns[0], rng)
    chosen = _smooth([np.asarray(values)[rows] for values in columns])
    if len(chosen) < 2 or len(rows) < _FEWEST_EVENTS:
        return None
    ranks = _different(np.column_stack([_ranks(values, rng) for values in chosen]))
    if ranks.shape[1] < 2:
        return None
    for thinning in _THINNED:
        part = rng.permutation(len(rows))[: len(rows) // thinning] if thinning > 1 else np.arange(len(rows))
        if len(part) < _FEWEST_EVENTS:
            break
        found = _isolated(ranks[part], rng)
        if found is not None:
            size, fraction, pair = found
            a, b = sorted(int(rows[part[i]]) for i in pair)
            return Dependence("near", round(fraction * len(columns[0])), size * thinning, (a, b))
    return None


def _region(mass: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """All rows, or those of a slice of the mass: near copies have similar masses, and a random part would separate them."""
    n = len(mass)
    if n <= _TREE:
        return np.arange(n)
    start = int(rng.integers(0, n - _TREE))
    return np.sort(np.argpartition(mass, (start, start + _TREE - 1))[start : start + _TREE])


def _smooth(columns: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Columns with enough different values, the mass and those with most first.

    Several coarse columns can be functions of the same few states, which look like groups of near copies: they are used
    only if together they take different values in most rows.
    """
    n = len(columns[0])
    different = [len(np.unique(values)) for values in columns]
    order = [0, *sorted(range(1, len(columns)), key=lambda i: -different[i])][:_COLUMNS]
    fine = [i for i in order if different[i] > 0.9 * n]
    coarse = [i for i in order if 50 < different[i] <= 0.9 * n]
    if coarse and len(np.unique(content_codes([columns[i] for i in coarse]))) > 0.8 * n:
        fine += coarse
    return [columns[i] for i in fine]


def _ranks(values: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    ranks = np.empty(len(values))
    ranks[np.lexsort((rng.random(len(values)), values))] = np.arange(len(values)) / len(values)
    return ranks


def _different(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns without those that rise or fall with an earlier one: together their ranks are an even grid, which is not a density."""
    related = np.abs(np.corrcoef(ranks, rowvar=False))
    kept: list[int] = []
    for i in range(ranks.shape[1]):
        if all(related[i, k] < _SAME for k in kept):
            kept.append(i)
    return ranks[:, kept]


def _isolated(
    ranks: NDArray[np.float64], rng: np.random.Generator
) -> tuple[int, float, tuple[int, int]] | None:
    """Size of the groups that stand apart, the fraction of events in them, and two events of one; None if there are none."""
    asked = rng.choice(len(ranks), min(_QUERIES, len(ranks)), replace=False)
    distance, number = cKDTree(ranks).query(ranks[asked], _NEIGHBOURS + 2)
    distance = np.maximum(distance[:, 1:], np.finfo(float).tiny)
    j = np.arange(1, _NEIGHBOURS + 1)
    gaps = j * np.log(distance[:, 1:] / distance[:, :-1])
    means = gaps.mean(axis=0)
    gaps = gaps / np.median(means)
    excess = np.minimum(gaps, _CLIP).mean(axis=0) - _CLIPPED_MEAN
    significance = (excess - _TOLERANCE) * np.sqrt(len(asked)) / _CLIPPED_ERROR
    best = int(significance.argmax())
    if significance[best] < _SIGMA:
        # few groups that stand far apart; one alone can be a narrow signal
        groups = [len(np.unique(number[gaps[:, k] > _FAR, : k + 2].min(axis=1))) for k in j - 1]
        best = int(np.argmax(groups))
        if groups[best] < _FEWEST_GROUPS:
            return None
    apart = np.mean(gaps[:, best] > _CLIP)
    if apart <= np.exp(-_CLIP):
        return None
    clear = int(gaps[:, best].argmax())
    pair = int(asked[clear]), int(number[clear, 1])
    return best + 2, float((apart - np.exp(-_CLIP)) / _CLIPPED_MEAN), pair
