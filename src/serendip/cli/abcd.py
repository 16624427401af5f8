"""``serendip abcd``: background of a region from three others that two independent variables make."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serendip.cli.options import AsJson, Group, Preset, Table, Tree, Weight, Where

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from serendip.events.events import Events
    from serendip.statistics.abcd import Closure

__all__ = ["abcd"]

log = logging.getLogger(__name__)

# a sum of weights of both signs may come out below zero by this many of its errors
_FLUCTUATION = 3.0
# significance of a dependence that is warned of
_DEPENDENT = 3.0
_WITHHELD = "no significance and no limit: {reason}. Choose other variables or cuts, or set a closure uncertainty from elsewhere (--closure)"


def abcd(
    file: Table,
    x: Annotated[str, typer.Option("--x", help="First score or feature, larger = more signal-like: EXPR.")],
    y: Annotated[str, typer.Option("--y", help="Second one, independent of the first for background: EXPR.")],
    cut_x: Annotated[float, typer.Option("--cut-x", help="Cut on x; events at or above it are in A or B.")],
    cut_y: Annotated[float, typer.Option("--cut-y", help="Cut on y; events at or above it are in A or C.")],
    signal: Annotated[
        Path | None,
        typer.Option(help="Simulated signal with the same columns: its sums of weights are mu = 1."),
    ] = None,
    signal_weight: Annotated[
        str | None, typer.Option("--signal-weight", help="Weight of the simulated signal.")
    ] = None,
    signal_label: Annotated[
        str | None,
        typer.Option("--signal-label", help="Column with the truth: the labelled events of FILE are mu = 1."),
    ] = None,
    closure: Annotated[
        float | None,
        typer.Option(help="Relative uncertainty of the prediction; default: measured in B, C and D."),
    ] = None,
    validation_x: Annotated[
        float | None, typer.Option("--validation-x", help="Cut below --cut-x that tests the closure.")
    ] = None,
    validation_y: Annotated[
        float | None, typer.Option("--validation-y", help="Cut below --cut-y that tests the closure.")
    ] = None,
    where: Where = None,
    weight: Weight = None,
    group: Group = None,
    tree: Tree = None,
    preset: Preset = None,
    unblind: Annotated[bool, typer.Option("--unblind", help="Count the events in A.")] = False,
    as_json: AsJson = False,
) -> None:
    """Predict the count of a region from three others, and measure a signal in it.

    A = both variables at or above their cuts, B = only x, C = only y, D = neither: background in A is B C / D. Events in A are
    not counted without --unblind; whether the prediction holds is tested inside B, C and D.
    """
    from serendip.errors import InputError
    from serendip.statistics.abcd import abcd_counts, abcd_limit, expected_z, fit_abcd, heaviest_event
    from serendip.statistics.abcd import closure as measure_closure

    if signal is not None and signal_label is not None:
        raise InputError("give either --signal (a file) or --signal-label (a column of the data), not both")
    if signal is None and signal_weight is not None:
        raise InputError("--signal-weight requires --signal FILE")
    events = _read(file, x, y, weight, where, tree, preset, signal_label, group=group)
    columns = (events[x], events[y], cut_x, cut_y)
    weights = None if events.weight is None else events.weights
    counts = abcd_counts(*columns, weights=weights, groups=events.groups, hidden=not unblind)
    tested = measure_closure(
        *columns, weights=weights, groups=events.groups, validation_x=validation_x, validation_y=validation_y
    )
    withheld = tested.refusal if closure is None else None
    delta = tested.uncertainty if closure is None else closure

    yields, effective = None, None
    if signal is not None:
        sample = _read(signal, x, y, signal_weight, where, tree, preset, None, simulated=True)
        yields, effective = _yields(sample, x, y, cut_x, cut_y, signal.name)
    elif signal_label is not None:
        yields, effective = _yields(
            events.select(events.labels), x, y, cut_x, cut_y, f"{events.provenance['file']}, {signal_label}"
        )
    model = (1.0, 0.0, 0.0, 0.0) if yields is None else tuple(float(value) for value in yields)

    limit = abcd_limit(counts, model, closure=delta) if withheld is None else None
    fit = fit_abcd(counts, model, closure=delta) if unblind and withheld is None else None
    content: dict[str, Any] = {
        "n_events": len(events),
        "x": x,
        "y": y,
        "cut_x": cut_x,
        "cut_y": cut_y,
        "blinded": not unblind,
        "weighted": weights is not None or events.group is not None,
        "counts": counts.to_dict(),
        "effective_events": dict(zip("ABCD", counts.effective, strict=True)),
        "expected": counts.expected,
        "expected_error": counts.expected_error(delta) if withheld is None else None,
        "statistical_error": counts.expected_error(),
        "closure": tested.to_dict()
        | {"used": delta if withheld is None else None, "measured": closure is None},
        "signal": None if yields is None else model,
        "signal_effective_events": effective,
        "expected_z": None if yields is None or withheld else expected_z(counts, model, closure=delta),
        "fit": None if fit is None else fit.to_dict(),
        "limit": None if limit is None else limit.to_dict(),
        "withheld": withheld,
    }
    if unblind and weights is not None and withheld is None:
        heavy = heaviest_event(*columns, weights, groups=events.groups, closure=delta)
        content["heaviest_event"] = None if heavy is None else heavy.to_dict()
    typer.echo(json.dumps(content, indent=1) if as_json else _text(content, tested))
    for line in _warnings(content, tested):
        log.warning("%s", line)


def _read(
    file: Path | list[Path],
    x: str,
    y: str,
    weight: str | None,
    where: str | None,
    tree: str | None,
    preset: str | None,
    label: str | None,
    *,
    group: str | None = None,
    simulated: bool = False,
) -> Events:
    from serendip.events.read import read

    return read(
        file,
        features=[x, y],
        weight=weight,
        label=label,
        group=group,
        where=where,
        tree=tree,
        preset=preset,
        for_training=False,
        need_mass=False,
        negative_weights=simulated,
        independent=not simulated,
    )


def _yields(
    sample: Events, x: str, y: str, cut_x: float, cut_y: float, name: str
) -> tuple[NDArray[np.float64], float | None]:
    """Signal in the four regions, and the number of unweighted events that would be as precise in A."""
    import numpy as np

    from serendip.errors import InputError
    from serendip.statistics.abcd import abcd_regions, region_sums

    region = abcd_regions(sample[x], sample[y], cut_x, cut_y)
    total, square = region_sums(region, sample.weights, signed=True)
    errors = np.sqrt(square)
    for region_name, value, error in zip("ABCD", total, errors, strict=True):
        if value >= 0:
            continue
        said = f"{name}: the sum of signal weights in {region_name} is {value:.3g} +- {error:.2g}"
        if value < -_FLUCTUATION * error:
            raise InputError(f"{said}; a signal adds events, so check --signal-weight and its sign")
        log.warning("%s; taken as 0", said)
    effective = float(total[0] ** 2 / square[0]) if square[0] > 0 else None
    return np.maximum(total, 0.0), effective


def _text(content: dict[str, Any], closure: Closure) -> str:
    counts, tested, limit, fit = (content[key] for key in ("counts", "closure", "limit", "fit"))
    shown = {name: "hidden" if counts[name] is None else f"{counts[name]:g}" for name in "ABCD"}
    b, stat = content["expected"], content["statistical_error"]
    lines = [
        f"{content['n_events']} events; A: {content['x']} >= {content['cut_x']:g} and {content['y']} >= {content['cut_y']:g}",
        "counts: " + ", ".join(f"{name} {value}" for name, value in shown.items()),
        *(
            f"closure in {t.name} (x at {t.cut_x:.4g}, y at {t.cut_y:.4g}): {t.observed:g} against {t.predicted:.5g}, "
            f"ratio {t.ratio:.3f} +- {t.ratio * t.error:.3f} ({t.pull:+.1f} sigma)"
            for t in closure.tables
        ),
    ]
    if content["weighted"]:
        effective = content["effective_events"]
        parts = (f"{name} {value:.4g}" for name, value in effective.items() if value is not None)
        lines.insert(2, "effective events: " + ", ".join(parts))
    if closure.trend is not None:
        trend = closure.trend
        lines.append(
            f"extrapolated into A: B C / D is {'low' if trend.excess >= 0 else 'high'} by {100 * abs(trend.excess):.0f} % +- "
            f"{100 * trend.error:.0f} % (dependence of x and y outside A: {abs(trend.z):.1f} sigma)"
        )
    if tested["used"] is None:
        lines.append(f"expected in A: {b:.5g} +- {stat:.2g} (statistics of B, C, D), closure not known")
        return "\n".join([*lines, _WITHHELD.format(reason=content["withheld"])])
    measured = closure.uncertainty
    lines += [
        f"closure uncertainty {100 * tested['used']:.1f} % "
        + (
            "(from the events outside A; use --closure if it is better known)"
            if tested["measured"]
            else f"(given; measured {100 * measured:.1f} %)"
        ),
        f"expected in A: {b:.5g} +- {stat:.2g} (statistics of B, C, D) +- {b * tested['used']:.2g} (closure)",
    ]
    unit = "signal events in A"
    if content["signal"] is not None:
        unit = "times the signal"
        parts = (f"{name} {value:.4g}" for name, value in zip("ABCD", content["signal"], strict=True))
        lines.append(
            f"signal for mu = 1: {', '.join(parts)} ({content['signal_effective_events']:.0f} effective events in A)"
        )
        lines.append(f"expected significance {content['expected_z']:.2f} sigma")
    if fit is None:
        lines.append("A is not counted: add --unblind")
    else:
        low, high = ("open" if end is None else f"{end:.4g}" for end in fit["mu_interval"])
        lines.append(f"observed {shown['A']}: mu = {fit['mu']:.4g} (68 %: {low} to {high}) {unit}")
        kind = "excess" if fit["z"] > 0 else "deficit"
        lines.append(f"p = {fit['p']:.3g}, {abs(fit['z']):.2f} sigma {kind}")
    low2, low1, median, high1, high2 = limit["expected"]
    lines.append(
        f"95 % CLs limit: expected {median:.4g} (68 %: {low1:.4g} to {high1:.4g}; 95 %: {low2:.4g} to {high2:.4g})"
        + ("" if limit["observed"] is None else f", observed {limit['observed']:.4g}")
        + f" {unit}"
    )
    return "\n".join(lines)


def _warnings(content: dict[str, Any], closure: Closure) -> Iterator[str]:
    """Caveats to the numbers."""
    trend, used = closure.trend, content["closure"]["used"]
    measured = content["closure"]["measured"]
    if trend is not None and abs(trend.z) > _DEPENDENT:
        yield (
            f"{content['x']} and {content['y']} are correlated outside A ({abs(trend.z):.1f} sigma): choose "
            "uncorrelated variables, or decorrelate them"
        )
    if not measured and used < closure.uncertainty:
        said = closure.refusal or f"the events outside A allow no less than {100 * closure.uncertainty:.0f} %"
        yield f"--closure {used:g} is taken from the command line: {said}"
    heavy = content.get("heaviest_event")
    if heavy is not None and abs(heavy["shift"]) > 1.0:
        yield (
            f"one event of weight {heavy['weight']:.4g} in {heavy['region']} moves the significance by {heavy['shift']:+.1f} "
            f"sigma (without it {heavy['z_without']:.2f}): check it before trusting the p-value"
        )
