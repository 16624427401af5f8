"""One self-contained page from a run directory."""

from __future__ import annotations

from pathlib import Path

from serendip.report import panels, words
from serendip.report.held import held_sentence
from serendip.report.load import read_run
from serendip.report.panels import RunPage
from serendip.report.validation.page import lights
from serendip.report.weighted import panels as weighted_panels

__all__ = ["write_report"]


def write_report(run: Path) -> Path:
    """Write ``report.html`` and the ``figures`` folder of a run directory; returns the path of the page.

    Reads ``results.json``, ``diagnostics.json``, ``manifest.json``, ``config.yaml`` and the outcome of validations only;
    the page is self-contained.

    Parameters
    ----------
    run
        Run directory of a finished search.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the folder cannot be written.
    """
    content = read_run(Path(run))
    page = RunPage(content.path, run=content)
    with page.writing():
        return page.write("report.html", _render(page))


def _render(page: RunPage) -> str:
    run = page.run
    spectra, more_spectra = panels.spectra(page)
    weighted, more_weighted = weighted_panels.weighted(page)
    scores, more_scores = panels.scores(page)
    closure, more_closure = panels.closure(page)
    selected, more_selected = panels.selected(page)
    return page.render(
        "report.html.j2",
        glossary=words.GLOSSARY,
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
    )
