"""``serendip fit``: a signal of known shape on a smooth spectrum, at one mass or scanned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serendip.cli.options import Group, Masks, Table
from serendip.errors import InputError

if TYPE_CHECKING:
    from serendip.statistics.signal_fit import SignalFit
    from serendip.statistics.spectrum_fit import MassScan, SpectrumFitResult

__all__ = ["fit"]


def fit(
    file: Table,
    signal: Annotated[
        str | None,
        typer.Option(
            help="Shape: gauss:MASS:REL_WIDTH, voigt:MASS:REL_WIDTH:REL_NATURAL_WIDTH or dcb:MASS:REL_WIDTH:ALPHA_LOW:N_LOW:ALPHA_HIGH:N_HIGH, mass in GeV."
        ),
    ] = None,
    signal_file: Annotated[
        Path | None,
        typer.Option(help="Simulated signal events with the same mass column: their histogram is the shape."),
    ] = None,
    signal_weight: Annotated[
        str | None,
        typer.Option(
            help="Event weight in --signal-file, which may be negative (NLO); default: that of --weight, if the file has it."
        ),
    ] = None,
    scan: Annotated[
        str | None,
        typer.Option(
            help="Scan a Gaussian of --width over masses LO:HI in GeV, with a global p-value from toys."
        ),
    ] = None,
    width: Annotated[float, typer.Option(help="Relative width of the scanned Gaussian.")] = 0.03,
    mass: Annotated[str | None, typer.Option(help="Mass: a column or an expression of columns.")] = None,
    range: Annotated[
        str | None,
        typer.Option("--range", help="Mass range of the fit, LO:HI; default: all masses of the data."),
    ] = None,
    mask: Masks = None,
    bins: Annotated[
        int | None, typer.Option(help="Number of bins; default: a third of the width each.")
    ] = None,
    background: Annotated[
        str,
        typer.Option(help="Background functions; several with commas are profiled as an envelope."),
    ] = "auto",
    float_: Annotated[
        str | None,
        typer.Option(
            "--float",
            help="Fit these too, starting at --signal: mass, width or mass,width. Each gets an error.",
        ),
    ] = None,
    spurious: Annotated[
        float,
        typer.Option("--spurious-signal", help="Error of the signal by misdescribed background, in events."),
    ] = 0.0,
    yield_error: Annotated[float, typer.Option(help="Relative error of the signal yield.")] = 0.0,
    scale_error: Annotated[float, typer.Option(help="Relative error of the mass scale.")] = 0.0,
    resolution_error: Annotated[float, typer.Option(help="Relative error of the mass resolution.")] = 0.0,
    signal_yield: Annotated[
        float, typer.Option(help="Expected signal events; default 1: the strength is a number of events.")
    ] = 1.0,
    limit: Annotated[
        bool | None,
        typer.Option(
            "--limit/--no-limit", help="Also the 95 % CLs upper limit; default: unless something floats."
        ),
    ] = None,
    toys: Annotated[
        int,
        typer.Option(
            help="Toys for p-value, limit and, below 15 background events under the signal, intervals; 0: asymptotic, intervals "
            "of few events with 500. A scan has at least 200."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the toys.")] = 1,
    where: Annotated[str | None, typer.Option(help="Cut, e.g. 'pt>200 & abs(eta)<2.5'.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column with event weights.")] = None,
    group: Group = None,
    tree: Annotated[
        str | None, typer.Option(help="Tree or RNTuple (ROOT), key (HDF5); A+B joins two.")
    ] = None,
    unit: Annotated[str, typer.Option(help="Unit of the mass and range: GeV or TeV.")] = "GeV",
    preset: Annotated[str | None, typer.Option(help="Columns of a known file format: lhco.")] = None,
    sqrt_s: Annotated[
        float, typer.Option("--sqrt-s", help="Collision energy in TeV (dijet functions).")
    ] = 13.0,
    figure: Annotated[
        Path | None, typer.Option(help="Draw spectrum and fit to this file (PNG, PDF or SVG).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, masses in GeV.")] = False,
) -> None:
    """Fit signal plus background to a spectrum: signal strength, intervals, significance and upper limit.

    The whole spectrum is fitted, the signal's mass included: give `serendip bump` a window if no shape is known.
    """
    from serendip.cli.parsing import parse_interval, parse_masks
    from serendip.cli.signal_weight import weight_of_signal
    from serendip.events.read import read
    from serendip.statistics.signals import parse_shape, template_shape
    from serendip.statistics.spectrum_fit import fit_resonance, scan_masses

    if float_ is not None and scan is not None:
        raise InputError("--scan tries every mass; --float belongs to --signal SHAPE")
    if figure is not None and scan is not None:
        raise InputError("--figure draws the fit of one signal; it does not go with --scan")
    if signal_weight is not None and signal_file is None:
        raise InputError("--signal-weight belongs to --signal-file FILE")
    if sum(option is not None for option in (signal, signal_file, scan)) != 1:
        raise InputError("give one of --signal SHAPE, --signal-file FILE and --scan LO:HI")
    limits = None if range is None else parse_interval(range, unit, option="range")
    if signal_file is not None:
        signal_weight = weight_of_signal(file, signal_file, weight, signal_weight, tree)
    reading: dict[str, Any] = {
        "mass": mass, "weight": weight, "where": where, "tree": tree, "unit": unit, "preset": preset,
    }  # fmt: skip
    events = read(file, group=group, negative_weights=True, independent=True, **reading)
    common: dict[str, Any] = {
        "weights": None if events.weight is None else events.weights,
        "groups": events.groups,
        "mass_range": limits,
        "bins": bins,
        "background": tuple(part.strip() for part in background.split(",")),
        "sqrt_s": sqrt_s * 1000.0,
        "masks": parse_masks(mask, unit),
        "seed": seed,
    }
    if scan is not None:
        low, high = parse_interval(scan, "GeV", option="scan")
        found = scan_masses(events.m, (low, high), width, toys=max(toys, 200), **common)
        typer.echo(json.dumps(found.to_dict(), indent=1) if as_json else _scan_text(found))
        return
    if signal is not None:
        shape = parse_shape(signal)
    else:
        assert signal_file is not None
        simulated = read(
            signal_file, **reading | {"weight": signal_weight}, negative_weights=True, for_training=False
        )
        shape = template_shape(simulated.m, simulated.weights, name=signal_file.name)
    result = fit_resonance(
        events.m, shape, signal_yield=signal_yield, yield_error=yield_error, scale_error=scale_error,
        resolution_error=resolution_error, spurious=spurious, floats=_floats(float_), limit=limit, toys=toys, **common,
    )  # fmt: skip
    content = result.to_dict()
    if figure is not None:
        from serendip.report.bump import draw_bump, save_bump

        record = {
            "edges": content["edges"], "counts": content["counts"], "background": content["background_counts"],
            "with_peak": content["expected"],
        }  # fmt: skip
        save_bump(draw_bump(content | {"spectrum": record}, events.m, events.weights), figure)
    typer.echo(json.dumps(content, indent=1) if as_json else _text(result))


def _floats(text: str | None) -> tuple[str, ...]:
    """Names in the order of the fit, whatever order they were given in."""
    return () if text is None else tuple(sorted(part.strip() for part in text.split(",")))


def _text(result: SpectrumFitResult) -> str:
    fit, (low, high) = result.fit, result.mass_range
    lines = [
        f"{result.n_events} events in {len(result.counts)} bins, {low:g} to {high:g} GeV; signal {result.signal}",
        *_masked(result.masks),
        *_simulation(result),
        (
            f"signal strength {fit.mu:.4g} +- {fit.mu_error:.2g}; 68 % [{fit.interval_68[0]:.4g}, {fit.interval_68[1]:.4g}], "
            f"95 % [{fit.interval_95[0]:.4g}, {fit.interval_95[1]:.4g}]"
        ),
        *(
            f"{name} {value.value:.6g} +- {value.error:.2g} GeV; 68 % [{value.interval_68[0]:.6g}, {value.interval_68[1]:.6g}], "
            f"95 % [{value.interval_95[0]:.6g}, {value.interval_95[1]:.6g}]"
            for name, value in fit.floats.items()
        ),
        f"intervals: {_how(fit)}",
    ]
    if fit.spread > 0:
        lines.append(f"spread of the strength over background functions {fit.spread:.2g}, part of its error")
    if fit.p is None:
        lines.append(
            f"{fit.z:.2f} sigma above background alone, where the data have their peak: no p-value of a search (that is --scan)"
        )
    else:
        lines.append(
            f"local p = {fit.p:.3g}, {abs(fit.z):.2f} sigma {'excess' if fit.z > 0 else 'deficit'} (asymptotic; one mass, no trials "
            "factor)"
        )
    if result.toy_p is not None:
        lines.append(f"local p = {result.toy_p:.3g} from toys")
    if result.limit is not None:
        expected = result.limit.expected
        lines.append(
            f"{result.limit.level:.0%} CLs upper limit {result.limit.observed:.4g}; expected {expected[2]:.4g} "
            f"[{expected[1]:.4g}, {expected[3]:.4g}] ({result.limit.method})"
        )
    lines.append(f"background {fit.background}, goodness of fit p = {result.gof_p:.2g}")
    lines += [f"nuisance '{name}': {value:+.2f} standard deviations" for name, value in fit.nuisance.items()]
    if result.gof_p < 0.01:
        lines.append(
            "warning: signal and background together do not describe the spectrum; try --background or --range"
        )
    return "\n".join(lines)


def _masked(masks: tuple[tuple[float, float], ...]) -> list[str]:
    return [f"masked: {', '.join(f'{low:g}-{high:g} GeV' for low, high in masks)}"] if masks else []


def _simulation(result: SpectrumFitResult) -> list[str]:
    if result.simulation is None:
        return []
    merged = (
        f"; {result.negative_bins} bins below zero are one with their neighbours"
        if result.negative_bins
        else ""
    )
    return [f"simulated signal: {result.simulation}{merged}"]


def _how(fit: SignalFit) -> str:
    from serendip.statistics.signal_fit import FEW_EVENTS

    under = f"background alone has {fit.under_signal:.3g} events under the signal"
    if fit.intervals == "likelihood":
        few = fit.floats and fit.under_signal < FEW_EVENTS
        return f"likelihood ({under}{'; so few that they may be too short' if few else ''})"
    return f"{fit.intervals} toys at each strength ({under}; the strength is not negative)"


def _scan_text(found: MassScan) -> str:
    scan = found.scan
    best = scan.best
    low, high = scan.p_interval_68
    lines = [
        f"{len(scan.mass)} masses from {scan.mass[0]:g} to {scan.mass[-1]:g} GeV, background {', '.join(found.background)}",
        *(f"{line}; no mass is tested there" for line in _masked(found.masks)),
        f"largest excess at {scan.mass[best]:.4g} GeV: {scan.mu[best]:.4g} events, {scan.z[best]:.2f} sigma local",
        f"global p = {scan.p_global:.3g} [{low:.2g}, {high:.2g}], {scan.z_global:.2f} sigma ({scan.n_toys} toys, refitted)",
    ]
    if scan.gross_vitells is not None:
        lines.append(
            f"Gross-Vitells estimate: p = {scan.gross_vitells:.3g} ({scan.crossings:.2f} up-crossings of 1 sigma on average)"
        )
    elif scan.z[best] > 1:
        lines.append(
            f"Gross-Vitells estimate: does not hold, {scan.fewest_background:.2g} background events lie under some of the signals; "
            "trust the toys, or end the scan earlier"
        )
    return "\n".join(lines)
