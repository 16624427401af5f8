"""``serendip limit``: upper limits of searches that are trained with the signal in the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.options import (
    Background,
    Features,
    Group,
    Jobs,
    Mass,
    MassRange,
    Preset,
    Seed,
    SetOption,
    SqrtS,
    Tree,
    Unit,
    Weight,
    Where,
    WorkingPoints,
)
from serendip.cli.parsing import assign_option
from serendip.errors import InputError

__all__ = ["limit"]


def limit(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="With --inject: the event table. Without: folders of serendip compare with two or more injected yields, one "
            "for each signal mass."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for limits.json and the figures.")],
    inject: Annotated[
        Path | None,
        typer.Option(help="Simulated signal with the same columns: makes the ladders of injected yields."),
    ] = None,
    masses: Annotated[
        str | None, typer.Option(help="Signal masses in GeV, M[,M...]; each is the middle of its window.")
    ] = None,
    signal_mass: Annotated[
        str | None, typer.Option(help="Column of the signal with the generated mass in GeV.")
    ] = None,
    inject_where: Annotated[str | None, typer.Option(help="Cut on the signal; default: none.")] = None,
    signal_weight: Annotated[
        str | None,
        typer.Option(
            help="Event weight in --inject, not negative: events are drawn in proportion to it; default: that of --weight, if the file "
            "has it."
        ),
    ] = None,
    width: Annotated[float | None, typer.Option(help="Relative width of the windows; default 0.12.")] = None,
    injections: Annotated[
        str | None,
        typer.Option(
            help="Yields in the window, N[,N...]; default: seven from 0.5 to 5 times the root of its events."
        ),
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Random parts of the signal for each yield; default 3.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods", "--method", help="Default cwola,bump-hunt; bump-hunt is the inclusive reference."
        ),
    ] = None,
    mass: Mass = None,
    features: Features = None,
    where: Where = None,
    weight: Weight = None,
    group: Group = None,
    tree: Tree = None,
    preset: Preset = None,
    unit: Unit = None,
    working_points: WorkingPoints = None,
    folds: Annotated[int | None, typer.Option(help="Number of folds; default 10.")] = None,
    combination: Annotated[
        str | None, typer.Option(help="weighted (default) or sequential: cuts at the working points.")
    ] = None,
    background: Background = None,
    range: MassRange = None,
    sqrt_s: SqrtS = None,
    seed: Seed = None,
    set_: SetOption = None,
    jobs: Jobs = None,
    level: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
    luminosity: Annotated[
        float | None, typer.Option(help="Integrated luminosity in 1/fb: limits on the cross-section.")
    ] = None,
    acceptance: Annotated[
        float, typer.Option(help="Share of produced signal events that is in the window before any cut.")
    ] = 1.0,
) -> None:
    """Set upper limits on a signal, with the selection trained on data that contain it.

    How much signal a weakly supervised selection keeps depends on how much there is. With --inject, more and more of the
    signal is put into the data for each mass, everything is trained anew, and the limit is where it meets the injected yield.
    Repeating the command continues. Ladders that were made with `serendip compare` can be given instead.
    """
    flags = locals()
    from serendip.report.limits import check_claim, print_limits, write_limits

    check_claim(level, luminosity, acceptance)
    ladders = inputs
    here = ("inputs", "out", "jobs", "level", "luminosity", "acceptance")
    given = {name: value for name, value in flags.items() if name not in here and value is not None}
    if inject is not None:
        if len(inputs) != 1 or masses is None:
            raise InputError(
                "--inject needs one event table and the masses of the signal (--masses M[,M...])"
            )
        ladders = _ladders(inputs[0], given, out, jobs)
    elif given or jobs is not None:
        names = ["--" + name.rstrip("_").replace("_", "-") for name in given] + ["--jobs"] * (
            jobs is not None
        )
        raise InputError(
            f"{', '.join(names)}: only with --inject FILE, which makes the ladders; finished ladders are taken as they are"
        )
    limits = write_limits(ladders, out, level=level, luminosity=luminosity, acceptance=acceptance)
    print_limits(limits)
    typer.echo(f"figures: {out / 'figures'}")


def _ladders(file: Path, given: dict[str, Any], out: Path, jobs: int | None) -> list[Path]:
    from serendip.cli.progress import TerminalProgress
    from serendip.report.compare.page import write_comparison
    from serendip.search.config import parse_settings
    from serendip.search.limit import LimitConfig, limit_settings, make_ladders

    assignments = given.pop("set_", [])
    if "methods" in given:
        given["method"] = given.pop("methods")
    given["inject"] = str(given["inject"])
    settings = limit_settings(given | {"file": str(file)})
    for assignment in assignments:
        assign_option(settings["search"], assignment)
    config = parse_settings(LimitConfig, settings, "limit")
    with TerminalProgress() as progress:
        return make_ladders(config, out, jobs=jobs, progress=progress, page=write_comparison)
