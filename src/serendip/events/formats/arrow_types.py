"""Arrow's types as NumPy arrays: supported column types, reasons for unsupported ones, and no silent rounding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.expressions.values import whole_numbers
from serendip.events.formats.table import EMPTY, TEXT
from serendip.events.jagged import Jagged

__all__ = ["leaves", "listed", "load", "to_numpy", "usable"]

_INT64_DIGITS = 18


def _plain(column: pa.DataType) -> pa.DataType:
    """The type without a wrapper that only describes its storage or origin."""
    while True:
        if isinstance(column, pa.BaseExtensionType):
            column = column.storage_type
        elif pa.types.is_dictionary(column) or pa.types.is_run_end_encoded(column):
            column = column.value_type
        else:
            return column


def leaves(field: pa.Field) -> Iterator[tuple[str, tuple[str, ...], pa.DataType]]:
    """Columns of a field: itself, or those of a record or a list of records with dotted names; each with its path and type."""
    column = _plain(field.type)
    record, lists = column, 0
    while _is_list(record):
        record, lists = _plain(record.value_type), lists + 1
    if not pa.types.is_struct(record) or record.num_fields == 0:
        yield field.name, (field.name,), field.type
        return
    for child in record:
        for name, path, kind in leaves(child):
            yield f"{field.name}.{name}", (field.name, *path), _wrapped(kind, lists)


def _wrapped(column: pa.DataType, lists: int) -> pa.DataType:
    return column if lists == 0 else _wrapped(pa.list_(column), lists - 1)


def _is_text(column: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(column) or pa.types.is_large_string(column) or pa.types.is_string_view(column)
    )


def _is_list(column: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(column)
        or pa.types.is_large_list(column)
        or pa.types.is_fixed_size_list(column)
        or pa.types.is_list_view(column)
        or pa.types.is_large_list_view(column)
    )


def usable(column: pa.DataType) -> tuple[str | None, str]:
    """Type in NumPy's words, or None and why the column cannot be used."""
    column = _plain(column)
    if pa.types.is_null(column):
        return EMPTY, ""
    if _is_text(column):
        return TEXT, ""
    if pa.types.is_decimal(column):
        whole = column.scale <= 0
        return ("int64" if whole and column.precision - column.scale <= _INT64_DIGITS else "float64"), ""
    if pa.types.is_integer(column) or pa.types.is_floating(column) or pa.types.is_boolean(column):
        return str(np.dtype(column.to_pandas_dtype())), ""
    if pa.types.is_temporal(column):
        return None, f"is a time ({column}); expected numbers or text; write it as a number, such as seconds"
    if _one_each(column):
        return usable(column.value_type)
    return None, f"has the type {column}; expected numbers or text"


def listed(column: pa.DataType) -> str | None:
    """Type of the numbers in the lists of a column, ``list of ...`` for lists of lists; None if it has no such lists."""
    column = _plain(column)
    if not _is_list(column) or _one_each(column):
        return None
    inner = listed(column.value_type)
    if inner is not None:
        return f"list of {inner}"
    kind, _ = usable(column.value_type)
    return None if kind in (None, TEXT) else kind


def _one_each(column: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(column) and column.list_size == 1)


def load(column: pa.ChunkedArray, fields: Sequence[str], table: str, name: str) -> Any:
    """Values of a column, or lists of them as :class:`~serendip.events.jagged.Jagged`.

    Parameters
    ----------
    column
        The column, or the record or list of records that holds it.
    fields
        Names of the fields on the way to it.
    table, name
        For messages.
    """
    column = _stripped(column)
    if _is_list(column.type) and not _one_each(column.type):
        counts = pc.fill_null(pc.list_value_length(column), 0)
        inside = load(pc.list_flatten(column), fields, table, name)
        return Jagged.of(counts.to_numpy().astype(np.int64), inside)
    if fields:
        return load(pc.struct_field(column, fields[0]), fields[1:], table, name)
    return to_numpy(column, table, name)


def to_numpy(column: pa.ChunkedArray, table: str, name: str) -> NDArray[Any]:
    """Values of a column, shape ``(n,)``.

    Missing numbers are NaN, missing texts None. Integers that a double cannot hold next to NaN are returned as a masked array.

    Parameters
    ----------
    column
        Of a type that :func:`usable` accepts.
    table, name
        For messages.

    Raises
    ------
    InputError
        If a decimal number is too large for a double.
    """
    column = _stripped(column)
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        return to_numpy(_only(column), table, name)
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if _is_text(kind):
        return np.asarray(column.cast(pa.large_string()).to_numpy(zero_copy_only=False), dtype=object)
    if pa.types.is_decimal(kind):
        column = _number(column, table, name)
    if column.null_count == 0 or pa.types.is_floating(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    return whole_numbers(values, column.is_null().to_numpy(zero_copy_only=False))


def _stripped(column: pa.ChunkedArray) -> pa.ChunkedArray:
    while True:
        if isinstance(column.type, pa.BaseExtensionType):
            chunks = [chunk.storage for chunk in column.chunks]
            column = pa.chunked_array(chunks, type=column.type.storage_type)
        elif pa.types.is_dictionary(column.type):
            # not by a cast, which some types of text do not have
            chunks = [_viewless(chunk.dictionary).take(chunk.indices) for chunk in column.chunks]
            column = pa.chunked_array(chunks, type=None if chunks else column.type.value_type)
        elif pa.types.is_run_end_encoded(column.type):
            column = pa.chunked_array(
                [pc.run_end_decode(chunk) for chunk in column.chunks], type=column.type.value_type
            )
        else:
            return column


def _viewless(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.large_string()) if pa.types.is_string_view(texts.type) else texts


def _only(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The one value of each list; missing where the list is."""
    return pc.list_element(column, 0)


def _number(column: pa.ChunkedArray, table: str, name: str) -> pa.ChunkedArray:
    """Decimals as whole numbers if they are whole and fit, else as the nearest doubles."""
    if column.type.scale <= 0:
        for target in (pa.int64(), pa.uint64()):
            try:
                return column.cast(target)
            except pa.ArrowInvalid:
                continue
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise InputError(f"{table}: column '{name}' ({column.type}) cannot be a double: {error}") from error
