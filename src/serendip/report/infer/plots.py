"""The pictures of a measurement of the signal strength, printed (matplotlib) and interactive (plotly)."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import chi2

from serendip.report import figures, plots
from serendip.report.figures import COLOURS, DATA
from serendip.report.notation import mathtext, no_html

__all__ = [
    "Line", "Lines", "Map", "corner", "draw_lines", "draw_map", "interactive_lines", "interactive_map", "likelihood",
    "log_ratio", "shapes", "toys",
]  # fmt: skip

Array = NDArray[np.float64]

_DROPS = tuple(float(chi2.ppf(level, 1)) for level in (0.6827, 0.95))
_AREAS = tuple(float(chi2.ppf(level, 2)) for level in (0.6827, 0.95))
_HIGHEST = 12.0


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Line(_Record):
    """A curve or, with one x more than y, a histogram."""

    label: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    points: bool = False


class Lines(_Record):
    """Curves in one picture."""

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    levels: tuple[float, ...] = ()
    log: bool = False
    top: float | None = None


class Map(_Record):
    """-2 ln L in two directions, the others profiled; z has shape ``(len(y), len(x))``."""

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    z: tuple[tuple[float | None, ...], ...]
    best: tuple[float, float]


def _some(values: Any) -> tuple[float | None, ...]:
    return tuple(
        None if v is None or not np.isfinite(v) else float(v)
        for v in np.asarray(values, dtype=object).tolist()
    )


def likelihood(found: dict[str, Any]) -> Lines:
    """t_mu with both errors, and that of the scan."""
    curve = found["curve"]
    x = tuple(curve["count"])
    lines = [
        Line(label="total error", x=x, y=_some(curve["total"])),
        Line(label="statistical error", x=x, y=_some(curve["statistical"])),
    ]
    if scan := found["scan"]:
        gain = np.array(scan["gain"])
        counts = np.array(scan["fraction"]) * found["weight"]
        lines.append(
            Line(
                label="signal trained at each fraction",
                x=tuple(counts),
                y=_some(2 * (max(gain.max(), 0.0) - gain)),
                points=True,
            )
        )
    return Lines(
        name="likelihood", title="Profile likelihood of the signal strength", x_label="signal events μ in the window",
        y_label="−2 Δ ln L", lines=tuple(lines), levels=_DROPS, top=_HIGHEST,
        caption="Dotted: 1 and 3.84, where 68 % and 95 % intervals end far from 0. Near 0 they are narrower.",
    )  # fmt: skip


def log_ratio(found: dict[str, Any]) -> Lines:
    """Observed and expected ln R."""
    record = found["log_ratio"]
    edges = tuple(record["edges"])
    both = np.array(record["background"]) + np.array(record["signal"])
    seen = np.array(record["observed"], dtype=float)
    centres = tuple(0.5 * (np.array(edges)[1:] + np.array(edges)[:-1]))
    return Lines(
        name="log-ratio", title="Input of the measurement", x_label="ln R = ln p_S / p_B", y_label="events / bin",
        log=True, caption="Each event by models that never saw it. The last bins include the values beyond the axis.",
        lines=(
            Line(label="data", x=centres, y=_some(np.where(seen > 0, seen, np.nan)), points=True),
            Line(label="background + signal", x=edges, y=_some(both)),
            Line(label="background", x=edges, y=_some(record["background"])),
            Line(label="signal", x=edges, y=_some(record["signal"])),
        ),
    )  # fmt: skip


def toys(found: dict[str, Any]) -> Lines:
    """P and CLs of each tested strength."""
    record = found["total"]["toys"]
    x = tuple(record["count"])
    return Lines(
        name="toys", title="Tests by toys", x_label="signal events μ in the window", y_label="probability", levels=(0.3173, 0.05),
        caption=f"{record['toys']} toys at each point, total error. A 95 % interval holds the μ with p above 0.05; μ is excluded "
        "where CLs is below 0.05.",
        lines=(Line(label="p, two-sided", x=x, y=_some(record["p"])), Line(label="CLs", x=x, y=_some(record["cls"]))),
    )  # fmt: skip


def shapes(found: dict[str, Any]) -> list[Lines]:
    """Mass and features of the signal, against background."""
    kind = "learnt" if found["source"] == "learned" else "simulated, at the best point"
    return [
        Lines(
            name=f"signal-{re.sub(r'[^A-Za-z0-9]+', '-', entry['name']).strip('-') or i}", title=entry["name"],
            caption="Drawn from the densities.", x_label=entry["name"], y_label="fraction / bin",
            lines=(
                Line(label=f"signal ({kind})", x=tuple(entry["edges"]), y=_some(entry["signal"])),
                Line(label="background", x=tuple(entry["edges"]), y=_some(entry["background"])),
            ),
        )
        for i, entry in enumerate(found["signal"])
    ]  # fmt: skip


def corner(found: dict[str, Any]) -> tuple[list[Lines], list[Map]]:
    """Profile likelihood of each parameter, and of each pair of them, μ among them."""
    record = found.get("parameters", {})
    if not record.get("names") or "log_l" not in record:
        return [], []
    points, counts, log_l = (np.array(record[key]) for key in ("points", "counts", "log_l"))
    names = ["μ", *record["names"]]
    axes = [counts, *(np.unique(column) for column in points.T)]
    grid = np.full([len(axis) for axis in axes], -np.inf)
    for point, row in zip(points, log_l, strict=True):
        place = tuple(int(np.searchsorted(axis, value)) for axis, value in zip(axes[1:], point, strict=True))
        np.moveaxis(grid, 0, -1)[place] = row
    best = np.unravel_index(int(np.argmax(grid)), grid.shape)
    flat, maps = [], []
    for i, name in enumerate(names):
        profile = grid.max(axis=tuple(j for j in range(len(names)) if j != i))
        y = _some(-2 * profile)
        flat.append(
            Lines(
                name=f"profile-{i}",
                title=f"Profile likelihood of {name}",
                caption="All other parameters are profiled.",
                x_label=name,
                y_label="−2 Δ ln L",
                lines=(Line(label="total error", x=tuple(axes[i]), y=y),),
                levels=_DROPS,
                top=_HIGHEST,
            )
        )
    for i, j in combinations(range(len(names)), 2):
        profile = grid.max(axis=tuple(k for k in range(len(names)) if k not in (i, j)))
        maps.append(
            Map(
                name=f"profile-{i}-{j}",
                title=f"{names[i]} and {names[j]}",
                x_label=names[j],
                y_label=names[i],
                caption="−2 Δ ln L with all other parameters profiled; lines: 2.30 (68 %) and 5.99 (95 %).",
                x=tuple(axes[j]),
                y=tuple(axes[i]),
                z=tuple(_some(row) for row in -2 * profile),
                best=(float(axes[j][best[j]]), float(axes[i][best[i]])),
            )
        )
    return flat, maps


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def draw_lines(record: Lines) -> Figure:
    """The picture for print."""
    with figures.in_style():
        figure, axes = figures.new_figure()
        for i, line in enumerate(record.lines):
            y = np.array(line.y, dtype=float)
            colour = DATA if line.points else _colour(i)
            if line.points:
                axes.plot(line.x, y, "o", ms=4, color=colour, label=mathtext(line.label))
            elif len(line.x) == len(y) + 1:
                axes.stairs(y, line.x, color=colour, lw=1.8, label=mathtext(line.label), baseline=None)
            else:
                axes.plot(line.x, y, color=colour, lw=1.8, label=mathtext(line.label))
        for level in record.levels:
            axes.axhline(level, color="#666666", ls=":", lw=1, zorder=0)
        if record.log:
            axes.set_yscale("log")
            highest = max(v for line in record.lines for v in line.y if v is not None)
            axes.set_ylim(0.3, 5 * highest)
        else:
            axes.set_ylim(0, record.top)
        ends = [line.x for line in record.lines if not line.points] or [record.lines[0].x]
        axes.set_xlim(min(x[0] for x in ends), max(x[-1] for x in ends))
        axes.set_xlabel(mathtext(record.x_label))
        axes.set_ylabel(mathtext(record.y_label))
        axes.legend(fontsize=11)
    return figure


def draw_map(record: Map) -> Figure:
    """The picture for print."""
    z = np.array(record.z, dtype=float)
    with figures.in_style():
        figure, axes = figures.new_figure(size=(7.8, 5.4))
        mesh = axes.pcolormesh(
            record.x, record.y, np.minimum(z, _HIGHEST), cmap="viridis_r", shading="nearest"
        )
        # the contours need numbers everywhere: outside the simulated range nothing is allowed
        filled = np.where(np.isfinite(z), z, 1e3)
        axes.contour(record.x, record.y, filled, levels=_AREAS, colors="white", linewidths=1.5)
        axes.plot(*record.best, marker="+", ms=12, mew=2, color="white")
        figure.colorbar(mesh, ax=axes, label="−2 Δ ln L")
        axes.set_xlabel(mathtext(record.x_label))
        axes.set_ylabel(mathtext(record.y_label))
    return figure


def interactive_lines(record: Lines) -> plots.Spec:
    """Draw :func:`draw_lines` for the page."""
    data: list[plots.Spec] = []
    for i, line in enumerate(record.lines):
        x, y = list(line.x), list(line.y)
        if len(x) == len(y) + 1:
            x, y = np.repeat(x, 2)[1:-1].tolist(), [v for v in y for _ in (0, 1)]
        data.append({
            "type": "scatter", "mode": "markers" if line.points else "lines", "name": no_html(line.label),
            "x": plots.number_list(x), "y": plots.number_list(y), "line": {"color": _colour(i), "width": 2},
            "marker": {"color": DATA, "size": 6}, "hovertemplate": "%{x:.4g}: %{y:.4g}<extra>%{fullData.name}</extra>",
        })  # fmt: skip
    ends = [line.x for line in record.lines if not line.points] or [record.lines[0].x]
    x_axis = plots.axis_spec(
        no_html(record.x_label), range=[min(x[0] for x in ends), max(x[-1] for x in ends)]
    )
    if record.log:
        highest = max(v for line in record.lines for v in line.y if v is not None)
        y_axis = plots.log_axis_spec(no_html(record.y_label), 0.3, 5 * max(highest, 1.0))
    elif record.top is None:
        y_axis = plots.axis_spec(no_html(record.y_label), rangemode="tozero")
    else:
        y_axis = plots.axis_spec(no_html(record.y_label), range=[0, record.top])
    shapes_ = [plots.level_line(level, plots.GREY, "dot", 1) for level in record.levels]
    return {
        "data": data,
        "layout": plots.layout_spec(x_axis, y_axis, height=380, shapes=shapes_, showlegend=True),
    }


def interactive_map(record: Map) -> plots.Spec:
    """Draw :func:`draw_map` for the page."""
    data = [
        {
            "type": "heatmap", "x": plots.number_list(record.x), "y": plots.number_list(record.y),
            "z": [plots.number_list(row) for row in record.z], "zmin": 0, "zmax": _HIGHEST, "colorscale": "Viridis",
            "reversescale": True, "colorbar": {"title": {"text": "−2 Δ ln L"}},
            "hovertemplate": "%{x:.4g}, %{y:.4g}: %{z:.3g}<extra></extra>",
        },
        {
            "type": "scatter", "mode": "markers", "x": [record.best[0]], "y": [record.best[1]], "name": "best",
            "marker": {"symbol": "cross-thin", "size": 12, "line": {"width": 2, "color": "#ffffff"}},
        },
    ]  # fmt: skip
    layout = plots.layout_spec(
        plots.axis_spec(no_html(record.x_label)), plots.axis_spec(no_html(record.y_label)), height=400
    )
    return {"data": data, "layout": layout}
