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
            help="Folder written by 'serendip search', 'serendip monitor' or 'serendip theories study' with --out RUN.",
            metavar="RUN",
        ),
    ],
    published: Annotated[
        Path | None,
        typer.Option(
            help="For a study of theories: table of total improvements of the Dark Machines challenge, or a folder with it, to "
            "draw beside one's own.",
        ),
    ] = None,
) -> None:
    """Draw the figures and the self-contained page of a finished search (report.html), monitor (monitor.html) or study of theories (theories.html) again."""
    from serendip.report import write_report
    from serendip.report.monitor import is_monitor, write_monitor_page
    from serendip.report.theories.page import is_study, write_study_page

    if is_study(run):
        page = write_study_page(run, published)
    elif published is not None:
        raise InputError(f"--published: {run} holds no study of theories; leave the option out")
    elif is_monitor(run):
        page = write_monitor_page(run)
    else:
        page = write_report(run)
    typer.echo(f"report: {page}")
