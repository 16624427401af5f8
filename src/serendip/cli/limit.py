"""``serendip limit``: upper limits of searches that are trained with the signal in the data."""

from __future__ import annotations

import math
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
from serendip.cli.parsing import assign_option, parse_interval
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
    if combination not in (None, "weighted", "sequential"):
        raise InputError(
            f"--combination {combination}: limits count events whose sum is (compound) Poisson; take weighted or sequential"
        )
    if inject is not None:
        if len(inputs) != 1 or masses is None:
            raise InputError(
                "--inject needs one event table and the masses of the signal (--masses M[,M...])"
            )
        if range is not None:
            range = ":".join(repr(value) for value in parse_interval(range, unit or "GeV", option="range"))
        samples = {"mass": mass, "features": features, "tree": tree, "unit": unit or "GeV", "preset": preset}
        cuts = {
            "where": where,
            "inject_where": inject_where,
            "weight": weight,
            "group": group,
            "signal_mass": signal_mass,
            "signal_weight": signal_weight,
        }
        search = {
            "method": methods or "cwola,bump-hunt", "repeats": repeats or 3, "working_points": working_points,
            "folds": folds or 10, "combination": combination or "weighted", "background": background, "range": range, "sqrt_s": sqrt_s, "seed": seed,
        }  # fmt: skip
        yields = _numbers("injections", injections) if injections else []
        points = _points(
            inputs[0],
            inject,
            samples,
            cuts,
            _numbers("masses", masses),
            width or 0.12,
            out,
            yields,
            1 if seed is None else seed,
        )
        ladders = _ladders(points, search, set_ or [], jobs)
    else:
        not_here = [
            name for name, value in flags.items()
            if value is not None and name not in ("inputs", "out", "level", "luminosity", "acceptance")
        ]  # fmt: skip
        if not_here:
            names = ", ".join("--" + name.rstrip("_").replace("_", "-") for name in not_here)
            raise InputError(
                f"{names}: only with --inject FILE, which makes the ladders; finished ladders are taken as they are"
            )
    limits = write_limits(ladders, out, level=level, luminosity=luminosity, acceptance=acceptance)
    print_limits(limits)
    typer.echo(f"figures: {out / 'figures'}")


def _numbers(option: str, text: str) -> list[float]:
    try:
        values = sorted({float(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or not all(map(math.isfinite, values)):
        raise InputError(f"--{option} {text}: expected numbers with commas, e.g. 3000,3500")
    return values


def _points(
    data: Path,
    inject: Path,
    columns: dict[str, Any],
    cuts: dict[str, Any],
    masses: list[float],
    width: float,
    out: Path,
    yields: list[float],
    seed: int,
) -> list[Any]:
    from serendip.cli.signal_weight import weight_of_signal
    from serendip.events.expressions import split_expressions
    from serendip.events.read import read
    from serendip.search.signal_points import signal_points

    names = split_expressions(columns["features"]) if columns["features"] else ()
    common = columns | {"for_training": False}
    events = read(
        data,
        where=cuts["where"],
        weight=cuts["weight"],
        group=cuts["group"],
        independent=True,
        **common | {"features": names},
    )
    point = [cuts["signal_mass"]] if cuts["signal_mass"] else []
    # as one more feature the generated mass sees the same cut, and the same rows are left out
    weight = weight_of_signal(data, inject, cuts["weight"], cuts["signal_weight"], columns["tree"])
    signal = read(
        inject, where=cuts["inject_where"], weight=weight, **common | {"features": [*events.features, *point]}
    )
    generated = signal.x[:, -1].astype(float) if point else None
    return signal_points(
        events.without_label(),
        signal.without_label(),
        generated,
        masses,
        width,
        out / "ladders",
        [round(n) for n in yields],
        seed,
    )


def _ladders(
    points: list[Any], search: dict[str, Any], assignments: list[str], jobs: int | None
) -> list[Path]:
    from serendip.cli.progress import TerminalProgress
    from serendip.report.compare.page import write_comparison
    from serendip.search.compare import CompareConfig, run_compare
    from serendip.search.config import parse_settings
    from serendip.search.signal_points import ID, LABEL, MASS

    configs = []
    for point in points:
        settings = {key: value for key, value in search.items() if value is not None} | {
            "file": str(point.file), "mass": MASS, "features": list(point.features), "label": LABEL, "id": ID,
            "window": [point.window.low, point.window.high], "injections": list(point.injections),
            "weight": point.weight, "group": point.group,
        }  # fmt: skip
        for assignment in assignments:
            assign_option(settings, assignment)
        configs.append(parse_settings(CompareConfig, settings, "limit"))
    folders = []
    with TerminalProgress() as progress:
        for point, config in zip(points, configs, strict=True):
            folder = point.file.parent / "comparison"
            run_compare(config, folder, jobs=jobs, progress=progress)
            progress.start(f"report, {point.mass:g} GeV", 1)
            write_comparison(folder)
            progress.advance("report")
            folders.append(folder)
    return folders
