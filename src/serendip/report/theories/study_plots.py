"""More pictures of a study of theories, for print: spread of models by signal and kind, and theories whose family is left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict

from serendip.errors import InputError
from serendip.report import figures
from serendip.report.figures import COLOURS
from serendip.report.notation import no_mathtext
from serendip.report.theories.plots import log_above_zero

__all__ = [
    "WAYS",
    "FamilyTest",
    "KindSpread",
    "KindSpreads",
    "LeftOut",
    "SignalSpread",
    "draw_families",
    "draw_family_scatter",
    "draw_kind_spreads",
    "family_test",
    "kind_spreads",
]

WAYS = {"trained": "in the mixture", "point": "its point left out", "family": "its family left out"}
"""Three ways to test a theory."""
_FEWEST = 4  # below, the points show more than a box
_MARKERS = "os^D"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KindSpread(_Record):
    """TI of the models of one kind for one signal, with their names and errors."""

    kind: str
    models: tuple[str, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]


class SignalSpread(_Record):
    """One signal and the kinds of models that were tested on it."""

    signal: str
    family: str
    kinds: tuple[KindSpread, ...]


class KindSpreads(_Record):
    """All signals of a group of theories, the ones that are found best first."""

    group: str
    kinds: tuple[str, ...]
    signals: tuple[SignalSpread, ...]


class LeftOut(_Record):
    """TI of a theory and its error in the :data:`WAYS` in which it was tested."""

    theory: str
    family: str
    ti: dict[str, float]
    error: dict[str, float]

    @property
    def ratio(self) -> float | None:
        """TI with the family left out, over TI with the point left out."""
        return self.ti["family"] / self.ti["point"] if self.ti.get("point") and "family" in self.ti else None


class FamilyTest(_Record):
    """Theories with siblings, those that lose most with their family first."""

    theories: tuple[LeftOut, ...]


def kind_spreads(
    group: str,
    models: Iterable[Mapping[str, Any]],
    kinds: Mapping[str, str],
    families: Mapping[str, str],
) -> KindSpreads:
    """Sort the TI of all models by signal and kind.

    Parameters
    ----------
    group
        Group of theories.
    models
        Summaries of a study, see :func:`serendip.study.context.summary`.
    kinds
        Titles of the kinds to take, in their order.
    families
        Family of each theory.
    """
    found: dict[str, dict[str, list[tuple[str, float, float]]]] = {}
    for model in models:
        ti = model["groups"].get(group, {}).get("ti")
        if ti is None or model["kind"] not in kinds:
            continue
        for entry in ti["signals"]:
            places = found.setdefault(entry["signal"], {})
            places.setdefault(kinds[model["kind"]], []).append(
                (model["name"], entry["value"], entry["error"])
            )
    rows = []
    for signal, places in found.items():
        spreads = []
        for kind in kinds.values():
            if kind in places:
                names, values, errors = zip(*places[kind], strict=True)
                spreads.append(KindSpread(kind=kind, models=names, values=values, errors=errors))
        rows.append(SignalSpread(signal=signal, family=families.get(signal, ""), kinds=tuple(spreads)))
    present = [kind for kind in kinds.values() if any(kind in places for places in found.values())]
    # by the first kind, which is MoT where it was trained
    rows.sort(key=lambda row: -float(np.median(row.kinds[0].values)))
    return KindSpreads(group=group, kinds=tuple(present), signals=tuple(rows))


def family_test(ti: Mapping[str, Mapping[str, Any] | None], families: Mapping[str, str]) -> FamilyTest:
    """Collect the theories of a leave-one-family-out test from the TI of each of the :data:`WAYS`."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for way in WAYS:
        for entry in (ti.get(way) or {}).get("signals", ()):
            found.setdefault(entry["signal"], {})[way] = (entry["value"], entry["error"])
    rows = [
        LeftOut(
            theory=name,
            family=families.get(name, ""),
            ti={way: pair[0] for way, pair in values.items()},
            error={way: pair[1] for way, pair in values.items()},
        )
        for name, values in found.items()
    ]
    return FamilyTest(
        theories=tuple(sorted(rows, key=lambda row: np.inf if row.ratio is None else row.ratio))
    )


def draw_kind_spreads(record: KindSpreads) -> Figure:
    """Draw for each signal and kind the range of the models, a box from 25 to 75 % and the median; single points where there are few."""
    rows, n = record.signals, len(record.kinds)
    if not rows:
        raise InputError("there is no signal to draw")
    with figures.in_style():
        height = 1.6 + 0.17 * (n + 1) * len(rows)
        figure, axes = figures.new_figure(size=(9.0, height))
        figure.subplots_adjust(left=0.34, right=0.97, top=1 - 0.75 / height, bottom=0.75 / height)
        step = 0.8 / n
        for y, row in enumerate(rows):
            for spread in row.kinds:
                i = record.kinds.index(spread.kind)
                colour, place = COLOURS[i % len(COLOURS)], y + (i - 0.5 * (n - 1)) * step
                values = np.array(spread.values)
                low, q25, q50, q75, top = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
                if len(values) < _FEWEST:
                    axes.plot(values, np.full(len(values), place), "|", color=colour, ms=6, mew=1.5)
                    continue
                axes.plot([low, top], [place, place], color=colour, lw=1.0, zorder=1)
                axes.barh(place, q75 - q25, left=q25, height=0.75 * step, color=colour, alpha=0.45, zorder=2)
                axes.plot(
                    [q50, q50], [place - 0.4 * step, place + 0.4 * step], color=colour, lw=1.8, zorder=3
                )
            if y:
                axes.axhline(y - 0.5, color="#dddddd", lw=0.6, zorder=0)
        for i, kind in enumerate(record.kinds):
            most = max(len(s.values) for row in rows for s in row.kinds if s.kind == kind)
            axes.barh([0], [0], color=COLOURS[i % len(COLOURS)], label=no_mathtext(f"{kind} ({most})"))
        drawn = [value for row in rows for spread in row.kinds for value in spread.values]
        _improvement_axes(axes, [row.signal for row in rows], drawn, size=10.5, edge=0.55, columns=5)
    return figure


def _improvement_axes(
    axes: Axes, names: Sequence[str], drawn: Sequence[float], *, size: float, edge: float, columns: int
) -> None:
    """One line for each name, total improvements along it, and the legend above."""
    log_above_zero(axes, "x", max(drawn), min(drawn))
    axes.set_yticks(range(len(names)), [no_mathtext(name) for name in names], fontsize=size)
    axes.tick_params(axis="y", which="minor", left=False, right=False)
    axes.set_ylim(len(names) - 1 + edge, -edge)
    axes.set_xlabel("total improvement (TI)")
    axes.legend(loc="lower left", bbox_to_anchor=(-0.5, 1.0), ncols=columns, fontsize=10.5, frameon=False)


def draw_families(record: FamilyTest) -> Figure:
    """Draw the three TI of each theory on one line."""
    rows = record.theories
    if not rows:
        raise InputError("there is no theory to draw")
    with figures.in_style():
        height = 1.6 + 0.27 * len(rows)
        figure, axes = figures.new_figure(size=(9.0, height))
        figure.subplots_adjust(left=0.34, right=0.97, top=1 - 0.75 / height, bottom=0.75 / height)
        for y, row in enumerate(rows):
            axes.plot([min(row.ti.values()), max(row.ti.values())], [y, y], color="#bbbbbb", lw=1.5, zorder=1)
        for i, (way, title) in enumerate(WAYS.items()):
            found = [(y, row) for y, row in enumerate(rows) if way in row.ti]
            axes.errorbar(
                [row.ti[way] for _, row in found],
                [y for y, _ in found],
                xerr=[row.error[way] for _, row in found],
                fmt=_MARKERS[i],
                ms=5,
                lw=1.0,
                color=COLOURS[i],
                label=title,
                zorder=2 + i,
            )
        drawn = [value for row in rows for value in row.ti.values()]
        _improvement_axes(axes, [row.theory for row in rows], drawn, size=10, edge=0.6, columns=3)
    return figure


def draw_family_scatter(record: FamilyTest) -> Figure:
    """Draw the TI with the family left out against that with the point left out."""
    rows: Sequence[LeftOut] = [row for row in record.theories if row.ratio is not None]
    if not rows:
        raise InputError("no theory was tested in both ways")
    with figures.in_style():
        figure, axes = figures.new_figure(size=(7.0, 6.4))
        axes.errorbar(
            [row.ti["point"] for row in rows],
            [row.ti["family"] for row in rows],
            xerr=[row.error["point"] for row in rows],
            yerr=[row.error["family"] for row in rows],
            fmt="o",
            ms=5,
            lw=0.9,
            color=COLOURS[0],
            label=f"{len(rows)} theories with siblings",
        )
        drawn = [row.ti[way] for row in rows for way in ("point", "family")]
        for axis in ("x", "y"):
            log_above_zero(axes, axis, max(drawn), min(drawn))
        line = np.geomspace(1e-3, 2 * max(drawn), 100)
        axes.plot(line, line, color="#666666", ls=":", lw=1.2, label="no loss", zorder=0)
        axes.set_xlabel("TI, its point left out")
        axes.set_ylabel("TI, its family left out")
        axes.legend(loc="upper left", fontsize=11)
    return figure
