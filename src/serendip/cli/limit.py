"""``serendip limit``: upper limits from comparisons with injected signal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serendip.errors import InputError

__all__ = ["limit"]


def limit(
    comparisons: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of serendip compare with two or more injected yields, one for each signal mass."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for limits.json and the figures.")],
    level: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
    luminosity: Annotated[
        float | None, typer.Option(help="Integrated luminosity in 1/fb: limits on the cross-section.")
    ] = None,
    acceptance: Annotated[
        float, typer.Option(help="Share of produced signal events that is in the window before any cut.")
    ] = 1.0,
) -> None:
    """Set upper limits on a signal, with the selection trained on data that contain it.

    How much signal a weakly supervised selection keeps depends on how much there is. Make the ladder of injected yields
    with `serendip compare FILE --injections 75,150,250,500 --methods cwola,cathode,bump-hunt --out DIR`; then this command
    finds where the limit meets the injected yield, and compares with the bump hunt without a cut.
    """
    from serendip.report.limits import print_limits, write_limits

    if not 0 < level < 1:
        raise InputError(f"--level {level:g}: a confidence level lies between 0 and 1, for example 0.95")
    if not 0 < acceptance <= 1:
        raise InputError(f"--acceptance {acceptance:g}: a share lies between 0 and 1")
    if luminosity is not None and not luminosity > 0:
        raise InputError(f"--luminosity {luminosity:g}: expected a positive number of 1/fb")
    if luminosity is None and acceptance != 1.0:
        raise InputError("--acceptance turns events into a cross-section and needs --luminosity")
    limits = write_limits(comparisons, out, level=level, luminosity=luminosity, acceptance=acceptance)
    print_limits(limits)
    typer.echo(f"figures: {out / 'figures'}")
