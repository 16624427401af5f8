"""Jagged columns: any number of values for each event, such as the momenta of its muons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Column", "Jagged", "concatenate"]


@dataclass(frozen=True, eq=False)
class Jagged:
    """A list of values for each event, stored as in Arrow: the values of all events one after the other.

    Parameters
    ----------
    offsets
        Shape ``(n + 1,)``, int64, rising from 0: event ``i`` has the values ``offsets[i]`` to ``offsets[i + 1]``.
    content
        Shape ``(offsets[-1],)``; another :class:`Jagged` for lists of lists. A missing number is NaN.

    Examples
    --------
    >>> pt = Jagged.of(np.array([2, 0, 1]), np.array([50.0, 20.0, 35.0]))
    >>> len(pt), pt.counts.tolist(), pt[1:].content.tolist()
    (3, [2, 0, 1], [35.0])
    """

    offsets: NDArray[np.int64]
    content: Any

    @classmethod
    def of(cls, counts: NDArray[Any], content: Any) -> Jagged:
        """Make lists from the number of values in each event, shape ``(n,)``, and all values."""
        return cls(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]), content)

    @classmethod
    def from_numpy(cls, array: NDArray[Any]) -> Jagged:
        """Lists of one length from an array of shape ``(n, k)`` or with more dimensions."""
        n, k = array.shape[:2]
        flat = array.reshape(n * k, *array.shape[2:])
        return cls(np.arange(n + 1, dtype=np.int64) * k, cls.from_numpy(flat) if flat.ndim > 1 else flat)

    @classmethod
    def from_awkward(cls, array: Any) -> Jagged:
        """Lists of numbers from an ``awkward.Array``; a missing list is empty, a missing number NaN.

        Raises
        ------
        TypeError
            If it holds something else than lists of numbers.
        """
        import awkward as ak

        layout = ak.to_layout(array)
        if layout.is_option or layout.is_indexed:
            layout = ak.to_layout(ak.fill_none(ak.to_packed(array), [], axis=0))
        if not layout.is_list:
            raise TypeError(f"not a list: {layout.form.type}")
        layout = layout.to_ListOffsetArray64(True)
        offsets = np.asarray(layout.offsets.data)
        content = layout.content[: offsets[-1]]
        if content.purelist_depth > 1:
            return cls(offsets, cls.from_awkward(ak.Array(content)))
        if content.is_option or content.is_indexed:
            content = ak.to_layout(
                ak.drop_none(content)
                if not ak.any(ak.is_none(ak.Array(content)), axis=None)
                else ak.fill_none(ak.values_astype(ak.Array(content), np.float64), np.nan)
            )
        if not content.is_numpy or content.data.dtype.kind not in "biuf":
            raise TypeError(f"not numbers: {content.form.type}")
        return cls(offsets, np.asarray(content.data))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of values of each event, shape ``(n,)``."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self.offsets.nbytes + self.content.nbytes)

    def __getitem__(self, rows: Any) -> Jagged:
        """Events given by a slice, a boolean mask or row numbers."""
        starts, counts = self.offsets[:-1][rows], self.counts[rows]
        out = Jagged.of(counts, None)
        where = np.repeat(starts - out.offsets[:-1], counts) + np.arange(out.offsets[-1])
        return Jagged(out.offsets, self.content[where])


# Type of a loaded column: one value for each event, or a list of them.
Column = NDArray[Any] | Jagged


def concatenate(parts: Sequence[Any]) -> Any:
    """Join the parts of a column, :class:`Jagged` or NumPy arrays, one after the other."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Jagged):
        return Jagged.of(
            np.concatenate([part.counts for part in parts]), concatenate([part.content for part in parts])
        )
    return np.concatenate(parts)
