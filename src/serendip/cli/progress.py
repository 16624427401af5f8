"""Progress of a command: bars on a terminal, elsewhere one line for each finished step on standard error."""

from __future__ import annotations

from functools import partial

import typer

from serendip.runs.progress import show_progress

__all__ = ["TerminalProgress"]

TerminalProgress = partial(show_progress, otherwise=partial(typer.echo, err=True))
