"""The layouts in which pandas stores frames and series in HDF5 files."""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from serendip.events.formats.arrays import Position, reason
from serendip.events.formats.table import TEXT, as_array

__all__ = ["Frame", "describe_fixed", "describe_table", "layout_of"]

PICKLED = "is stored as Python objects; save the table with text columns left out, or with format='table'"
TIME = "is a time ({kind}); expected numbers or text; save it as a number, such as seconds"
CATEGORICAL = "is categorical (numbers of texts); save it as text or as numbers"


@dataclass
class Frame:
    """A table of pandas: rows, types and unusable columns, and where the columns are."""

    n_rows: int = 0
    types: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    sources: dict[str, tuple[h5py.Dataset, Position]] = field(default_factory=dict)
    levels: dict[str, h5py.Dataset] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, dataset: h5py.Dataset, position: Position, dtype: np.dtype[Any]) -> None:
        """Add a column, or record why it cannot be one."""
        why = reason(dtype)
        if why:
            self.unreadable[name] = why
        elif name in self.types or name in self.unreadable:
            self.types.pop(name, None)
            self.unreadable[name] = "is duplicated; rename one of them"
        else:
            self.types[name] = TEXT if dtype.kind in "SU" else str(dtype.newbyteorder("="))
            self.sources[name] = dataset, position


def layout_of(group: h5py.Group) -> str | None:
    """``"fixed"`` or ``"table"`` if pandas made the group."""
    kind = _text(group, "pandas_type")
    if kind in ("frame", "series"):
        return "fixed"
    return "table" if kind.endswith("_table") and "table" in group else None


def _text(item: Any, name: str) -> str:
    value = item.attrs.get(name, b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def describe_fixed(group: h5py.Group) -> Frame:
    """Describe the "fixed" layout: columns in blocks of one type, row labels as a level and codes or as values."""
    frame = Frame()
    if _text(group, "pandas_type") == "series":
        index, values = "index", group["values"]
        name = _name(group) or "values"
        _add_block(frame, values, [name], 0 if values.ndim == 1 else None)
    else:
        index = "axis1"
    first = group.get(index, group.get(f"{index}_label0"))
    # an empty array is stored as one value and its true shape
    frame.n_rows = 0 if "shape" in first.attrs else len(first)
    if index == "axis1":
        for i in range(int(group.attrs["nblocks"])):
            names = _labels(group, f"block{i}_items")
            _add_block(frame, group[f"block{i}_values"], names, None)
    _add_index(frame, group, index)
    return frame


def _add_block(frame: Frame, values: h5py.Dataset, names: list[str], only: int | None) -> None:
    kind = _text(values, "value_type")
    for position, name in enumerate(names):
        if "shape" in values.attrs and frame.n_rows == 0 and values.size <= 1:
            frame.types[name] = kind or "float64"
            frame.sources[name] = values, ()
        elif values.dtype == object:
            frame.unreadable[name] = PICKLED
        elif kind.startswith(("datetime", "timedelta")):
            frame.unreadable[name] = TIME.format(kind=kind)
        else:
            frame.add(name, values, () if only is not None else (position,), values.dtype)


def _labels(group: h5py.Group, key: str) -> list[str]:
    """Names of columns; those of several levels are joined with dots."""
    if _text(group, f"{key}_variety") != "multi":
        return [str(name) for name in as_array(group[key][:])]
    columns = []
    for level in range(int(group.attrs[f"{key}_nlevels"])):
        levels = as_array(group[f"{key}_level{level}"][:])
        columns.append([str(levels[code]) for code in group[f"{key}_label{level}"][:]])
    return [".".join(parts) for parts in zip(*columns, strict=True)]


def _add_index(frame: Frame, group: h5py.Group, key: str) -> None:
    """Add the row labels that have a name."""
    levels = int(group.attrs.get(f"{key}_nlevels", 0)) if _text(group, f"{key}_variety") == "multi" else 0
    sources = [(group[f"{key}_level{i}"], group[f"{key}_label{i}"]) for i in range(levels)] or [
        (group[key], None)
    ]
    for values, codes in sources:
        name = _name(values)
        if name is None or name in frame.types or name in frame.unreadable:
            continue
        kind = _text(values, "kind")
        if values.dtype == object:
            frame.unreadable[name] = PICKLED
        elif kind.startswith(("datetime", "timedelta", "date")):
            frame.unreadable[name] = TIME.format(kind=kind)
        else:
            frame.add(name, values if codes is None else codes, (), values.dtype)
            if codes is not None and name in frame.sources:
                frame.levels[name] = values


def _name(item: Any) -> str | None:
    """Name of an index or series; PyTables stores values that are not text (None above all) as a pickle."""
    name = _text(item, "name")
    return None if name in ("", "N.") or (name.endswith(".") and "\n" in name) else name


def describe_table(dataset: h5py.Dataset) -> Frame:
    """Describe the "table" layout: a compound table whose fields are columns or blocks of columns of one type."""
    frame = Frame(n_rows=len(dataset))
    for name in dataset.dtype.names:
        dtype = dataset.dtype[name]
        names = _listed(dataset.attrs.get(f"{name}_kind")) if dtype.subdtype is not None else [name]
        base, shape = dtype.subdtype if dtype.subdtype is not None else (dtype, (1,))
        if names is None or len(shape) != 1 or len(names) != shape[0]:
            frame.unreadable[name] = "is a block of columns whose names are not known"
            continue
        kind = _text(dataset, f"{name}_dtype")
        for position, column in enumerate(names):
            way: Position = (name,) if dtype.subdtype is None else (name, position)
            if _text(dataset, f"{name}_meta") == "category":
                frame.unreadable[column] = CATEGORICAL
            elif kind.startswith(("datetime", "timedelta")):
                frame.unreadable[column] = TIME.format(kind=kind)
            else:
                frame.add(column, dataset, way, base)
    _rename_index(frame, dataset.parent)
    return frame


def _rename_index(frame: Frame, group: h5py.Group) -> None:
    info = _unpickled(group.attrs.get("info"))
    about = info.get("index", {}) if isinstance(info, dict) else {}
    name = about.get("index_name") if isinstance(about, dict) else None
    if isinstance(name, str) and name not in frame.types and "index" in frame.types:
        frame.types[name], frame.sources[name] = frame.types.pop("index"), frame.sources.pop("index")
        frame.aliases["index"] = name


def _listed(pickled: Any) -> list[str] | None:
    names = _unpickled(pickled)
    if not isinstance(names, list):
        return None
    return [".".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in names]


_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_IGNORED = {"PROTO", "FRAME", "STOP"}
_MARK = object()


def _unpickled(pickled: Any) -> Any:
    """Lists, dictionaries, tuples, texts and numbers of a pickle, from the listing of its operations; nothing is run.

    None if it holds anything else.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        at = max(i for i, one in enumerate(stack) if one is _MARK)
        items = stack[at + 1 :]
        del stack[at:]
        return items

    try:
        for operation, value, _ in pickletools.genops(bytes(pickled)):
            name = operation.name
            if name in _IGNORED:
                continue
            if name in _VALUES:
                stack.append(_VALUES[name])
            elif (
                "UNICODE" in name
                or "STRING" in name
                or name.startswith(("INT", "BININT", "LONG", "FLOAT", "BINFLOAT"))
            ):
                stack.append(value)
            elif name == "MARK":
                stack.append(_MARK)
            elif name.startswith("EMPTY_"):
                stack.append({"EMPTY_LIST": [], "EMPTY_DICT": {}, "EMPTY_TUPLE": ()}[name])
            elif name in ("LIST", "TUPLE", "DICT"):
                items = since_mark()
                made = {"LIST": list, "TUPLE": tuple}.get(name)
                stack.append(made(items) if made else dict(zip(items[::2], items[1::2], strict=True)))
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                n = int(name[-1])
                stack[-n:] = [tuple(stack[-n:])]
            elif name in ("APPEND", "APPENDS"):
                items = [stack.pop()] if name == "APPEND" else since_mark()
                stack[-1].extend(items)
            elif name in ("SETITEM", "SETITEMS"):
                items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else since_mark()
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif "PUT" in name:
                memo[int(str(value))] = stack[-1]
            elif "GET" in name:
                stack.append(memo[int(str(value))])
            else:
                return None
        return stack[-1]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None
