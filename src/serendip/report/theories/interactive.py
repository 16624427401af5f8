"""The pictures of a study of theories for the page (plotly)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from serendip.report import plots
from serendip.report.figures import COLOURS
from serendip.report.notation import SYMBOLS, hypertext, no_html
from serendip.report.theories.study_plots import WAYS, FamilyTest, KindSpreads
from serendip.report.theories.summaries import ImprovementPlane, ModelPoint, Saturation
from serendip.report.words import with_error

__all__ = ["FLOOR", "families", "family_scatter", "kind_spreads", "plane", "saturation"]

FLOOR = 0.01
"""Smaller values are drawn here: an axis of logarithms has no zero."""
_DASHES = ("dash", "dot", "dashdot")


def _above(values: Iterable[float]) -> list[float | None]:
    return plots.number_list(max(value, FLOOR) for value in values)


def _ti_axis(title: str, values: Iterable[float]) -> plots.Spec:
    found = [max(value, FLOOR) for value in values]
    low, high = min(found, default=FLOOR) / 1.25, 1.6 * max(found, default=1.0)
    axis = plots.log_axis_spec(title, low, high)
    # less than about two decades have room for 1, 2, 5
    return axis | {"dtick": "D2"} if high < 80 * low else axis


def _ours(point: ModelPoint) -> str:
    three = (
        f"{name} {with_error(getattr(point, name), getattr(point, f'{name}_error'))}"
        for name in ("minimum", "median", "maximum")
    )
    return f"{no_html(point.model)}<br>{'<br>'.join(three)}"


def plane(record: ImprovementPlane, side: str) -> plots.Spec:
    """Minimum or maximum (``side``) TI against the median of all models; published ones are pale."""
    data: list[plots.Spec] = []
    if record.published:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"published models of the challenge ({len(record.published)})",
                "x": _above(point.median for point in record.published),
                "y": _above(getattr(point, side) for point in record.published),
                "text": [f"{_ours(point)}<br>{no_html(point.family)}" for point in record.published],
                "hovertemplate": "%{text}<extra>published</extra>",
                "marker": {"size": 5, "color": "#9aa7b0", "symbol": "circle-open"},
            }
        )
    for i, kind in enumerate(dict.fromkeys(point.family for point in record.ours)):
        points = [point for point in record.ours if point.family == kind]
        entry: plots.Spec = {
            "type": "scatter",
            "mode": "markers",
            "name": no_html(f"{kind} ({len(points)})"),
            "x": _above(point.median for point in points),
            "y": _above(getattr(point, side) for point in points),
            "text": [_ours(point) for point in points],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {
                "size": 10,
                "color": COLOURS[(i + 1) % (len(COLOURS) - 1)],
                "symbol": SYMBOLS[i % len(SYMBOLS)],
                "line": {"color": "#000000", "width": 1},
            },
        }
        for axis, name in (("error_x", "median"), ("error_y", side)):
            errors = [getattr(point, f"{name}_error") or 0.0 for point in points]
            entry[axis] = {"type": "data", "array": plots.number_list(errors), "thickness": 1, "width": 0}
        data.append(entry)
    everything = (*record.published, *record.ours)
    x = _ti_axis("median TI", (point.median for point in everything))
    y = _ti_axis(f"{side} TI", (getattr(point, side) for point in everything))
    return {
        "data": data,
        "layout": plots.layout_spec(x, y, height=440, showlegend=True),
    }


def saturation(record: Saturation) -> plots.Spec:
    """Curves with their bands and levels."""
    data: list[plots.Spec] = []
    for i, curve in enumerate(record.curves):
        colour = COLOURS[i % len(COLOURS)]
        data += [
            *plots.band(curve.x, curve.low, curve.high, colour=colour, opacity=0.18, group=curve.name),
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": no_html(curve.name),
                "legendgroup": curve.name,
                "x": plots.number_list(curve.x),
                "y": plots.number_list(curve.median),
                "text": [f"[{low:.3g}, {high:.3g}]" for low, high in zip(curve.low, curve.high, strict=True)],
                "hovertemplate": "%{x:g}: %{y:.3g} %{text}<extra>%{fullData.name}</extra>",
                "line": {"color": colour, "width": 2},
                "marker": {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 8},
            },
        ]
    places = sorted({x for curve in record.curves for x in curve.x})
    shown: set[str] = set()
    for name, level, curve_of, place in record.placed_levels():
        colour = plots.GREY if curve_of is None else COLOURS[curve_of % len(COLOURS)]
        dash = _DASHES[place % len(_DASHES)]
        # the colour shows to which curve a level belongs, so that the legend needs one entry for each dash
        short = name.rsplit(", ", 1)[0] if curve_of is not None else name
        entry = {"type": "scatter", "mode": "lines", "legendgroup": short}
        ends = plots.number_list([places[0], places[-1]])
        if short not in shown:
            line = {"color": plots.GREY, "width": 1.5, "dash": dash}
            data.append(entry | {"name": no_html(short), "x": [None], "y": [None], "line": line})
            shown.add(short)
        data.append(
            entry
            | {
                "name": no_html(name),
                "showlegend": False,
                "x": ends,
                "y": plots.number_list([level, level]),
                "hovertemplate": "%{y:.3g}<extra>%{fullData.name}</extra>",
                "line": {"color": colour, "width": 1.5, "dash": dash},
            }
        )
    more: plots.Spec = {"type": "log"} if record.x_log else {}
    ticks = {
        "tickmode": "array",
        "tickvals": plots.number_list(places),
        "ticktext": [f"{x:g}" for x in places],
    }
    x_axis = plots.axis_spec(hypertext(record.x_label), **ticks, **more)
    return {
        "data": data,
        "layout": plots.layout_spec(
            x_axis, plots.axis_spec(hypertext(record.y_label)), height=420, showlegend=True
        ),
    }


def kind_spreads(record: KindSpreads) -> plots.Spec:
    """A box and all models for each signal and kind."""
    data = []
    for i, kind in enumerate(record.kinds):
        found = [
            (row.signal, model, value, error)
            for row in record.signals
            for spread in row.kinds
            if spread.kind == kind
            for model, value, error in zip(spread.models, spread.values, spread.errors, strict=True)
        ]
        data.append(
            {
                "type": "box",
                "orientation": "h",
                "name": no_html(kind),
                "x": _above(value for _, _, value, _ in found),
                "y": [no_html(signal) for signal, *_ in found],
                "text": [f"{no_html(model)}: {with_error(value, error)}" for _, model, value, error in found],
                "hovertemplate": "%{text}<extra>%{y}</extra>",
                "hoveron": "points",
                "boxpoints": "all",
                "pointpos": 0,
                "jitter": 0.0,
                "marker": {"color": COLOURS[i % len(COLOURS)], "size": 4, "opacity": 0.75},
                "line": {"width": 1},
            }
        )
    drawn = [value for row in record.signals for spread in row.kinds for value in spread.values]
    names = [no_html(row.signal) for row in record.signals]
    layout = plots.layout_spec(
        _ti_axis("total improvement (TI)", drawn),
        _names_axis(names),
        height=130 + len(names) * (18 + 13 * len(record.kinds)),
        boxmode="group",
        showlegend=True,
    )
    return {"data": data, "layout": layout | {"boxgap": 0.25, "boxgroupgap": 0.1}}


def _names_axis(names: Sequence[str]) -> plots.Spec:
    # the first name at the top
    more: dict[str, Any] = {"categoryorder": "array", "categoryarray": list(names), "autorange": "reversed"}
    return plots.axis_spec("", type="category", tickfont={"size": 11}, dtick=1, **more)


def families(record: FamilyTest) -> plots.Spec:
    """Three points on a line for each theory."""
    rows = record.theories
    lines: dict[str, list[Any]] = {"x": [], "y": []}
    for row in rows:
        lines["x"] += [*_above((min(row.ti.values()), max(row.ti.values()))), None]
        lines["y"] += [no_html(row.theory)] * 2 + [None]
    data: list[plots.Spec] = [
        {
            "type": "scatter",
            "mode": "lines",
            **lines,
            "line": {"color": "#bbbbbb", "width": 2},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    for i, (way, title) in enumerate(WAYS.items()):
        found = [row for row in rows if way in row.ti]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": title,
                "x": _above(row.ti[way] for row in found),
                "y": [no_html(row.theory) for row in found],
                "text": [
                    f"{no_html(row.family)}: {with_error(row.ti[way], row.error[way])}" for row in found
                ],
                "hovertemplate": "%{text}<extra>%{y}</extra>",
                "marker": {"color": COLOURS[i], "size": 8, "symbol": SYMBOLS[i]},
            }
        )
    drawn = [value for row in rows for value in row.ti.values()]
    axis = _names_axis([no_html(row.theory) for row in rows])
    layout = plots.layout_spec(_ti_axis("total improvement (TI)", drawn), axis, height=130 + 19 * len(rows))
    return {"data": data, "layout": layout | {"showlegend": True}}


def family_scatter(record: FamilyTest) -> plots.Spec:
    """Family left out against point left out."""
    rows = [row for row in record.theories if row.ratio is not None]
    drawn = [row.ti[way] for row in rows for way in ("point", "family")]
    line = [FLOOR, 2 * max(drawn, default=1.0)]
    data: list[plots.Spec] = [
        {"type": "scatter", "mode": "lines", "name": "no loss", "x": line, "y": line, "hoverinfo": "skip",
         "line": {"color": plots.GREY, "dash": "dot", "width": 1.5}}
    ]  # fmt: skip
    entry: plots.Spec = {
        "type": "scatter",
        "mode": "markers",
        "name": f"{len(rows)} theories with siblings",
        "x": _above(row.ti["point"] for row in rows),
        "y": _above(row.ti["family"] for row in rows),
        "text": [
            f"{no_html(row.theory)}<br>{no_html(row.family)}"
            f"<br>point left out {with_error(row.ti['point'], row.error['point'])}"
            f"<br>family left out {with_error(row.ti['family'], row.error['family'])}"
            for row in rows
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": COLOURS[0], "size": 8},
    }
    for axis, way in (("error_x", "point"), ("error_y", "family")):
        errors = plots.number_list(row.error[way] for row in rows)
        entry[axis] = {"type": "data", "array": errors, "thickness": 1, "width": 0}
    data.append(entry)
    x, y = (_ti_axis(f"TI, its {way} left out", drawn) for way in ("point", "family"))
    return {"data": data, "layout": plots.layout_spec(x, y, height=560, showlegend=True)}
