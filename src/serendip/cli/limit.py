"""``serendip limit``: upper limits of searches that are trained with the signal in the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.flags import flags_of
from serendip.cli.options import Jobs, SetOption
from serendip.cli.parsing import assign_option
from serendip.errors import InputError

__all__ = ["limit"]


@flags_of("serendip.search.limit:LimitConfig", "serendip.search.limit:LadderConfig")
def limit(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="With --inject: the event table. Without: folders of serendip compare with two or more injected yields, one "
            "for each signal mass."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for limits.json and the figures.")],
    set_: SetOption = None,
    jobs: Jobs = None,
    level: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
    luminosity: Annotated[
        float | None, typer.Option(help="Integrated luminosity in 1/fb: limits on the cross-section.")
    ] = None,
    acceptance: Annotated[
        float, typer.Option(help="Share of produced signal events that is in the window before any cut.")
    ] = 1.0,
    **flags: Any,
) -> None:
    """Set upper limits on a signal, with the selection trained on data that contain it.

    How much signal a weakly supervised selection keeps depends on how much there is. With --inject, increasing amounts of the signal are injected into the data for each mass, everything is retrained, and the limit is where it meets the injected yield.
    Repeating the command continues. Ladders that were made with `serendip compare` can be given instead.
    """
    from serendip.report.limits import check_claim, print_limits, write_limits

    check_claim(level, luminosity, acceptance)
    ladders = inputs
    given = {name: value for name, value in flags.items() if value is not None}
    if "inject" in given:
        if len(inputs) != 1 or "masses" not in given:
            raise InputError(
                "--inject needs one event table and the masses of the signal (--masses M[,M...])"
            )
        ladders = _ladders(inputs[0], given, set_, out, jobs)
    elif given or set_ or jobs is not None:
        names = [*given, *(["set"] if set_ else []), *(["jobs"] if jobs is not None else [])]
        raise InputError(
            f"{', '.join('--' + name.replace('_', '-') for name in names)}: only with --inject FILE, which makes the ladders; "
            "finished ladders cannot be changed"
        )
    limits = write_limits(ladders, out, level=level, luminosity=luminosity, acceptance=acceptance)
    print_limits(limits)
    typer.echo(f"figures: {out / 'figures'}")


def _ladders(
    file: Path, given: dict[str, Any], assignments: list[str] | None, out: Path, jobs: int | None
) -> list[Path]:
    from serendip.cli.progress import TerminalProgress
    from serendip.report.compare.page import write_comparison
    from serendip.search.config import parse_settings
    from serendip.search.limit import LimitConfig, limit_settings, make_ladders

    settings = limit_settings(given | {"file": str(file)})
    for assignment in assignments or []:
        assign_option(settings["search"], assignment)
    config = parse_settings(LimitConfig, settings, "limit")
    with TerminalProgress() as progress:
        return make_ladders(config, out, jobs=jobs, progress=progress, page=write_comparison)
