"""Random parts of a sample that keep the events of a group together; without groups every event is its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["group_numbers", "held_out", "one_of_each", "random_parts", "with_own_groups"]

Groups = NDArray[np.int64] | None


def group_numbers(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups numbered from 0, shape ``(n,)``."""
    return np.asarray(np.unique(groups, return_inverse=True)[1], dtype=np.int64).reshape(-1)


def with_own_groups(groups: Groups, more: int) -> Groups:
    """Groups of a sample to which ``more`` events are added, each of them its own group; None without groups."""
    if groups is None:
        return None
    known = group_numbers(groups)
    first = int(known.max(initial=-1)) + 1
    return np.concatenate([known, first + np.arange(more)])


def random_parts(n: int, parts: int, rng: np.random.Generator, groups: Groups = None) -> NDArray[np.int64]:
    """Random part of each of ``n`` events, from 0 to ``parts - 1``; parts have equally many events, or groups."""
    if groups is None:
        return rng.permutation(n) % parts
    number = group_numbers(groups)
    return np.asarray((rng.permutation(int(number.max(initial=-1)) + 1) % parts)[number])


def held_out(
    fraction: float,
    rng: np.random.Generator,
    groups: NDArray[np.int64],
    targets: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Events of a random fraction of the groups, shape ``(n,)``.

    With ``targets``, the class of each event, it is a fraction of the groups of each class; the class of a group is that of
    its first event.
    """
    number = group_numbers(groups)
    first = np.unique(number, return_index=True)[1]
    kind = np.zeros(len(first), dtype=np.int64) if targets is None else targets[first]
    order = rng.permutation(len(first))
    chosen = np.zeros(len(first), dtype=bool)
    for value in np.unique(kind):
        of_kind = order[kind[order] == value]
        chosen[of_kind[: round(len(of_kind) * fraction)]] = True
    return np.asarray(chosen[number])


def one_of_each(rows: NDArray[np.int64], groups: Groups, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows in random order, of each group one; without groups all of them."""
    mixed = rng.permutation(rows)
    if groups is None:
        return mixed
    return mixed[np.sort(np.unique(groups[mixed], return_index=True)[1])]
