"""The pictures of a study of many theories: models in the plane of total improvements, signals, saturation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from serendip.errors import InputError
from serendip.report import figures
from serendip.report.figures import COLOURS
from serendip.report.notation import mathtext, no_mathtext
from serendip.theories.merits import (
    ModelImprovement,
    ResultTable,
    TotalImprovement,
    best_per_signal,
    significance_improvement,
)

__all__ = [
    "ImprovementPlane",
    "Marked",
    "ModelPoint",
    "Saturation",
    "SaturationCurve",
    "SignalBox",
    "SignalBoxes",
    "draw_improvement_plane",
    "draw_saturation",
    "draw_saturations",
    "draw_signal_boxes",
    "improvement_plane",
    "model_family",
    "saturation_curve",
    "signal_boxes",
]

# Beginnings of the names of the published models, the longer ones first.
_FAMILIES = (
    ("Combined", "flow with Deep SVDD or VAE"),
    ("Flow", "spline flow"),
    ("DeepSetVAE", "DeepSet VAE"),
    ("DeepSVDD", "Deep SVDD"),
    ("DAGMM", "DAGMM"),
    ("ALAD", "ALAD"),
    ("LS_", "in the latent space of a VAE"),
    ("KDE", "KDE"),
    ("SimpleAE", "autoencoder"),
    ("CNN", "convolutional VAE"),
    ("VAE_", "convolutional VAE"),
    ("VAE-", "β-VAE"),
)
_MARKERS = "osD^vP*X<>"
_LINEAR = 0.1
_FEW_MODELS = 8
_FEW_DECADES = 300.0  # with more there is no room for 1, 2, 5


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPoint(_Record):
    """Minimum, median and maximum TI of a model over its signals; errors where they are known."""

    model: str
    family: str
    minimum: float
    median: float
    maximum: float
    minimum_error: float | None = None
    median_error: float | None = None
    maximum_error: float | None = None


class ImprovementPlane(_Record):
    """Published models, and the ones to compare with them."""

    published: tuple[ModelPoint, ...]
    ours: tuple[ModelPoint, ...]


class Marked(_Record):
    """Significance improvement of one model for one signal."""

    model: str
    value: float
    error: float | None = None


class SignalBox(_Record):
    """Spread of the models for one signal: 5, 25, 50, 75 and 95 % quantiles, the best one, and marked models."""

    signal: str
    n_models: int
    quantiles: tuple[float, float, float, float, float]
    best: float
    best_model: str
    marked: tuple[Marked, ...]


class SignalBoxes(_Record):
    """Largest significance improvement per signal, in one channel or (None) over all."""

    channel: str | None
    signals: tuple[SignalBox, ...]


class SaturationCurve(_Record):
    """A quantity against the number of theories: median and central 68 % over random orders."""

    name: str
    x: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n_orders: int


class Saturation(_Record):
    """Curves on common axes.

    ``levels`` are horizontal lines, such as the best unsupervised model; ``level_of`` gives those that belong to a curve its number, and so
    its colour.
    """

    x_label: str
    y_label: str
    curves: tuple[SaturationCurve, ...]
    levels: dict[str, float] = {}
    level_of: dict[str, int] = {}
    x_log: bool = False
    title: str = ""

    def placed_levels(self) -> list[tuple[str, float, int | None, int]]:
        """Name, value, number of the curve, and the how-many-th level of that curve it is."""
        seen: dict[int | None, int] = {}
        found = []
        for name, value in self.levels.items():
            curve = self.level_of.get(name)
            found.append((name, value, curve, seen.get(curve, 0)))
            seen[curve] = seen.get(curve, 0) + 1
        return found


def model_family(model: str) -> str:
    """Kind of a published model, from its name; ``"other"`` if it is none of the challenge."""
    return next((family for start, family in _FAMILIES if model.startswith(start)), "other")


def improvement_plane(
    published: Iterable[ModelImprovement],
    ours: Mapping[str, TotalImprovement],
    kinds: Mapping[str, str] | None = None,
) -> ImprovementPlane:
    """Collect the points of the plane.

    Parameters
    ----------
    published
        As read by :func:`serendip.theories.merits.tables.read_improvements`.
    ours
        Models by name, with errors.
    kinds
        Kind of each of them, drawn alike; default: each is one of its own.
    """
    return ImprovementPlane(
        published=tuple(
            ModelPoint(
                model=entry.model,
                family=model_family(entry.model),
                minimum=entry.minimum,
                median=entry.median,
                maximum=entry.maximum,
            )
            for entry in published
        ),
        ours=tuple(
            ModelPoint(
                model=name,
                family=name if kinds is None else kinds[name],
                minimum=entry.minimum,
                median=entry.median,
                maximum=entry.maximum,
                minimum_error=entry.minimum_error,
                median_error=entry.median_error,
                maximum_error=entry.maximum_error,
            )
            for name, entry in ours.items()
        ),
    )


def signal_boxes(
    table: ResultTable,
    ours: Mapping[str, TotalImprovement],
    *,
    channel: str | None = None,
    highlight: Sequence[str] = (),
) -> SignalBoxes:
    """Compare models signal by signal.

    Parameters
    ----------
    table
        Published results.
    ours
        Models by name. For a channel, join only results of that channel.
    channel
        Use the results of this channel only; default: the largest over the channels.
    highlight
        Models of the table to mark as well.

    Raises
    ------
    InputError
        If the table has no rows in the channel, or lacks a highlighted model.
    """
    missing = [model for model in highlight if model not in table.models]
    if missing:
        raise InputError(f"the table has no model '{missing[0]}'; it has {len(table.models)} others")
    if channel is not None:
        table = table.select(table.channel == channel)
    if len(table) == 0:
        raise InputError(f"the table has no rows in channel {channel}")
    keys = np.char.add(np.char.add(table.signal, "\n"), table.model)
    names, best = best_per_signal(keys, significance_improvement(table.eps_s, table.targets))
    signal, model = (np.array(part) for part in zip(*(name.split("\n") for name in names), strict=True))
    boxes = []
    for name in np.unique(signal):
        here = signal == name
        values, models = best[here], model[here].tolist()
        known = dict(zip(models, values.tolist(), strict=True))
        marked = [Marked(model=m, value=known[m]) for m in highlight if m in known]
        marked += [
            Marked(model=m, value=entry.value, error=entry.error)
            for m, result in ours.items()
            for entry in result.signals
            if entry.signal == name
        ]
        boxes.append(
            SignalBox(
                signal=str(name),
                n_models=len(values),
                quantiles=tuple(np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()),
                best=float(values.max()),
                best_model=models[int(np.argmax(values))],
                marked=tuple(marked),
            )
        )
    return SignalBoxes(channel=channel, signals=tuple(sorted(boxes, key=lambda box: -box.quantiles[2])))


def saturation_curve(name: str, n_theories: ArrayLike, values: ArrayLike) -> SaturationCurve:
    """Summarise random orders.

    Parameters
    ----------
    name
        In the legend.
    n_theories
        Theories (or families) in the mixture, shape ``(n_steps,)``, rising.
    values
        The quantity, shape ``(n_orders, n_steps)``.

    Raises
    ------
    InputError
        If the shapes do not fit or a value is not finite.
    """
    x, y = np.asarray(n_theories, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x) or len(y) == 0 or np.any(np.diff(x) <= 0):
        raise InputError(
            f"saturation curve '{name}': numbers of theories must rise, with one column of values each; the shapes are "
            f"{x.shape} and {y.shape}"
        )
    if not np.isfinite(y).all():
        order, step = np.argwhere(~np.isfinite(y))[0]
        raise InputError(
            f"saturation curve '{name}': order {order} has no finite value at {x[step]:g} theories"
        )
    low, median, high = np.quantile(y, [0.16, 0.5, 0.84], axis=0)
    return SaturationCurve(
        name=name,
        x=tuple(x.tolist()),
        median=tuple(median.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        n_orders=len(y),
    )


def draw_improvement_plane(plane: ImprovementPlane) -> Figure:
    """Draw minimum and maximum TI against the median; the axes are linear below 0.1, so that zero has a place."""
    if not plane.published and not plane.ours:
        raise InputError("there is no model to draw")
    with figures.in_style():
        figure, panels = figures.new_figure(1, 2, size=(12.4, 7.0))
        figure.subplots_adjust(bottom=0.28)
        names = dict.fromkeys(family for _, family in (*_FAMILIES, ("", "other")))
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
    """Logarithms; linear below 0.1 where a value is there."""
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
