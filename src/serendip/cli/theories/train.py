"""``serendip theories simulate``, ``train`` and ``evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from serendip.cli.options import AsJson
from serendip.cli.parsing import split_names
from serendip.errors import InputError
from serendip.wording import counted

if TYPE_CHECKING:
    from serendip.theories.evaluate import Evaluation
    from serendip.theories.merits import TotalImprovement
    from serendip.theories.mixture import MixtureClassifier
    from serendip.theories.training import TrainingRecord

__all__ = ["evaluate", "simulate", "train"]

_BOOSTS = ("fast", "paper")
_WEIGHTS = ("theory", "family")
_CONVENTIONS = ("strict", "interpolated", "challenge")
_SHOWN = 10

_Files = "folders of 'serendip simulate channel' or single files (CSV of the Dark Machines format, Parquet)"


def simulate(
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder; the samples are put into its SM and BSM.")],
    process: Annotated[
        str, typer.Option(help="Processes to simulate: NAME[,NAME...], as for 'serendip simulate channel'.")
    ] = "SM,BSM",
    events: Annotated[int, typer.Option(help="Selected events of each theory.")] = 10_000,
    background_events: Annotated[
        int, typer.Option(help="Selected events of each file of the Standard Model.")
    ] = 50_000,
    max_generated: Annotated[
        int, typer.Option(help="Stop a file after this many generated events and keep the events so far.")
    ] = 300_000,
    channels: Annotated[
        str, typer.Option("--channel", help="Keep events of these channels: 1, 2a, 2b, 3 or all.")
    ] = "all",
    seed: Annotated[int, typer.Option(help="Same seed, same events, whatever --jobs.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
) -> None:
    """Simulate the samples of a study: the Standard Model and the theories, with the same detector and selection.

    All of it takes hours. An interrupted run is continued by the same command, and one with more events extends it.
    """
    from serendip.cli.simulate import channel
    from serendip.simulate.catalogue.points import RENAMED, known_samples, refuse_other_names
    from serendip.simulate.processes import PROCESSES

    standard = {
        "SM",
        *PROCESSES,
        *(sample.name for entry in PROCESSES.values() for sample in entry.samples()),
    }
    known = known_samples()
    names = split_names(process, standard | known.keys() | RENAMED.keys())
    refuse_other_names(names)
    for folder, wanted, number in (
        ("SM", [name for name in names if name in standard], background_events),
        ("BSM", [name for name in names if name not in standard], events),
    ):
        if wanted:
            channel(
                process=",".join(wanted), out=out / folder, events=number, channels=channels, seed=seed, jobs=jobs,
                max_generated=max_generated,
            )  # fmt: skip


def train(
    *,
    background: Annotated[list[Path], typer.Option(help=f"Standard Model: {_Files}; may be repeated.")],
    theories: Annotated[list[Path], typer.Option(help=f"Theories: {_Files}; may be repeated.")],
    channel: Annotated[str, typer.Option(help="1, 2a, 2b or 3.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model.")],
    theory: Annotated[
        str | None, typer.Option(help="Only these theories or families: NAME[,NAME...].")
    ] = None,
    without: Annotated[
        str | None, typer.Option(help="Leave these theories or families out: NAME[,NAME...].")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Equal total weight in the mixture for each: theory or family.")
    ] = "theory",
    events_per_theory: Annotated[int, typer.Option(min=1, help="Events of each theory at most.")] = 10_000,
    boost: Annotated[
        str, typer.Option(help="fast, or paper: the settings of arXiv:2207.07631, many times slower.")
    ] = "fast",
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0: as many as there are.")] = 1,
    test_fraction: Annotated[
        float, typer.Option(help="Fraction of each file held out from training, for 'evaluate' and searches.")
    ] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split, the draws and the classifier.")] = 1,
    rotate: Annotated[
        bool,
        typer.Option(
            "--rotate",
            help="Rotate each event so that MET points along phi = 0, so that this symmetry need not be learnt.",
        ),
    ] = False,
    as_published: Annotated[
        bool,
        typer.Option("--as-published", help="Use the objects as in the files, without harmonising."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Train one classifier between the Standard Model and a mixture of theories, in one channel.

    With one theory it is the single-signal approach. Which events are held out for tests depends on their IDs and the seed only, and is stored with the model.
    """
    from serendip.theories.mixture import PAPER, BoostConfig, MixtureConfig
    from serendip.theories.training import train_channel

    _one_of("--boost", boost, _BOOSTS)
    _one_of("--weights", weights, _WEIGHTS)
    settings = BoostConfig() if boost == "fast" else PAPER
    config = MixtureConfig(
        events_per_theory=events_per_theory,
        weights=cast("Any", weights),
        boost=settings.model_copy(update={"threads": threads}),
        seed=seed,
    )
    trained, record = train_channel(
        background, theories, channel, config, test_fraction=test_fraction, only=_split(theory),
        without=_split(without), harmonised=not as_published, rotate=rotate,
    )  # fmt: skip
    trained.save(out)
    record.save(out)
    if as_json:
        typer.echo(
            json.dumps(
                record.to_dict()
                | {
                    "rounds": trained.rounds,
                    "validation_auc": trained.validation_auc,
                    "gains": trained.gains(),
                },
                indent=1,
            )
        )
    else:
        typer.echo(_summary(trained, record))
        typer.echo(f"{out}: model and record of the training")


def evaluate(
    models: Annotated[
        list[Path], typer.Argument(help="Folders of 'serendip theories train', one for each channel.")
    ],
    *,
    background: Annotated[list[Path], typer.Option(help=f"Standard Model: {_Files}; may be repeated.")],
    signals: Annotated[list[Path], typer.Option(help=f"Signals: {_Files}; may be repeated.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write a table in the form of the Dark Machines challenge (CSV)."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the model in that table.")] = "MoT",
    convention: Annotated[
        str,
        typer.Option(
            help="Treatment of equal scores: strict, interpolated, or challenge as in the public tables."
        ),
    ] = "strict",
    min_events: Annotated[
        int, typer.Option(min=2, help="Leave out signals with fewer events in a channel.")
    ] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed for the errors of the total improvement.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Measure trained models on signals: AUC, signal efficiencies, significance and total improvement.

    From files used in the training only the held-out events are used. Several models of different channels are
    one model of all of them.
    """
    import numpy as np

    from serendip.theories.evaluate import evaluate as measure
    from serendip.theories.evaluate import write_results

    _one_of("--convention", convention, _CONVENTIONS)
    found = measure(
        models, background, signals, np.random.default_rng([seed, 0xE7A1]), convention=cast("Any", convention),
        min_events=min_events,
    )  # fmt: skip
    typer.echo(json.dumps(found.to_dict(), indent=1) if as_json else _table(found))
    if out is not None:
        write_results(out, found, name)
        typer.echo(
            f"{out}: {counted(len(found.merits), 'row')}, points that are not reliable included",
            err=True,
        )


def _summary(trained: MixtureClassifier, record: TrainingRecord) -> str:
    treatment = "harmonised" if record.harmonised else "as published"
    lines = [
        f"channel {record.channel}, {treatment}: {sum(record.background.values())} background events of {counted(len(record.background), 'file')}",
        f"and {counted(len(record.theories), 'theory', 'theories')} are used for training, with these numbers of events:",
    ]
    lines += [f"  {name} ({record.families[name]}): {number}" for name, number in record.theories.items()]
    asked = trained.config.events_per_theory
    if few := [name for name, number in record.theories.items() if number < asked]:
        lines.append(
            f"fewer than the requested {asked} events, with the weight of a full sample: {', '.join(few)}"
        )
    lines.append(f"held out for tests: {record.test_fraction:.0%} of the events of each file")
    if record.left_out:
        lines += ["left out:", *(f"  {name}: {reason}" for name, reason in record.left_out.items())]
    gains = trained.gains()
    total = sum(gains.values()) or 1.0
    best = [f"{name} {gain / total:.0%}" for name, gain in list(gains.items())[:_SHOWN]]
    lines.append(
        f"{counted(trained.rounds, 'tree')}, AUC {trained.validation_auc:.4f} on the validation events; "
        "use 'serendip theories evaluate' for held-out events"
    )
    lines.append(f"features by gain: {', '.join(best)}")
    return "\n".join(lines)


def _table(found: Evaluation) -> str:
    lines = []
    for channel, events in found.channels.items():
        lines.append(
            f"channel {channel}, {events.model}: {events.events} background events of {events.generated} generated ones, as good as "
            f"{events.effective:.0f} of equal weight; {events.trained} left out as training events"
        )
    targets = [point.target for point in next(iter(found.merits.values())).points]
    width = max(6, *(len(signal) for signal, _ in found.merits))
    heading = f"{'signal':{width}}  chan  {'AUC':17}" + "".join(
        f"{f'eps_S({target:g})':22}{'SI':17}" for target in targets
    )
    lines += ["", heading.rstrip()]
    for (signal, channel), one in found.merits.items():
        row = f"{signal:{width}}  {channel:4}  {f'{one.auc:.4f} +- {one.auc_error:.4f}':17}"
        for p in one.points:
            mark = "" if p.reliable else " ?"
            row += f"{f'{p.eps_s:.4f} +- {p.eps_s_error:.4f}':22}{f'{p.si:.2f} +- {p.si_error:.2f}{mark}':17}"
        lines.append(row.rstrip())
    if any(not point.reliable for one in found.merits.values() for point in one.points):
        lines.append("? not reliable: " + _reason(found))
    trained = sorted({signal for (signal, _), yes in found.trained.items() if yes})
    if trained:
        lines.append(f"used in training, so evaluated on their test events: {', '.join(trained)}")
    for (signal, channel), number in found.left_out.items():
        lines.append(f"left out: {signal} in channel {channel}, {counted(number, 'event')}")
    lines.append("")
    if found.total is None:
        lines.append("no point is reliable, so there is no total improvement; all points:")
        lines.append(_total(found.total_all))
    else:
        lines.append(f"reliable points: {_total(found.total)}")
        if found.total.left_out:
            lines.append(f"without any reliable point: {', '.join(found.total.left_out)}")
        lines.append(f"all points: {_total(found.total_all)}")
    return "\n".join(lines)


def _reason(found: Evaluation) -> str:
    points = [point for one in found.merits.values() for point in one.points if not point.reliable]
    reasons = list(dict.fromkeys(point.reason for point in points))
    more = f"; and {len(reasons) - 3} more reasons (--json)" if len(reasons) > 3 else ""
    return "; ".join(reasons[:3]) + more


def _total(total: TotalImprovement) -> str:
    return (
        f"total improvement of {counted(len(total.signals), 'signal')}: min {total.minimum:.2f} +- {total.minimum_error:.2f}, median "
        f"{total.median:.2f} +- {total.median_error:.2f}, max {total.maximum:.2f} +- {total.maximum_error:.2f}"
    )


def _split(text: str | None) -> list[str]:
    """Names at commas, except those inside the name of a family."""
    if text is None:
        return []
    from serendip.simulate.catalogue.points import RENAMED, known_samples

    return split_names(text, {*known_samples(), *RENAMED})


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{option} {value}: expected {' or '.join(known)}")
