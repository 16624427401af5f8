"""The roles of the columns of a table: expressions and names given by the user, checked against the table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.expressions import Expression, not_flat, parse
from serendip.events.expressions.values import EXACT, whole_numbers
from serendip.events.formats import open_table
from serendip.events.formats.table import Table
from serendip.events.identity import ALONE, COPIES, column_list
from serendip.events.jagged import Jagged
from serendip.events.presets import LhcoTable, preset_table
from serendip.io.units import ENERGIES, GEV

__all__ = ["Roles", "as_numbers", "check_unit", "open_resolved", "resolve"]


@dataclass(frozen=True)
class Roles:
    """The roles of the columns of a table, checked against the table."""

    mass: Expression | None
    features: tuple[Expression, ...]
    where: Expression | None
    weight: Expression | None
    label: str | None
    id: tuple[str, ...] = ()
    group: tuple[str, ...] | str = ()

    @property
    def grouping(self) -> tuple[str, ...]:
        """Columns that define the groups; none if a keyword is used."""
        return () if isinstance(self.group, str) else self.group

    @property
    def numbers(self) -> tuple[Expression, ...]:
        """Mass, features and weight."""
        return tuple(e for e in (self.mass, *self.features, self.weight) if e is not None)

    @property
    def columns(self) -> list[str]:
        """Names of all columns to load, each once."""
        expressions = [*self.numbers, *([self.where] if self.where else [])]
        names = [name for e in expressions for name in sorted(e.columns)]
        label = [] if self.label is None else [self.label]
        return list(dict.fromkeys([*names, *label, *self.id, *self.grouping]))


def resolve(
    table: Table,
    *,
    mass: str | None,
    features: Sequence[str],
    weight: str | None,
    label: str | None,
    id: str | Sequence[str] | None,
    group: str | Sequence[str] | None = None,
    where: str | None,
    need_mass: bool = True,
) -> Roles:
    """Parse all expressions, fill in the settings of a preset or the file, and check the roles.

    Raises
    ------
    InputError
        If a column is missing, or the label, id, group or weight takes part in a feature or the mass.
    """
    if isinstance(table, LhcoTable):
        mass = mass or (table.mass if need_mass else None)
        features, label = features or table.features, label or table.label
    elif mass is None and table.roles is not None:
        stored = table.roles
        mass, features = stored["mass"] if need_mass else None, features or stored["features"]
        weight, label, id = weight or stored["weight"], label or stored["label"], id or stored["id"]
        group = group or stored.get("group")
    known = table.names

    def expression(text: str) -> Expression:
        text = table.aliases.get(text.strip().strip("`"), text)
        try:
            return parse(text, known, table.aliases)
        except InputError as error:
            raise InputError(f"{table.name}: {error}") from None

    def column(text: str | None) -> str | None:
        if text is None:
            return None
        name = text.strip().strip("`")
        name = table.aliases.get(name, name)
        table.require([name])
        return name

    def several(given: str | Sequence[str] | None) -> tuple[str, ...]:
        return tuple(table.aliases.get(name, name) for name in column_list(given, known | set(table.aliases)))

    roles = Roles(
        mass=expression(mass) if mass else None,
        features=tuple(expression(text) for text in features),
        where=expression(where) if where else None,
        weight=expression(weight) if weight else None,
        label=column(label),
        id=several(id),
        group=str(group) if group in (COPIES, ALONE) else several(group),
    )
    table.require(roles.columns)
    for used in (*roles.numbers, *([roles.where] if roles.where else [])):
        if used.plain and used.text in table.jagged:
            raise InputError(f"{table.name}: {not_flat(used.text)}")
    for name in (roles.label, *roles.id, *roles.grouping):
        if name in table.jagged:
            raise InputError(
                f"{table.name}: column '{name}' has a list of values for each event; a label, id or group has one"
            )
    hidden: dict[str, Collection[str | None]] = {
        "label": {roles.label},
        "id": set(roles.id),
        "group": set(roles.grouping),
        "weight": roles.weight.columns if roles.weight else set(),
    }
    for used in (*roles.features, *([roles.mass] if roles.mass else [])):
        for role, names in hidden.items():
            for name in used.columns.intersection(names):
                what = "mass" if used is roles.mass else "feature"
                raise InputError(
                    f"{table.name}: the {what} '{used.text}' uses column '{name}', which is the {role}; "
                    f"a search must not see it; leave it out of the {what}"
                )
    if roles.weight and roles.label in roles.weight.columns:
        raise InputError(
            f"{table.name}: the weight '{roles.weight.text}' uses column '{roles.label}', which is the label; "
            "a search must not see it; leave it out of the weight"
        )
    texts = [feature.text for feature in roles.features]
    for text in texts:
        if texts.count(text) > 1:
            raise InputError(f"the feature '{text}' is given twice")
        if roles.mass and text == roles.mass.text:
            raise InputError(f"'{text}' is the mass and cannot also be a feature")
    return roles


@contextmanager
def open_resolved(
    source: Any, tree: str | None, preset: str | None, unit: str, **given: Any
) -> Iterator[tuple[Table, Roles]]:
    """Open a table, find the columns of ``given`` (as of :func:`resolve`) in it, and close it again.

    Raises
    ------
    InputError
        If the table cannot be opened, or something that is given does not fit to it.
    """
    table = open_table(source, tree, given["id"])
    try:
        if preset is not None:
            table = preset_table(table, preset)
        roles = resolve(table, **given)
        check_unit(table, roles, unit)
        yield table, roles
    finally:
        table.close()


def check_unit(table: Table, roles: Roles, unit: str) -> None:
    """Compare the unit of the mass with the one that the header of a text table states.

    Raises
    ------
    InputError
        If they differ.
    """
    stated = table.units.get(roles.mass.text) if roles.mass and roles.mass.plain else None
    if stated not in ENERGIES or stated == unit:
        return
    assert roles.mass is not None
    if stated in GEV:
        what = f"say so: --unit {stated} (unit=)"
    else:
        what = f"convert it: --mass '{roles.mass.text}*{ENERGIES[stated]:g}'"
    raise InputError(
        f"{table.name}: the header gives the mass '{roles.mass.text}' in {stated}, not in {unit}; {what}"
    )


def as_numbers(table: Table, name: str, values: Any) -> Any:
    """Numbers, and lists of them, unchanged; a text column of numbers is converted, whole numbers exactly.

    Raises
    ------
    InputError
        Naming the first row with something else.
    """
    if isinstance(values, Jagged) or values.dtype.kind in "biuf":
        return values
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        if value is None or value == "":
            continue
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"{table.name}: column '{name}' has the text '{str(value)[:40]}' in {table.place(row)} (the first row is 0); "
                "expected numbers; remove the row or leave the column out"
            ) from None
    if np.any(np.abs(numbers) >= EXACT):
        whole = _whole(values)
        return numbers if whole is None else whole
    return numbers


def _whole(texts: NDArray[Any]) -> NDArray[Any] | None:
    """Texts as 64-bit whole numbers; None if some are none."""
    absent = np.array([text is None or text == "" for text in texts])
    try:
        numbers = [0 if empty else int(text) for text, empty in zip(texts, absent, strict=True)]
        kind = np.uint64 if min(numbers) >= 0 else np.int64
        return whole_numbers(np.array(numbers, dtype=kind), absent)
    except (ValueError, OverflowError):
        return None
