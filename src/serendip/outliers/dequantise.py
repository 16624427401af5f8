r"""Counts, flags and empty slots as continuous numbers, so that a density of them exists.

Everything is learnt from background alone:

* *discrete* columns (integers only): a count k becomes uniform in :math:`[k - 1/2, k + 1/2)`;
* *padded* columns (otherwise continuous, the padding value in more than 0.2 % of the events): empty slots become uniform in a block of
  one standard deviation that lies half of one below the smallest value, where no real object is;
* other columns are unchanged.

Without this an empty slot would be a spike of arbitrary height in the density, and the score would mostly count
objects (arXiv:2105.14027 and 2205.01697 treat empty slots in the same spirit).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dequantisation"]

Array = NDArray[np.float64]

_SPIKE_FRACTION = 2e-3
_MOST_COUNTS = 64


@dataclass(frozen=True, eq=False)
class Dequantisation:
    """Result of :meth:`fit`.

    Attributes
    ----------
    discrete, padded
        Which columns are, shape ``(d,)``.
    block
        Middle of the block of empty slots, shape ``(d,)``; 0 where there is none.
    width
        Its width, shape ``(d,)``.
    padding
        Value of an empty slot.
    """

    discrete: NDArray[np.bool_]
    padded: NDArray[np.bool_]
    block: Array
    width: Array
    padding: Array

    @classmethod
    def fit(cls, x: Array, padding: float = 0.0) -> Self:
        """Learn from background, shape ``(n, d)``."""
        d = x.shape[1]
        discrete, padded = np.zeros(d, dtype=bool), np.zeros(d, dtype=bool)
        block, width = np.zeros(d), np.zeros(d)
        for j in range(d):
            column = x[:, j]
            if np.all(column == np.rint(column)) and len(np.unique(column)) <= _MOST_COUNTS:
                discrete[j] = True
                continue
            real = column[column != padding]
            if len(column) - len(real) > max(_SPIKE_FRACTION * len(column), 2):
                padded[j] = True
                # a slot with one real value has no spread of its own
                width[j] = np.std(real) or 1.0
                block[j] = real.min() - width[j]
        return cls(discrete, padded, block, width, np.array([padding]))

    def spread(self, x: Array, rng: np.random.Generator) -> Array:
        """Training events with counts and empty slots spread over their cells, shape ``(n, d)``."""
        out = self.centre(x)
        uniform = rng.uniform(-0.5, 0.5, x.shape)
        empty = self.padded & (x == self.padding[0])
        out += np.where(self.discrete, uniform, 0.0) + np.where(empty, uniform * self.width, 0.0)
        return out

    def centre(self, x: Array) -> Array:
        """Events at the middle of their cells, so that a score draws no random numbers, shape ``(n, d)``."""
        return np.where(self.padded & (x == self.padding[0]), self.block, x)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything learnt, by name."""
        return {f"dequantisation.{f.name}": getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Undo :meth:`arrays`."""
        return cls(**{f.name: arrays[f"dequantisation.{f.name}"] for f in fields(cls)})
