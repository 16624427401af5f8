"""The plots of the page, in reading order, and their printed versions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from matplotlib.figure import Figure

from serendip.report import figures, plots, words
from serendip.report.load import Run
from serendip.report.page import Group, Page, Panel
from serendip.search.diagnostic_records import Closure, Roc, Scores, Selected, Spectrum
from serendip.search.results import Look, Results
from serendip.statistics.weighting import LOOSEST_RANK

__all__ = ["RunPage", "closure", "scan", "scores", "selected", "slug", "spectra", "truth"]

R = TypeVar("R", Closure, Selected)


@dataclass(frozen=True)
class RunPage(Page):
    """The page of a finished search."""

    run: Run = field(kw_only=True)


def slug(text: str) -> str:
    """Text as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "method"


def _same(record: Scores | Closure | Selected | Roc, look: Look) -> bool:
    return record.method == look.method and record.window == look.window


def _spectrum_panels(page: RunPage, look: Look, index: int, seen: list[Spectrum] | None) -> list[Panel]:
    pictures = page.run.diagnostics
    mass, unit = pictures.mass_name, pictures.unit
    where = f"{look.method}, {words.interval(look.window, unit)}"
    excesses = [(x.low, x.high) for x in page.run.results.sidebands if x.window == look.window]
    marked = " The red band is an excess in the sidebands (see the cautions)." if excesses else ""
    panels = []

    def add(record: Spectrum, stage: str, title: str, caption: str) -> None:
        files: tuple[str, ...] = ()
        if seen is not None:
            name = f"spectrum-{slug(look.method)}-{stage}"
            files = page.static(name, record, lambda: figures.spectrum(record, mass, unit, excesses))
        panels.append(page.panel(plots.spectrum(record, mass, unit, excesses), title, caption, files))

    before = [s for s in pictures.spectra if s.look is None and s.window == look.window]
    after = [s for s in pictures.spectra if s.look == index]
    if seen is not None and before and before[-1] not in seen:
        seen.append(before[-1])
        add(
            before[-1],
            "before",
            f"All events: {words.interval(look.window, unit)}",
            f"All events; the fit uses the sidebands only.{_gof(before[-1])} Look for bins that leave zero "
            f"together: a wave means that the function does not fit.{marked}{words.left_out_sentence(before[-1], unit)}",
        )
    if after and look.dead is None and look.weighted:
        add(
            after[0],
            "weighted",
            f"Weighted events: {where}",
            f"Each event counts with its weight: {words.describe_look(look)}. Means over the orders of the folds, with the errors "
            f"and pulls of one order; the fit uses the sidebands only.{_gof(after[0])} Look for an excess inside the window and none outside.",
        )
    elif after and look.dead is None:
        check = ", cross-check" if look.cross_check else ""
        add(
            after[0],
            "after",
            f"After the cut ({words.cut(look.working_point)}{check}): {where}",
            f"Events that pass the cut on the anomaly score: {words.describe_look(look)}.{_gof(after[0])} "
            "Look for an excess inside the window and none outside.",
        )
    return panels


def _gof(record: Spectrum) -> str:
    if record.fit is None or record.fit.gof_p is None:
        return ""
    return f" Goodness of fit p = {words.p_text(record.fit.gof_p)}."


def spectra(page: RunPage) -> tuple[list[Panel], list[tuple[str, list[Panel]]]]:
    """Spectra of the first look of each method, and the rest by method."""
    results = page.run.results
    first, rest = [], []
    seen: list[Spectrum] = []
    for method in results.methods:
        headline = results.headline(method)
        others = []
        for index, look in enumerate(results.looks):
            if look.dead is not None and look is not headline:
                continue
            if look is headline:
                first += _spectrum_panels(page, look, index, seen)
            elif look.method == method:
                others += _spectrum_panels(page, look, index, None)
        if others:
            rest.append((method, others))
    return first, rest


def scan(page: RunPage) -> Panel | None:
    """Local p-values against the window; nothing to draw for one window or while blinded."""
    results, unit = page.run.results, page.run.diagnostics.unit
    if results.best is None or len(results.windows) < 2:
        return None
    files = page.static("p-value-scan", results, lambda: figures.p_value_scan(results, unit))
    return page.panel(
        plots.p_value_scan(results, unit),
        "Local p-value of every window",
        "Lower is more significant; horizontal bars are the windows, dotted lines whole numbers of σ. "
        "Look for one dip that several methods share; the orange line is the global p-value."
        + (" Cross-checks are not drawn." if len(results.claims) < len(results.looks) else ""),
        files,
    )


def scores(page: RunPage) -> tuple[list[Panel], list[Panel]]:
    """Score distributions: those of the first look of each method, and the rest."""
    results, pictures = page.run.results, page.run.diagnostics
    first: list[Panel] = []
    rest: list[Panel] = []
    for record in pictures.scores:
        if record.method not in results.methods or record.sideband is None:
            continue
        shown = _same(record, results.headline(record.method))
        marks, looked_for = _marks(results, record)
        files: tuple[str, ...] = ()
        if shown:
            name = f"scores-{slug(record.method)}"
            files = page.static(name, record, lambda r=record, m=marks: figures.score_distribution(r, m))  # type: ignore[misc]
        panel = page.panel(
            plots.score_distribution(record, marks),
            f"{record.method}, {words.interval(record.window, pictures.unit)}",
            f"Background should fall in the same way in sideband and window; look for a surplus of window events on the right, {looked_for}."
            + (f" Scale: {record.scale}." if record.scale else ""),
            files,
        )
        (first if shown else rest).append(panel)
    return first, rest


def _marks(results: Results, record: Scores) -> tuple[list[tuple[float, str]], str]:
    """Background efficiencies that a picture of scores marks, with their names, and where to look."""
    looks = [look for look in results.claims if _same(record, look)]
    if any(look.weighted for look in looks):
        start = f"beyond the dotted line at {words.percent(LOOSEST_RANK)}, where weights become non-zero (first order of the folds)"
        return [(LOOSEST_RANK, "weight > 0")], start
    points = sorted({look.working_point for look in looks if look.working_point not in (None, 1)})
    return [(point, words.percent(point)) for point in points if point], "beyond the dotted lines of the cuts"


def closure(page: RunPage) -> tuple[list[Group], list[Group]]:
    """Closure of the template: the first look of each method, and the rest."""
    results, pictures = page.run.results, page.run.diagnostics
    first: list[Group] = []
    rest: list[Group] = []
    for record in pictures.closure:
        if record.method not in results.methods:
            continue
        shown = _same(record, results.headline(record.method))
        auc = f"AUC {words.with_error(record.auc, record.auc_error)} (0.5 = cannot be told apart)"
        events = "" if record.n_events is None else f", {words.counted(record.n_events, 'event')}"
        title = f"{record.method}, {words.interval(record.window, pictures.unit)}: {auc}{events}"
        panels = [
            page.panel(
                plots.closure_feature(f, pictures.mass_name, pictures.unit),
                f.name,
                "Points should follow the line; look for slopes or steps in the lower panel.",
            )
            for f in record.features
        ]
        files = _printed(page, "closure", record, figures.closure) if shown else ()
        (first if shown else rest).append((title, panels, files))
    return first, rest


def selected(page: RunPage) -> tuple[list[Group], list[Group]]:
    """Features of the selected events: the first look of each method, and the rest."""
    results, pictures = page.run.results, page.run.diagnostics
    first: list[Group] = []
    rest: list[Group] = []
    for record in pictures.selected:
        if record.method not in results.methods or record.n == 0:
            continue
        look = results.headline(record.method)
        shown = _same(record, look) and record.working_point == look.working_point
        own = look if shown or record.look is None else results.looks[record.look]
        worth = f", {record.effective:.3g} effective events" if own.weighted and record.effective else ""
        title = (
            f"{record.method}, {words.interval(record.window, pictures.unit)}, "
            f"{words.selection(own)}: {words.counted(record.n, 'event')}{worth}"
        )
        if record.learned_signal is not None:
            title += f"; learned signal: {words.signal_share(record.learned_signal)}"
        panels = [
            page.panel(
                plots.selected_feature(f, record, pictures.mass_name, pictures.unit),
                f.name,
                "Where the points leave the filled template, the selected events differ from background.",
            )
            for f in record.features
        ]
        files = _printed(page, "selected", record, figures.selected_events) if shown else ()
        (first if shown else rest).append((title, panels, files))
    return first, rest


def _printed(page: RunPage, what: str, record: R, draw: Callable[[R, str, str], Figure]) -> tuple[str, ...]:
    """Write the printed figure of the features of a method, if there are any; returns its files."""
    if not record.features:
        return ()
    pictures = page.run.diagnostics
    name = f"{what}-{slug(record.method)}"
    return page.static(name, record, lambda: draw(record, pictures.mass_name, pictures.unit))


def truth(page: RunPage) -> Panel | None:
    """Significance improvement in the window of the first look of each method, if there are labels."""
    known, unit = page.run.diagnostics.truth, page.run.diagnostics.unit
    if known is None or not known.roc:
        return None
    results = page.run.results
    shown = [roc for roc in known.roc if any(_same(roc, results.headline(m)) for m in results.methods)]
    drawn = known.model_copy(update={"roc": tuple(shown) or known.roc})
    files = page.static("significance-improvement", drawn, lambda: figures.significance_improvement(drawn))
    least = min(roc.min_background for roc in drawn.roc)
    return page.panel(
        plots.sic(drawn, unit),
        "Significance improvement",
        "From the labels, which are not used in any fit unless the method uses labels: the factor by which a cut "
        f"on the score improves S/√B, drawn where at least {least} background events are left. "
        "Above 1 the cut helps.",
        files,
    )
