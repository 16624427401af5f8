"""Folds from event ids, and the training sets that each combination rule needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.events.events import Events
from serendip.statistics.combination import SINGLE, in_order
from serendip.statistics.ranks import cut_efficiency as background_efficiency

__all__ = [
    "Plan",
    "assign_folds",
    "background_efficiency",
    "cross_training_plan",
    "distinct",
    "event_folds",
    "tie_breaker",
]

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_GOLDEN = 0x9E3779B97F4A7C15
_TIES = 0x54494553


def event_folds(events: Events, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each event, shape ``(n,)``: :func:`assign_folds` of its group, or of its id if every event is its own.

    Correlated events share a fold, so that none is scored by a model that was trained on its copy.
    """
    groups = events.groups
    return assign_folds(events.ids if groups is None else groups, n_folds, seed)


def assign_folds(ids: NDArray[Any], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each event: a hash of its id and the seed, so that row order changes nothing.

    Parameters
    ----------
    ids
        Integers, strings or records of these, shape ``(n,)``.
    n_folds
        Number of folds.
    seed
        Seed of the search.

    Returns
    -------
    Folds ``0 … n_folds - 1``, shape ``(n,)``.
    """
    return np.asarray(_hash(ids, (seed + 1) * _GOLDEN) % np.uint64(n_folds), dtype=np.int64)


def tie_breaker(ids: NDArray[Any], seed: int) -> NDArray[np.uint64]:
    """Order of events with equal scores: another hash of id and seed, independent of the fold, shape ``(n,)``."""
    return _hash(ids, (seed + 1) * _GOLDEN ^ _TIES)


def _hash(ids: NDArray[Any], salt: int) -> NDArray[np.uint64]:
    if ids.dtype.names is not None:
        # each part is mixed with the hash of those before it, so that their order counts
        mixed = np.zeros(len(ids), dtype=np.uint64)
        for name in ids.dtype.names:
            mixed = _splitmix(mixed ^ _hash(ids[name], salt))
        return mixed
    if np.issubdtype(ids.dtype, np.integer):
        keys = ids.astype(np.int64).view(np.uint64)
    else:
        digests = b"".join(
            hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in ids.tolist()
        )
        keys = np.frombuffer(digests, dtype=np.uint64)
    # splitmix64, twice: once to spread the seed, once to mix it with the id
    offset = np.uint64(salt & 0xFFFFFFFFFFFFFFFF)
    return _splitmix(keys ^ _splitmix(np.asarray([offset], dtype=np.uint64)))


def _splitmix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        values = values + np.uint64(_GOLDEN)
        values = (values ^ (values >> np.uint64(30))) * _MIX[0]
        values = (values ^ (values >> np.uint64(27))) * _MIX[1]
        return np.asarray(values ^ (values >> np.uint64(31)), dtype=np.uint64)


@dataclass(frozen=True)
class Plan:
    """Which events train which model, and which model scores which fold.

    Attributes
    ----------
    splits
        Shape ``(n_models, n_events)``: row ``k`` marks the training events of model ``k``.
    scores
        Pairs (fold, model). A fold without a pair is never tested.
    more_scores
        The same for further orders of the folds.
    """

    splits: NDArray[np.bool_]
    scores: tuple[tuple[int, int], ...]
    more_scores: tuple[tuple[tuple[int, int], ...], ...] = ()

    @property
    def orders(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Pairs (fold, model) of all orders."""
        return (self.scores, *self.more_scores)


def cross_training_plan(
    fold: NDArray[np.int64],
    n_folds: int,
    combination: str,
    positions: NDArray[np.int64] | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> Plan:
    """Training sets of a combination rule.

    *Weighted* and *sequential*: fold ``f ≥ 1`` is scored by the model trained on folds ``0 … f - 1``; given the past, its count is
    Poisson. An order is needed where events of the window (``inside``) train. Those outside it carry no information about an excess, and a model that ranks the sideband events of a fold must only not be trained on these themselves: so they train every model but those
    that score them, and the early folds have as many of them as the late ones. *K-fold*: fold ``f`` is scored by the model trained on all other folds. *Single*: nothing is trained, one model without training events scores all.

    ``positions`` are the places of the folds in one or more orders, shape ``(n_orders, n_folds)``; default: one order, as numbered.
    Orders share the models of equal training sets. ``inside`` marks the events of the window, shape ``(n_events,)``; default: all.
    """
    if combination == SINGLE:
        return Plan(np.zeros((1, len(fold)), dtype=bool), ((0, 0),))
    if in_order(combination):
        places = np.arange(n_folds)[None] if positions is None else positions
        models: dict[tuple[bool, ...], int] = {}
        scores = []
        for place in places:
            sets = [tuple(bool(seen) for seen in place < f) for f in range(1, n_folds)]
            numbers = [models.setdefault(one, len(models)) for one in sets]
            scores.append(
                tuple((int(np.flatnonzero(place == f)[0]), numbers[f - 1]) for f in range(1, n_folds))
            )
        splits = np.array(list(models))[:, fold]
        if inside is not None:
            scored = np.zeros((len(models), n_folds), dtype=bool)
            for f, model in chain.from_iterable(scores):
                scored[model, f] = True
            splits |= ~scored[:, fold] & ~inside
        return Plan(splits, scores[0], tuple(scores[1:]))
    return Plan(np.stack([fold != f for f in range(n_folds)]), tuple((f, f) for f in range(n_folds)))


def distinct(masks: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Masks without repetition, shape ``(n, n_events)``, and which of them each one was, shape ``(n_masks,)``."""
    known: dict[bytes, int] = {}
    number = np.array([known.setdefault(mask.tobytes(), len(known)) for mask in masks])
    return masks[np.unique(number, return_index=True)[1]], number
