"""Event samples: named columns, their roles, and their origin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError

__all__ = ["GROUP", "Events", "Window", "column_names", "concatenate"]

_SCORES = {
    "mass",
    "method",
    "window_low",
    "window_high",
    "fold",
    "score",
    "in_window",
    "background_efficiency",
}

GROUP = "_group"
"""Column of group codes that :func:`serendip.read` makes."""


def column_names(role: str | Sequence[str] | None) -> tuple[str, ...]:
    """Columns of a role that may have none, one or several."""
    if role is None:
        return ()
    return (role,) if isinstance(role, str) else tuple(role)


@dataclass(frozen=True, order=True)
class Window:
    """A half-open mass interval ``[low, high)`` in GeV: the signal region of one look.

    Examples
    --------
    >>> window = serendip.Window(3300, 3700)
    >>> window.contains(np.array([3299.0, 3300.0, 3700.0]))
    array([False,  True, False])
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and 0 < self.low < self.high):
            raise InputError(
                f"window {self.low:g}:{self.high:g} is not a mass interval: "
                "expected two finite numbers LO:HI with 0 < LO < HI"
            )

    @property
    def centre(self) -> float:
        """Middle of the window in GeV."""
        return 0.5 * (self.low + self.high)

    @property
    def width(self) -> float:
        """Width of the window in GeV."""
        return self.high - self.low

    def contains(self, mass: NDArray[Any]) -> NDArray[np.bool_]:
        """Mask of the masses inside the window, shape ``(n,)``."""
        return (mass >= self.low) & (mass < self.high)

    def __str__(self) -> str:
        return f"{self.low:g}-{self.high:g} GeV"


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    view = np.asarray(values).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class Events:
    """An immutable table of events.

    Parameters
    ----------
    columns
        Name to one-dimensional array, all of one length. Arrays are exposed read-only.
    mass
        Name of the column with the resonant mass in GeV.
    features
        Names of the columns that a method may learn from.
    weight, label, id
        Names of optional columns: event weight (default: 1), truth label (1 = signal, 0 = background; only for methods that use labels and for the truth panel of a report), event id (default: the row
        number in the input). An id may consist of several columns, such as run, luminosity block and event.
    group
        Name of an optional column of whole numbers: events with the same number depend on each other (copies of one
        event, several candidates in one event). They share a fold, and errors come from sums over groups. Default:
        every event is its own.
    provenance
        JSON-able facts about the origin: files, row counts, left-out rows and the reason, units read.

    Raises
    ------
    InputError
        If the columns differ in length, a role names a missing column, the mass, label, id, weight or group is
        also a feature, or the groups are not integers.

    Examples
    --------
    >>> events = serendip.Events({"mjj": np.array([2500.0, 3100.0]), "tau21": np.array([0.4, 0.7])}, mass="mjj", features=("tau21",))
    >>> len(events.select(events.m > 3000))
    1
    """

    columns: Mapping[str, NDArray[Any]]
    mass: str
    features: tuple[str, ...] = ()
    weight: str | None = None
    label: str | None = None
    id: str | tuple[str, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None

    def __post_init__(self) -> None:
        columns = {name: _frozen(values) for name, values in self.columns.items()}
        if len({len(values) for values in columns.values()}) > 1:
            lengths = ", ".join(f"{name}: {len(values)}" for name, values in columns.items())
            raise InputError(f"columns differ in length ({lengths})")
        object.__setattr__(self, "columns", MappingProxyType(columns))
        object.__setattr__(self, "features", tuple(self.features))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        if self.id is not None and not isinstance(self.id, str):
            object.__setattr__(self, "id", tuple(self.id) if len(self.id) > 1 else self.id[0])
        special = {"mass": self.mass, "weight": self.weight, "label": self.label, "id": self.id}
        for role, names in (special | {"group": self.group}).items():
            for name in column_names(names):
                if name not in columns:
                    raise InputError(f"{role} column '{name}' is not in the table")
                if name in self.features:
                    raise InputError(f"column '{name}' is the {role} and cannot also be a feature")
        if self.group is not None and columns[self.group].dtype.kind not in "iu":
            raise InputError(f"group column '{self.group}' must hold whole numbers")
        missing = [name for name in self.features if name not in columns]
        if missing:
            raise InputError(f"feature column '{missing[0]}' is not in the table")

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot cross a process boundary; plain dictionaries can.
        roles = (self.mass, self.features, self.weight, self.label, self.id)
        return (Events, (dict(self.columns), *roles, dict(self.provenance), self.group))

    def __len__(self) -> int:
        return len(self.columns[self.mass])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    @property
    def m(self) -> NDArray[np.float64]:
        """Resonant mass in GeV, shape ``(n,)``."""
        return np.asarray(self.columns[self.mass], dtype=np.float64)

    @property
    def x(self) -> NDArray[np.float32]:
        """Features, shape ``(n, d)``, in the order of :attr:`features`."""
        out = np.empty((len(self), len(self.features)), dtype=np.float32)
        for i, name in enumerate(self.features):
            out[:, i] = self.columns[name]
        return out

    @property
    def weights(self) -> NDArray[np.float64]:
        """Event weights, shape ``(n,)``; ones if the table has none."""
        if self.weight is None:
            return np.ones(len(self))
        return np.asarray(self.columns[self.weight], dtype=np.float64)

    @property
    def ids(self) -> NDArray[Any]:
        """Event ids, shape ``(n,)``; the row numbers if the table has none, records of all columns if it has several."""
        if self.id is None or isinstance(self.id, str):
            return np.arange(len(self)) if self.id is None else self.columns[self.id]
        parts = {name: self.columns[name] for name in self.id}
        records = np.empty(len(self), dtype=[(name, values.dtype) for name, values in parts.items()])
        for name, values in parts.items():
            records[name] = values
        return records

    @property
    def id_columns(self) -> dict[str, NDArray[Any]]:
        """Event ids as columns of a table of scores: ``id``, or those of an id of several columns under their own names.

        A name that such a table has already gets ``id_`` before it.
        """
        if self.id is None or isinstance(self.id, str):
            return {"id": self.ids}
        return {f"id_{name}" if name in _SCORES else name: self.columns[name] for name in self.id}

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """Code of the group of each event, shape ``(n,)``; None if every event is its own."""
        return None if self.group is None else self.columns[self.group].astype(np.int64)

    def in_order(self) -> Events:
        """The same events in the order of their ids: the order of rows in a file changes nothing."""
        keys = list(self.id_columns.values())
        return self.select(np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys[::-1]))

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Truth, shape ``(n,)``: True = signal.

        Raises
        ------
        InputError
            If the table has no label column.
        """
        if self.label is None:
            raise InputError("these events carry no truth label; give the label column (--label COL)")
        return np.asarray(self.columns[self.label]) > 0.5

    def without_label(self) -> Events:
        """Remove the truth: for methods that must not use labels."""
        if self.label is None:
            return self
        kept = {name: values for name, values in self.columns.items() if name != self.label}
        return replace(self, columns=kept, label=None)

    def select(self, mask: NDArray[Any]) -> Events:
        """Rows given by a boolean mask or by row numbers."""
        return replace(self, columns={name: values[mask] for name, values in self.columns.items()})

    def digest(self) -> str:
        """Content hash over names, roles, types and values: the same table gives the same text."""
        state = hashlib.blake2b(digest_size=16)
        state.update(repr((self.mass, self.features, self.weight, self.label, self.id)).encode())
        if self.group is not None:
            state.update(f"group {self.group}".encode())
        for name in sorted(self.columns):
            values = np.ascontiguousarray(self.columns[name])
            state.update(f"{name}:{values.dtype.str}:{len(values)}".encode())
            state.update(values.tobytes() if values.dtype != object else repr(values.tolist()).encode())
        return state.hexdigest()


def concatenate(samples: Sequence[Events]) -> Events:
    """Rows of several samples, one after the other.

    Only the columns that all samples share are kept; the roles are those of the first.

    Raises
    ------
    InputError
        If the list is empty or the roles differ.

    Examples
    --------
    >>> events = serendip.read({"mjj": [2500.0, 3100.0]}, mass="mjj")
    >>> len(serendip.concatenate([events, events]))
    4
    """
    if not samples:
        raise InputError("nothing to concatenate")
    first = samples[0]
    roles = (first.mass, first.features, first.weight, first.label, first.id, first.group)
    for other in samples[1:]:
        if (other.mass, other.features, other.weight, other.label, other.id, other.group) != roles:
            raise InputError("samples with different roles cannot be concatenated")
    shared = [name for name in first.columns if all(name in sample.columns for sample in samples)]
    columns = {name: np.concatenate([sample.columns[name] for sample in samples]) for name in shared}
    return replace(
        first, columns=columns, provenance={"parts": [dict(sample.provenance) for sample in samples]}
    )
