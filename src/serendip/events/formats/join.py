"""Parts of a column in one type that holds every value exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.formats.text_layout import is_number
from serendip.events.jagged import Jagged

__all__ = ["common_type", "join"]


def join(table: str, name: str, values: Sequence[Any], parts: Sequence[str]) -> Any:
    """Put the parts of a column together in a type that holds every value exactly.

    Parameters
    ----------
    table, name
        For messages.
    values
        One array for each part, or lists of numbers.
    parts
        Names of the parts.

    Raises
    ------
    InputError
        If no type holds the values of all parts, such as whole numbers beyond 2^53 beside floats.
    """
    if not values:
        return np.empty(0)
    if isinstance(values[0], Jagged):
        counts = np.concatenate([part.counts for part in values])
        return Jagged.of(counts, join(table, name, [part.content for part in values], parts))
    # A part whose values are all missing does not constrain the type.
    said = [i for i, array in enumerate(values) if not _all_missing(array)] or [0]
    dtypes = [values[i].dtype for i in said]
    if all(dtype.kind in "OU" for dtype in dtypes):
        if len(said) < len(values) or object in dtypes:
            return np.concatenate(
                [a.astype(object) if a.dtype.kind in "OU" else np.full(len(a), None) for a in values]
            )
        return np.concatenate(values)
    if any(dtype.kind in "OU" for dtype in dtypes):
        text = next(i for i in said if values[i].dtype.kind in "OU")
        number = next(i for i in said if values[i].dtype.kind not in "OU")
        row = next((row for row, value in enumerate(values[text]) if not _is_number(value)), 0)
        raise InputError(
            f"{table}: column '{name}' holds numbers in '{parts[number]}' and text in '{parts[text]}', "
            f"for example '{str(values[text][row])[:40]}' in row {row}; all parts of a table need the same columns"
        )
    wanted = common_type(dtypes)
    if wanted.kind in "iu":
        wanted = _whole(table, name, values, parts, said)
    elif wanted.kind == "f":
        wanted = _float(table, name, values, parts, said, wanted)
    cast = [
        array.astype(wanted) if i in said else np.full(len(array), np.nan) for i, array in enumerate(values)
    ]
    if any(isinstance(array, np.ma.MaskedArray) for array in cast) or (
        len(said) < len(values) and wanted.kind in "iu"
    ):
        if wanted.kind == "f":
            return np.concatenate([np.ma.filled(array, np.nan) for array in cast])
        masks = [
            np.ma.getmaskarray(array) if i in said else np.ones(len(array), bool)
            for i, array in enumerate(cast)
        ]
        plain = [
            np.ma.getdata(array) if i in said else np.zeros(len(array), wanted)
            for i, array in enumerate(cast)
        ]
        return np.ma.MaskedArray(np.concatenate(plain), np.concatenate(masks))
    return np.concatenate(cast)


def common_type(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """Type for all, where signed and unsigned whole numbers stay whole."""
    if all(dtype.kind in "biu" for dtype in dtypes):
        whole = [np.dtype(np.int8) if dtype.kind == "b" else dtype for dtype in dtypes]
        if all(dtype.kind == "b" for dtype in dtypes):
            return np.dtype(bool)
        common = np.result_type(*whole)
        return np.dtype(np.int64) if common.kind == "f" else common
    return np.result_type(*dtypes)


def _whole(
    table: str, name: str, values: Sequence[NDArray[Any]], parts: Sequence[str], said: Sequence[int]
) -> np.dtype[Any]:
    common = common_type([values[i].dtype for i in said])
    if common != np.int64 or all(values[i].dtype != np.uint64 for i in said):
        return common
    large = [i for i in said if values[i].dtype == np.uint64 and values[i].max() >= 2**63]
    if not large:
        return common
    negative = [i for i in said if values[i].dtype.kind == "i" and values[i].min() < 0]
    if negative:
        raise InputError(
            f"{table}: column '{name}' has negative numbers in '{parts[negative[0]]}' and numbers above 2^63 in "
            f"'{parts[large[0]]}'; no type holds both exactly; write the parts with one type"
        )
    return np.dtype(np.uint64)


def _float(
    table: str,
    name: str,
    values: Sequence[NDArray[Any]],
    parts: Sequence[str],
    said: Sequence[int],
    wanted: np.dtype[Any],
) -> np.dtype[Any]:
    """Float type that holds the whole numbers of the parts that have such."""
    whole = [i for i in said if values[i].dtype.kind in "iu"]
    limit = max((_largest(values[i]) for i in whole), default=0)
    if limit > 2 ** (np.finfo(wanted).nmant + 1):
        wanted = np.dtype(np.float64)
    if limit > 2**53:
        largest = max(whole, key=lambda i: _largest(values[i]))
        floating = next(i for i in said if values[i].dtype.kind == "f")
        raise InputError(
            f"{table}: column '{name}' is {values[largest].dtype} with values beyond 2^53 in '{parts[largest]}' and "
            f"{values[floating].dtype} in '{parts[floating]}'; a double would round them; write all parts with "
            f"{values[largest].dtype}"
        )
    return wanted


def _largest(values: NDArray[Any]) -> int:
    return 0 if not len(values) else max(abs(int(values.min())), abs(int(values.max())))


def _all_missing(values: NDArray[Any]) -> bool:
    if isinstance(values, np.ma.MaskedArray):
        return bool(np.ma.getmaskarray(values).all())
    if values.dtype == object:
        return all(value is None for value in values)
    return values.dtype == np.float64 and bool(np.isnan(values[:1]).all()) and bool(np.isnan(values).all())


def _is_number(value: Any) -> bool:
    return value is None or is_number(str(value))
