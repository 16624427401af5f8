"""One self-contained page from a run directory."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs
from pydantic import BaseModel

from serendip.errors import InputError
from serendip.report import figures, plots, words
from serendip.report.load import Closure, Look, Run, Scores, Selected, Spectrum, read_run

__all__ = ["write_report"]


@dataclass(frozen=True)
class Panel:
    """One interactive plot: where it goes, what to look for, and the files of its printed version."""

    id: str
    title: str
    caption: str
    files: tuple[str, ...] = ()


Group = tuple[str, list[Panel], tuple[str, ...]]  # title, one panel per feature, files


@dataclass
class _Page:
    """Collects the plots of the page and writes the static figures beside it."""

    run: Run
    specs: dict[str, plots.Spec] = field(default_factory=dict)

    def panel(self, spec: plots.Spec, title: str, caption: str, files: tuple[str, ...] = ()) -> Panel:
        name = f"plot-{len(self.specs)}"
        self.specs[name] = spec
        return Panel(name, title, caption, files)

    def static(
        self, name: str, numbers: BaseModel | Sequence[BaseModel], draw: Callable[[], Figure]
    ) -> tuple[str, ...]:
        stem = self.run.path / "figures" / name
        figures.save(draw(), numbers, stem)
        return tuple(f"figures/{name}.{suffix}" for suffix in ("pdf", "png", "json"))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "method"


def _same(record: Scores | Closure | Selected, look: Look) -> bool:
    return record.method == look.method and record.window == look.window


def _spectrum_panels(page: _Page, look: Look, index: int, *, static: bool) -> list[Panel]:
    pictures = page.run.diagnostics
    mass, unit = pictures.mass_name, pictures.unit
    where = f"{look.method}, {words.interval(look.window, unit)}"
    panels = []

    def add(record: Spectrum, stage: str, title: str, caption: str) -> None:
        files: tuple[str, ...] = ()
        if static:
            name = f"spectrum-{_slug(look.method)}-{stage}"
            files = page.static(name, record, lambda: figures.spectrum(record, mass, unit))
        panels.append(page.panel(plots.spectrum(record, mass, unit), title, caption, files))

    before = [
        s
        for s in pictures.spectra
        if s.working_point is None and s.window == look.window and s.method in (None, look.method)
    ]
    after = [s for s in pictures.spectra if s.look == index and s.working_point is not None]
    if static and before:
        add(
            before[-1],
            "before",
            f"Before the cut: {where}",
            f"All events; the fit uses the sidebands only.{_gof(before[-1])} Look for bins that leave zero "
            "together: a wave means that the function does not fit.",
        )
    if after:
        add(
            after[0],
            "after",
            f"After the cut at ε_B = {words.percent(look.working_point)}: {where}",
            f"Events that pass the cut on the anomaly score: {words.describe_look(look)}.{_gof(after[0])} "
            "Look for an excess inside the window and none outside.",
        )
    return panels


def _gof(record: Spectrum) -> str:
    if record.fit is None or record.fit.gof_p is None:
        return ""
    return f" Goodness of fit p = {words.p_text(record.fit.gof_p)}."


def _spectra(page: _Page) -> tuple[list[Panel], list[tuple[str, list[Panel]]]]:
    """Spectra of the first look of each method, and the rest by method."""
    results = page.run.results
    first, rest = [], []
    for method in results.methods:
        headline = results.headline(method)
        others = []
        for index, look in enumerate(results.looks):
            if look is headline:
                first += _spectrum_panels(page, look, index, static=True)
            elif look.method == method:
                others += _spectrum_panels(page, look, index, static=False)
        if others:
            rest.append((method, others))
    return first, rest


def _scan(page: _Page) -> Panel | None:
    results, unit = page.run.results, page.run.diagnostics.unit
    if results.best is None or len(results.windows) < 2:
        return None
    files = page.static("p-value-scan", results.looks, lambda: figures.p_value_scan(results, unit))
    return page.panel(
        plots.p_value_scan(results, unit),
        "Local p-value of every window",
        "Lower is more significant; horizontal bars are the windows, dotted lines whole numbers of σ. "
        "Look for one dip that several methods and cuts share; the orange line is the global p-value.",
        files,
    )


def _scores(page: _Page) -> tuple[list[Panel], list[Panel]]:
    results, pictures = page.run.results, page.run.diagnostics
    first: list[Panel] = []
    rest: list[Panel] = []
    for record in pictures.scores:
        if record.method not in results.methods:
            continue
        shown = _same(record, results.headline(record.method))
        cuts = sorted({x.working_point for x in results.looks if _same(record, x) and x.working_point})
        files: tuple[str, ...] = ()
        if shown:
            name = f"scores-{_slug(record.method)}"
            files = page.static(name, record, lambda r=record, c=cuts: figures.score_distribution(r, c))  # type: ignore[misc]
        panel = page.panel(
            plots.score_distribution(record, cuts),
            f"{record.method}, {words.interval(record.window, pictures.unit)}",
            "Background should fall alike in sideband and window; look for a surplus of window events "
            "on the right, beyond the dotted lines of the cuts.",
            files,
        )
        (first if shown else rest).append(panel)
    return first, rest


def _closure(page: _Page) -> tuple[list[Group], list[Group]]:
    results, pictures = page.run.results, page.run.diagnostics
    first: list[Group] = []
    rest: list[Group] = []
    for record in pictures.closure:
        if record.method not in results.methods:
            continue
        shown = _same(record, results.headline(record.method))
        auc = f"AUC {words.with_error(record.auc, record.auc_error)} (0.5 = cannot be told apart)"
        events = "" if record.n_events is None else f", {words.number(record.n_events)} events"
        title = f"{record.method}, {words.interval(record.window, pictures.unit)}: {auc}{events}"
        panels = [
            page.panel(
                plots.closure_feature(f, pictures.mass_name, pictures.unit),
                f.name,
                "Points should follow the line; look for slopes or steps in the lower panel.",
            )
            for f in record.features
        ]
        files: tuple[str, ...] = ()
        if shown and record.features:
            files = page.static(
                f"closure-{_slug(record.method)}",
                record,
                lambda r=record: figures.closure(r, pictures.mass_name, pictures.unit),  # type: ignore[misc]
            )
        (first if shown else rest).append((title, panels, files))
    return first, rest


def _selected(page: _Page) -> tuple[list[Group], list[Group]]:
    results, pictures = page.run.results, page.run.diagnostics
    first: list[Group] = []
    rest: list[Group] = []
    for record in pictures.selected:
        if record.method not in results.methods:
            continue
        look = results.headline(record.method)
        shown = _same(record, look) and record.working_point == look.working_point
        title = (
            f"{record.method}, {words.interval(record.window, pictures.unit)}, "
            f"ε_B = {words.percent(record.working_point)}: {words.number(record.n)} events"
        )
        panels = [
            page.panel(
                plots.selected_feature(f, record.n, pictures.mass_name, pictures.unit),
                f.name,
                "Where the points leave the filled template, the selected events differ from background.",
            )
            for f in record.features
        ]
        files: tuple[str, ...] = ()
        if shown and record.features:
            files = page.static(
                f"selected-{_slug(record.method)}",
                record,
                lambda r=record: figures.selected_events(r, pictures.mass_name, pictures.unit),  # type: ignore[misc]
            )
        (first if shown else rest).append((title, panels, files))
    return first, rest


def _truth(page: _Page) -> Panel | None:
    truth, unit = page.run.diagnostics.truth, page.run.diagnostics.unit
    if truth is None or not truth.roc:
        return None
    files = page.static("significance-improvement", truth, lambda: figures.significance_improvement(truth))
    least = min(roc.min_background for roc in truth.roc)
    return page.panel(
        plots.sic(truth, unit),
        "Significance improvement",
        "From the labels, which no fit has seen unless the method says so: the factor by which a cut "
        f"on the score improves S/√B, drawn where at least {least} background events are left. Above 1 the cut helps.",
        files,
    )


def write_report(run: Path) -> Path:
    """Write ``report.html`` and the ``figures`` folder of a run directory.

    Reads ``results.json``, ``diagnostics.json``, ``manifest.json`` and ``config.yaml`` only; the page carries
    all it needs and loads nothing.

    Parameters
    ----------
    run
        Run directory of a finished search.

    Returns
    -------
    Path of the page.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the folder cannot be written.
    """
    content = read_run(Path(run))
    page = _Page(content)
    target = content.path / "report.html"
    try:
        (content.path / "figures").mkdir(exist_ok=True)
        figures.write_atomically(target, _render(page).encode())
    except OSError as error:
        raise InputError(
            f"{content.path}: the report cannot be written ({error.strerror or error})"
        ) from None
    return target


def _render(page: _Page) -> str:
    run = page.run
    spectra, more_spectra = _spectra(page)
    scores, more_scores = _scores(page)
    closure, more_closure = _closure(page)
    selected, more_selected = _selected(page)
    scan, truth = _scan(page), _truth(page)
    environment = Environment(
        loader=PackageLoader("serendip.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(w=words, glossary=words.GLOSSARY)
    return environment.get_template("report.html.j2").render(
        run=run,
        results=run.results,
        manifest=run.manifest,
        unit=run.diagnostics.unit,
        notes=words.notes(run),
        scan=scan,
        spectra=spectra,
        more_spectra=more_spectra,
        scores=scores,
        more_scores=more_scores,
        closure=closure,
        more_closure=more_closure,
        selected=selected,
        more_selected=more_selected,
        truth_panel=truth,
        specs=page.specs,
        plotlyjs=Markup(get_plotlyjs()),
    )
