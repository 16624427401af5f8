"""``serendip theories excess``: data in the signal regions of trained mixtures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from serendip.cli.options import AsJson
from serendip.errors import InputError
from serendip.wording import counted, noun

if TYPE_CHECKING:
    from serendip.theories.excess import ChannelsExcess, ExcessResult, Normalise, NullRates
    from serendip.theories.excess.files import ChannelScores

__all__ = ["excess"]

_Files = "CSV of the Dark Machines format or Parquet"


def excess(
    models: Annotated[
        list[Path], typer.Argument(help="Folders of 'serendip theories train', one for each channel.")
    ],
    *,
    data: Annotated[list[Path], typer.Option(help=f"Data: {_Files}; may be repeated.")],
    background: Annotated[
        list[Path],
        typer.Option(
            help=f"Simulated Standard Model: folders of 'serendip simulate channel' or single files ({_Files}); may be repeated."
        ),
    ],
    eps_b: Annotated[
        str, typer.Option("--eps-b", help="Parts of the simulation in the signal regions: EPS[,EPS...].")
    ] = "0.01,0.001",
    normalise: Annotated[
        str,
        typer.Option(
            help="Normalisation of the expectation: data outside the region, or luminosity (the weights)."
        ),
    ] = "data",
    systematic: Annotated[
        float, typer.Option(help="Relative error of the expectation in the regions, e.g. 0.1.")
    ] = 0.0,
    held_out_only: Annotated[
        bool,
        typer.Option(
            "--held-out-only",
            help="Use only the test events of every background file, also if it was used in training under another name.",
        ),
    ] = False,
    toys: Annotated[int, typer.Option(min=1, help="Toys of the global p-value.")] = 2000,
    check: Annotated[
        int,
        typer.Option(
            min=0, help="Pseudo-experiments without a signal: one half of the simulation against the other."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Count data in the signal regions of trained mixtures and give calibrated p-values, local and global.

    Simulated events used to train the model are excluded. Several models of different channels are combined with a bound that
    holds although channels share events.
    """
    import numpy as np

    from serendip.theories.excess import combine_channels, null_rates
    from serendip.theories.excess import excess as measure
    from serendip.theories.excess.files import channel_scores

    if normalise not in ("data", "luminosity"):
        raise InputError(f"--normalise {normalise}: expected data or luminosity")
    targets = _numbers(eps_b)
    mode = cast("Normalise", normalise)
    results: dict[str, ExcessResult] = {}
    scored: dict[str, ChannelScores] = {}
    checks: dict[str, NullRates] = {}
    for folder in models:
        events = channel_scores(folder, data, background, held_out_only=held_out_only)
        channel = events.channel
        if channel in scored:
            raise InputError(
                f"{scored[channel].model} and {folder} are both of channel {channel}; give one model for each channel"
            )
        scored[channel] = events
    for number, (channel, events) in enumerate(scored.items()):
        rng = np.random.default_rng([seed, number, 0xE5CE])
        simulation = events.simulation
        results[channel] = measure(
            events.data.scores, simulation.scores, simulation.weights, simulation.groups, rng=rng,
            data_weights=events.data.weights, eps_b=targets, normalise=mode, systematic=systematic, toys=toys,
        )  # fmt: skip
        if check:
            checks[channel] = null_rates(
                simulation.scores, simulation.weights, simulation.groups, rng=rng, experiments=check, eps_b=targets,
                normalise=mode,
            )  # fmt: skip
    combined = combine_channels(results)
    if as_json:
        found = {
            "channels": {
                name: {"events": scored[name].to_dict(), **result.to_dict()}
                | ({"null": checks[name].to_dict()} if name in checks else {})
                for name, result in results.items()
            },
            "combined": combined.to_dict(),
        }
        typer.echo(json.dumps(found, indent=1))
        return
    for name, result in results.items():
        typer.echo(_table(scored[name], result))
        if name in checks:
            typer.echo(_null(checks[name]))
        typer.echo("")
    if len(results) > 1:
        typer.echo(_combined(combined))


def _table(events: ChannelScores, result: ExcessResult) -> str:
    left = "the data outside the region" if result.normalise == "data" else "the weights (luminosity)"
    lines = [
        f"channel {events.channel}, {events.model}",
        f"data: {counted(result.n_data, 'event')} in the channel, of {events.data_read} read",
        f"simulation: {result.n_simulation} events in the channel not used in training, of {events.simulation_read} read",
        f"left out as training events: {events.trained} simulated {noun(events.trained, 'event')}",
        f"normalised to {left}; relative systematic {result.systematic:g}",
    ]
    if events.data_weight is not None:
        lines.append(f"all data events have weight {events.data_weight:g}; each counts as one event")
    if events.data_copies:
        lines.append(
            f"{events.data_copies} data {noun(events.data_copies, 'event shares', 'events share')} event ID and process with another: p-values are valid for independent events only"
        )
    lines += ["", "eps_B     observed  expected              sim. events  local p     Z"]
    for r in result.regions:
        lines.append(
            f"{r.eps_b:<8g}  {r.observed:<8}  {f'{r.expected:.2f} +- {r.sigma:.2f}':<20}  {r.effective:<11.4g}  {r.p:<10.3g}  {r.z:.2f}"
        )
    lines += [f"left out: {reason}" for reason in result.left_out.values()]
    source = {
        "toys": f"{result.toys_reached} of {result.toys} toys",
        "bonferroni": f"at most; the number of regions times the smallest local p, {result.toys_reached} of {result.toys} toys reached it",
        "local": "the smallest local p",
    }[result.global_source]
    lines.append(f"global p = {result.global_p:.3g}, Z = {result.global_z:.2f} ({source})")
    return "\n".join(lines)


def _null(rates: NullRates) -> str:
    lines = [
        f"check: {rates.experiments} pseudo-experiments of {rates.n_data:.0f} events without a signal, {rates.untested} could not be tested"
    ]
    for rate in rates.rates:
        where = "global" if rate.eps_b is None else f"eps_B {rate.eps_b:g}, {rate.expected:.3g} expected"
        lines.append(
            f"  p < {rate.level:g}: {rate.found} of {rate.tested} = {rate.rate:.4f} (95 % {rate.low:.4f} to {rate.high:.4f}), {where}"
        )
    return "\n".join(lines)


def _combined(combined: ChannelsExcess) -> str:
    return (
        f"{len(combined.channels)} channels: p = {combined.p:.3g}, Z = {combined.z:.2f}, the smallest (channel {combined.channel}) times "
        "their number, since channels share events"
    )


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--eps-b {text}: expected numbers separated by commas, e.g. 0.01,0.001") from None
