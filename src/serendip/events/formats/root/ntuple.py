"""The fields of an RNTuple as columns: records with dots (``p4.pt``), optional numbers, lists."""

from __future__ import annotations

import re
from typing import Any

from serendip.events.formats.root.fields import Contents, Field, columns_of_form

__all__ = ["describe_ntuple"]

_NUMBERS = {
    "float": "float32", "double": "float64", "bool": "bool", "char": "int8", "std::byte": "uint8",
    **{f"std::{sign}int{bits}_t": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"ROOT::RNTupleCardinality<std::uint{bits}_t>": f"uint{bits}" for bits in (32, 64)},
}  # fmt: skip
_LIST = re.compile(r"(?:std::vector|ROOT::VecOps::RVec)<(.*)>$")


def describe_ntuple(ntuple: Any) -> Contents:
    """Look at all fields; no data are read."""
    found = Contents()
    for field in ntuple.fields:
        # untyped collections, whose members also appear under their own names
        if not field.name.startswith("_collection"):
            _walk(field, field.name, found)
    return found


def _walk(field: Any, name: str, found: Contents) -> None:
    typename, depth = field.typename, 0
    while (inner := _LIST.match(typename)) is not None:
        typename, depth = inner.group(1), depth + 1
    if field.top_level and typename in _NUMBERS:
        found.add(name, Field(_NUMBERS[typename], depth, field))
        return
    if "variant" not in typename and field.fields and not field.in_variant:
        for below in field.fields:
            _walk(below, f"{name}.{below.name}", found)
        return
    try:
        form, path = field.to_akform()
        form = form.contents[0]
        columns = list(columns_of_form(form))
    # uproot raises for kinds of fields that it does not know, each in its own way
    except Exception as error:  # noqa: BLE001
        reason = (
            "is stored as an unsplit object"
            if isinstance(error, NotImplementedError)
            else "cannot be understood"
        )
        found.refuse(name, f"{reason} (class {field.typename}); write its numbers as fields of their own")
        return
    wanted = tuple(path or (field.name,))[1:]
    columns = [column for column in columns if column[0][: len(wanted)] == wanted]
    if not columns:
        found.refuse(name, "contains no data")
    for below, kind, levels, why in columns:
        rest = below[len(wanted) :]
        full = ".".join((name, *rest))
        if why:
            found.refuse(full, why)
        else:
            found.add(full, Field(kind, levels, field, rest))
