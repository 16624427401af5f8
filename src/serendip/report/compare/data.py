"""Typed reading of ``compare.json``, and the pictures that are drawn from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.io.records import Record
from serendip.search.compare.results import Comparison, MethodFacts, SummaryRow

__all__ = ["Band", "Cost", "Costs", "Picture", "pictures", "read_comparison"]

_EPS_B = np.geomspace(1e-4, 1.0, 97)
_EPS_S = np.linspace(0.02, 1.0, 50)
_NO_CUT = "Z = S/√B, no cut"


class Band(Record):
    """Median and range over the repeats of one method; None where too few repeats have a value."""

    method: str
    uses_labels: bool
    x: tuple[float, ...]
    median: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


class Picture(Record):
    """Bands of all methods against one quantity.

    Attributes
    ----------
    name
        Stem of the files.
    diagonal
        Draw y = x, with this in the legend.
    level
        Draw a horizontal line there.
    points
        The values of x are few: mark them.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    bands: tuple[Band, ...]
    note: str = ""
    x_log: bool = False
    diagonal: str = ""
    level: float | None = None
    points: bool = False


class Cost(Record):
    """Median seconds and memory of one method in one cell."""

    method: str
    own_s: float
    background_s: float
    cpu_s: float
    peak_memory_gib: float | None


class Costs(Record):
    """Costs of all methods."""

    name: str
    title: str
    costs: tuple[Cost, ...]


def read_comparison(folder: Path) -> Comparison:
    """Read ``compare.json``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    return Comparison.read(folder / "compare.json", missing="the folder contains no finished comparison")


def pictures(found: Comparison) -> tuple[list[Picture], list[Picture], list[Picture], Costs]:
    """All figures: SIC curves of each injection with signal, sigma_min and max SIC, achieved Z, costs."""
    curves = []
    for injection in reversed([n for n in found.injections if n > 0]):
        label = f"{injection} signal events in the window, S/√B = {found.strength(injection):.2g}"
        note = f"at least {found.min_background} background events"
        for name, axis, grid, log in (
            ("eps-s", "signal efficiency ε_S", _EPS_S, False),
            ("eps-b", "background efficiency ε_B", _EPS_B, True),
        ):
            bands = [
                band
                for m in found.methods
                if (band := _curve_band(found, m, injection, grid, log)) is not None
            ]
            curves.append(
                Picture(
                    name=f"sic-{injection}-{name}",
                    title=label,
                    x_label=axis,
                    y_label="SIC = ε_S / √ε_B",
                    bands=tuple(bands),
                    note=note,
                    x_log=log,
                    level=1.0,
                )
            )
    strength = "injected S/√B in the window"
    behind = f"with at least {found.min_background} background events"
    merits = [
        Picture(
            name="sigma-min",
            title=f"Smallest signal for 5 σ {behind}",
            x_label=strength,
            y_label="σ_min (S/√B)",
            bands=_summary_bands(found, lambda method: "sigma_min"),
            diagonal="as injected: found below",
            points=True,
        ),
        Picture(
            name="max-sic",
            title=f"Largest SIC {behind}",
            x_label=strength,
            y_label="max SIC",
            bands=_summary_bands(found, lambda method: "max_sic"),
            level=1.0,
            points=True,
        ),
    ]
    weighted = Picture(
        name="z-weighted",
        title="Significance of weighted events",
        x_label=strength,
        y_label="local Z",
        bands=_summary_bands(
            found,
            lambda method: "z_weighted" if method.weighted else f"z@{_own_point(method, 1.0):g}",
        ),
        note=_own_points(found),
        diagonal=_NO_CUT,
        points=True,
    )
    achieved = [weighted] if any(method.weighted for method in found.methods) else []
    achieved += [
        Picture(
            name=f"z-{point:g}",
            title=f"Significance at ε_B = {point:g}",
            x_label=strength,
            y_label="local Z",
            bands=_summary_bands(found, lambda method, p=point: f"z@{_own_point(method, p):g}"),
            note=_own_points(found),
            diagonal=_NO_CUT,
            points=True,
        )
        for point in found.working_points
    ]
    costs = Costs(
        name="time",
        title="Time of one training (all folds)",
        costs=tuple(_cost(found, method.name) for method in found.methods if _rows(found, method.name)),
    )
    # a curve has no points where even the loosest cut leaves too little background
    drawn = [picture for picture in curves if picture.bands]
    return drawn, [merit for merit in merits if any(band.x for band in merit.bands)], achieved, costs


def _own_point(method: MethodFacts, point: float) -> float:
    """The working point of the search, or the first of the method's own."""
    return point if point in method.working_points else method.working_points[0]


def _own_points(found: Comparison) -> str:
    others = [m for m in found.methods if not set(m.working_points) & set(found.working_points)]
    return ", ".join(f"{m.name} at ε_B = {m.working_points[0]:g}" for m in others)


def _rows(found: Comparison, method: str) -> list[SummaryRow]:
    rows = [row for row in found.summary if row.method == method]
    return sorted(rows, key=lambda row: row.injection)


def _summary_bands(found: Comparison, quantity: Any) -> tuple[Band, ...]:
    bands = []
    for method in found.methods:
        name = quantity(method)
        rows = [row for row in _rows(found, method.name) if name in row.values]
        if not rows:
            continue
        values = [row.values[name] for row in rows]
        bands.append(
            Band(
                method=method.name,
                uses_labels=method.uses_labels,
                x=tuple(found.strength(row.injection) for row in rows),
                median=tuple(value.median for value in values),
                low=tuple(value.min for value in values),
                high=tuple(value.max for value in values),
            )
        )
    return tuple(bands)


def _curve_band(
    found: Comparison, method: MethodFacts, injection: int, grid: NDArray[np.float64], log: bool
) -> Band | None:
    """Median and range of the curves of all repeats, where at least half of them have a value."""
    rows = []
    for entry in found.entries:
        curve = entry.sic_curve
        if (entry.method, entry.injection) != (method.name, injection) or curve is None or len(curve.sic) < 2:
            continue
        x = np.log(curve.eps_b) if log else np.asarray(curve.eps_s)
        rows.append(np.interp(np.log(grid) if log else grid, x, curve.sic, left=np.nan, right=np.nan))
    if not rows:
        return None
    table = np.array(rows)
    enough = 2 * np.isfinite(table).sum(axis=0) >= len(table)
    if enough.sum() < 2:
        return None
    table = table[:, enough]
    return Band(
        method=method.name,
        uses_labels=method.uses_labels,
        x=tuple(grid[enough].tolist()),
        median=_gaps(np.nanmedian(table, axis=0)),
        low=_gaps(np.nanmin(table, axis=0)),
        high=_gaps(np.nanmax(table, axis=0)),
    )


def _gaps(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(float(f"{value:.5g}") if np.isfinite(value) else None for value in values)


def _cost(found: Comparison, method: str) -> Cost:
    rows = _rows(found, method)

    def middle(name: str) -> float | None:
        values: Sequence[float] = [row.values[name].median for row in rows if name in row.values]
        return float(np.median(values)) if values else None

    return Cost(
        method=method,
        own_s=middle("own_s") or 0.0,
        background_s=middle("background_s") or 0.0,
        cpu_s=middle("cpu_s") or 0.0,
        peak_memory_gib=middle("peak_memory_gib"),
    )
