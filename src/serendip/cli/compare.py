"""``serendip compare``: every method on the same events with injected signal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.flags import flags_of
from serendip.cli.options import File, Jobs, SetOption
from serendip.cli.parsing import gather_settings, settings_name

__all__ = ["compare"]


@flags_of("serendip.search.compare.config:CompareConfig")
def compare(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="Folder of the comparison: new, or one to continue.")],
    set_: SetOption = None,
    jobs: Jobs = None,
    **flags: Any,
) -> None:
    """Compare search methods on the same events with more and more injected signal.

    Numbers of signal events are those in the window. Repeating the command continues an interrupted comparison; methods,
    numbers and repeats can be added to a finished one, and only what is new is trained.
    """
    from serendip.cli.progress import TerminalProgress
    from serendip.report.compare.page import print_table, write_comparison
    from serendip.search.compare import parse_comparison, run_compare

    settings = gather_settings(file, flags, set_)
    config, left_out, strict = parse_comparison(settings, settings_name(file, "compare"))
    with TerminalProgress() as progress:
        run_compare(config, out, left_out=left_out, strict=strict, jobs=jobs, progress=progress)
        progress.start("report", 1)
        page = write_comparison(out)
        progress.advance("report")
    print_table(out)
    typer.echo(f"report: {page}")
