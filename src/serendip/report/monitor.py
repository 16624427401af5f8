"""The page, the figure and the summary of a monitor, from its ``monitor.json`` only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict

from serendip.report import plots, words
from serendip.report.figures import COLOURS, styled_figure
from serendip.report.notation import no_html, no_mathtext
from serendip.report.page import Page, write_page
from serendip.report.words.numbers import NBSP, SUPERSCRIPTS
from serendip.search.monitor.results import Evidence, Monitored, MonitoredLook
from serendip.wording import counted

__all__ = ["read_monitor", "summary", "write_monitor_page"]

_LEVELS = ((20.0, "p = 0.05"), (740.8, "3 σ"), (3.489e6, "5 σ"))
_DEEPEST, _HIGHEST = -12.0, 300.0


class _Line(BaseModel):
    """Logarithms to base ten of the evidence after each period; zero before the first test."""

    model_config = ConfigDict(frozen=True)

    label: str
    period: tuple[int, ...]
    log10_w: tuple[float, ...]


def read_monitor(folder: Path) -> Monitored:
    """Content of ``monitor.json``; InputError if it is missing or damaged."""
    return Monitored.read(folder / "monitor.json", missing="the folder contains no monitor")


def write_monitor_page(folder: Path | str) -> Path:
    """Write ``monitor.html`` and its figure, as :func:`~serendip.report.page.write_page`."""
    return write_page(folder, "monitor.html", read_monitor, _render)


def evidence_text(log_w: float | None) -> str:
    """Write an evidence from its natural logarithm: ``0.31``, ``41``, ``2.4 × 10⁷``."""
    if log_w is None:
        return "–"
    power = math.floor(log_w / math.log(10.0))
    if -3 <= power < 4:
        return f"{math.exp(log_w):.3g}"
    digits = math.exp(log_w - power * math.log(10.0))
    return f"{digits:.1f}{NBSP}×{NBSP}10{str(power).translate(SUPERSCRIPTS)}"


def summary(found: Monitored) -> list[str]:
    """The result in sentences."""
    tested = len(found.periods) - 1
    looks = counted(len(found.looks), "look")
    if not tested:
        n = words.counted(found.periods[0].events, "event")
        return [f"The first period ({n}) trains and is not tested; append the next one (--append FILE)."]
    if found.blinded:
        tests = counted(tested, "period")
        return [
            f"Blinded: {tests} tested, {looks}; the evidence is neither computed nor written. Add --unblind to see it."
        ]
    last = found.overall[-1]
    now = f"evidence W = {evidence_text(last.log_w)}, p = {words.p_text(last.p)} ({words.z_text(last.z)})"
    lines = [
        f"After {counted(tested, 'tested period')}: {now}, valid whenever one looks, for {looks} together."
    ]
    if len(found.looks) > 1:
        best = max(found.looks, key=lambda look: look.periods[-1].log_w or 0.0)
        own = best.periods[-1]
        now = f"W = {evidence_text(own.log_w)}, local p = {words.p_text(own.p)}"
        lines.append(f"Most evidence: {_name(best)}, {now}.")
    return lines


def _name(look: MonitoredLook) -> str:
    return f"{look.method} in {words.interval(look.window)}"


def _lines(found: Monitored) -> list[_Line]:
    rows: list[tuple[str, Sequence[Evidence]]] = [(_name(look), look.periods) for look in found.looks]
    if len(rows) > 1:
        rows.insert(0, ("all looks (mean)", found.overall))
    return [
        _Line(
            label=label,
            period=tuple(range(len(periods) + 1)),
            log10_w=(0.0, *((entry.log_w or 0.0) / math.log(10.0) for entry in periods)),
        )
        for label, periods in rows
    ]


def _bounds(lines: list[_Line]) -> tuple[float, float]:
    values = np.concatenate([line.log10_w for line in lines])
    low, high = max(float(values.min()), _DEEPEST), min(float(values.max()), _HIGHEST)
    return low - 0.5, max(high + 0.5, 7.2)


def _style(i: int) -> tuple[str, float]:
    return COLOURS[i % len(COLOURS)], 2.2 if i == 0 else 1.3


def _draw(lines: list[_Line]) -> Figure:
    with styled_figure() as (figure, axes):
        for i, line in enumerate(lines):
            colour, width = _style(i)
            label = no_mathtext(line.label) if i < len(COLOURS) else None
            axes.plot(line.period, line.log10_w, "o-", ms=4, color=colour, lw=width, label=label)
        for level, text in _LEVELS:
            axes.axhline(math.log10(level), color="#666666", ls=":", lw=1, zorder=0)
            axes.text(
                0.99,
                math.log10(level),
                text,
                transform=axes.get_yaxis_transform(),
                ha="right",
                va="bottom",
                fontsize=10,
            )
        axes.set_ylim(*_bounds(lines))
        axes.set_xlim(0, max(line.period[-1] for line in lines))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("periods")
        axes.set_ylabel(r"$\log_{10}$ of the evidence W")
        axes.legend(fontsize=11, loc="upper left")
    return figure


def _interactive(lines: list[_Line]) -> plots.Spec:
    low, high = _bounds(lines)
    data: list[plots.Spec] = []
    for i, line in enumerate(lines):
        colour, width = _style(i)
        data.append({
            "type": "scatter", "mode": "lines+markers", "name": no_html(line.label), "x": list(line.period),
            "y": plots.number_list(line.log10_w), "line": {"color": colour, "width": width}, "marker": {"size": 6},
            "hovertemplate": "period %{x}: 10<sup>%{y:.2f}</sup><extra>%{fullData.name}</extra>",
        })  # fmt: skip
    y_axis = plots.axis_spec("log<sub>10</sub> of the evidence W", range=[low, high])
    notes = [
        {"xref": "paper", "x": 1, "y": math.log10(level), "text": text, "showarrow": False, "xanchor": "right", "yanchor": "bottom"}
        for level, text in _LEVELS
    ]  # fmt: skip
    shapes = [plots.level_line(math.log10(level), plots.GREY, "dot", 1) for level, _ in _LEVELS]
    layout = plots.layout_spec(
        plots.axis_spec("periods", dtick=max(1, lines[0].period[-1] // 10)),
        y_axis,
        shapes=shapes,
        annotations=notes,
        showlegend=True,
    )
    return {"data": data, "layout": layout}


def _render(page: Page, found: Monitored) -> str:
    panel = None
    if not found.blinded and found.overall:
        lines = _lines(found)
        panel = page.panel(
            _interactive(lines),
            "Evidence against background alone",
            "Dotted: where p falls below 0.05, 3 σ and 5 σ. Under background alone a line ever reaches 1/p with a probability of at most p.",
            page.static("evidence", lines, lambda: _draw(lines)),
        )
    return page.render(
        "monitor.html.j2",
        helpers={"evidence": evidence_text, "name": _name},
        title=page.path.resolve().name,
        found=found,
        summary=summary(found),
        panel=panel,
    )
