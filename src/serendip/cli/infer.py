"""``serendip infer``: the strength of a signal in one window, with learnt densities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.options import BACKGROUND, EVENTS, File, Seed, SetOption, Window, with_flags
from serendip.cli.parsing import gather_settings, settings_name

__all__ = ["infer"]


@with_flags(EVENTS, BACKGROUND)
def infer(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="Folder: new, or one to continue.")],
    window: Window = None,
    signal: Annotated[
        str | None,
        typer.Option(help="Simulated signal with the same columns; default: learnt from the data."),
    ] = None,
    signal_weight: Annotated[
        str | None, typer.Option("--signal-weight", help="Column with the weights of the simulated signal.")
    ] = None,
    signal_where: Annotated[
        str | None, typer.Option("--signal-where", help="Cut on the simulated signal, e.g. 'truth==1'.")
    ] = None,
    parameters: Annotated[
        str | None, typer.Option(help="Columns of the simulated signal with its parameters, e.g. mx,my.")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Number of folds; default 5.")] = None,
    combination: Annotated[
        str | None, typer.Option(help="kfold (default), or sequential: fold 0 is not judged.")
    ] = None,
    normalisation: Annotated[
        str | None,
        typer.Option(help="constrained (default): the mass fit says how much background; or floating."),
    ] = None,
    scan_points: Annotated[
        int | None,
        typer.Option("--scan-points", help="Fractions at which the signal is trained anew; default 6."),
    ] = None,
    half_samples: Annotated[
        int | None,
        typer.Option("--half-samples", help="Pairs of halves for the error of the background; default 2."),
    ] = None,
    toys: Annotated[int | None, typer.Option(help="Toys at each tested strength; default 500.")] = None,
    retrain: Annotated[
        int | None, typer.Option(help="Pseudo-experiments that learn the signal anew; default 0.")
    ] = None,
    seed: Seed = None,
    set_: SetOption = None,
    unblind: Annotated[bool, typer.Option("--unblind", help="Look at the window; is recorded.")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Threads of a training; default: all cores.")
    ] = None,
    **shared: Any,
) -> None:
    """Measure how much signal there is in a window: generator-based inference with intervals, a limit and toys.

    Repeating the command continues an interrupted run.
    """
    flags = shared | locals()
    from serendip.cli.progress import TerminalProgress
    from serendip.report.infer.page import summary, write_infer_report
    from serendip.search.config import parse_settings
    from serendip.search.infer import InferConfig, run_infer

    settings = gather_settings(file, flags, InferConfig, set_)
    config = parse_settings(InferConfig, settings, settings_name(file, "infer"))
    with TerminalProgress() as progress:
        result = run_infer(config, out, unblind=unblind, threads=jobs, progress=progress)
        progress.start("report", 1)
        page = write_infer_report(result.path)
        progress.advance("report")
    typer.echo("\n".join([*summary(result.results), f"report: {page}"]))
