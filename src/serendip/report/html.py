"""One self-contained page from a run directory."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from serendip.errors import InputError
from serendip.events.files import atomic_write
from serendip.report import panels, words
from serendip.report.held import held_sentence
from serendip.report.load import read_run
from serendip.report.panels import Page
from serendip.report.weighted import panels as weighted_panels

__all__ = ["write_report"]


def write_report(run: Path) -> Path:
    """Write ``report.html`` and the ``figures`` folder of a run directory.

    Reads ``results.json``, ``diagnostics.json``, ``manifest.json``, ``config.yaml`` and the outcome of validations only;
    the page carries all it needs and loads nothing.

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
    page = Page(content)
    target = content.path / "report.html"
    try:
        (content.path / "figures").mkdir(exist_ok=True)
        with atomic_write(target) as temporary:
            temporary.write_text(_render(page), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{content.path}: the report cannot be written ({error.strerror or error})"
        ) from None
    return target


def _maths(text: str) -> Markup:
    shown = re.sub(r"ε_([BS])", r"ε<sub>\1</sub>", str(escape(text)))
    return Markup(shown.replace("σ_min", "σ<sub>min</sub>"))


def _render(page: Page) -> str:
    # the page of a validation uses this module
    from serendip.report.validation.page import lights

    run = page.run
    spectra, more_spectra = panels.spectra(page)
    weighted, more_weighted = weighted_panels.weighted(page)
    scores, more_scores = panels.scores(page)
    closure, more_closure = panels.closure(page)
    selected, more_selected = panels.selected(page)
    environment = Environment(
        loader=PackageLoader("serendip.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(w=words, glossary=words.GLOSSARY)
    environment.filters["maths"] = _maths
    return environment.get_template("report.html.j2").render(
        run=run,
        results=run.results,
        manifest=run.manifest,
        unit=run.diagnostics.unit,
        notes=words.notes(run),
        validation=lights(run.path),
        held=held_sentence(run),
        scan=panels.scan(page),
        spectra=spectra,
        more_spectra=more_spectra,
        weighted=weighted,
        more_weighted=more_weighted,
        scores=scores,
        more_scores=more_scores,
        closure=closure,
        more_closure=more_closure,
        selected=selected,
        more_selected=more_selected,
        truth_panel=panels.truth(page),
        specs=page.specs,
        plotlyjs=Markup(get_plotlyjs()),
    )
