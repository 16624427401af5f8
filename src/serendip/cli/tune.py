"""``serendip tune``: choose the options of a method without labels, on events that the search does not test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.flags import flags_of
from serendip.cli.options import File, OutFolder, Threads
from serendip.cli.parsing import gather_settings, settings_name

__all__ = ["tune"]


@flags_of("serendip.search.config:SearchConfig")
def tune(
    file: File,
    out: OutFolder,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Option that is not tuned, METHOD.OPTION=VALUE; may be repeated."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials for each method.")] = 20,
    on: Annotated[
        str,
        typer.Option(
            help="untested: fold 0 of the sequential search; all: every event, for use on other data (--unblind)."
        ),
    ] = "untested",
    unblind: Annotated[
        bool, typer.Option("--unblind", help="Needed for --on all: look into the window; is recorded.")
    ] = False,
    jobs: Threads = None,
    **flags: Any,
) -> None:
    """Choose the options of a method by ARGOS, without labels, on events that the search never tests.

    Repeating the command continues it. Afterwards: serendip search OUT/best.yaml --out RUN.
    """
    from serendip.cli.progress import TerminalProgress
    from serendip.errors import InputError
    from serendip.runs.executor import available_cores
    from serendip.search.config import parse_config
    from serendip.search.tune import tune as run_tune

    settings = gather_settings(file, flags, set_)
    if on not in ("untested", "all"):
        raise InputError(f"--on {on}: 'untested' or 'all' is expected")
    config = parse_config(settings, settings_name(file, "tune"))
    with TerminalProgress() as progress:
        result = run_tune(
            config,
            out,
            trials=trials,
            on="all" if on == "all" else "untested",
            unblind=unblind,
            threads=jobs or available_cores(),
            progress=progress,
        )
    _print_table(result.path, result.content, trials)


def _print_table(path: Path, content: dict[str, Any], trials: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for name, entry in content["methods"].items():
        finished = [trial for trial in entry["trials"][:trials] if trial["value"] is not None]
        ranked = sorted(finished, key=lambda trial: -trial["value"])
        table = Table(title=f"{name}: ARGOS less control, {content['n_events']} events")
        for head in ("trial", "value", "ARGOS", "control", *ranked[0]["options"], "s"):
            table.add_column(head)
        for trial in ranked:
            table.add_row(
                f"{trial['number']}" + (" (defaults)" if trial["number"] == 0 else ""),
                f"{trial['value']:.4f}",
                f"{trial['argos']:.4f} +- {trial['error']:.4f}",
                f"{trial['control']:.4f}",
                *(str(value) for value in trial["options"].values()),
                f"{trial['seconds']:.0f}",
            )
        console.print(table)
        if entry["best"] == 0:
            console.print(
                f"{name}: no trial beats the defaults by twice the error of the difference: they are kept",
                highlight=False,
            )
    if content["warning"]:
        typer.echo(f"warning: {content['warning']}", err=True)
    typer.echo(f"best options: serendip search {path / 'best.yaml'} --out RUN")
