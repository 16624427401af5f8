"""The figures of the page of a study of theories, in its order, and their printed versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from serendip.report.page import Group, Page, Panel
from serendip.report.theories import interactive as theory_interactive
from serendip.report.theories import plots as theory_plots
from serendip.report.theories import study_plots as theory_study_plots
from serendip.report.theories.claims import ALL, GROUPS, best, of_kind, ti_of, titles_of
from serendip.report.theories.summaries import (
    Saturation,
    SaturationCurve,
    improvement_plane,
    saturation_curve,
)
from serendip.theories.merits import ModelImprovement, SignalImprovement, TotalImprovement

__all__ = ["families", "improvement", "planes", "saturation", "signals"]

_TITLES = {"theories": "single theories are added", "families": "whole families are added"}
_QUANTITIES = {"auc": "median AUC", "si": "median of the largest SI"}


def improvement(content: Mapping[str, Any]) -> TotalImprovement:
    """Undo :meth:`~serendip.theories.merits.improvement.TotalImprovement.to_dict`.

    Raises
    ------
    TypeError, KeyError
        If it is something else.
    """
    signals = tuple(SignalImprovement(**entry) for entry in content["signals"])
    return TotalImprovement(
        **{**content, "signals": signals, "left_out": tuple(content.get("left_out") or ())}
    )


def planes(
    page: Page, models: Sequence[Mapping[str, Any]], published: Iterable[ModelImprovement]
) -> list[Group]:
    """For each group of theories: minimum and maximum against median TI of all models."""
    table = tuple(published)
    remark = (
        f" The {len(table):,} pale ones are those of the Dark Machines challenge, on other samples and other signals: they show where "
        "such models lie, not which is better.".replace(",", "\u202f", 1)
        if table
        else ""
    )
    found: list[Group] = []
    for group, title in GROUPS.items():
        ours = {m["name"]: (m["kind"], ti) for m in models if (ti := ti_of(m, group)) is not None}
        if not ours:
            continue
        kinds = titles_of(models)
        order = [name for kind in kinds for name, (own, _) in ours.items() if own == kind]
        record = improvement_plane(
            table,
            {name: improvement(ours[name][1]) for name in order},
            {name: kinds[ours[name][0]] for name in order},
        )
        files = page.static(f"ti-plane-{group}", record, partial(theory_plots.draw_improvement_plane, record))
        panels = [
            page.panel(
                theory_interactive.plane(record, side),
                f"{side} against median TI, {title}",
                f"One point for each model; good ones are at the top right. TI below {theory_interactive.FLOOR:g} are drawn there.{remark}",
            )
            for side in ("minimum", "maximum")
        ]
        found.append((title, panels, files))
    return found


def _columns(
    values: Sequence[Sequence[float | None]], x: Sequence[float]
) -> tuple[list[float], list[list[float]], int]:
    """Steps at which every order has a number, and how many have not."""
    good = [i for i in range(len(x)) if all(row[i] is not None for row in values)]
    rows = [[float(row[i]) for i in good] for row in values]  # type: ignore[arg-type]
    return [float(x[i]) for i in good], rows, len(x) - len(good)


def _alone(
    name: str, values: Sequence[Sequence[float | None]], places: Sequence[Sequence[float]]
) -> list[SaturationCurve]:
    """Curve of single theories, not all of which have all steps; none without numbers."""
    at: dict[float, list[float]] = {}
    for row, steps in zip(values, places, strict=True):
        for value, step in zip(row, steps, strict=True):
            if value is not None:
                at.setdefault(step, []).append(value)
    x = sorted(at)
    if not x:
        return []
    low, median, high = zip(*(np.quantile(at[step], [0.16, 0.5, 0.84]).tolist() for step in x), strict=True)
    return [SaturationCurve(name=name, x=tuple(x), median=median, low=low, high=high, n_orders=len(values))]


def _record(
    found: Mapping[str, Any],
    quantity: str,
    x: Sequence[float],
    labels: tuple[str, str],
    levels: Callable[[str], Mapping[str, float]],
    title: str,
    alone: tuple[Mapping[str, Any], Sequence[Sequence[float]]] | None = None,
) -> tuple[Saturation | None, int]:
    """Curves of both groups, and the number of steps without a number; ``alone`` are single theories with as many signal events."""
    curves: list[SaturationCurve] = []
    lines: dict[str, float] = {}
    level_of: dict[str, int] = {}
    dropped = 0
    for group, name in GROUPS.items():
        if quantity not in found.get(group, {}):
            continue
        places, rows, missing = _columns(found[group][quantity], x)
        dropped += missing
        if not places:
            continue
        for level, value in levels(group).items():
            text = f"{level}, {name}"
            lines[text], level_of[text] = value, len(curves)
        curves.append(saturation_curve(name, places, rows))
        if alone and quantity in alone[0].get(group, {}):
            curves += _alone(f"SSA, {name}", alone[0][group][quantity], alone[1])
    if not curves:
        return None, dropped
    return Saturation(
        x_label=labels[0],
        y_label=labels[1],
        curves=tuple(curves),
        levels=lines,
        level_of=level_of,
        x_log=True,
        title=title,
    ), dropped


def saturation(
    page: Page, answer: Mapping[str, Any], models: Sequence[Mapping[str, Any]]
) -> tuple[list[Group], list[Group], int]:
    """Curves over the channels, curves of each channel, and the number of steps that have no number."""
    top: list[Group] = []
    rest: list[Group] = []
    dropped = 0
    unit = answer.get("events_per_theory", 1)

    def of_models(group: str, value: Callable[[Mapping[str, Any]], float | None]) -> dict[str, float]:
        lines = {}
        for name, kinds in (
            ("best unsupervised", ("unsupervised", "one variable")),
            ("best SSA", ("single theory",)),
        ):
            values = [v for model in of_kind(models, *kinds) if (v := value(model)) is not None]
            if values:
                lines[name] = max(values)
        return lines

    def keep(records: list[Saturation], name: str, title: str, caption: str, into: list[Group]) -> None:
        if not records:
            return
        files = page.static(name, records, partial(theory_plots.draw_saturations, records))
        panels = [
            page.panel(theory_interactive.saturation(record), record.title, caption) for record in records
        ]
        into.append((title, panels, files))

    for kind, title in _TITLES.items():
        whole = max(
            (entry[kind][kind][0][-1] for entry in answer["channels"].values() if entry.get(kind)), default=0
        )
        curve = answer["joined"].get(kind) or {}
        x = [float(whole) if step == ALL else float(step) for step in curve.get("steps", ())]
        single = answer["joined"].get("single") or {}
        steps = [float(step) for step in single.get("steps", ())]
        alone = None
        if kind == "theories" and steps:
            several = max(len(single[group]["median"]) for group in GROUPS if group in single)
            alone = (single, [steps] * several)
        records = []
        for which in ("median", "minimum"):

            def ti(group: str, which: str = which) -> dict[str, float]:
                return of_models(group, lambda m: None if (t := ti_of(m, group)) is None else t[which])

            label = f"{kind} in the mixture of each channel (last: all)"
            record, missing = _record(
                curve, which, x, (label, f"{which} TI"), ti, f"{which} TI, {title}", alone
            )
            dropped += missing
            records += [record] if record else []
        caption = "Band: 68 % of the orders."
        if alone:
            caption += " SSA: one theory with the signal events of as many theories of a mixture; band: 68 % of the theories."
        keep(records, f"saturation-ti-by-{kind}", title.capitalize(), caption, top)
        for quantity, name in _QUANTITIES.items():
            records = []
            for channel, entry in answer["channels"].items():
                if not entry.get(kind):
                    continue

                def auc(group: str, channel: str = channel) -> dict[str, float]:
                    # SI of the other models in single channels are not part of the answers
                    found = of_models(group, lambda m: m["groups"].get(group, {}).get("auc", {}).get(channel))
                    return found if quantity == "auc" else {}  # noqa: B023

                record, missing = _record(
                    entry[kind],
                    quantity,
                    entry[kind][kind][0],
                    (f"{kind} in the mixture", name),
                    auc,
                    f"channel {channel}",
                    (entry["single"], [[n / unit for n in row] for row in entry["single"]["events"]])
                    if alone
                    else None,
                )
                dropped += missing
                records += [record] if record else []
            heading = f"{name} by channel, {title}"
            keep(
                records,
                f"saturation-{quantity}-by-{kind}",
                heading[0].upper() + heading[1:],
                caption,
                rest,
            )
    return top, rest, dropped


def signals(page: Page, models: Sequence[Mapping[str, Any]], families_of: Mapping[str, str]) -> list[Panel]:
    """For each group of theories the spread of the models of each kind, theory by theory."""
    found = []
    for group, title in GROUPS.items():
        record = theory_study_plots.kind_spreads(group, models, titles_of(models), families_of)
        if not record.signals:
            continue
        files = page.static(f"signals-{group}", record, partial(theory_study_plots.draw_kind_spreads, record))
        caption = "Every model is a point; a box is its kind from 25 to 75 %, with the median. SSA has the chosen best combinations too."
        found.append(page.panel(theory_interactive.kind_spreads(record), title.capitalize(), caption, files))
    return found


def families(
    page: Page, answer: Mapping[str, Any], families_of: Mapping[str, str]
) -> tuple[Panel | None, Panel | None]:
    """TI with the family left out against TI with the point left out; and all three, theory by theory."""
    record = theory_study_plots.family_test(answer["ti"], families_of)
    if not record.theories:
        return None, None
    scatter = None
    if any(row.ratio is not None for row in record.theories):
        files = page.static(
            "families-scatter", record, partial(theory_study_plots.draw_family_scatter, record)
        )
        scatter = page.panel(
            theory_interactive.family_scatter(record),
            "Loss of a theory without its family",
            "Points on the dotted line lose nothing: siblings in the mixture do not help. Points far below are found by interpolation only.",
            files,
        )
    files = page.static("families", record, partial(theory_study_plots.draw_families, record))
    lines = page.panel(
        theory_interactive.families(record),
        "All theories with siblings",
        "In the mixture (other events of the same theory), with its point left out, and with its whole family left out. Those "
        "that lose most with their family come first.",
        files,
    )
    return scatter, lines


def band(values: Sequence[float | None]) -> tuple[float, float, float] | None:
    """Median, 16 % and 84 % quantile of the finite values."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    low, middle, high = np.quantile(found, [0.16, 0.5, 0.84])
    return float(middle), float(low), float(high)


def best_names(models: Sequence[Mapping[str, Any]], group: str) -> set[str]:
    """Best model of each kind by median TI."""
    found = (best(of_kind(models, kind), group, "median") for kind in titles_of(models))
    return {level.name for level in found if level is not None}
