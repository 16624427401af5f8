"""Parts of the page for looks without a cut: weights, evidence by fold, single orders, and the events with the largest weights."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any

from serendip.io.files import atomic_write
from serendip.report import words
from serendip.report.page import Panel
from serendip.report.panels import RunPage, slug
from serendip.report.weighted import figures as weighted_figures
from serendip.report.weighted import plots as weighted_plots
from serendip.report.weighted.evidence import evidence
from serendip.search.diagnostic_records import Weighted
from serendip.search.results import Look

__all__ = ["Heaviest", "WeightedLook", "weighted"]


@dataclass(frozen=True)
class Heaviest:
    """A table of the events with the largest weights, as text, and the file with all digits."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class WeightedLook:
    """A weighted look on the page."""

    title: str
    look: Look
    orders: str
    checks: str
    panels: tuple[Panel, ...]
    heaviest: Heaviest | None


def weighted(page: RunPage) -> tuple[list[WeightedLook], list[WeightedLook]]:
    """The weighted looks: the first of each method, and the rest."""
    results = page.run.results
    first: list[WeightedLook] = []
    rest: list[WeightedLook] = []
    for record in page.run.diagnostics.weighted:
        look = results.looks[record.look]
        shown = look is results.headline(look.method)
        (first if shown else rest).append(_weighted_look(page, record, look, shown=shown))
    return first, rest


def _weighted_look(page: RunPage, record: Weighted, look: Look, *, shown: bool) -> WeightedLook:
    name, found = slug(look.method), evidence(record)
    panels = []
    if shown:
        files = page.static(
            f"weights-{name}", record.weights, lambda: weighted_figures.weight_curves(record.weights)
        )
        panels.append(
            page.panel(
                weighted_plots.weight_curves(record.weights),
                "Weight of an event",
                "ln(1 + s/b) for the weakest signal that could be claimed: larger for a rare score, and for folds that are "
                "tested by models with more training. Fixed before the training; the rank is that among the sideband events of the same fold.",
                files,
            )
        )
    if found is not None:
        files = ()
        if shown:
            files = page.static(
                f"evidence-{name}", record.orders, lambda: weighted_figures.evidence_by_fold(found)
            )
        panels.append(
            page.panel(
                weighted_plots.evidence_by_fold(found),
                "Evidence by fold",
                "Above: observed minus expected sum of weights, mean over the orders, with the error of one order. Below: significance of "
                "each fold by its place. With a signal it grows from left to right, since each model was trained on more of it than the one before; "
                "a single fold that makes the excess alone is a reason to doubt it.",
                files,
            )
        )
    return WeightedLook(
        f"{look.method}, {words.interval(look.window, page.run.diagnostics.unit)}",
        look,
        words.orders_sentence(look),
        words.checks_sentence(page.run.results, look),
        tuple(panels),
        _heaviest(page, record, f"heaviest-{name}" if shown else None),
    )


def _heaviest(page: RunPage, record: Weighted, file: str | None) -> Heaviest | None:
    if not record.heaviest:
        return None
    pictures = page.run.diagnostics
    labelled = any(event.label is not None for event in record.heaviest)
    columns = (
        *record.heaviest[0].id,
        "weight",
        f"{pictures.mass_name} [{pictures.unit}]",
        *pictures.features,
        *(["true signal"] if labelled else []),
    )

    def cells(event: Any, number: Any) -> tuple[Any, ...]:
        label = ("yes" if event.label else "no",) if labelled else ()
        values = (event.weight, event.mass, *event.features)
        return (*(str(v) for v in event.id.values()), *(number(v) for v in values), *label)

    files: tuple[str, ...] = ()
    if file is not None:
        files = (f"figures/{file}.csv",)
        with (
            atomic_write(page.path / files[0]) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as stream,
        ):
            csv.writer(stream).writerows([columns, *(cells(event, repr) for event in record.heaviest)])
    rows = tuple(cells(event, lambda v: f"{v:.4g}") for event in record.heaviest)
    return Heaviest(columns, rows, files)
