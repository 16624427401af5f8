"""``serendip infer``: the strength of a signal in one window, with learnt densities."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from serendip.cli.flags import flags_of
from serendip.cli.options import File, OutFolder, SetOption, Threads
from serendip.cli.parsing import gather_settings, settings_name

__all__ = ["infer"]


@flags_of("serendip.search.infer.config:InferConfig")
def infer(
    file: File,
    out: OutFolder,
    set_: SetOption = None,
    unblind: Annotated[bool, typer.Option("--unblind", help="Look at the window; is recorded.")] = False,
    jobs: Threads = None,
    **flags: Any,
) -> None:
    """Measure how much signal there is in a window: generator-based inference with intervals, a limit and toys.

    Repeating the command continues an interrupted run.
    """
    from serendip.cli.progress import TerminalProgress
    from serendip.report.infer.page import summary, write_infer_report
    from serendip.search.config import parse_settings
    from serendip.search.infer import InferConfig, run_infer

    settings = gather_settings(file, flags, set_)
    config = parse_settings(InferConfig, settings, settings_name(file, "infer"))
    with TerminalProgress() as progress:
        result = run_infer(config, out, unblind=unblind, threads=jobs, progress=progress)
        progress.start("report", 1)
        page = write_infer_report(result.path)
        progress.advance("report")
    typer.echo("\n".join([*summary(result.results), f"report: {page}"]))
