"""The figure of ``serendip bump``: spectrum, fit, window or peak, and the data left out of the fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.io.files import atomic_write
from serendip.report.counting import bin_significance, poisson_errors
from serendip.report.figures import DATA, FIT, LEFT_OUT, SIGNAL, WINDOW, bin_label, styled_figure
from serendip.statistics.ranges import outer_edges

__all__ = ["draw_bump", "save_bump"]

_FORMATS = (".png", ".pdf", ".svg")


def draw_bump(content: Mapping[str, Any], mass: NDArray[np.float64], weights: NDArray[np.float64]) -> Figure:
    """Draw a result of :func:`~serendip.statistics.bump.bump_hunt` or :func:`~serendip.statistics.anywhere.find_peak`.

    Parameters
    ----------
    content
        The result as a dictionary.
    mass, weights
        All events, in GeV: those outside the range of the fit are drawn in grey.
    """
    record = content["spectrum"]
    edges, counts = np.asarray(record["edges"]), np.asarray(record["counts"])
    peak = "with_peak" in record
    expected = np.asarray(record["with_peak" if peak else "expected"])
    background = np.asarray(record["background"]) if peak else expected
    hidden = np.zeros(len(counts), dtype=bool)
    for low, high in content["masks"]:
        hidden |= (edges[1:] > low) & (edges[:-1] < high)
    with styled_figure(2, gap=0.12, sharex=True, height_ratios=(3, 1)) as (figure, (top, bottom)):
        for axes in (top, bottom):
            axes.axvspan(*content["window"], color=WINDOW, alpha=0.18, lw=0, zorder=0)
            for k, (low, high) in enumerate(content["masks"]):
                label = "masked" if axes is top and k == 0 else None
                axes.axvspan(low, high, color=LEFT_OUT, alpha=0.25, lw=0, zorder=0, label=label)
        for k, grid in enumerate(outer_edges(mass, edges)):
            outside = (mass >= grid[0]) & (mass < grid[-1])
            top.stairs(
                np.histogram(mass[outside], grid, weights=weights[outside])[0], grid, color=LEFT_OUT, lw=1.2,
                label=None if k else "left out of the fit",
            )  # fmt: skip
        centres, seen = 0.5 * (edges[1:] + edges[:-1]), counts > 0
        top.errorbar(
            centres[seen], counts[seen], yerr=poisson_errors(counts[seen]), fmt="o", ms=3.5, lw=1.0, color=DATA, label="data"
        )  # fmt: skip
        top.stairs(background, edges, color=FIT, lw=1.8, baseline=None, label="background")
        if peak:
            top.stairs(expected, edges, color=SIGNAL, lw=1.5, baseline=None, label="with peak")
        else:
            error = np.asarray(record["expected_error"])
            lower = np.maximum(expected - error, 0.0)
            top.stairs(expected + error, edges, baseline=lower, fill=True, color=FIT, alpha=0.3, lw=0)
        highest = float(np.max(np.append(counts, expected)))
        lowest = float(expected[~hidden].min())
        if lowest < 0.05 * highest:
            top.set_yscale("log")
            top.set_ylim(0.4 * max(lowest, 0.05), 6 * highest)
        else:
            top.set_ylim(0, 1.35 * highest)
        top.set_ylabel(bin_label(list(edges), "GeV"))
        top.legend(loc="upper right")
        pulls = np.where(hidden, 0.0, np.nan_to_num(bin_significance(counts, background)))
        bottom.stairs(pulls, edges, fill=True, color=FIT, alpha=0.8)
        bottom.axhline(0, color=DATA, lw=1)
        reach = max(3.5, 1.15 * float(np.abs(pulls).max()))
        bottom.set_ylim(-reach, reach)
        bottom.set_ylabel("pull [σ]", loc="center", fontsize=12)
        bottom.set_xlabel("mass [GeV]")
        bottom.set_xlim(min(float(mass.min()), edges[0]), max(float(mass.max()), edges[-1]))
    return figure


def save_bump(figure: Figure, path: Path) -> None:
    """Write the figure, in the format that the ending of the file names.

    Raises
    ------
    InputError
        If the ending is none of PNG, PDF and SVG, or the folder does not exist.
    """
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"--figure {path}: the file must end in one of {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"--figure {path}: the folder {path.parent} does not exist")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)
