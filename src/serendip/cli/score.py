"""``serendip score RUN FILE``: score new events with the models of a finished search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serendip.wording import counted

__all__ = ["score"]


def score(
    run: Annotated[
        Path, typer.Argument(help="Run directory written by 'serendip search --out RUN'.", metavar="RUN")
    ],
    file: Annotated[
        list[Path],
        typer.Argument(
            help="New events, with the columns of the run's configuration; several files are one table.",
            metavar="FILE...",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Scores, a Parquet file.")],
    method: Annotated[
        str | None, typer.Option(help="Only the models of this method; default: all of the run.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Only the models of this window, LO:HI in the unit of the run.")
    ] = None,
    tree: Annotated[
        str | None, typer.Option(help="Tree (ROOT) or key (HDF5) of the new table; default: that of the run.")
    ] = None,
) -> None:
    """Score new events with the models of a finished search.

    Writes for each event and model the score and its background efficiency: the fraction of the run's own sideband
    events at or above that score. Works on blinded runs too; the counts that are printed are those of the new
    events.
    """
    from serendip.cli.parsing import parse_window
    from serendip.events.formats import shown
    from serendip.search.models import run_config
    from serendip.search.score import score_file

    region = None if window is None else parse_window(window, run_config(run).unit)
    summaries = score_file(run, file, out, method=method, window=region, tree=tree)
    typer.echo(
        f"{counted(summaries[0].n_events, 'event')} of {shown(file)}, scored by {counted(len(summaries), 'model')} of {run}"
    )
    for summary in summaries:
        cuts = ", ".join(f"{n} at background efficiency {p:g}" for p, n in summary.n_selected.items())
        typer.echo(f"{summary.method} {summary.window}: {summary.n_in_window} in the window, of these {cuts}")
    # the same features for all models, but the range of training differs from window to window
    worst = max(summaries, key=lambda summary: summary.n_outside)
    if worst.n_outside:
        parts = ", ".join(f"{name}: {n}" for name, n in worst.outside.items() if n)
        typer.echo(
            f"{counted(worst.n_outside, 'event has', 'events have')} a feature outside the range of training ({parts}), where "
            "scores are extrapolated"
        )
    typer.echo(f"scores: {out}")
