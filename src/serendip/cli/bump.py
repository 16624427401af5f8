"""``serendip bump``: a bump hunt in one window or anywhere, without any classifier."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from serendip.cli.options import (
    AsJsonInGev,
    CollisionEnergy,
    Drawing,
    Group,
    JoinedTree,
    Masks,
    Preset,
    SeedOfToys,
    SpectrumMass,
    Table,
    Weight,
    Where,
)
from serendip.errors import InputError
from serendip.wording import counted

__all__ = ["bump"]


def bump(
    file: Table,
    window: Annotated[
        str | None,
        typer.Option(
            help="Window LO:HI, chosen before looking. Without it peaks of all masses and widths are tried."
        ),
    ] = None,
    mass: SpectrumMass = None,
    range: Annotated[
        str | None,
        typer.Option(
            "--range",
            help="Mass range of the fit, LO:HI; default: that of the data, without a turn-on that no background describes.",
        ),
    ] = None,
    mask: Masks = None,
    bins: Annotated[
        int | None, typer.Option(help="Number of bins; default: from range, window and number of events.")
    ] = None,
    background: Annotated[
        str, typer.Option(help="auto, exppoly[:DEGREE], exp[:DEGREE], dijet[:N], poly:DEGREE ...")
    ] = "auto",
    order: Annotated[
        str,
        typer.Option(
            help="With a window: average over functions and orders, or one order chosen by lrt or f-test."
        ),
    ] = "average",
    toys: Annotated[
        int | None,
        typer.Option(
            help="With a window: toys for the goodness of fit, default 0. Without: for the global p-value, default 1000."
        ),
    ] = None,
    seed: SeedOfToys = 1,
    where: Where = None,
    weight: Weight = None,
    group: Group = None,
    tree: JoinedTree = None,
    unit: Annotated[str, typer.Option(help="Unit of the mass, window and range: GeV or TeV.")] = "GeV",
    preset: Preset = None,
    sqrt_s: CollisionEnergy = 13.0,
    figure: Drawing = None,
    as_json: AsJsonInGev = False,
) -> None:
    """Count the events in a mass window and compare with a smooth fit of the spectrum outside it.

    The p-value contains the error of the fit, and no trials factor: the window has to be chosen beforehand. Without a window
    the most significant peak of any mass and width is searched, and the p-value is global: toys repeat fit and search.
    """
    import numpy as np

    from serendip.cli.parsing import parse_interval, parse_masks, parse_window
    from serendip.events.read import read
    from serendip.statistics.anywhere import find_peak
    from serendip.statistics.bump import bump_hunt
    from serendip.statistics.fit import check_choice
    from serendip.statistics.functions import get_family
    from serendip.statistics.goodness import goodness_of_fit

    region = None if window is None else parse_window(window, unit)
    limits = None if range is None else parse_interval(range, unit, option="range")
    masks = parse_masks(mask, unit)
    # report a wrong name before a long read
    get_family(background, sqrt_s * 1000.0)
    choice = check_choice(order)
    if region is None and choice != "average":
        raise InputError(
            f"--order {order} is for a window (--window); a search for peaks anywhere compares all orders of the functions"
        )
    if toys is not None and toys < 0:
        raise InputError(f"the number of toys must not be negative, not {toys}")
    events = read(
        file,
        mass=mass,
        weight=weight,
        where=where,
        group=group,
        tree=tree,
        unit=unit,
        preset=preset,
        independent=True,
    )
    weights = None if events.weight is None else events.weights
    rng = np.random.default_rng(seed)
    common: dict[str, Any] = {
        "mass_range": limits, "bins": bins, "background": background, "weights": weights,
        "sqrt_s": sqrt_s * 1000.0, "masks": masks, "groups": events.groups,
    }  # fmt: skip
    if region is None:
        found = find_peak(events.m, **common, n_toys=1000 if toys is None else toys, rng=rng)
        content, text = found.to_dict(), _anywhere(len(events), found)
    else:
        result = bump_hunt(events.m, region, **common, choice=choice)
        good = goodness_of_fit(result.spectrum, toys, rng) if toys else None
        content = result.to_dict() | ({} if good is None else {"goodness": good.to_dict()})
        weighted = weights is not None or events.groups is not None
        text = _text(len(events), result, good, weighted=weighted)
    if figure is not None:
        from serendip.report.bump import draw_bump, save_bump

        save_bump(draw_bump(content, events.m, events.weights), figure)
    typer.echo(json.dumps({"n_events": len(events), **content}, indent=1) if as_json else text)


def _range_lines(left_out: Any, masks: Any) -> list[str]:
    """The data excluded from the fit, in words."""
    lines = []
    if left_out.below or left_out.above:
        parts = [
            f"{counted(n, 'event')} {side} {edge:.5g} GeV"
            for n, side, edge in (
                (left_out.below, "below", left_out.low),
                (left_out.above, "above", left_out.high),
            )
            if n
        ]
        lines.append(f"left out: {' and '.join(parts)} ({left_out.reason})")
    if masks:
        lines.append(f"masked: {', '.join(f'{low:g}-{high:g} GeV' for low, high in masks)}")
    return lines


def _p(value: float) -> str:
    return f"= {value:.3g}" if value > 0 else "< 1e-300"


def _anywhere(n_events: int, found: Any) -> str:
    low, high = found.mass_range.low, found.mass_range.high
    first, last = found.window
    low_p, high_p = found.p_interval_68
    bound = "<= " if found.n_reached == 0 else "= "
    lines = [
        f"{n_events} events; {len(found.counts)} bins between {low:.5g} and {high:.5g} GeV; background {found.function}",
        *_range_lines(found.mass_range, found.masks),
        (
            f"most significant peak: {found.peak_mass:.5g} GeV, width (sigma) {found.peak_sigma:.3g} GeV, "
            f"{found.signal:.5g} +- {found.signal_error:.2g} events"
        ),
        f"in {first:.5g}-{last:.5g} GeV: observed {found.observed:g}, background {found.expected:.5g}",
        f"local p {_p(found.p_local)}, {found.z_local:.2f} sigma (mass and width chosen by this excess)",
        (
            f"global p {bound}{found.p_global:.3g}, {found.z_global:.2f} sigma; {found.n_reached} of {found.n_toys} toys that "
            f"repeat fit and search reach it (68 %: {low_p:.2g} to {high_p:.2g})"
        ),
    ]
    if found.n_reached == 0:
        lines.append(
            f"global p {_p(found.p_estimate)} by an estimate: the local one for each of {found.effective_peaks:.0f} independent "
            "peaks, a number from the toys"
        )
    lines.append(f"goodness of fit p = {found.gof_p:.2g} with the peak, {found.gof_p_without:.2g} without")
    if not found.described:
        lines.append(
            "warning: no background describes the spectrum, with or without a peak, and the p-values cannot be trusted; --mask known "
            "resonances, or choose --range or another --background"
        )
    lines += [f"warning: {warning}" for warning in found.warnings]
    return "\n".join(lines)


def _text(n_events: int, result: Any, good: Any, *, weighted: bool) -> str:
    fit = result.spectrum
    sigma = "no excess"
    if result.z_local is not None:
        sigma = f"{abs(result.z_local):.2f} sigma {'excess' if result.z_local > 0 else 'deficit'}"
    low, high = result.mass_range
    function = f"background {fit.function}: {fit.n_parameters} parameters with the normalisation"
    if fit.averaged:
        used = [f"{tried.name} {tried.weight:.2f}" for tried in fit.tried if tried.weight >= 0.005]
        function = f"background: average of {', '.join(used)}"
    lines = [
        f"{n_events} events; window {result.window}; fit in {len(fit.counts)} bins, {low:.5g} to {high:.5g} GeV",
        *_range_lines(result.left_out, result.masks),
        f"observed {result.observed:g}, expected {result.expected:.5g} +- {result.expected_error:.2g} (fit)",
        f"local p {_p(result.p_local)}, {sigma} (one window, no trials factor)",
        function,
        f"goodness of fit p = {fit.gof_p:.2g} (deviance {fit.deviance:.1f}, {fit.n_dof} degrees of freedom)",
    ]
    if weighted:
        lines.insert(
            3,
            f"effective number of events: {result.effective.window:.4g} in the window, {result.effective.sideband:.4g} outside",
        )
    if good is not None:
        lines.append(
            f"from {good.deviance.n_toys} toys: deviance p = {good.deviance.p:.2g}, runs p = {good.runs.p:.2g}, "
            f"cumulative residuals p = {good.cumulative.p:.2g}"
        )
    lines += [f"warning: {warning}" for warning in result.warnings]
    return "\n".join(lines)
