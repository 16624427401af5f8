"""``serendip simulate``: make events."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from serendip.errors import InputError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Make events: Pythia 8, a fast detector, FastJet."""


@app.command()
def dijet(
    *,
    out: Annotated[Path, typer.Option("--out", help="Output file (Parquet).")],
    background: Annotated[int, typer.Option(help="Selected QCD dijet events.")] = 0,
    signal: Annotated[int, typer.Option(help="Selected W' -> X Y events.")] = 0,
    masses: Annotated[str, typer.Option(help="Masses of W', X and Y in GeV.")] = "3500,500,100",
    prongs: Annotated[int, typer.Option(help="X and Y decay to this many jets: 2 or 3.")] = 2,
    seed: Annotated[int, typer.Option(help="Same seed, same events, whatever --jobs.")] = 1,
    jobs: Annotated[int, typer.Option(help="Number of processes.")] = 1,
    mpi: Annotated[
        bool, typer.Option("--mpi/--no-mpi", help="Multiparton interactions: several times slower.")
    ] = False,
    pthat_min: Annotated[float, typer.Option(help="Smallest pT of the hard QCD process in GeV.")] = 1050.0,
) -> None:
    """Simulate dijet events with the selection and the columns of the LHC Olympics.

    An interrupted run is continued by the same command.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from serendip.simulate.dijet import read_settings, simulate_dijet

    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("simulating", total=background + signal)
        path = simulate_dijet(
            out,
            background,
            signal,
            _three(masses),
            prongs,
            seed=seed,
            jobs=jobs,
            mpi=mpi,
            pthat_min=pthat_min,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    generated = read_settings(path)["generated"]
    typer.echo(
        f"{path}: {background} background and {signal} signal events "
        f"(selected from {generated['background']} and {generated['signal']})"
    )


def _three(text: str) -> tuple[float, float, float]:
    try:
        parent, x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--masses {text}: expected three numbers in GeV, for example 3500,500,100"
        ) from None
    return parent, x, y
