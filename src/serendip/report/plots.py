"""Interactive plots for the HTML page: plain plotly.js specifications (``data`` and ``layout``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.report.counting import bin_significance, p_of_sigma, poisson_errors, sigma_levels
from serendip.report.figures import (
    COLOURS,
    DATA,
    FIT,
    LEARNED,
    LEFT_OUT,
    SIGNAL,
    SMALLEST_P,
    WINDOW,
    drawn_masses,
    drawn_range,
    masked,
    spectrum_label,
)
from serendip.report.notation import no_html
from serendip.report.words import global_label, interval, p_text, percent, z_text
from serendip.search.diagnostic_records import (
    ClosureFeature,
    Scores,
    Selected,
    SelectedFeature,
    Spectrum,
    Truth,
)
from serendip.search.results import Results

__all__ = ["closure_feature", "p_value_scan", "score_distribution", "selected_feature", "sic", "spectrum"]

Spec = dict[str, Any]
GREY = "#555555"
EPS_B = "ε<sub>B</sub>"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down")


def number_list(values: Iterable[float | None]) -> list[float | None]:
    """JSON-safe numbers of six digits; None for values that are hidden or not finite."""
    return [None if v is None or not math.isfinite(v) else float(f"{v:.6g}") for v in values]


def axis_spec(title: str, **more: Any) -> Spec:
    return {
        "title": {"text": title, "standoff": 8},
        "ticks": "outside",
        "linecolor": "#333333",
        "showline": True,
        "mirror": True,
        "zeroline": False,
        "gridcolor": "#e6e6e6",
        "automargin": True,
        **more,
    }


def log_axis_spec(title: str, low: float, high: float, **more: Any) -> Spec:
    return axis_spec(
        title,
        type="log",
        range=[math.log10(low), math.log10(high)],
        dtick=math.ceil(math.log10(high / low) / 8),
        exponentformat="power",
        showexponent="all",
        **more,
    )


def layout_spec(x: Spec, y: Spec, *, height: int = 430, **more: Any) -> Spec:
    return {
        "xaxis": x,
        "yaxis": y,
        "height": height,
        "autosize": True,
        "margin": {"l": 62, "r": 14, "t": 10, "b": 48},
        "font": {"family": "system-ui, Helvetica, Arial, sans-serif", "size": 13, "color": "#1c1c1c"},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "hoverlabel": {"font": {"size": 12}},
        "bargap": 0,
        **more,
    }


def _steps(edges: Sequence[float], values: Sequence[float]) -> tuple[list[float | None], list[float | None]]:
    """Turn a histogram into a line: x and y of its corners."""
    return number_list(np.repeat(edges, 2)[1:-1]), number_list(np.repeat(values, 2))


def _band(window: tuple[float, float], colour: str = WINDOW, yref: str = "paper") -> Spec:
    return {
        "type": "rect",
        "xref": "x",
        "yref": yref,
        "x0": window[0],
        "x1": window[1],
        "y0": 0,
        "y1": 1,
        "fillcolor": colour,
        "opacity": 0.18,
        "line": {"width": 0},
        "layer": "below",
    }


def _points(edges: Sequence[float], values: Sequence[float], errors: Any, name: str) -> Spec:
    centres = 0.5 * (np.asarray(edges)[1:] + np.asarray(edges)[:-1])
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": number_list(centres),
        "y": number_list(values),
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": number_list(errors[1]),
            "arrayminus": number_list(errors[0]),
            "thickness": 1.2,
            "width": 0,
        },
        "marker": {"color": DATA, "size": 5},
    }


def _line(edges: Sequence[float], values: Sequence[float], name: str, colour: str, **more: Any) -> Spec:
    x, y = _steps(edges, values)
    line = {"color": colour, "width": 2, **more.pop("line", {})}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": line, **more}


def band(
    x: Sequence[float],
    low: Sequence[float | None],
    high: Sequence[float | None],
    *,
    colour: str,
    opacity: float,
    group: str,
) -> list[Spec]:
    """The area between two curves, shown and hidden with its group."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    edge = {
        "type": "scatter",
        "mode": "lines",
        "x": number_list(x),
        "line": {"width": 0, "color": colour},
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": group,
    }
    fill = {"fill": "tonexty", "fillcolor": f"rgba({red},{green},{blue},{opacity})"}
    return [edge | {"y": number_list(low)}, edge | {"y": number_list(high)} | fill]


def _pulls(edges: NDArray[np.float64], z: NDArray[np.float64]) -> Spec:
    return {
        "type": "bar",
        "x": number_list(0.5 * (edges[1:] + edges[:-1])),
        "y": number_list(z),
        "width": number_list(np.diff(edges)),
        "yaxis": "y2",
        "marker": {"color": FIT},
        "name": "pull",
        "showlegend": False,
        "hovertemplate": "%{y:.1f} σ<extra></extra>",
    }


def _filled(edges: Sequence[float], values: Sequence[float], name: str) -> Spec:
    return _line(edges, values, name, FIT, fill="tozeroy", fillcolor="rgba(0,114,178,0.2)")


def spectrum(
    record: Spectrum, mass_name: str, unit: str, excesses: Sequence[tuple[float, float]] = ()
) -> Spec:
    """Mass spectrum with fit, its error band and the significance of each bin below.

    ``excesses`` of the sidebands and masks are marked, and data outside the range of the fit are drawn in grey.
    """
    edges = record.edges
    observed = np.array(record.observed, dtype=float)
    expected, error = np.asarray(record.expected), np.asarray(record.expected_error)
    x, upper = _steps(edges, (expected + error).tolist())
    _, lower = _steps(edges, np.maximum(expected - error, 1e-9).tolist())
    lowest, highest = drawn_range(record)
    name = "background fit" if record.fit is None else f"fit: {no_html(record.fit.name)}"
    blinded = bool(np.isnan(observed).any())
    significance = np.where(masked(record), 0.0, bin_significance(observed, expected, record.scale))
    sides = () if record.left_out is None else record.left_out.sides
    reach = max(3.5, 1.15 * float(np.nan_to_num(np.abs(significance)).max()))
    edge = {"width": 0, "color": FIT}
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": lower,
            "line": edge,
            "hoverinfo": "skip",
            "showlegend": False,
        },
        {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": upper,
            "line": edge,
            "fill": "tonexty",
            "fillcolor": "rgba(0,114,178,0.25)",
            "name": "fit error",
            "hoverinfo": "skip",
        },
        *(
            _line(
                side.edges,
                np.array(side.observed, dtype=float).tolist(),
                "left out of the fit",
                LEFT_OUT,
                showlegend=i == 0,
            )
            for i, side in enumerate(sides)
        ),
        _line(edges, expected.tolist(), name, FIT),
        _points(edges, observed.tolist(), poisson_errors(observed, record.scale), "data"),
        _pulls(np.asarray(edges), significance),
    ]
    label = {
        "xref": "x",
        "yref": "paper",
        "x": 0.5 * (record.window[0] + record.window[1]),
        "y": 1,
        "yanchor": "top",
        "text": "window<br>(blinded)" if blinded else "window",
        "showarrow": False,
        "font": {"size": 11, "color": "#6b4a00"},
    }
    return {
        "data": data,
        "layout": layout_spec(
            axis_spec(
                no_html(f"{mass_name} [{unit}]"), anchor="y2", range=list(drawn_masses(record)), mirror="all"
            ),
            log_axis_spec(spectrum_label(record, unit), 0.4 * lowest, 3 * highest, domain=[0.31, 1]),
            height=480,
            yaxis2=axis_spec("pull [σ]", domain=[0, 0.25], range=[-reach, reach], nticks=5, zeroline=True),
            shapes=[
                _band(record.window),
                *(_band(place, SIGNAL) for place in excesses),
                *(_band(place, LEFT_OUT) for place in record.masks),
            ],
            annotations=[label],
        ),
    }


def p_value_scan(results: Results, unit: str) -> Spec:
    """Local p-value of every look against its window; lines at whole σ and at the global p-value."""
    data, values = [], [0.5]
    for i, (method, cut) in enumerate(results.series):
        looks = [look for look in results.claims if (look.method, look.working_point) == (method, cut)]
        looks = sorted((look for look in looks if look.p_local is not None), key=lambda look: look.window)
        if not looks:
            continue
        p_values = [max(look.p_local or 0.0, SMALLEST_P) for look in looks]
        values += p_values
        colour = COLOURS[i % len(COLOURS)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": no_html(method) + _series_end(cut),
                "x": number_list(0.5 * (look.window[0] + look.window[1]) for look in looks),
                "y": number_list(p_values),
                "error_x": {
                    "type": "data",
                    "array": number_list(0.5 * (look.window[1] - look.window[0]) for look in looks),
                    "thickness": 1.2,
                    "width": 0,
                },
                "marker": {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 8, "color": colour},
                "line": {"color": colour, "width": 1.5},
                "text": [
                    f"{interval(look.window, unit)}: {z_text(look.z_local)}, p = {p_text(look.p_local)}"
                    for look in looks
                ],
                "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
            }
        )
    shapes: list[Spec] = []
    annotations: list[Spec] = []
    if results.overall is not None:
        p = results.overall.p
        values.append(p)
        shapes.append(level_line(p, SIGNAL, "dashdot", 2))
        annotations.append(
            {
                "xref": "paper",
                "x": 0.01,
                "xanchor": "left",
                "y": math.log10(p),
                "yanchor": "bottom",
                "text": global_label(results.overall),
                "showarrow": False,
                "font": {"size": 12, "color": "#a34700"},
            }
        )
    low = min(values) / 10
    for z in sigma_levels(low):
        shapes.append(level_line(p_of_sigma(z), GREY, "dot", 1))
        annotations.append(
            {
                "xref": "paper",
                "x": 1.005,
                "xanchor": "left",
                "y": math.log10(p_of_sigma(z)),
                "text": f"{z} σ",
                "showarrow": False,
                "font": {"size": 12, "color": GREY},
            }
        )
    layout = layout_spec(
        axis_spec(f"window [{unit}]"),
        log_axis_spec("local p-value", low, 2),
        height=460,
        shapes=shapes,
        annotations=annotations,
        showlegend=True,
    )
    layout["margin"]["r"] = 40
    return {"data": data, "layout": layout}


def _series_end(cut: float | None) -> str:
    if cut == 1:
        return ""
    return ", weighted" if cut is None else f", {EPS_B} = {percent(cut)}"


def level_line(y: float, colour: str, dash: str, width: float) -> Spec:
    line = {"color": colour, "dash": dash, "width": width}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": y, "y1": y, "line": line}


def score_distribution(record: Scores, marks: Sequence[tuple[float, str]]) -> Spec:
    """Anomaly scores of sideband, window and (with labels) signal; dotted lines at background efficiencies with their names."""
    data = [_filled(record.edges, record.sideband or (), "sideband")]
    if record.signal_region is not None:
        data.append(_line(record.edges, record.signal_region, "window", DATA))
    if record.truth_signal is not None:
        data.append(_line(record.edges, record.truth_signal, "true signal", SIGNAL, line={"dash": "dash"}))
    positive = [v for v in (*(record.sideband or ()), *(record.signal_region or ())) if v > 0]
    shapes: list[Spec] = []
    annotations: list[Spec] = []
    for cut, name in marks:
        x, line = -math.log10(cut), {"color": GREY, "dash": "dot", "width": 1.5}
        shapes.append({"type": "line", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": line})
        annotations.append(
            {
                "x": x,
                "xanchor": "left",
                "yref": "paper",
                "y": 1,
                "yanchor": "top",
                "text": name,
                "showarrow": False,
                "font": {"size": 12, "color": GREY},
            }
        )
    return {
        "data": data,
        "layout": layout_spec(
            axis_spec("anomaly score", range=[record.edges[0], record.edges[-1]]),
            log_axis_spec("fraction of events / bin", 0.4 * min(positive, default=1e-4), 2),
            shapes=shapes,
            annotations=annotations,
            showlegend=True,
        ),
    }


def _feature_axis(name: str, edges: Sequence[float], mass_name: str, unit: str) -> Spec:
    return axis_spec(no_html(f"{name} [{unit}]" if name == mass_name else name), range=[edges[0], edges[-1]])


def closure_feature(record: ClosureFeature, mass_name: str, unit: str) -> Spec:
    """Held-out sideband events over the template's prediction, with the significance of each bin below."""
    observed = np.asarray(record.observed)
    z = bin_significance(observed, record.predicted)
    reach = max(3.5, 1.15 * float(np.abs(z).max()))
    edges = np.asarray(record.edges)
    data = [
        _line(record.edges, record.predicted, "template", FIT),
        _points(record.edges, record.observed, poisson_errors(observed), "held-out sideband"),
        _pulls(edges, z),
    ]
    return {
        "data": data,
        "layout": layout_spec(
            {**_feature_axis(record.name, record.edges, mass_name, unit), "anchor": "y2", "mirror": "all"},
            axis_spec("events / bin", rangemode="tozero", domain=[0.36, 1], nticks=6),
            height=330,
            yaxis2=axis_spec("pull [σ]", domain=[0, 0.26], range=[-reach, reach], nticks=4, zeroline=True),
        ),
    }


def selected_feature(record: SelectedFeature, group: Selected, mass_name: str, unit: str) -> Spec:
    """Events that passed the cut, or all with their weights, against the template, as fractions."""
    fractions = np.asarray(record.selected or np.zeros(len(record.edges) - 1))
    data = []
    if record.template is not None:
        data.append(_filled(record.edges, record.template, "template"))
    if record.learned_signal is not None:
        data.append(_line(record.edges, record.learned_signal, "learned signal", LEARNED))
    if record.truth_signal is not None:
        data.append(_line(record.edges, record.truth_signal, "true signal", SIGNAL, line={"dash": "dash"}))
    worth = group.effective or max(group.n, 1)
    errors = poisson_errors(fractions * worth) / worth
    shown = np.where(fractions > 0, fractions, np.nan)  # the upper limits of empty bins would hide the rest
    name = "selected" if group.working_point is not None else "weighted"
    data.append(_points(record.edges, shown.tolist(), errors, f"{name} ({group.n})"))
    return {
        "data": data,
        "layout": layout_spec(
            _feature_axis(record.name, record.edges, mass_name, unit),
            axis_spec("fraction / bin", rangemode="tozero", nticks=6),
            height=300,
        ),
    }


def sic(truth: Truth, unit: str) -> Spec:
    """Significance improvement against background efficiency, for every method and window."""
    data = []
    for i, roc in enumerate(truth.roc):
        colour = COLOURS[i % len(COLOURS)]
        dash = ("solid", "dash", "dashdot", "dot")[i // len(COLOURS) % 4]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": no_html(f"{roc.method}, {interval(roc.window, unit)}"),
                "x": number_list(roc.eps_b),
                "y": number_list(roc.sic),
                "line": {"color": colour, "width": 2, "dash": dash},
            }
        )
    x = axis_spec(f"background efficiency {EPS_B}", type="log", dtick=1, exponentformat="power")
    y = axis_spec(f"SIC = ε<sub>S</sub> / √{EPS_B}", rangemode="tozero")
    return {"data": data, "layout": layout_spec(x, y, showlegend=True)}
