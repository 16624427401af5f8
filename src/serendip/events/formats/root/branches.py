"""The columns of a TTree.

Branches of split objects are named with dots from the object down, as in ``TTree::Draw`` and RDataFrame: ``lead.fCoordinates.fPt``. Leaves
of a leaf list are ``dijet.mjj``. The name of the last branch alone does where it is the only one.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import uproot

from serendip.events.formats.root.fields import Contents, Field, columns_of_form, reason_of

__all__ = ["describe_tree"]

_UNSPLIT = "is an unsplit object of the class {} that uproot cannot read as numbers; write its numbers as branches of their own (split it)"
_DIMENSIONS = re.compile(r"(\[[^\]]*\])+$")


def describe_tree(tree: Any) -> Contents:
    """Look at all branches; no data are read."""
    found = Contents()
    short: dict[str, list[str]] = {}
    _walk(tree, tree, "", "", found, short)
    found.shorten(short)
    return found


def _walk(
    tree: Any, parent: Any, dotted: str, name: str, found: Contents, short: dict[str, list[str]]
) -> None:
    for branch in parent.branches:
        full = _name(branch.name, name, dotted)
        if branch.branches:
            _walk(tree, branch, full, branch.name.rstrip("."), found, short)
            continue
        before = set(found.fields)
        _add(tree, branch, full, found)
        for column in found.fields.keys() - before:
            tail = column[len(full) :] if column.startswith(full) else ""
            short.setdefault(branch.name.rstrip(".") + tail, []).append(column)


def _name(own: str, parent: str, dotted: str) -> str:
    """Name of a branch with those of the objects around it, each once."""
    own = _DIMENSIONS.sub("", own).rstrip(".") or own
    if not parent:
        return own
    if own.startswith(f"{dotted}."):
        return own
    return f"{dotted}.{own.removeprefix(f'{parent}.')}"


def _add(tree: Any, branch: Any, name: str, found: Contents) -> None:
    try:
        kind, own = _interpretation(branch)
        typename = "Float16_t" if own else branch.typename
    # uproot looks at streamers and titles of leaves here, which a class can have in any form
    except Exception as error:  # noqa: BLE001
        found.refuse(name, f"cannot be understood by uproot ({reason_of(error)})")
        return
    if branch.num_entries != tree.num_entries:
        found.refuse(
            name,
            f"has {branch.num_entries} entries, the tree {tree.num_entries}; write it again for all events",
        )
        return
    inner = kind.content if isinstance(kind, uproot.AsJagged) else kind
    depth = int(isinstance(kind, uproot.AsJagged))
    if isinstance(kind, uproot.AsStrings):
        found.add(name, Field("text", 0, branch))
    elif isinstance(inner, uproot.AsDouble32 | uproot.AsFloat16):
        number = "float64" if isinstance(inner, uproot.AsDouble32) else "float32"
        shape = inner.to_dims
        if depth and shape:
            found.refuse(
                name, f"is of the type {typename}, packed lists of arrays, which uproot reads wrongly"
            )
        else:
            packed = Field(number, depth + len(shape), branch, plain=False, interpretation=kind)
            found.add(name, packed)
    elif isinstance(inner, uproot.AsStridedObjects):
        _add_record(branch, kind, name, typename, found)
    elif isinstance(inner, uproot.AsDtype):
        _add_numbers(branch, inner.to_dtype, depth, name, found, kind if own else None)
    elif isinstance(kind, uproot.AsObjects):
        _add_object(branch, kind, name, typename, found)
    else:
        found.refuse(
            name, f"is of {f'the type {typename}' if typename else 'a type'} that uproot does not know"
        )


def _interpretation(branch: Any) -> tuple[Any, bool]:
    """How to read a branch, and whether that is not uproot's own way: it is but for packed numbers that uproot 5.7 reads wrongly or not at all.

    A Double32_t without a range is a float on disk, and a Float16_t without a range has 12 bits after the binary point, also where
    the title of the leaf asks for 15 or more (``x/f[0,0,16]``): ROOT ignores that.
    """
    leaves = branch.member("fLeaves")
    leaf = leaves[0] if len(leaves) == 1 else None
    packed = {"TLeafF16": "AsFloat16", "TLeafD32": "AsDouble32"}.get(getattr(leaf, "classname", ""))
    try:
        kind = branch.interpretation
    except UnboundLocalError:
        if packed is None or branch.title.count("[") != 1:
            raise
        return uproot.AsJagged(_unranged(packed, ())), True
    inner = kind.content if isinstance(kind, uproot.AsJagged) else kind
    if (
        not isinstance(inner, uproot.AsDouble32 | uproot.AsFloat16)
        or inner.low != inner.high
        or inner.num_bits < 15
    ):
        return kind, False
    plain = _unranged(type(inner).__name__, tuple(inner.to_dims))
    return uproot.AsJagged(plain, kind.header_bytes) if isinstance(kind, uproot.AsJagged) else plain, True


def _unranged(packed: str, shape: tuple[int, ...]) -> Any:
    if packed == "AsFloat16":
        return uproot.AsFloat16(0, 0, 12, shape)
    return uproot.AsDtype(np.dtype((">f4", shape)), np.dtype((np.float64, shape)))


def _add_numbers(
    branch: Any, dtype: Any, depth: int, name: str, found: Contents, interpretation: Any = None
) -> None:
    base, shape = dtype.base, dtype.shape
    if base.names is None:
        if base.kind in "biuf":
            number = str(base.newbyteorder("="))
            found.add(name, Field(number, depth + len(shape), branch, interpretation=interpretation))
        else:
            found.refuse(name, f"has the type {base}; expected numbers")
        return
    if not base.names:
        found.refuse(name, "contains no data")
    for leaf in base.names:
        below = base[leaf]
        if below.base.kind in "biuf":
            number = str(below.base.newbyteorder("="))
            found.add(f"{name}.{leaf}", Field(number, depth + len(shape) + len(below.shape), branch, (leaf,)))
        else:
            found.refuse(f"{name}.{leaf}", f"has the type {below.base}; expected numbers")


def _add_record(branch: Any, kind: Any, name: str, typename: str, found: Contents) -> None:
    """Add members of a class that is not split but has a fixed size, such as a TLorentzVector.

    Whether the objects have that size on disk shows only when one is read.
    """
    try:
        columns = list(columns_of_form(kind.awkward_form(branch.file)))
        branch.array(entry_stop=1)
    except Exception:  # noqa: BLE001 - as above
        found.refuse(name, _UNSPLIT.format(typename))
        return
    for path, number, depth, why in columns:
        full = ".".join((name, *path))
        if why:
            found.refuse(full, why)
        else:
            found.add(full, Field(number, depth, branch, path, plain=False))


def _add_object(branch: Any, kind: Any, name: str, typename: str, found: Contents) -> None:
    """Add lists of numbers that uproot reads one by one; other objects have no columns."""
    try:
        columns = list(columns_of_form(kind.awkward_form(branch.file)))
        if "bitset" in typename:
            branch.array(entry_stop=1)
    except Exception:  # noqa: BLE001 - as above
        columns = []
    if len(columns) == 1 and columns[0][0] == () and not columns[0][3]:
        found.add(name, Field(columns[0][1], columns[0][2], branch, plain=False))
    else:
        found.refuse(name, _UNSPLIT.format(typename))
