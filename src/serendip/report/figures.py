"""Publication figures (matplotlib, mplhep style; no experiment label unless requested) of the records of a run."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import BaseModel

from serendip.io.files import atomic_write
from serendip.report.counting import bin_significance, p_of_sigma, poisson_errors, sigma_levels
from serendip.report.notation import no_mathtext
from serendip.report.words import global_label, interval, percent
from serendip.search.diagnostic_records import Closure, Scores, Selected, Spectrum, Truth
from serendip.search.results import Results

__all__ = [
    "COLOURS",
    "bin_label",
    "closure",
    "experiment_label",
    "p_value_scan",
    "save",
    "score_distribution",
    "selected_events",
    "significance_improvement",
    "spectrum",
    "spectrum_label",
    "styled_figure",
]

# Okabe-Ito: distinguishable with every kind of colour vision
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DATA, FIT, SIGNAL, WINDOW, LEARNED = "#000000", "#0072b2", "#d55e00", "#e69f00", "#009e73"
LEFT_OUT = "#999999"

# where points of the scan end (31 standard deviations): the limits of the axis must stay double-precision numbers
SMALLEST_P = 1e-220

# embedding the font of the style makes fontTools report the font's own time stamps
logging.getLogger("fontTools").setLevel(logging.ERROR)

STYLE: Any = {
    **mplhep.style.ROOT,
    # the font of the style has no digits of small powers (10⁻⁸⁰); the second one has
    "font.family": ["TeX Gyre Heros", "DejaVu Sans"],
    "figure.figsize": (7.0, 5.4),
    "font.size": 14,
    "axes.linewidth": 1.2,
    "axes.unicode_minus": True,
    "xtick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.major.size": 7,
    "ytick.minor.size": 3.5,
    "pdf.fonttype": 42,
}


def in_style() -> AbstractContextManager[None]:
    return mpl.rc_context(STYLE)


def new_figure(
    rows: int = 1,
    columns: int = 1,
    *,
    size: tuple[float, float] = (7.0, 5.4),
    gap: float = 0.8,
    **options: Any,
) -> tuple[Figure, Any]:
    """Axes with margins in inches: a layout engine would cost more time than all the drawing."""
    width, height = size
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, **options)
    panel = ((width - 1.35 - 0.95 * (columns - 1)) / columns, (height - 0.9 - gap * (rows - 1)) / rows)
    figure.subplots_adjust(
        left=0.9 / width,
        right=1 - 0.45 / width,
        bottom=0.7 / height,
        top=1 - 0.2 / height,
        wspace=0.95 / panel[0],
        hspace=gap / panel[1],
    )
    return figure, axes


@contextmanager
def styled_figure(rows: int = 1, columns: int = 1, **options: Any) -> Iterator[tuple[Figure, Any]]:
    """Figure and axes in the style of all figures, which holds while they are drawn."""
    with in_style():
        yield new_figure(rows, columns, **options)


def experiment_label(figure: Figure, label: str) -> None:
    """Write the experiment (first word) and the status of a result above the axes, as mplhep does."""
    name, _, status = no_mathtext(label).partition(" ")
    with in_style():
        # room for a line of text
        figure.subplots_adjust(top=1 - 0.45 / figure.get_figheight())
        # data: mplhep adds "Simulation" otherwise, which is up to the caller
        mplhep.label.exp_label(exp=name, text=status, data=True, com=None, loc=0, ax=figure.axes[0])


def bin_label(edges: Sequence[float], unit: str, what: str = "Events") -> str:
    """Axis title of a count: events per bin width, or per bin if the bins differ."""
    widths = np.diff(edges)
    if np.allclose(widths, widths[0], rtol=1e-6):
        return f"{what} / {widths[0]:.4g} {unit}".rstrip()
    return f"{what} / bin"


def spectrum_label(record: Spectrum, unit: str) -> str:
    """Axis title of a spectrum: events, or sums of weights."""
    return bin_label(record.edges, unit, "Sum of weights" if record.weighted else "Events")


def _window_band(axes: Axes, window: tuple[float, float], label: str | None = None) -> None:
    axes.axvspan(*window, color=WINDOW, alpha=0.18, lw=0, label=label, zorder=0)


def _selection(method: str | None, working_point: float | None) -> str:
    if method is None:
        return "all events"
    if working_point is None:
        return no_mathtext(f"{method}, weighted")
    if working_point == 1:
        return no_mathtext(f"{method}, no cut")
    return no_mathtext(f"{method}, ") + r"$\varepsilon_B$" + f" = {percent(working_point)}"


def spectrum(
    record: Spectrum,
    mass_name: str = "mass",
    unit: str = "GeV",
    excesses: Sequence[tuple[float, float]] = (),
) -> Figure:
    """Mass spectrum with the background expectation and, below it, the significance of each bin.

    Bins hidden by blinding are left empty; ``excesses`` of the sidebands and masks are marked, and data outside the range of the fit are drawn in grey.
    """
    edges = np.asarray(record.edges)
    observed = np.array(record.observed, dtype=float)
    expected, error = np.asarray(record.expected), np.asarray(record.expected_error)
    centres = 0.5 * (edges[1:] + edges[:-1])
    with in_style():
        figure, (top, bottom) = new_figure(2, gap=0.12, sharex=True, height_ratios=(3, 1))
        blinded = bool(np.isnan(observed).any())
        _window_band(top, record.window, "window (blinded)" if blinded else "window")
        _window_band(bottom, record.window)
        for i, place in enumerate(excesses):
            top.axvspan(
                *place, color=SIGNAL, alpha=0.18, lw=0, label=None if i else "sideband excess", zorder=0
            )
            bottom.axvspan(*place, color=SIGNAL, alpha=0.18, lw=0, zorder=0)
        for i, place in enumerate(record.masks):
            for axes in (top, bottom):
                label = "masked" if axes is top and i == 0 else None
                axes.axvspan(*place, color=LEFT_OUT, alpha=0.25, lw=0, label=label, zorder=0)
        sides = () if record.left_out is None else record.left_out.sides
        for i, side in enumerate(sides):
            beside = np.array(side.observed, dtype=float)
            top.stairs(beside, side.edges, color=LEFT_OUT, lw=1.2, label=None if i else "left out of the fit")
        lower = np.maximum(expected - error, 1e-9)
        top.stairs(expected + error, edges, baseline=lower, fill=True, color=FIT, alpha=0.3, lw=0)
        label = "background fit" if record.fit is None else f"fit: {no_mathtext(record.fit.name)}"
        top.stairs(expected, edges, color=FIT, lw=1.8, label=label, baseline=None)
        seen = observed > 0  # a log axis has no place for an empty bin; the lower panel shows it
        top.errorbar(
            centres[seen],
            observed[seen],
            yerr=poisson_errors(observed[seen], record.scale),
            fmt="o",
            ms=4,
            lw=1.2,
            color=DATA,
            label="data",
        )
        top.set_yscale("log")
        low, high = drawn_range(record)
        top.set_ylim(0.4 * low, 8 * high)
        top.set_ylabel(spectrum_label(record, unit))
        method = None if record.look is None else record.method
        top.legend(loc="upper right", title=_selection(method, record.working_point))
        pulls = np.where(
            masked(record), 0.0, np.nan_to_num(bin_significance(observed, expected, record.scale))
        )
        bottom.stairs(pulls, edges, fill=True, color=FIT, alpha=0.8)
        bottom.axhline(0, color=DATA, lw=1)
        reach = max(3.5, 1.15 * float(np.abs(pulls).max()))
        bottom.set_ylim(-reach, reach)
        bottom.set_ylabel("pull [σ]", loc="center", fontsize=12)
        bottom.set_xlabel(no_mathtext(f"{mass_name} [{unit}]"))
        bottom.set_xlim(*drawn_masses(record))
    return figure


def masked(record: Spectrum) -> NDArray[np.bool_]:
    """Bins excluded from the fit because they overlap a mask."""
    edges, out = np.asarray(record.edges), np.zeros(len(record.edges) - 1, dtype=bool)
    for low, high in record.masks:
        out |= (edges[1:] > low) & (edges[:-1] < high)
    return out


def drawn_range(record: Spectrum) -> tuple[float, float]:
    """Smallest and largest number in the figure of a spectrum, excluded data included; a log axis has no place for zero."""
    sides = () if record.left_out is None else record.left_out.sides
    counts = [record.observed, *(side.observed for side in sides)]
    seen = np.array([n for part in counts for n in part if n is not None])
    expected = np.asarray(record.expected)
    outside = np.array([n for side in sides for n in side.observed if n])
    highest = max(float(np.max(np.append(seen, expected))), record.scale)
    lowest = float(np.append(expected[expected > 0], outside).min(initial=highest))
    return max(lowest, 0.05 * record.scale), highest


def drawn_masses(record: Spectrum) -> tuple[float, float]:
    """Lowest and highest edge in the figure of a spectrum, excluded data included."""
    sides = () if record.left_out is None else record.left_out.sides
    edges = [record.edges, *(side.edges for side in sides)]
    return min(part[0] for part in edges), max(part[-1] for part in edges)


def p_value_scan(results: Results, unit: str = "GeV") -> Figure:
    """Local p-values against the window, with lines at whole numbers of σ and at the global p-value."""
    with in_style():
        figure, axes = new_figure()
        smallest = 0.5
        series = results.series
        for i, (method, cut) in enumerate(series):
            looks = [x for x in results.claims if (x.method, x.working_point) == (method, cut)]
            looks = sorted((x for x in looks if x.p_local is not None), key=lambda look: look.window)
            if not looks:
                continue
            low, high = np.array([look.window for look in looks]).T
            p = np.array([max(look.p_local or 0.0, SMALLEST_P) for look in looks])
            smallest = min(smallest, float(p.min()))
            axes.errorbar(
                0.5 * (low + high),
                p,
                xerr=0.5 * (high - low),
                fmt="os^Dv"[i % 5] + "-",
                ms=6,
                lw=1.3,
                color=COLOURS[i % len(COLOURS)],
                label=_selection(method, cut),
            )
        if results.overall is not None:
            smallest = min(smallest, results.overall.p)
            axes.axhline(
                results.overall.p, color=SIGNAL, ls="-.", lw=1.5, label=global_label(results.overall)
            )
        for z in sigma_levels(smallest):
            p_z = p_of_sigma(z)
            axes.axhline(p_z, color="#666666", ls=":", lw=1, zorder=0)
            axes.annotate(
                f"{z} σ",
                (1.01, p_z),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=12,
                color="#444444",
            )
        axes.set_yscale("log")
        axes.set_ylim(smallest**1.35 / 30, 3)  # room for the legend below
        axes.set_xlabel(f"window [{unit}]")
        axes.set_ylabel("local p-value")
        axes.legend(fontsize=11, ncols=2 if len(series) > 2 else 1, loc="lower left")
    return figure


def score_distribution(record: Scores, marks: Sequence[tuple[float, str]] = ()) -> Figure:
    """Anomaly score of sideband, window and (with labels) signal events; dotted lines at background efficiencies with their names."""
    edges = np.asarray(record.edges)
    with in_style():
        figure, axes = new_figure()
        for values, label, style in (
            (record.sideband, "sideband", {"histtype": "fill", "color": FIT, "alpha": 0.35}),
            (record.signal_region, "window", {"color": DATA, "lw": 1.8}),
            (record.truth_signal, "true signal", {"color": SIGNAL, "ls": "--", "lw": 1.8}),
        ):
            if values is not None:
                mplhep.histplot(values, edges, ax=axes, label=label, yerr=False, flow="none", **style)
        for cut, name in marks:
            axes.axvline(-np.log10(cut), color="#666666", ls=":", lw=1.2)
            axes.annotate(
                name, (-np.log10(cut), 0.02), xycoords=("data", "axes fraction"), rotation=90, ha="right", fontsize=11, color="#444444"
            )  # fmt: skip
        seen = np.concatenate(
            [np.asarray(v) for v in (record.sideband, record.signal_region) if v is not None]
        )
        axes.set_yscale("log")
        axes.set_ylim(0.3 * float(seen[seen > 0].min(initial=1.0)), 8)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel("anomaly score" + (f" ({no_mathtext(record.scale)})" if record.scale else ""))
        axes.set_ylabel("fraction of events / bin")
        axes.legend(title=no_mathtext(f"{record.method}, {interval(record.window)}"))
    return figure


def _feature_grid(n: int) -> tuple[Figure, Any]:
    """A figure with one panel for each of ``n`` features."""
    columns = 2 if n in (2, 4) else min(n, 3)
    rows = -(-n // columns)
    figure, grid = new_figure(rows, columns, size=(4.4 * columns + 0.4, 3.7 * rows + 0.2), squeeze=False)
    for axes in grid.flat:
        axes.minorticks_off()
    for axes in grid.flat[n:]:
        axes.set_axis_off()
    return figure, grid.flat


def closure(record: Closure, mass_name: str = "", unit: str = "") -> Figure:
    """Held-out sideband events (points) against the template's prediction (line), one panel per feature."""
    with in_style():
        figure, grid = _feature_grid(len(record.features))
        for axes, feature in zip(grid, record.features, strict=False):
            edges = np.asarray(feature.edges)
            axes.stairs(feature.predicted, edges, color=FIT, lw=1.8, label="template")
            axes.errorbar(
                0.5 * (edges[1:] + edges[:-1]),
                feature.observed,
                yerr=poisson_errors(feature.observed),
                fmt="o",
                ms=3,
                lw=1,
                color=DATA,
                label="held-out sideband",
            )
            axes.set_xlim(edges[0], edges[-1])
            axes.set_ylim(0, 1.35 * max(*feature.observed, *feature.predicted, 1.0))
            axes.set_xlabel(_axis(feature.name, mass_name, unit))
            axes.set_ylabel("events / bin")
        grid[0].legend(fontsize=11)
    return figure


def _axis(name: str, mass_name: str, unit: str) -> str:
    return no_mathtext(f"{name} [{unit}]" if name == mass_name and unit else name)


def selected_events(record: Selected, mass_name: str = "", unit: str = "") -> Figure:
    """Features of the events that passed the cut, or of all with their weights (points), against the template (filled), as fractions."""
    worth = record.effective or max(record.n, 1)
    with in_style():
        figure, grid = _feature_grid(len(record.features))
        for axes, feature in zip(grid, record.features, strict=False):
            edges = np.asarray(feature.edges)
            fractions = np.asarray(feature.selected or np.zeros(len(edges) - 1))
            if feature.template is not None:
                axes.stairs(feature.template, edges, fill=True, color=FIT, alpha=0.35, label="template")
            if feature.learned_signal is not None:
                axes.stairs(feature.learned_signal, edges, color=LEARNED, lw=1.8, label="learned signal")
            if feature.truth_signal is not None:
                axes.stairs(feature.truth_signal, edges, color=SIGNAL, ls="--", lw=1.8, label="true signal")
            some = fractions > 0  # the upper limits of empty bins would hide the rest
            axes.errorbar(
                0.5 * (edges[1:] + edges[:-1])[some],
                fractions[some],
                yerr=poisson_errors(fractions[some] * worth) / worth,
                fmt="o",
                ms=3,
                lw=1,
                color=DATA,
                label=f"{'selected' if record.working_point is not None else 'weighted'} ({record.n})",
            )
            axes.set_xlim(edges[0], edges[-1])
            drawn = (feature.template, feature.learned_signal, feature.truth_signal)
            highest = max([1e-6, *fractions, *(value for values in drawn for value in values or ())])
            axes.set_ylim(0, 1.5 * highest)
            axes.set_xlabel(_axis(feature.name, mass_name, unit))
            axes.set_ylabel("fraction / bin")
        grid[0].legend(fontsize=11)
    return figure


def significance_improvement(truth: Truth) -> Figure:
    """SIC = ε_S/√ε_B against ε_B, where at least the stated number of background events is left."""
    with in_style():
        figure, axes = new_figure()
        for i, roc in enumerate(truth.roc):
            axes.plot(
                np.array(roc.eps_b, dtype=float),
                np.array(roc.sic, dtype=float),
                lw=1.8,
                ls=("-", "--", "-.", ":")[i // len(COLOURS) % 4],
                color=COLOURS[i % len(COLOURS)],
                label=no_mathtext(f"{roc.method}, {interval(roc.window)}"),
            )
        axes.axhline(1, color="#666666", ls=":", lw=1)
        axes.set_xscale("log")
        axes.set_ylim(0, None)
        axes.set_xlabel(r"background efficiency $\varepsilon_B$")
        axes.set_ylabel(r"SIC = $\varepsilon_S$ / √$\varepsilon_B$")
        least = min((roc.min_background for roc in truth.roc), default=0)
        axes.legend(fontsize=11, title=f"at least {least} background events", title_fontsize=11)
    return figure


def print_file(figure: Figure, path: Path, suffix: str) -> None:
    """Write a figure without the date and program, which would change its bytes."""
    unwanted = {".pdf": "CreationDate", ".png": "Software"}[suffix]
    figure.savefig(path, format=suffix[1:], dpi=130, metadata={unwanted: None})


def save(figure: Figure, numbers: BaseModel | Sequence[BaseModel], stem: Path) -> None:
    """Write a figure as PDF and PNG with its numbers as JSON; the same input gives the same bytes."""
    rows = [numbers] if isinstance(numbers, BaseModel) else list(numbers)
    content = [row.model_dump(mode="json", by_alias=True) for row in rows]
    text = json.dumps(content[0] if isinstance(numbers, BaseModel) else content, indent=1, ensure_ascii=False)
    for suffix in (".pdf", ".png"):
        with in_style(), atomic_write(stem.with_name(stem.name + suffix)) as temporary:
            print_file(figure, temporary, suffix)
    with atomic_write(stem.with_name(stem.name + ".json")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    figure.clear()
