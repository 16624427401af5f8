"""``serendip limit``: upper limits of searches that are trained with the signal in the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from serendip.cli.options import (
    Background,
    Features,
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
    width: Annotated[float, typer.Option(help="Relative width of the windows.")] = 0.12,
    injections: Annotated[
        str | None,
        typer.Option(
            help="Yields in the window, N[,N...]; default: six from 0.5 to 3.5 times the root of its events."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Random parts of the signal for each yield.")] = 3,
    methods: Annotated[
        str, typer.Option("--methods", "--method", help="Methods; bump-hunt is the inclusive reference.")
    ] = "cwola,bump-hunt",
    mass: Mass = None,
    features: Features = None,
    where: Where = None,
    weight: Weight = None,
    tree: Tree = None,
    preset: Preset = None,
    unit: Unit = None,
    working_points: WorkingPoints = None,
    folds: Annotated[int, typer.Option(help="Number of folds.")] = 10,
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
    from serendip.report.limits import print_limits, write_limits

    if not 0 < level < 1:
        raise InputError(f"--level {level:g}: a confidence level lies between 0 and 1, for example 0.95")
    if not 0 < acceptance <= 1:
        raise InputError(f"--acceptance {acceptance:g}: a share lies between 0 and 1")
    if luminosity is not None and not luminosity > 0:
        raise InputError(f"--luminosity {luminosity:g}: expected a positive number of 1/fb")
    if luminosity is None and acceptance != 1.0:
        raise InputError("--acceptance turns events into a cross-section and needs --luminosity")
    ladders = inputs
    if inject is not None:
        if len(inputs) != 1 or masses is None:
            raise InputError(
                "--inject needs one event table and the masses of the signal (--masses M[,M...])"
            )
        samples = {"mass": mass, "features": features, "tree": tree, "unit": unit or "GeV", "preset": preset}
        cuts = {"where": where, "inject_where": inject_where, "weight": weight, "signal_mass": signal_mass}
        search = {
            "method": methods, "repeats": repeats, "working_points": working_points, "folds": folds,
            "background": background, "range": range, "sqrt_s": sqrt_s, "seed": seed,
        }  # fmt: skip
        yields = _numbers("injections", injections) if injections else []
        points = _points(inputs[0], inject, samples, cuts, _numbers("masses", masses), width, out, yields)
        ladders = [_ladder(point, search, set_ or [], out, jobs) for point in points]
    elif masses or signal_mass or inject_where or injections:
        raise InputError("--masses, --signal-mass, --inject-where and --injections belong to --inject FILE")
    limits = write_limits(ladders, out, level=level, luminosity=luminosity, acceptance=acceptance)
    print_limits(limits)
    typer.echo(f"figures: {out / 'figures'}")


def _numbers(option: str, text: str) -> list[float]:
    try:
        return sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"--{option} {text}: expected numbers with commas, e.g. 3000,3500") from None


def _points(
    data: Path,
    inject: Path,
    columns: dict[str, Any],
    cuts: dict[str, Any],
    masses: list[float],
    width: float,
    out: Path,
    yields: list[float],
) -> list[Any]:
    from serendip.events.expressions import split_expressions
    from serendip.events.read import read
    from serendip.search.signal_points import signal_points

    names = split_expressions(columns["features"]) if columns["features"] else ()
    common = columns | {"for_training": False}
    events = read(data, where=cuts["where"], weight=cuts["weight"], **common | {"features": names})
    point = [cuts["signal_mass"]] if cuts["signal_mass"] else []
    # as one more feature the generated mass sees the same cut, and the same rows are left out
    signal = read(inject, where=cuts["inject_where"], **common | {"features": [*events.features, *point]})
    generated = signal.x[:, -1].astype(float) if point else None
    return signal_points(
        events.without_label(),
        signal.without_label(),
        generated,
        masses,
        width,
        out / "ladders",
        [round(n) for n in yields],
    )


def _ladder(point: Any, search: dict[str, Any], assignments: list[str], out: Path, jobs: int | None) -> Path:
    from serendip.cli.progress import TerminalProgress
    from serendip.report.compare import write_comparison
    from serendip.search.compare import run_compare
    from serendip.search.compare_config import CompareConfig
    from serendip.search.config import parse_settings

    folder: Path = out / "ladders" / f"{point.mass:g}" / "comparison"
    settings = {key: value for key, value in search.items() if value is not None} | {
        "file": str(point.file), "mass": "mass", "features": list(point.features), "label": "signal", "id": "event",
        "window": [point.window.low, point.window.high], "injections": list(point.injections),
        "combination": "sequential", "weight": point.weight,
    }  # fmt: skip
    for assignment in assignments:
        assign_option(settings, assignment)
    config = parse_settings(CompareConfig, settings, "limit")
    with TerminalProgress() as progress:
        run_compare(config, folder, jobs=jobs, progress=progress)
        progress.start(f"report, {point.mass:g} GeV", 1)
        write_comparison(folder)
        progress.advance("report")
    return folder
