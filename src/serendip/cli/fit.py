"""``serendip fit``: a signal of known shape on a smooth spectrum, at one mass or scanned."""

from __future__ import annotations

import json
from pathlib import Path
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
    mass: SpectrumMass = None,
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
        str,
        typer.Option(
            "--spurious-signal",
            help="Spurious signal from background mismodelling: measured (on either side of the signal), or a number of events.",
        ),
    ] = "measured",
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
    seed: SeedOfToys = 1,
    where: Where = None,
    weight: Weight = None,
    group: Group = None,
    tree: JoinedTree = None,
    unit: Annotated[str, typer.Option(help="Unit of the mass and range: GeV or TeV.")] = "GeV",
    preset: Preset = None,
    sqrt_s: CollisionEnergy = 13.0,
    figure: Drawing = None,
    as_json: AsJsonInGev = False,
) -> None:
    """Fit signal plus background to a spectrum: signal strength, intervals, significance and upper limit.

    The whole spectrum is fitted, the signal's mass included: give `serendip bump` a window if no shape is known.
    """
    from serendip.cli.fit_text import fit_text, scan_text
    from serendip.cli.parsing import parse_interval, parse_masks
    from serendip.events.read import read
    from serendip.events.signal_weight import weight_of_signal
    from serendip.statistics.signals import parse_shape, template_shape
    from serendip.statistics.spectrum_fit import fit_resonance, scan_masses

    if float_ is not None and scan is not None:
        raise InputError("--scan tries every mass; --float requires --signal SHAPE")
    if figure is not None and scan is not None:
        raise InputError("--figure draws the fit of one signal; it does not go with --scan")
    if signal_weight is not None and signal_file is None:
        raise InputError("--signal-weight requires --signal-file FILE")
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
        typer.echo(json.dumps(found.to_dict(), indent=1) if as_json else scan_text(found))
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
        resolution_error=resolution_error, spurious=_spurious(spurious), floats=_floats(float_), limit=limit, toys=toys, **common,
    )  # fmt: skip
    content = result.to_dict()
    if figure is not None:
        from serendip.report.bump import draw_bump, save_bump

        record = {
            "edges": content["edges"], "counts": content["counts"], "background": content["background_counts"],
            "with_peak": content["expected"],
        }  # fmt: skip
        save_bump(draw_bump(content | {"spectrum": record}, events.m, events.weights), figure)
    typer.echo(json.dumps(content, indent=1) if as_json else fit_text(result))


def _floats(text: str | None) -> tuple[str, ...]:
    """Names in the order of the fit, whatever order they were given in."""
    return () if text is None else tuple(sorted(part.strip() for part in text.split(",")))


def _spurious(text: str) -> float | None:
    """Events, or None for those that are measured."""
    if text.strip() == "measured":
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"--spurious-signal {text}: expected measured or a number of events, e.g. 25"
        ) from None
