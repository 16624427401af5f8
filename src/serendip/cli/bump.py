"""``serendip bump``: a bump hunt in one window, without any classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["bump"]


def bump(
    file: Annotated[Path, typer.Argument(help="Event table: Parquet, CSV, HDF5 or ROOT.")],
    window: Annotated[str, typer.Option(help="Window LO:HI, chosen before looking.")],
    mass: Annotated[str | None, typer.Option(help="Mass: a column or an expression of columns.")] = None,
    range: Annotated[
        str | None,
        typer.Option("--range", help="Mass range of the fit, LO:HI; default: chosen from the data."),
    ] = None,
    bins: Annotated[int | None, typer.Option(help="Number of bins; default: 2.5 % of the mass each.")] = None,
    background: Annotated[
        str, typer.Option(help="dijet, dijet:N, exppoly, exppoly:DEGREE or poly:DEGREE.")
    ] = "dijet",
    where: Annotated[str | None, typer.Option(help="Cut, e.g. 'pt>200 & abs(eta)<2.5'.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column with event weights.")] = None,
    tree: Annotated[str | None, typer.Option(help="Tree or RNTuple (ROOT), key (HDF5).")] = None,
    unit: Annotated[str, typer.Option(help="Unit of the mass, window and range: GeV or TeV.")] = "GeV",
    preset: Annotated[str | None, typer.Option(help="Columns of a known file format: lhco.")] = None,
    sqrt_s: Annotated[
        float, typer.Option("--sqrt-s", help="Collision energy in TeV (dijet functions).")
    ] = 13.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, masses in GeV.")] = False,
) -> None:
    """Count the events in a mass window and compare with a smooth fit of the spectrum outside it.

    The p-value contains the error of the fit, and no trials factor: the window has to be chosen beforehand.
    """
    from serendip.cli.parsing import parse_interval, parse_window
    from serendip.events.read import read
    from serendip.statistics.bump import bump_hunt
    from serendip.statistics.functions import get_family

    region = parse_window(window, unit)
    limits = None if range is None else parse_interval(range, unit, option="range")
    get_family(background, sqrt_s * 1000.0)  # a wrong name is told before a long read
    events = read(file, mass=mass, weight=weight, where=where, tree=tree, unit=unit, preset=preset)
    result = bump_hunt(
        events.m,
        region,
        limits,
        bins,
        background,
        weights=None if events.weight is None else events.weights,
        sqrt_s=sqrt_s * 1000.0,
    )
    if as_json:
        typer.echo(json.dumps({"n_events": len(events), **result.to_dict()}, indent=1))
    else:
        typer.echo(_text(len(events), result))


def _text(n_events: int, result: Any) -> str:
    fit = result.spectrum
    sigma = f"{abs(result.z_local):.2f} sigma {'excess' if result.z_local > 0 else 'deficit'}"
    low, high = result.mass_range
    lines = [
        f"{n_events} events; window {result.window}; fit in {len(fit.counts)} bins, {low:g} to {high:g} GeV",
        f"observed {result.observed:g}, expected {result.expected:.5g} +- {result.expected_error:.2g} (fit)",
        f"local p = {result.p_local:.3g}, {sigma} (one window, no trials factor)",
        f"background {fit.function}: {fit.n_parameters} parameters with the normalisation",
        f"goodness of fit p = {fit.gof_p:.2g} (deviance {fit.deviance:.1f}, {fit.n_dof} degrees of freedom)",
    ]
    if fit.gof_p < 0.01:
        lines.append(
            "warning: the function does not describe the sidebands; try --background exppoly or --range"
        )
    return "\n".join(lines)
