"""``serendip search``: scan a mass spectrum and write a run directory with its report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.flags import flags_of
from serendip.cli.options import File, Jobs, RunFolder, SetOption
from serendip.cli.parsing import gather_settings, settings_name

__all__ = ["search"]


@flags_of("serendip.search.config:SearchConfig")
def search(
    file: File,
    out: RunFolder,
    set_: SetOption = None,
    jobs: Jobs = None,
    unblind: Annotated[
        bool, typer.Option("--unblind", help="Show and write observed counts; is recorded.")
    ] = False,
    **flags: Any,
) -> None:
    """Search for a resonance with weakly supervised methods and write a run directory with a report.

    Blind by default: expected counts and closure are shown, observed counts in the windows are not. Repeating the
    command continues an interrupted run; adding --unblind to it opens the box.
    """
    from serendip.cli.progress import TerminalProgress
    from serendip.report import write_report
    from serendip.search.config import parse_config
    from serendip.search.engine import run_search

    settings = gather_settings(file, flags, set_)
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
