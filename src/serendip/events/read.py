"""Read events from Parquet, CSV, HDF5 and ROOT files, and refuse input that would invalidate a search."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.cuts import apply_cut
from serendip.events.dependence import check_dependence
from serendip.events.events import GROUP, Events
from serendip.events.formats import Source
from serendip.events.formats.table import Table
from serendip.events.identity import (
    COPIES,
    Place,
    checked_ids,
    content_codes,
    group_codes,
)
from serendip.events.jagged import Jagged
from serendip.events.roles import Roles, as_numbers, open_resolved
from serendip.events.weights import explain_negative_weights
from serendip.io.units import GEV, in_gev
from serendip.wording import counted

__all__ = ["ROW", "read"]

log = logging.getLogger(__name__)

ROW = "_row"
_NO_MASS = "_mass"
_FLOAT32_MAX = float(np.finfo(np.float32).max)
# a feature must span this many steps of single precision
_FLOAT32_STEPS = 1000
# rank correlation above which a feature is the mass in another form, and the number of events required
_SAME_ORDER = 0.999
_FEWEST_RANKS = 50


def read(
    path: Source | Any,
    *,
    mass: str | None = None,
    features: Sequence[str] = (),
    weight: str | None = None,
    label: str | None = None,
    id: str | Sequence[str] | None = None,
    group: str | Sequence[str] | None = None,
    where: str | None = None,
    tree: str | None = None,
    unit: str = "GeV",
    preset: str | None = None,
    for_training: bool = True,
    need_mass: bool = True,
    negative_weights: bool = False,
    independent: bool = False,
) -> Events:
    """Read a table of events.

    Only the columns that are needed are loaded. Rows with NaN or infinity in the mass or a feature, and rows for which a
    missing value leaves the cut undecided (:func:`serendip.events.expressions.decide`), are left out, counted in
    ``provenance["left_out"]`` and logged.

    Parameters
    ----------
    path
        A Parquet, Arrow, CSV (also packed), HDF5 (plain columns, compound tables, tables of pandas or PyTables), NumPy or
        ROOT file (TTree, RNTuple); a folder of such files, a pattern like ``"data/*.root"``, or a list of these. Or a table
        in memory: a dictionary of arrays, a structured array, a data frame (pandas, polars, Arrow), awkward records.
    mass
        Expression of columns for the resonant mass. May be left out with a preset, and for files that
        :func:`serendip.write` made, which know their roles.
    features
        Expressions of columns; the text of each becomes the name of the feature.
    weight
        Expression for the event weight; not negative.
    label, id
        Columns with the truth and with unique event ids (whole numbers or text), several columns as a list or with
        commas (``"run,lumi,event"``). Without ``id`` the row number in the file is the id, so that it does not depend on
        the cut.
    group
        Columns that define groups of correlated events, as for ``id``: events that are equal in all of them share a
        fold, and errors come from sums over groups. ``"duplicates"`` groups exact copies (same mass and features);
        ``"none"`` takes all events as independent, whatever they look like, which the provenance records.
    where
        A cut such as ``"pt>200 & abs(eta)<2.5"``; acts before everything else, on the columns in the units of the file.
    tree
        The table to take if a ROOT or HDF5 file has several.
    unit
        Unit of the mass in the file, ``"GeV"`` or ``"TeV"``; the mass is converted to GeV. Other columns
        stay.
    preset
        ``"lhco"`` for LHC Olympics files, see :class:`serendip.events.presets.LhcoTable`.
    for_training
        Refuse features that no model should learn from: constant ones, and the mass in another form. False for
        events that a finished model is to score, of which there may be few.
    need_mass
        False for programs without a mass: if none is given, none is looked for, and all masses of the events are 1.
    negative_weights
        Allow them (simulation at next-to-leading order), for uses in which only sums of weights enter.
    independent
        Check for correlated events (copies, near copies, several rows of one event), and refuse them if no ``group`` is given, see :mod:`serendip.events.copies`. All programs that make folds, trainings or
        p-values of data do; it can take ten times as long as the reading, which alone looks for repeated ids only.

    Raises
    ------
    InputError
        If the file, a column, an expression or a value cannot be used; the message gives the reason and what to do.

    Examples
    --------
    >>> events = serendip.read("events.parquet", mass="mjj", features=["mj1", "tau21"], where="mjj > 3000")
    >>> len(events), events.x.shape
    (547, (547, 2))
    """
    in_gev(unit)
    if preset is not None and unit != "GeV":
        raise InputError(f"the preset {preset} is for files in GeV; remove --unit")
    with open_resolved(
        path, tree, preset, unit, mass=mass, features=list(features), weight=weight, label=label, id=id, group=group,
        where=where, need_mass=need_mass,
    ) as (table, roles):  # fmt: skip
        if roles.mass is None and need_mass:
            raise InputError(f"{table.name}: say which column is the mass (--mass EXPR, mass=)")
        return _build(
            table, roles, unit, preset, for_training=for_training, negative_weights=negative_weights,
            independent=independent,
        )  # fmt: skip


def _build(
    table: Table,
    roles: Roles,
    unit: str,
    preset: str | None,
    *,
    for_training: bool = True,
    negative_weights: bool = False,
    independent: bool = False,
) -> Events:
    name = table.name
    raw = table.load(roles.columns)
    for column in {column for e in (*roles.numbers, roles.where) if e for column in e.columns}:
        raw[column] = as_numbers(table, column, raw[column])
    rows: NDArray[np.int64] | None = None
    undecided: dict[str, int] = {}
    if roles.where is not None:
        rows, undecided = apply_cut(name, roles.where, raw)
        if undecided:
            log.warning("%s: %d rows left out (%s)", name, sum(undecided.values()), _listed(undecided))
        raw = {column: values[rows] for column, values in raw.items()}
    after_cut = table.n_rows if rows is None else len(rows)

    columns = {e.text: _with_nan(e(raw)) for e in roles.numbers}

    def place(i: int) -> str:
        return table.place(int(i if rows is None else rows[i]))

    objects = {e.text for e in roles.numbers if any(isinstance(raw[column], Jagged) for column in e.columns)}
    keep, left_out, ranges = _finite(name, roles, columns, objects, place)
    if keep is not None:
        kept = np.flatnonzero(keep)
        if len(kept) == 0:
            raise InputError(f"{name}: no row has finite values in all of {', '.join(columns)}")
        log.warning("%s: %d rows left out (%s)", name, after_cut - len(kept), _listed(left_out))
        rows = kept if rows is None else rows[kept]
        columns = {text: values[kept] for text, values in columns.items()}
        used = [*([roles.label] if roles.label else []), *roles.id, *roles.grouping]
        raw = {column: raw[column][kept] for column in used}
        ranges = {text: _range(values) for text, values in columns.items()}
    numbers = np.arange(table.n_rows) if rows is None else rows
    _check(name, roles, columns, ranges, place, for_training=for_training, negative_weights=negative_weights)

    mass = _NO_MASS if roles.mass is None else roles.mass.text
    if roles.mass is None:
        columns[mass] = np.ones(len(numbers))
    elif unit != "GeV":
        columns[mass] = np.asarray(columns[mass], dtype=np.float64) * GEV[unit]
    if roles.label is not None:
        columns[roles.label] = _label(table, roles.label, raw[roles.label], place)
    if roles.id:
        columns |= checked_ids(name, {column: raw[column] for column in roles.id}, place)
    else:
        columns[ROW] = numbers
    if roles.grouping:
        columns[GROUP] = group_codes(name, {column: raw[column] for column in roles.grouping}, place)
    elif roles.group == COPIES:
        columns[GROUP] = content_codes([columns[text] for text in (mass, *(e.text for e in roles.features))])
    if independent:
        looked = ([mass] if roles.mass else []) + [e.text for e in roles.features]
        values = [columns[text] for text in looked]
        check_dependence(name, looked, values, columns.get(GROUP), roles.group, place)
    return Events(
        columns=columns,
        mass=mass,
        features=tuple(e.text for e in roles.features),
        weight=roles.weight.text if roles.weight else None,
        label=roles.label,
        id=roles.id or ROW,
        group=GROUP if GROUP in columns else None,
        provenance={
            "file": name,
            **({"files": table.files} if len(table.files) > 1 else {}),
            "format": table.format,
            "tree": table.tree,
            "bytes": table.size,
            "rows_in_file": table.n_rows + sum(table.left_out.values()),
            "rows_after_cut": after_cut,
            "rows": len(numbers),
            "left_out": table.left_out | undecided | left_out,
            "unit": unit,
            "preset": preset,
            "mass": roles.mass.text if roles.mass else None,
            "features": [e.text for e in roles.features],
            "where": roles.where.text if roles.where else None,
            "weight": roles.weight.text if roles.weight else None,
            "label": roles.label,
            "id": _names(roles.id),
            "group": roles.group if isinstance(roles.group, str) else _names(roles.group),
        },
    )


def _with_nan(values: NDArray[Any]) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        return np.asarray(np.ma.filled(values.astype(np.float64), np.nan))
    return values


def _names(columns: tuple[str, ...]) -> str | list[str] | None:
    return list(columns) if len(columns) > 1 else columns[0] if columns else None


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in counts.items())


def _range(values: NDArray[Any]) -> tuple[float, float]:
    """Minimum and maximum in blocks that stay in the cache; NaN if there is one."""
    blocks = [values[i : i + 32768] for i in range(0, len(values), 32768)]
    return float(np.min([block.min() for block in blocks])), float(np.max([block.max() for block in blocks]))


def _finite(
    name: str,
    roles: Roles,
    columns: Mapping[str, NDArray[Any]],
    objects: Collection[str],
    place: Place,
) -> tuple[NDArray[np.bool_] | None, dict[str, int], dict[str, tuple[Any, Any]]]:
    """Mask of the rows to keep (None: all), how many each column made unusable, and the ranges."""
    keep: NDArray[np.bool_] | None = None
    left_out: dict[str, int] = {}
    ranges: dict[str, tuple[Any, Any]] = {}
    for text, values in columns.items():
        # NaN passes through min and max, so two fast passes show that a column is valid. Features become
        # float32.
        limit = _FLOAT32_MAX if any(text == e.text for e in roles.features) else np.finfo(np.float64).max
        low, high = ranges[text] = _range(values)
        if low >= -limit and high <= limit:
            continue
        good = np.abs(values) <= limit
        bad = len(values) - int(np.count_nonzero(good))
        if bad == len(values):
            raise InputError(f"{name}: column '{text}' is NaN or infinite in all {bad} rows; leave it out")
        if roles.weight is not None and text == roles.weight.text:
            first = int(np.flatnonzero(~good)[0])
            raise InputError(
                f"{name}: weight '{text}' is NaN or infinite in {counted(bad, 'row')}, first in {place(first)}; expected "
                "finite weights that are not negative; remove these rows with --where"
            )
        why = ": no such object, NaN or infinite" if text in objects else " is NaN or infinite"
        left_out[text + why] = bad
        keep = good if keep is None else keep & good
    return keep, left_out, ranges


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks of some 500 events along a column, with mean zero and length one: their product is a correlation."""
    few = values[:: max(1, len(values) // 500)]
    ordered = np.sort(few)
    # equal values share a rank, or a column of zeros in a file sorted by mass would have the order of the rows
    ranks = np.asarray(
        ordered.searchsorted(few, "left") + ordered.searchsorted(few, "right") - len(few), float
    )
    return ranks / max(float(np.sqrt(ranks @ ranks)), 1.0)


def _check(
    name: str,
    roles: Roles,
    columns: Mapping[str, NDArray[Any]],
    ranges: Mapping[str, tuple[Any, Any]],
    place: Place,
    *,
    for_training: bool,
    negative_weights: bool,
) -> None:
    mass = columns[roles.mass.text] if roles.mass else np.zeros(0)
    if roles.mass and ranges[roles.mass.text][0] <= 0:
        bad = np.flatnonzero(mass <= 0)
        raise InputError(
            f"{name}: the mass '{roles.mass.text}' is zero or negative in {counted(len(bad), 'row')}, first in "
            f"{place(bad[0])} ({mass[bad[0]]:g}); remove them with --where '{roles.mass.text} > 0'"
        )
    order = _ranks(mass)
    for feature in roles.features if for_training else ():
        values = columns[feature.text]
        low, high = ranges[feature.text]
        if low == high:
            raise InputError(
                f"{name}: the feature '{feature.text}' is constant ({values[0]:g} in all {len(values)} "
                "rows); leave it out"
            )
        step = float(np.spacing(np.float32(max(abs(low), abs(high)))))
        if high - low < _FLOAT32_STEPS * step:
            raise InputError(
                f"{name}: the feature '{feature.text}' runs from {low:.10g} to {high:.10g}, too small a range for its size: "
                f"models compute in single precision, in steps of {step:.2g} there; subtract an offset, for example "
                f"'{feature.text} - {low:.10g}'"
            )
        if roles.mass and len(order) >= _FEWEST_RANKS and abs(_ranks(values) @ order) > _SAME_ORDER:
            raise InputError(
                f"{name}: the feature '{feature.text}' has the order of the mass '{roles.mass.text}' in nearly all rows; "
                "a classifier would select the window and no signal; leave it out"
            )
    if roles.weight is not None:
        weight = columns[roles.weight.text]
        low, high = ranges[roles.weight.text]
        if low < 0 and not negative_weights:
            bad = np.flatnonzero(weight < 0)
            raise InputError(
                f"{name}: weight '{roles.weight.text}' is negative in {counted(len(bad), 'row')}, first in "
                f"{place(bad[0])} ({weight[bad[0]]:g}): {explain_negative_weights(weight)}"
            )
        if low == high == 0:
            raise InputError(f"{name}: weight '{roles.weight.text}' is 0 in all rows")


def _label(table: Table, column: str, values: NDArray[Any], place: Place) -> NDArray[Any]:
    try:
        values = _with_nan(as_numbers(table, column, values))
    except InputError as error:
        raise InputError(f"{error}; a label is 1 for signal and 0 for background") from None
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values))
        raise InputError(
            f"{table.name}: label '{column}' is NaN in {counted(len(bad), 'row')}, first in {place(bad[0])}; "
            "expected 1 for signal and 0 for background"
        )
    return values
