"""The pictures of a validation, printed (matplotlib) and interactive (plotly)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from serendip.report import figures, plots
from serendip.report.figures import COLOURS
from serendip.report.notation import MARKERS, SYMBOLS, hypertext, mathtext, no_html, no_mathtext
from serendip.validate.pictures import Picture, Series

__all__ = ["draw", "interactive"]

_LONGEST_NAME = 14


def _array(values: Sequence[float | None]) -> Any:
    return np.array(values, dtype=float)


def _shift(picture: Picture, i: int) -> float:
    """Points of several series at the same positions are drawn side by side."""
    points = [series for series in picture.series if series.style == "points" and series.error is not None]
    if len(points) < 2 or picture.x_log:
        return 0.0
    places = np.unique(_array(points[0].x))
    gap = float(np.diff(places).min()) if len(places) > 1 else 1.0
    return 0.08 * gap * (i - 0.5 * (len(picture.series) - 1))


def _tilted(picture: Picture) -> bool:
    return any(len(name) > _LONGEST_NAME // 2 for name in picture.categories) or len(picture.categories) > 8


def draw(picture: Picture) -> Figure:
    """Draw a picture for print."""
    with figures.in_style():
        figure, axes = figures.new_figure()
        for i, series in enumerate(picture.series):
            _add(axes, series, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], _shift(picture, i))
        if picture.level is not None:
            axes.axhline(picture.level, color="#666666", ls=":", lw=1, zorder=0)
        if picture.x_log:
            axes.set_xscale("log")
        if picture.y_log:
            axes.set_yscale("log")
        else:
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + 0.25 * (high - low))  # room for the legend
        if picture.categories:
            axes.minorticks_off()
            names = [no_mathtext(_short(name)) for name in picture.categories]
            tilt = {"rotation": 35, "ha": "right"} if _tilted(picture) else {}
            axes.set_xticks(range(len(names)), names, fontsize=11, **tilt)
            axes.set_xlim(-0.6, len(names) - 0.4)
            if tilt:
                figure.subplots_adjust(bottom=0.25)
        axes.set_xlabel(mathtext(picture.x_label))
        axes.set_ylabel(mathtext(picture.y_label))
        axes.legend(fontsize=10, title=mathtext(_short(picture.title, 60)), title_fontsize=10, ncols=2)
    return figure


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _add(axes: Any, series: Series, colour: str, marker: str, shift: float) -> None:
    x, y = _array(series.x), _array(series.y)
    label = mathtext(series.name)
    if series.style == "steps":
        axes.stairs(np.nan_to_num(y), x, color=colour, lw=1.8, label=label)
    elif series.style == "line":
        axes.plot(x, y, color=colour, lw=1.8, label=label)
    else:
        error = None if series.error is None else _array(series.error)
        axes.errorbar(x + shift, y, yerr=error, fmt=marker, ms=5, lw=1.2, color=colour, label=label)


def interactive(picture: Picture) -> plots.Spec:
    """Draw :func:`draw` for the page."""
    data: list[plots.Spec] = []
    for i, series in enumerate(picture.series):
        colour = COLOURS[i % len(COLOURS)]
        common = {"type": "scatter", "name": hypertext(series.name), "hovertemplate": "%{x}: %{y:.4g}"}
        if series.style == "steps":
            x = np.repeat(_array(series.x), 2)[1:-1]
            y = np.repeat(_array(series.y), 2)
            line = {"color": colour, "width": 2}
            data.append(
                common | {"mode": "lines", "x": plots.number_list(x), "y": plots.number_list(y), "line": line}
            )
            continue
        places = plots.number_list(
            _array(series.x) + (_shift(picture, i) if series.style == "points" else 0.0)
        )
        entry: plots.Spec = common | {"x": places, "y": plots.number_list(series.y)}
        if series.style == "line":
            data.append(entry | {"mode": "lines", "line": {"color": colour, "width": 2}})
            continue
        marker = {"color": colour, "size": 8, "symbol": SYMBOLS[i % len(SYMBOLS)]}
        if series.error is not None:
            entry["error_y"] = {
                "type": "data",
                "array": plots.number_list(series.error),
                "thickness": 1.2,
                "width": 0,
            }
        data.append(entry | {"mode": "markers", "marker": marker})
    more: plots.Spec = {}
    if picture.categories:
        texts = [no_html(name) for name in picture.categories]
        more = {"tickmode": "array", "tickvals": list(range(len(texts))), "ticktext": texts}
    log = {"type": "log", "exponentformat": "power"}
    x_axis = plots.axis_spec(hypertext(picture.x_label), **more, **(log if picture.x_log else {}))
    y_axis = plots.axis_spec(hypertext(picture.y_label), **(log if picture.y_log else {}))
    shapes = [] if picture.level is None else [plots.level_line(picture.level, plots.GREY, "dot", 1)]
    return {
        "data": data,
        "layout": plots.layout_spec(x_axis, y_axis, height=400, shapes=shapes, showlegend=True),
    }
