"""``serendip validate``: whether the tool is right on these data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.flags import flags_of
from serendip.cli.options import File, Jobs
from serendip.cli.parsing import assign_option, gather_settings, settings_name
from serendip.errors import InputError

__all__ = ["validate"]


@flags_of("serendip.validate.config:ValidateConfig")
def validate(
    kinds: Annotated[
        str,
        typer.Argument(
            metavar="KIND[,KIND...]",
            help="closure, sculpting, control, null, bias, coverage, injection, simulation, one of another package, or all.",
        ),
    ],
    file: File,
    out: Annotated[
        Path, typer.Option("--out", help="Folder: new, one to continue, or the run directory of a search.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KIND.OPTION=VALUE of a validation or METHOD.OPTION=VALUE; may be repeated."
        ),
    ] = None,
    jobs: Jobs = None,
    **flags: Any,
) -> None:
    """Validate a search on its own data, with pass or fail for each question and a page of traffic lights.

    The windows of the search stay closed. Exit code 1 if a check fails. Repeating the command skips finished kinds.
    """
    from serendip.cli.progress import TerminalProgress
    from serendip.report.validation.page import write_validation_page
    from serendip.validate.config import parse_validation
    from serendip.validate.engine import run_validations
    from serendip.validate.registry import KINDS, kind_names

    names = kind_names(kinds)
    everything = "all" in [part.strip() for part in kinds.split(",")]
    settings = gather_settings(file, flags)
    for assignment in set_ or []:
        if assignment.partition(".")[0] in KINDS:
            nested = {"options": settings.get("validate")}
            assign_option(nested, assignment)
            settings["validate"] = nested["options"]
        else:
            assign_option(settings, assignment)
    missing = {}
    if everything:
        for name in names:
            try:
                KINDS[name]
            except InputError as error:
                missing[name] = str(error)
        names = tuple(name for name in names if name not in missing)
    config, options = parse_validation(settings, names, settings_name(file, "validate"))
    with TerminalProgress() as progress:
        found = run_validations(config, options, out, strict=not everything, jobs=jobs, progress=progress)
        progress.start("page", 1)
        page = write_validation_page(out)
        progress.advance("page")
    for name, reason in missing.items():
        typer.echo(f"left out: {name}: {reason}", err=True)
    _print(out, found, page)
    if any(validation.failed for validation in found):
        raise typer.Exit(1)


def _print(out: Path, found: list[Any], page: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from serendip.report.words import with_error
    from serendip.validate.engine import read_state

    console = Console()
    words = {True: "pass", None: "undecided", False: "FAIL"}
    table = Table(title="validation", title_justify="left")
    for head in ("kind", "check", "value", "result"):
        table.add_column(head)
    for validation in found:
        for check in validation.checks:
            style = {True: None, None: "yellow", False: "bold red"}[check.passed]
            value = with_error(check.value, check.error)
            table.add_row(validation.kind, check.name, value, words[check.passed], style=style)
    console.print(table)
    for validation in found:
        for check in validation.checks:
            if not check.passed:
                typer.echo(f"{words[check.passed]}: {check.name} (limit: {check.limit}). {check.meaning}")
    for kind, reason in read_state(out)["left_out"].items():
        typer.echo(f"left out: {kind}: {reason}", err=True)
    typer.echo(f"page: {page}")
