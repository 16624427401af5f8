"""``serendip report RUN``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    run: Annotated[
        Path, typer.Argument(help="Run directory written by 'serendip search --out RUN'.", metavar="RUN")
    ],
) -> None:
    """Draw the figures and the self-contained page report.html of a finished search again."""
    from serendip.report import write_report

    typer.echo(f"report: {write_report(run)}")
