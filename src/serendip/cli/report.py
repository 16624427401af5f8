"""``serendip report RUN``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serendip.errors import InputError

__all__ = ["report"]


def report(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder written by another command with --out RUN.",
            metavar="RUN",
        ),
    ],
    published: Annotated[
        Path | None,
        typer.Option(
            help="For a study of theories: table of total improvements of the Dark Machines challenge, or a folder with it, to "
            "draw next to your own.",
        ),
    ] = None,
) -> None:
    """Draw the figures and the self-contained pages of a finished run again: search, validation, comparison, measurement, monitor or study of theories."""
    from serendip.report.registry import PAGES
    from serendip.report.theories.page import is_study, write_study_page

    if published is not None:
        if not is_study(run):
            raise InputError(f"--published: {run} contains no study of theories; leave the option out")
        typer.echo(f"report: {write_study_page(run, published)}")
        return
    # without any of them, the page of a search says what is missing
    for name in [name for name in PAGES if (run / name).is_file()] or ["results.json"]:
        typer.echo(f"report: {PAGES[name](run)}")
