"""Events as lists of reconstructed objects: the columns of a Dark Machines file (arXiv:2105.14027)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError

__all__ = ["KINDS", "ObjectEvents", "concatenate"]

KINDS = ("j", "b", "e-", "e+", "m-", "m+", "g")

Array = NDArray[np.float64]

_PER_EVENT = ("event_id", "process", "weight", "met", "met_phi")
_PER_OBJECT = ("kind", "energy", "pt", "eta", "phi")


@dataclass(frozen=True, eq=False)
class ObjectEvents:
    """An immutable sample of events, each with a list of objects of any length.

    The objects of all events lie one after the other: those of event ``i`` are rows
    ``offsets[i]:offsets[i + 1]``, in the order of the file. Arrays are exposed read-only.

    Parameters
    ----------
    event_id
        Text, shape ``(n_events,)``. Not unique in the public files: never join on it.
    process
        Name of the process, shape ``(n_events,)``.
    weight
        Event weight, shape ``(n_events,)``.
    met, met_phi
        Missing transverse momentum (GeV) and its azimuth (rad), shape ``(n_events,)``.
    offsets
        Shape ``(n_events + 1,)``, starts with 0 and ends with the number of objects.
    kind
        Codes into :data:`KINDS`, shape ``(n_objects,)``.
    energy, pt, eta, phi
        GeV, GeV, pseudorapidity and rad, shape ``(n_objects,)``. The energy is NaN where a file gives none.

    Raises
    ------
    InputError
        If lengths do not fit, the offsets fall, or a code is not one of :data:`KINDS`.
    """

    event_id: NDArray[Any]
    process: NDArray[Any]
    weight: Array
    met: Array
    met_phi: Array
    offsets: NDArray[np.int64]
    kind: NDArray[np.int8]
    energy: Array
    pt: Array
    eta: Array
    phi: Array

    def __post_init__(self) -> None:
        types: dict[str, Any] = {
            "event_id": np.str_,
            "process": np.str_,
            "offsets": np.int64,
            "kind": np.int8,
        }
        for field in fields(self):
            given = np.asarray(getattr(self, field.name))
            if field.name == "kind" and given.size and (given.min() < 0 or given.max() >= len(KINDS)):
                raise InputError(
                    f"kinds of objects must be 0 to {len(KINDS) - 1} (the places in {', '.join(KINDS)}), "
                    f"got {given.min()} to {given.max()}"
                )
            values = np.asarray(given, dtype=types.get(field.name, np.float64)).view()
            values.flags.writeable = False
            object.__setattr__(self, field.name, values)
        offsets = self.offsets
        if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
            raise InputError(
                "offsets must start with 0, never fall, and have one entry more than there are events"
            )
        for names, length, what in (
            (_PER_EVENT, len(offsets) - 1, "events"),
            (_PER_OBJECT, int(offsets[-1]), "objects"),
        ):
            for name in names:
                if getattr(self, name).shape != (length,):
                    raise InputError(
                        f"'{name}' has shape {getattr(self, name).shape}, but the offsets say {length} {what}"
                    )

    def __len__(self) -> int:
        return len(self.met)

    @property
    def n_objects(self) -> int:
        """Total number of objects in all events."""
        return len(self.kind)

    @cached_property
    def event_of(self) -> NDArray[np.int64]:
        """Row of the event of each object, shape ``(n_objects,)``."""
        rows = np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))
        rows.flags.writeable = False
        return rows

    def of_kind(self, *names: str) -> NDArray[np.bool_]:
        """Mask of the objects of some kinds, e.g. ``of_kind("j", "b")``, shape ``(n_objects,)``.

        Raises
        ------
        InputError
            If a name is not one of :data:`KINDS`.
        """
        for name in names:
            if name not in KINDS:
                raise InputError(f"'{name}' is not a kind of object; expected one of {', '.join(KINDS)}")
        return np.isin(self.kind, [KINDS.index(name) for name in names])

    def count(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Objects of each event for which ``mask`` (shape ``(n_objects,)``) is true, shape ``(n_events,)``."""
        return np.bincount(self.event_of[self._mask(mask)], minlength=len(self)).astype(np.int64, copy=False)

    def sum(self, values: NDArray[Any], mask: NDArray[np.bool_]) -> Array:
        """Sum of ``values`` over the objects of each event for which ``mask`` is true, shape ``(n_events,)``."""
        values, mask = self._per_object(values, "values"), self._mask(mask)
        weights = np.asarray(values[mask], dtype=np.float64)
        # an empty bincount would give integers
        return np.bincount(self.event_of[mask], weights, minlength=len(self)).astype(np.float64, copy=False)

    def select(self, rows: NDArray[Any]) -> ObjectEvents:
        """Events given by a boolean mask ``(n_events,)`` or by row numbers, in that order.

        Raises
        ------
        InputError
            If a mask has another length, or a row does not exist.
        """
        rows = np.asarray(rows)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise InputError(f"the mask has shape {rows.shape}, but there are {len(self)} events")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64)
        if rows.size and (rows.min() < -len(self) or rows.max() >= len(self)):
            raise InputError(
                f"rows {rows.min()} to {rows.max()} were requested, but there are {len(self)} events"
            )
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        objects = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return ObjectEvents(
            **{name: getattr(self, name)[rows] for name in _PER_EVENT},
            offsets=offsets,
            **{name: getattr(self, name)[objects] for name in _PER_OBJECT},
        )

    def keep_objects(self, mask: NDArray[np.bool_]) -> ObjectEvents:
        """All events, with only the objects for which ``mask`` (shape ``(n_objects,)``) is true."""
        mask = self._mask(mask)
        offsets = np.concatenate([[0], np.cumsum(self.count(mask))]).astype(np.int64)
        return ObjectEvents(
            **{name: getattr(self, name) for name in _PER_EVENT},
            offsets=offsets,
            **{name: getattr(self, name)[mask] for name in _PER_OBJECT},
        )

    def equals(self, other: ObjectEvents) -> bool:
        """Whether all arrays are exactly equal; NaN equals NaN."""
        return all(
            np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
            for a, b in ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        )

    def to_awkward(self) -> Any:
        """An ``awkward.Array`` of records with a field ``objects`` (kind as text); numbers share the memory."""
        import awkward as ak

        columns = {name: getattr(self, name) for name in _PER_OBJECT if name != "kind"}
        kinds = ak.contents.IndexedArray(
            ak.index.Index64(self.kind.astype(np.int64)),
            ak.to_layout(list(KINDS)),
            parameters={"__array__": "categorical"},
        )
        objects = ak.contents.RecordArray(
            [kinds, *(ak.contents.NumpyArray(v) for v in columns.values())], ["kind", *columns]
        )
        lists = ak.contents.ListOffsetArray(ak.index.Index64(self.offsets), objects)
        texts = {name: ak.Array(getattr(self, name)) for name in _PER_EVENT}
        return ak.zip({**texts, "objects": ak.Array(lists)}, depth_limit=1)

    def _per_object(self, values: NDArray[Any], what: str) -> NDArray[Any]:
        values = np.asarray(values)
        if values.shape != (self.n_objects,):
            raise InputError(f"the {what} have shape {values.shape}, but there are {self.n_objects} objects")
        return values

    def _mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        mask = self._per_object(mask, "entries of the mask")
        if mask.dtype != np.bool_:
            raise InputError(f"a mask of objects must be boolean, got {mask.dtype}")
        return mask


def concatenate(samples: Sequence[ObjectEvents]) -> ObjectEvents:
    """Events of several samples, one after the other.

    Raises
    ------
    InputError
        If the list is empty.
    """
    if not samples:
        raise InputError("nothing to concatenate")
    starts = np.cumsum([0, *(sample.n_objects for sample in samples)])
    offsets = [sample.offsets[1:] + start for sample, start in zip(samples, starts, strict=False)]
    return ObjectEvents(
        **{name: np.concatenate([getattr(sample, name) for sample in samples]) for name in _PER_EVENT},
        offsets=np.concatenate([np.zeros(1, dtype=np.int64), *offsets]),
        **{name: np.concatenate([getattr(sample, name) for sample in samples]) for name in _PER_OBJECT},
    )
