"""Figures of the kinds that count: false-positive rates, coverage, and the injection ladder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serendip.events.events import Window
from serendip.validate.base import look_name
from serendip.validate.pictures import Picture, Series

__all__ = ["coverage_picture", "ladder_pictures", "rate_pictures"]


def rate_pictures(rows: Sequence[Mapping[str, Any]], window: Window) -> list[Picture]:
    """Fraction of the experiments with a p-value below each level, a figure for each method and working point.

    Parameters
    ----------
    rows
        As :func:`serendip.validate.null_verdict.judge` returns them.
    window
        The signal region.
    """
    found = []
    for method, point in dict.fromkeys((row["method"], row["working_point"]) for row in rows):
        looks = [row for row in rows if (row["method"], row["working_point"]) == (method, point)]
        levels = np.geomspace(min(1 / max(row["n"] for row in looks), 0.05), 1.0, 25)
        series = [Series(name="nominal", x=tuple(levels), y=tuple(levels), style="line")]
        for row in looks:
            fraction = np.searchsorted(row["p"], levels, side="right") / row["n"]
            shown = fraction > 0
            x, y = tuple(levels[shown]), tuple(fraction[shown])
            series.append(Series(name=row["combination"], x=x, y=y, style="line"))
        found.append(
            Picture(
                name=f"null-{method}-{'weighted' if point is None else f'{point:g}'}-{window.low:g}-{window.high:g}",
                title=f"{method}, {look_name(point)}, {window}",
                caption="Fraction of the background-only experiments whose p-value is below each level. On the straight line "
                "p-values are valid, above it they overstate the significance. Those of kfold-summed are calibrated; same-data is "
                "the control that has to lie above.",
                x_label="p",
                y_label="fraction of experiments with a smaller p",
                series=tuple(series),
                x_log=True,
                y_log=True,
            )
        )
    return found


def coverage_picture(name: str, held: Mapping[str, Sequence[tuple[float, float, float]]]) -> Picture:
    """Fraction of pseudo-spectra whose intervals and limits hold the truth, against its size.

    Parameters
    ----------
    name
        The window, for people.
    held
        For each interval: injected signal in standard deviations, fraction and its error.
    """
    return Picture(
        name=f"coverage-{name.split(maxsplit=1)[0]}",
        title=f"Coverage, {name}",
        caption="Fraction of the pseudo-spectra in which the interval or limit holds the injected signal. It has to be at least "
        "the level in its name.",
        x_label="injected signal [standard deviations]",
        y_label="fraction that contains the truth",
        series=tuple(
            Series(
                name=level,
                x=tuple(strength for strength, _, _ in points),
                y=tuple(value for _, value, _ in points),
                error=tuple(error for _, _, error in points),
            )
            for level, points in held.items()
        ),
    )


def ladder_pictures(ladders: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Significance out against in, and measured against true signal strength, of every method and working point.

    Parameters
    ----------
    ladders
        With ``method``, ``working_point`` and ``steps`` (one for each injection and repeat).
    """
    found, strength = [], []
    for ladder in ladders:
        name = f"{ladder['method']}, {look_name(ladder['working_point'])}"
        found.append(_medians(name, ladder["medians"], ladder["steps"]))
        strength.append(_means(name, ladder["steps"], "mu", "mu_hat"))
    tops = [
        max([1.0, *(value for series in group for value in series.x if value is not None)])
        for group in (found, strength)
    ]
    same = [Series(name="as injected", x=(0.0, top), y=(0.0, top), style="line") for top in tops]
    return [
        Picture(
            name="injection-significance",
            title="Significance of the search against that of all events",
            caption="Median over the repeats, and its error. Above the line the search gains; the points rise late and steeply where "
            "a method has to learn the signal from the data.",
            x_label="Asimov significance of all events in the window",
            y_label="local significance",
            series=(same[0], *found),
        ),
        Picture(
            name="injection-strength",
            title="Measured against injected signal strength",
            caption="In units of the largest injection; the efficiency of each training on the signal is taken from the labels. "
            "Points off the line are a bias of the background estimate.",
            x_label="μ",
            y_label="measured μ",
            series=(same[1], *strength),
        ),
    ]


def _medians(name: str, medians: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> Series:
    """Median significance of each injection; its error is that of the median of a normal distribution."""
    errors = []
    for row in medians:
        values = [
            step["z"] for step in steps if step["injected"] == row["injected"] and step["z"] is not None
        ]
        spread = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        errors.append(float(np.sqrt(np.pi / 2) * spread))
    return Series(
        name=name,
        x=tuple(row["z_inclusive"] for row in medians),
        y=tuple(row["z"] for row in medians),
        error=tuple(errors),
    )


def _means(name: str, steps: Sequence[Mapping[str, Any]], x: str, y: str) -> Series:
    """Mean and its error of the repeats of each injection; those without a value are left out."""
    points: list[tuple[float, float, float]] = []
    for injected in sorted({step["injected"] for step in steps}):
        same = [step for step in steps if step["injected"] == injected and step[y] is not None]
        if not same:
            continue
        values = np.array([step[y] for step in same], dtype=float)
        error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
        points.append((float(np.mean([step[x] for step in same])), float(values.mean()), error))
    columns = [tuple(point[i] for point in points) for i in range(3)]
    return Series(name=name, x=columns[0], y=columns[1], error=columns[2])
