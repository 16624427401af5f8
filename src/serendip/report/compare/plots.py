"""The pictures of a comparison, printed (matplotlib) and interactive (plotly)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from serendip.report import figures, plots
from serendip.report.compare.data import Band, Costs, Picture
from serendip.report.figures import COLOURS
from serendip.report.notation import MARKERS, SYMBOLS, hypertext, mathtext, no_html, no_mathtext

__all__ = ["draw", "draw_costs", "interactive", "interactive_costs"]

_OWN, _SHARED = COLOURS[0], "#9ecae1"


def _dashed(i: int, band: Band) -> str:
    """References are dashed; colours come back after seven methods, dash-dotted then."""
    return "--" if band.uses_labels else "-" if i < len(COLOURS) else "-."


def _array(values: tuple[float | None, ...]) -> Any:
    return np.array(values, dtype=float)


def _top(picture: Picture) -> float:
    highest = max((v for band in picture.bands for v in band.high if v is not None), default=1.0)
    return 1.08 * max(highest, picture.level or 0.0, 1e-3)


def draw(picture: Picture, order: dict[str, int]) -> Figure:
    """Median as a line, range over the repeats as a band; ``order`` gives each method its colour everywhere."""
    with figures.in_style():
        figure, axes = figures.new_figure()
        for band in picture.bands:
            i = order[band.method]
            colour, x = COLOURS[i % len(COLOURS)], np.asarray(band.x)
            axes.fill_between(x, _array(band.low), _array(band.high), color=colour, alpha=0.13, lw=0)
            axes.plot(
                x,
                _array(band.median),
                ls=_dashed(i, band),
                lw=1.8,
                color=colour,
                marker=MARKERS[i % len(MARKERS)] if picture.points else None,
                ms=6,
                label=no_mathtext(band.method),
            )
        if picture.level is not None:
            axes.axhline(picture.level, color="#666666", ls=":", lw=1, zorder=0)
        if picture.diagonal:
            reach = max((x for band in picture.bands for x in band.x), default=1.0)
            axes.plot([0, reach], [0, reach], color="#666666", ls=":", lw=1, zorder=0, label=picture.diagonal)
        if picture.x_log:
            axes.set_xscale("log")
        else:
            axes.set_xlim(0, None)
        axes.set_ylim(0, _top(picture) * 1.25)  # room for the legend
        axes.set_xlabel(mathtext(picture.x_label))
        axes.set_ylabel(mathtext(picture.y_label))
        title = "\n".join(mathtext(text) for text in (picture.title, picture.note) if text)
        axes.legend(
            fontsize=10,
            title=title,
            title_fontsize=10,
            ncols=2,
            loc="upper right" if not picture.points else "upper left",
        )
    return figure


def draw_costs(costs: Costs) -> Figure:
    """Seconds of each method: its own, and those of the density of background that it shares."""
    rows = costs.costs
    with figures.in_style():
        figure, axes = figures.new_figure(size=(7.0, 1.6 + 0.42 * len(rows)))
        figure.subplots_adjust(left=0.22)
        y = np.arange(len(rows))
        own = np.array([row.own_s for row in rows])
        axes.barh(y, own, color=_OWN, label="own")
        axes.barh(
            y, [row.background_s for row in rows], left=own, color=_SHARED, label="shared background density"
        )
        axes.set_yticks(y, [no_mathtext(row.method) for row in rows])
        axes.minorticks_off()
        axes.invert_yaxis()
        axes.set_xlim(0, None)
        axes.set_xlabel("seconds on one thread, all folds of one training")
        axes.legend(fontsize=10)
    return figure


def interactive(picture: Picture, order: dict[str, int]) -> plots.Spec:
    """Draw :func:`draw` for the page."""
    data: list[plots.Spec] = []
    for band in picture.bands:
        i = order[band.method]
        colour = COLOURS[i % len(COLOURS)]
        data += [
            *plots.band(band.x, band.low, band.high, colour=colour, opacity=0.13, group=band.method),
            {
                "type": "scatter",
                "mode": "lines+markers" if picture.points else "lines",
                "name": no_html(band.method),
                "legendgroup": band.method,
                "x": plots.number_list(band.x),
                "y": plots.number_list(band.median),
                "text": [
                    "" if low is None or high is None else f"[{low:.3g}, {high:.3g}]"
                    for low, high in zip(band.low, band.high, strict=True)
                ],
                "hovertemplate": "%{x:.3g}: %{y:.3g} %{text}<extra>%{fullData.name}</extra>",
                "line": {
                    "color": colour,
                    "width": 2,
                    "dash": {"-": "solid", "--": "dash", "-.": "dashdot"}[_dashed(i, band)],
                },
                "marker": {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 8},
            },
        ]
    shapes = []
    if picture.level is not None:
        shapes.append(plots.level_line(picture.level, plots.GREY, "dot", 1))
    if picture.diagonal:
        reach = max((x for band in picture.bands for x in band.x), default=1.0)
        line = {"color": plots.GREY, "dash": "dot", "width": 1}
        shapes.append(
            {"type": "line", "x0": 0, "x1": reach, "y0": 0, "y1": reach, "line": line, "layer": "below"}
        )
    x = (
        plots.axis_spec(hypertext(picture.x_label), type="log", dtick=1, exponentformat="power")
        if picture.x_log
        else plots.axis_spec(hypertext(picture.x_label), rangemode="tozero")
    )
    y = plots.axis_spec(hypertext(picture.y_label), range=[0, _top(picture)])
    return {"data": data, "layout": plots.layout_spec(x, y, height=420, shapes=shapes, showlegend=True)}


def interactive_costs(costs: Costs) -> plots.Spec:
    """Draw :func:`draw_costs` for the page."""
    rows = costs.costs[::-1]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": [no_html(row.method) for row in rows],
            "x": plots.number_list(values),
            "marker": {"color": colour},
            "hovertemplate": "%{x:.3g} s<extra>%{fullData.name}</extra>",
        }
        for name, colour, values in (
            ("own", _OWN, [row.own_s for row in rows]),
            ("shared background density", _SHARED, [row.background_s for row in rows]),
        )
    ]
    layout = plots.layout_spec(
        plots.axis_spec("seconds", rangemode="tozero"),
        plots.axis_spec(""),
        height=150 + 30 * len(rows),
        barmode="stack",
        showlegend=True,
    )
    return {"data": data, "layout": layout | {"bargap": 0.3}}
