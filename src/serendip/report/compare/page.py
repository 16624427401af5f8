"""The page, the figures and the table of a comparison, from its ``compare.json`` only."""

from __future__ import annotations

import sys
from pathlib import Path

from serendip.io.json import read_json
from serendip.report import words
from serendip.report.compare import plots as compare_plots
from serendip.report.compare import words as compare_words
from serendip.report.compare.data import Picture, pictures, read_comparison
from serendip.report.page import Page, Panel
from serendip.search.compare.results import Comparison

__all__ = ["print_table", "write_comparison"]

_WORDS = (
    "window",
    "sideband",
    "working point",
    "SIC",
    "σ_min",
    "regret",
    "weighted",
    "AUC",
    "template",
    "closure",
    "fold",
    "local p",
    "σ",
    "distance correlation",
)


def write_comparison(folder: Path | str) -> Path:
    """Write ``compare.html``, ``compare.md`` and the figures of a finished comparison; returns the path of the page.

    Raises
    ------
    InputError
        If ``compare.json`` is missing or damaged, or the folder cannot be written.
    """
    page = Page(Path(folder))
    found = read_comparison(page.path)
    with page.writing("comparison"):
        text = _render(page, found)
        # of injections and working points that this comparison no longer has
        page.clear(("sic-", "sigma-min", "max-sic", "z-"))
        page.write("compare.md", compare_words.markdown(found))
        return page.write("compare.html", text)


def print_table(folder: Path | str) -> None:
    """Print the numbers that matter on a terminal, or the Markdown table elsewhere."""
    found = read_comparison(Path(folder))
    if not sys.stdout.isatty():
        sys.stdout.write(compare_words.markdown(found))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    header, blocks = compare_words.table(found)
    shown = [
        i
        for i, name in enumerate(header)
        if name in ("method", "max SIC", "σ_min", "regret", "template AUC", "s") or name.startswith("Z")
    ]
    if claims := compare_words.claims(found):
        grid = Table(title=compare_words.CLAIMS, title_justify="left")
        for i, name in enumerate(claims[0]):
            grid.add_column(name, justify="left" if i == 0 else "right")
        for row in claims[1]:
            grid.add_row(*row)
        console.print(grid)
    for injection, rows in blocks:
        grid = Table(title=compare_words.injected(found, injection), title_justify="left")
        for i in shown:
            grid.add_column(header[i], justify="left" if i == 0 else "right")
        for row in rows:
            grid.add_row(*(row[i] for i in shown))
        console.print(grid)
    for text in compare_words.legend(found):
        console.print(text, highlight=False)
    for entry in found.left_out:
        where = "" if entry.injection is None else f" at {entry.injection} signal events"
        console.print(f"left out: {entry.method}{where}: {entry.reason}", highlight=False, markup=False)


def _render(page: Page, found: Comparison) -> str:
    order = {method.name: i for i, method in enumerate(found.methods)}

    def bands(record: Picture, caption: str) -> Panel:
        files = page.static(record.name, record, lambda: compare_plots.draw(record, order))
        return page.panel(compare_plots.interactive(record, order), record.title, caption, files)

    curves, largest, achieved, costs = pictures(found)
    note = f" {achieved[0].note}." if achieved and achieved[0].note else ""
    groups: dict[str, list[Panel]] = {}
    for record in curves:
        groups.setdefault(record.title, []).append(bands(record, "The factor by which a cut improves S/√B."))
    header, blocks = compare_words.table(found)
    return page.render(
        "compare.html.j2",
        glossary={word: words.GLOSSARY[word] for word in _WORDS},
        helpers={"c": compare_words},
        name=page.path.resolve().name,
        found=found,
        manifest=read_json(page.path / "manifest.json"),
        header=header,
        blocks=blocks,
        claims=compare_words.claims(found),
        groups=list(groups.items()),
        largest=[
            bands(
                record,
                "Line: median of the repeats; band: smallest to largest. Dashed: references that use the truth."
                + (f" Dotted: {record.diagonal}." if record.diagonal else ""),
            )
            for record in largest
        ],
        achieved=[
            bands(record, f"Dotted: Z = S/√B, the best possible count without a cut.{note}")
            for record in achieved
        ],
        costs=page.panel(
            compare_plots.interactive_costs(costs),
            costs.title,
            "Medians, on one thread. A background density is trained once for all methods that request the same one.",
            page.static(costs.name, costs, lambda: compare_plots.draw_costs(costs)),
        ),
        memory=costs.costs,
    )
