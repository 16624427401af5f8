"""``serendip bump``: a bump hunt in one window or anywhere, without any classifier."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from serendip.cli.options import Group, Table
from serendip.errors import InputError

__all__ = ["bump"]


def bump(
    file: Table,
    window: Annotated[
        str | None,
        typer.Option(
            help="Window LO:HI, chosen before looking. Without it all windows are tried (BumpHunter)."
        ),
    ] = None,
    mass: Annotated[str | None, typer.Option(help="Mass: a column or an expression of columns.")] = None,
    range: Annotated[
        str | None,
        typer.Option(
            "--range",
            help="Mass range of the fit, LO:HI; default: chosen from the data, where the spectrum falls.",
        ),
    ] = None,
    bins: Annotated[int | None, typer.Option(help="Number of bins; default: 2.5 % of the mass each.")] = None,
    background: Annotated[
        str, typer.Option(help="dijet, dijet:N, exppoly, exppoly:DEGREE or poly:DEGREE.")
    ] = "dijet",
    order: Annotated[
        str,
        typer.Option(
            help="Number of parameters: average over the orders of the function, or one chosen by lrt or f-test."
        ),
    ] = "average",
    toys: Annotated[
        int | None,
        typer.Option(
            help="With a window: toys for the goodness of fit, default 0. Without: for the global p-value, default 1000."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the toys.")] = 1,
    where: Annotated[str | None, typer.Option(help="Cut, e.g. 'pt>200 & abs(eta)<2.5'.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column with event weights.")] = None,
    group: Group = None,
    tree: Annotated[
        str | None, typer.Option(help="Tree or RNTuple (ROOT), key (HDF5); A+B joins two.")
    ] = None,
    unit: Annotated[str, typer.Option(help="Unit of the mass, window and range: GeV or TeV.")] = "GeV",
    preset: Annotated[str | None, typer.Option(help="Columns of a known file format: lhco.")] = None,
    sqrt_s: Annotated[
        float, typer.Option("--sqrt-s", help="Collision energy in TeV (dijet functions).")
    ] = 13.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, masses in GeV.")] = False,
) -> None:
    """Count the events in a mass window and compare with a smooth fit of the spectrum outside it.

    The p-value contains the error of the fit, and no trials factor: the window has to be chosen beforehand. Without a window
    the most significant one of all is searched, and the p-value is global: toys repeat fit and search.
    """
    import numpy as np

    from serendip.cli.parsing import parse_interval, parse_window
    from serendip.events.read import read
    from serendip.statistics.binning import falling_range
    from serendip.statistics.bump import bump_hunt
    from serendip.statistics.fit import check_choice
    from serendip.statistics.functions import get_family
    from serendip.statistics.goodness import goodness_of_fit
    from serendip.statistics.scans import bump_hunter
    from serendip.statistics.spectrum_fit import spectrum_histogram

    region = None if window is None else parse_window(window, unit)
    limits = None if range is None else parse_interval(range, unit, option="range")
    # a wrong name is told before a long read
    family = get_family(background, sqrt_s * 1000.0)
    choice = check_choice(order)
    if toys is not None and toys < 0:
        raise InputError(f"the number of toys must not be negative, not {toys}")
    events = read(
        file, mass=mass, weight=weight, where=where, group=group, tree=tree, unit=unit, preset=preset
    )
    weights = None if events.weight is None else events.weights
    rng = np.random.default_rng(seed)
    if region is None:
        limits = limits or falling_range(events.m, family.upper)
        edges, counts, scale, n_used = spectrum_histogram(
            events.m, weights, limits, bins, None, [background], sqrt_s * 1000.0
        )
        found = bump_hunter(
            counts, edges, family, n_toys=1000 if toys is None else toys, scale=scale, choice=choice, rng=rng
        )
        typer.echo(
            json.dumps({"n_events": n_used, **found.to_dict()}, indent=1)
            if as_json
            else _anywhere(n_used, found)
        )
        return
    result = bump_hunt(
        events.m, region, limits, bins, background, weights=weights, sqrt_s=sqrt_s * 1000.0, choice=choice,
        groups=events.groups,
    )  # fmt: skip
    good = goodness_of_fit(result.spectrum, toys, rng) if toys else None
    if as_json:
        content = {"n_events": len(events), **result.to_dict()}
        typer.echo(json.dumps(content | ({} if good is None else {"goodness": good.to_dict()}), indent=1))
    else:
        typer.echo(
            _text(len(events), result, good, weighted=weights is not None or events.groups is not None)
        )


def _anywhere(n_events: int, found: Any) -> str:
    low, high = found.mass_range
    first, last = found.window
    low_p, high_p = found.p_interval_68
    lines = [
        f"{n_events} events between {low:g} and {high:g} GeV; background {found.function}",
        f"most significant window: {first:.5g}-{last:.5g} GeV, observed {found.observed:g}, expected {found.expected:.5g}",
        f"global p = {found.p_global:.3g}, {found.z_global:.2f} sigma; {found.n_toys} toys repeat fit and search",
        f"68 % interval of the fraction of toys that reach it: {low_p:.2g} to {high_p:.2g}",
        f"p of this window alone {found.p_window:.3g}, if its background were known",
        f"goodness of fit p = {found.gof_p:.2g}",
    ]
    if found.gof_p < 0.01:
        lines.append(
            "warning: the function does not describe the spectrum, and the p-value means nothing; try --background exppoly or --range"
        )
    return "\n".join(lines)


def _text(n_events: int, result: Any, good: Any, *, weighted: bool) -> str:
    fit = result.spectrum
    sigma = f"{abs(result.z_local):.2f} sigma {'excess' if result.z_local > 0 else 'deficit'}"
    low, high = result.mass_range
    function = f"background {fit.function}: {fit.n_parameters} parameters with the normalisation"
    if fit.averaged:
        used = [f"{tried.name} {tried.weight:.2f}" for tried in fit.tried if tried.weight]
        function = f"background: average of {', '.join(used)}"
    lines = [
        f"{n_events} events; window {result.window}; fit in {len(fit.counts)} bins, {low:g} to {high:g} GeV",
        f"observed {result.observed:g}, expected {result.expected:.5g} +- {result.expected_error:.2g} (fit)",
        f"local p = {result.p_local:.3g}, {sigma} (one window, no trials factor)",
        function,
        f"goodness of fit p = {fit.gof_p:.2g} (deviance {fit.deviance:.1f}, {fit.n_dof} degrees of freedom)",
    ]
    if weighted:
        lines.insert(
            3,
            f"effective number of events: {result.effective.window:.4g} in the window, {result.effective.sideband:.4g} beside it",
        )
    if good is not None:
        lines.append(
            f"from {good.deviance.n_toys} toys: deviance p = {good.deviance.p:.2g}, runs p = {good.runs.p:.2g}, "
            f"cumulative residuals p = {good.cumulative.p:.2g}"
        )
    if fit.gof_p < 0.01:
        lines.append(
            "warning: the function does not describe the sidebands; try --background exppoly or --range"
        )
    lines += [f"warning: {text}" for text in result.warnings]
    return "\n".join(lines)
