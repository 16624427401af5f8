"""``serendip compare``: every method on the same events with injected signal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.options import (
    BACKGROUND,
    EVENTS,
    SIMULATION,
    File,
    Jobs,
    Seed,
    SetOption,
    Window,
    WorkingPoints,
    with_flags,
)
from serendip.cli.parsing import gather_settings, settings_name
from serendip.errors import InputError

__all__ = ["compare"]


@with_flags(EVENTS, SIMULATION, BACKGROUND)
def compare(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="Folder of the comparison: new, or one to continue.")],
    label: Annotated[
        str | None, typer.Option(help="Column with the truth, 1 = signal, 0 = background; needed.")
    ] = None,
    window: Window = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods", "--method", help="cwola[,cathode,...], or all (default): every one that can run."
        ),
    ] = None,
    injections: Annotated[
        str | None,
        typer.Option(help="Signal events in the window, N[,N...]; default 0,75,150,250,500,1000."),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Random parts of the signal for each number; default 5.")
    ] = None,
    correlate: Annotated[
        list[str] | None,
        typer.Option(help="Stress: add C times the mass in GeV to a feature, COL=C; may be repeated."),
    ] = None,
    noise: Annotated[int | None, typer.Option(help="Stress: add N features of pure noise.")] = None,
    working_points: WorkingPoints = None,
    min_background: Annotated[
        int | None,
        typer.Option(help="Background events that a quoted SIC leaves at least; default 26."),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Number of folds; default 5.")] = None,
    combination: Annotated[
        str | None,
        typer.Option(
            help="weighted (default), sequential, sequential-stouffer, kfold-bonferroni, kfold-summed (over-claims)."
        ),
    ] = None,
    seed: Seed = None,
    set_: SetOption = None,
    jobs: Jobs = None,
    **shared: Any,
) -> None:
    """Compare search methods on the same events with more and more injected signal.

    Numbers of signal events are those in the window. Repeating the command continues an interrupted comparison; methods,
    numbers and repeats can be added to a finished one, and only what is new is trained.
    """
    flags = shared | locals()
    from serendip.cli.progress import TerminalProgress
    from serendip.report.compare.page import print_table, write_comparison
    from serendip.search.compare import CompareConfig, parse_comparison, run_compare

    settings = gather_settings(file, flags | {"method": methods, "correlate": None}, CompareConfig, set_)
    if correlate:
        settings["correlate"] = dict(_coefficient(text) for text in correlate)
    config, left_out, strict = parse_comparison(settings, settings_name(file, "compare"))
    with TerminalProgress() as progress:
        run_compare(config, out, left_out=left_out, strict=strict, jobs=jobs, progress=progress)
        progress.start("report", 1)
        page = write_comparison(out)
        progress.advance("report")
    print_table(out)
    typer.echo(f"report: {page}")


def _coefficient(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        coefficient = float(value)
    except ValueError:
        coefficient = None
    if not equals or not name.strip() or coefficient is None:
        raise InputError(f"--correlate {text}: expected COL=NUMBER, e.g. mj1=0.1")
    return name.strip(), coefficient
