r"""Which simulated events train, and which do not: a rule that needs nothing but the events and a seed.

The number of an event is a hash of its event ID, process and the seed, so that training, evaluation and the search for an
excess agree on the split whatever else they read, in any order. Generated events that were measured several times have one ID and share their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serendip.errors import InputError

__all__ = ["hash_fold", "held_out"]

Array = NDArray[np.float64]

_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_DOMAIN = np.uint64(0x5E7E4D1B0F01D5)
_ROW = np.uint64(0xA5A5F00D5EEDC0DE)


def hash_fold(event_id: ArrayLike, process: ArrayLike, seed: int) -> Array:
    """Give each event a number in [0, 1), the same whenever its ID, its process and the seed are the same.

    In public signal files IDs mean nothing. An ID shared by more than a hundredth of the events (and more than eight) is not an ID;
    the row takes its place. So give **whole files, as they were read**, one at a time, and select afterwards. Numbers of
    different seeds have nothing to do with each other.

    Parameters
    ----------
    event_id, process
        Text, shape ``(n,)``, of one file, all events in their order.
    seed
        Not negative, below 2^64.

    Returns
    -------
    fold
        Uniform numbers, shape ``(n,)``.

    Raises
    ------
    InputError
        If shapes differ or the seed is not one.

    Examples
    --------
    >>> hash_fold(["7", "7", "8"], ["ttbar", "ttbar", "ttbar"], 1).round(4)
    array([0.1553, 0.1553, 0.3074])
    """
    ids, names = (np.asarray(texts, dtype=np.str_) for texts in (event_id, process))
    if ids.ndim != 1 or ids.shape != names.shape:
        raise InputError(
            f"event IDs of shape {ids.shape} and processes of shape {names.shape}; expected one of each per event"
        )
    if not 0 <= seed < 2**64:
        raise InputError(f"the seed of a split is {seed}; expected a whole number from 0 to 2^64 - 1")
    key = _mix(_text_hash(ids) ^ _mix(_text_hash(names)))
    _, index, counts = np.unique(key, return_inverse=True, return_counts=True)
    if len(key):
        rows = _mix(np.arange(len(key), dtype=np.uint64) + _ROW)
        key = np.where(counts[index] > max(8, 0.01 * len(key)), rows ^ _mix(_text_hash(names)), key)
    start = _mix(np.asarray([seed], dtype=np.uint64) ^ _DOMAIN)
    # 53 bits fit into a float64 exactly
    return np.asarray((_mix(key ^ start) >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def held_out(event_id: ArrayLike, process: ArrayLike, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which events of a file must not train: those with a number below ``fraction``, shape ``(n,)``.

    Parameters
    ----------
    event_id, process, seed
        As in :func:`hash_fold`.
    fraction
        Expected part of the events, from 0 to 1.

    Raises
    ------
    InputError
        As :func:`hash_fold`, or if ``fraction`` is not between 0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"the held-out fraction is {fraction}; expected a number from 0 to 1")
    return np.asarray(hash_fold(event_id, process, seed) < fraction)


def _text_hash(texts: NDArray[Any]) -> NDArray[np.uint64]:
    """FNV-1a over code points; how wide the array is does not count."""
    width = texts.dtype.itemsize // 4
    out = np.full(len(texts), _OFFSET, dtype=np.uint64)
    if width == 0 or len(texts) == 0:
        return out
    little = texts.astype(texts.dtype.newbyteorder("<"))
    points = np.ascontiguousarray(little).view("<u4").reshape(len(texts), width)
    for column in points.T:
        values = column.astype(np.uint64)
        out = np.where(values > 0, (out ^ values) * _PRIME, out)
    return out


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014): every bit of the input changes half of those of the result."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
