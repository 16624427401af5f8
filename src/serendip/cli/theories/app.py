"""The commands of ``serendip theories``."""

from __future__ import annotations

import typer

from serendip.cli.flags import Command
from serendip.cli.theories.audit import audit
from serendip.cli.theories.excess import excess
from serendip.cli.theories.study import study
from serendip.cli.theories.train import evaluate, simulate, train

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)
for command in (simulate, train, evaluate, study, excess, audit):
    app.command(cls=Command if command is study else None)(command)


@app.callback()
def _root() -> None:
    """Samples of many theories against the Standard Model, in the Dark Machines format."""
