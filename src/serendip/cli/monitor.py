"""``serendip monitor``: a search that looks at the data after every period of data taking."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from serendip.cli.flags import flags_of
from serendip.cli.options import File, Jobs, RunFolder, SetOption
from serendip.cli.parsing import gather_settings, settings_name

__all__ = ["monitor"]


@flags_of("serendip.search.monitor.config:MonitorConfig")
def monitor(
    file: File,
    out: RunFolder,
    append: Annotated[
        list[str] | None,
        typer.Option(
            "--append", help="A new period: a file, a folder or a quoted pattern. May be repeated, in order."
        ),
    ] = None,
    set_: SetOption = None,
    jobs: Jobs = None,
    unblind: Annotated[
        bool, typer.Option("--unblind", help="Show and write the evidence; is recorded.")
    ] = False,
    **flags: Any,
) -> None:
    """Search again after every period of data taking, with evidence that may be looked at at any time.

    FILE is the first period, on which only models are trained; every --append adds one. Its events are scored by models of all earlier
    periods. Blind by default. Repeating the command continues an interrupted run; without --append it shows the result again.
    """
    from serendip.cli.progress import TerminalProgress
    from serendip.report.monitor import read_monitor, summary, write_monitor_page
    from serendip.search.config import parse_settings
    from serendip.search.monitor import MonitorConfig, run_monitor

    settings = gather_settings(file, flags, set_)
    config = parse_settings(MonitorConfig, settings, settings_name(file, "monitor"))
    with TerminalProgress() as progress:
        result = run_monitor(
            config,
            out,
            append=append or (),
            unblind=unblind,
            jobs=jobs,
            progress=progress,
            page=write_monitor_page,
        )
    typer.echo("\n".join([*summary(read_monitor(result.path)), f"report: {result.path / 'monitor.html'}"]))
