"""``serendip search``: scan a mass spectrum and write a run directory with its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.options import (
    SEARCH,
    File,
    Jobs,
    Label,
    Mask,
    Method,
    RunFolder,
    Seed,
    SetOption,
    SignalWidth,
    Step,
    with_flags,
)
from serendip.cli.parsing import gather_settings, settings_name

__all__ = ["search"]


@with_flags(SEARCH)
def search(
    file: File,
    out: RunFolder,
    label: Label = None,
    signal_width: SignalWidth = None,
    step: Step = None,
    method: Method = None,
    working_points: Annotated[
        str | None,
        typer.Option(help="Background efficiencies; default: 1e-2,1e-3, looser ones for a small sample."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Number of folds; default: 10, fewer for a small sample.")
    ] = None,
    combination: Annotated[
        str | None,
        typer.Option(
            help="weighted (default: no cut, events count with weights), sequential, sequential-stouffer, kfold-bonferroni, "
            "kfold-summed (over-claims)."
        ),
    ] = None,
    orders: Annotated[
        int | None,
        typer.Option(help="Orders of the folds of 'weighted'; default 4, each with its trainings."),
    ] = None,
    counting: Annotated[
        str | None,
        typer.Option(
            help="What predicts a count: fit of the selected spectrum (default), or template, for very tight cuts."
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Full-chain calibration of kfold-summed: the calibration.json that serendip validate null writes."
        ),
    ] = None,
    mask: Mask = None,
    toys: Annotated[int | None, typer.Option(help="Toys for the global p-value; default 1000.")] = None,
    seed: Seed = None,
    set_: SetOption = None,
    jobs: Jobs = None,
    unblind: Annotated[
        bool, typer.Option("--unblind", help="Show and write observed counts; is recorded.")
    ] = False,
    **shared: Any,
) -> None:
    """Search for a resonance with weakly supervised methods and write a run directory with a report.

    Blind by default: expected counts and closure are shown, observed counts in the windows are not. Repeating the
    command continues an interrupted run; adding --unblind to it opens the box.
    """
    flags = shared | locals()
    from serendip.cli.progress import TerminalProgress
    from serendip.report import write_report
    from serendip.search.config import SearchConfig, parse_config
    from serendip.search.engine import run_search

    settings = gather_settings(file, flags, SearchConfig, set_)
    config = parse_config(settings, settings_name(file, "search"))
    with TerminalProgress() as progress:
        result = run_search(config, out, unblind=unblind, jobs=jobs, progress=progress)
        progress.start("report", 1)
        page = write_report(result.path)
        progress.advance("report")
    _print_summary(result.path, page)


def _print_summary(run: Path, page: Path) -> None:
    from serendip.report.load import read_run
    from serendip.report.words import (
        checks_sentence,
        effective_sentence,
        headline,
        orders_sentence,
        reservation,
        verdict,
    )

    content = read_run(run)
    best = content.results.best
    lines = [headline(content.results), verdict(content.results)]
    lines += [orders_sentence(best), checks_sentence(content.results, best)] if best else []
    lines.append(effective_sentence(content))
    lines += [reservation(content), f"report: {page}"]
    typer.echo("\n".join(line for line in lines if line))
