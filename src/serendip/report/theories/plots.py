"""Drawings of a study of many theories: models in the plane of total improvements, signals, saturation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from serendip.errors import InputError
from serendip.report import figures
from serendip.report.figures import COLOURS
from serendip.report.notation import mathtext, no_mathtext
from serendip.report.theories.summaries import (
    FAMILIES,
    ImprovementPlane,
    Saturation,
    SignalBoxes,
)

__all__ = [
    "draw_improvement_plane",
    "draw_saturation",
    "draw_saturations",
    "draw_signal_boxes",
    "log_above_zero",
]

_MARKERS = "osD^vP*X<>"
_LINEAR = 0.1
_FEW_MODELS = 8
_FEW_DECADES = 300.0  # with more there is no room for 1, 2, 5


def draw_improvement_plane(plane: ImprovementPlane) -> Figure:
    """Draw minimum and maximum TI against the median; the axes are linear below 0.1, so that zero has a place."""
    if not plane.published and not plane.ours:
        raise InputError("there is no model to draw")
    with figures.in_style():
        figure, panels = figures.new_figure(1, 2, size=(12.4, 7.0))
        figure.subplots_adjust(bottom=0.28)
        names = dict.fromkeys(family for _, family in (*FAMILIES, ("", "other")))
        present = [name for name in names if any(point.family == name for point in plane.published)]
        for axes, side in zip(panels, ("minimum", "maximum"), strict=True):
            for i, family in enumerate(present):
                points = [point for point in plane.published if point.family == family]
                axes.plot(
                    [point.median for point in points],
                    [getattr(point, side) for point in points],
                    _MARKERS[i % len(_MARKERS)],
                    ms=4.5,
                    mfc="none",
                    mew=0.9,
                    color=COLOURS[i % (len(COLOURS) - 1)],
                    alpha=0.75,
                    label=f"{family} ({len(points)})",
                )
            for i, kind in enumerate(dict.fromkeys(point.family for point in plane.ours)):
                ours = [point for point in plane.ours if point.family == kind]
                axes.errorbar(
                    [point.median for point in ours],
                    [getattr(point, side) for point in ours],
                    xerr=[point.median_error or 0.0 for point in ours],
                    yerr=[getattr(point, f"{side}_error") or 0.0 for point in ours],
                    fmt=_MARKERS[i % len(_MARKERS)],
                    ms=10 if len(plane.ours) <= _FEW_MODELS else 7.5,
                    lw=1.5 if len(plane.ours) <= _FEW_MODELS else 0.9,
                    color="black",
                    mfc=COLOURS[(i + 1) % (len(COLOURS) - 1)],
                    mew=0.8,
                    label=no_mathtext(kind if len(ours) == 1 else f"{kind} ({len(ours)})"),
                    zorder=5,
                )
            for axis, name in (("x", "median"), ("y", side)):
                values = [getattr(point, name) for point in (*plane.published, *plane.ours)]
                log_above_zero(axes, axis, max(values))
            axes.set_xlabel("median TI")
            axes.set_ylabel(f"{side} TI")
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="lower center", ncols=4, fontsize=10.5, frameon=False
        )
    return figure


def draw_signal_boxes(boxes: SignalBoxes) -> Figure:
    """Draw a box (25 to 75 %) with whiskers (5 to 95 %) per signal, the best model as a bar, and the marked models."""
    rows = boxes.signals
    with figures.in_style():
        height = 1.9 + 0.42 * len(rows)
        figure, axes = figures.new_figure(size=(9.0, height))
        figure.subplots_adjust(left=0.34, right=0.97, top=1 - 0.95 / height, bottom=0.75 / height)
        for y, row in enumerate(rows):
            q05, q25, q50, q75, q95 = row.quantiles
            axes.plot([q05, q95], [y, y], color="#888888", lw=1.2, zorder=1)
            axes.barh(y, q75 - q25, left=q25, height=0.6, color="#9ecae1", zorder=2)
            axes.plot([q50, q50], [y - 0.3, y + 0.3], color="black", lw=1.8, zorder=3)
            axes.plot(row.best, y, "|", color="#666666", ms=13, mew=1.8, zorder=3)
        n = max(row.n_models for row in rows)
        axes.barh([0], [0], color="#9ecae1", label=f"{n} published: 25–75 %, line 5–95 %")
        axes.plot([], [], "|", color="#666666", ms=13, mew=1.8, label="best published")
        models = list(dict.fromkeys(mark.model for row in rows for mark in row.marked))
        for i, model in enumerate(models):
            found = [(mark, y) for y, row in enumerate(rows) for mark in row.marked if mark.model == model]
            # Models stand a little apart, so that equal values do not hide each other.
            shift = 0.5 * ((i + 0.5) / len(models) - 0.5)
            axes.errorbar(
                [mark.value for mark, _ in found],
                [y + shift for _, y in found],
                xerr=None
                if all(mark.error is None for mark, _ in found)
                else [m.error or 0.0 for m, _ in found],
                fmt=_MARKERS[i % len(_MARKERS)],
                ms=6,
                lw=1.2,
                color=COLOURS[(i + 1) % len(COLOURS)],
                label=no_mathtext(model),
                zorder=4,
            )
        highest = max([row.best for row in rows] + [mark.value for row in rows for mark in row.marked])
        log_above_zero(axes, "x", highest)
        axes.set_yticks(range(len(rows)), [no_mathtext(row.signal) for row in rows], fontsize=11)
        axes.tick_params(axis="y", which="minor", left=False, right=False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("total improvement" if boxes.channel is None else f"max SI, channel {boxes.channel}")
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.5, 1.0),
            ncols=3,
            fontsize=10,
            frameon=False,
            borderaxespad=0.3,
        )
    return figure


def draw_saturation(record: Saturation) -> Figure:
    """Draw the curves with their bands."""
    if not record.curves:
        raise InputError("there is no saturation curve to draw")
    with figures.in_style():
        figure, axes = figures.new_figure()
        _add_saturation(axes, record)
        axes.legend(fontsize=10.5, loc="best", title=_orders([record]), title_fontsize=10.5)
    return figure


def draw_saturations(records: Sequence[Saturation]) -> Figure:
    """Draw several :func:`draw_saturation` on one figure, two in a row, with their titles and one legend below."""
    if not records:
        raise InputError("there is no saturation curve to draw")
    rows = -(-len(records) // 2)
    with figures.in_style():
        height = 4.6 * rows + 1.7
        figure, panels = figures.new_figure(rows, 2, size=(12.4, height), gap=1.2, squeeze=False)
        figure.subplots_adjust(top=1 - 0.5 / height, bottom=2.0 / height)
        entries: dict[str, Any] = {}
        for axes, record in zip(panels.flat, records, strict=False):
            _add_saturation(axes, record)
            axes.set_title(mathtext(record.title), fontsize=14, loc="left")
            entries |= {label: line for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        for axes in panels.flat[len(records) :]:
            axes.set_axis_off()
        figure.legend(
            handles=list(entries.values()),
            labels=list(entries),
            loc="lower center",
            ncols=3,
            fontsize=10.5,
            frameon=False,
            title=_orders(records),
            title_fontsize=10.5,
        )
    return figure


def _orders(records: Sequence[Saturation]) -> str:
    orders = sorted({curve.n_orders for record in records for curve in record.curves})
    return f"median and 68 % of {' or '.join(map(str, orders))} orders" if orders != [1] else "one order"


def _add_saturation(axes: Axes, record: Saturation) -> None:
    for i, curve in enumerate(record.curves):
        colour = COLOURS[i % len(COLOURS)]
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, lw=0)
        axes.plot(
            curve.x,
            curve.median,
            "-" + _MARKERS[i % len(_MARKERS)],
            ms=5,
            lw=1.8,
            color=colour,
            label=no_mathtext(curve.name),
        )
    for name, level, curve_of, place in record.placed_levels():
        axes.axhline(
            level,
            color="#444444" if curve_of is None else COLOURS[curve_of % len(COLOURS)],
            ls=("--", ":", "-.")[place % 3],
            lw=1.4,
            label=no_mathtext(name),
            zorder=1,
        )
    drawn = [v for curve in record.curves for v in (*curve.low, *curve.high)] + list(record.levels.values())
    low, high = min(drawn), max(drawn)
    reach = max(high - low, 1e-3)
    axes.set_ylim(low - 0.1 * reach, high + 0.1 * reach)
    axes.set_xlabel(mathtext(record.x_label))
    axes.set_ylabel(mathtext(record.y_label))
    if record.x_log:
        axes.set_xscale("log")
        places = sorted({x for curve in record.curves for x in curve.x})
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()


def log_above_zero(axes: Axes, axis: str, highest: float, lowest: float = 0.0) -> None:
    """Logarithms; linear below 0.1 if there are values."""
    scale: Any = {"linthresh": _LINEAR, "linscale": 0.4}
    limits = (-0.01, max(1.0, 1.6 * highest))
    kind = "symlog"
    if lowest > _LINEAR:
        scale, kind, limits = {}, "log", (lowest / 1.6, limits[1])
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    ticks: Any
    if axis == "x":
        axes.set_xscale(kind, **scale)
        axes.set_xlim(*limits)
        ticks = axes.xaxis
    else:
        axes.set_yscale(kind, **scale)
        axes.set_ylim(*limits)
        ticks = axes.yaxis
    if kind == "log" and limits[1] < _FEW_DECADES * limits[0]:
        ticks.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ticks.set_minor_formatter(NullFormatter())
    ticks.set_major_formatter(plain)
