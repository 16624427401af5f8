"""Trained mixtures on samples: figures of merit of every signal in every channel, from events that did not train."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.io.files import atomic_write
from serendip.theories.merits import (
    MIN_BACKGROUND,
    TARGETS,
    BackgroundScores,
    Convention,
    Merits,
    TotalImprovement,
    total_improvement,
)
from serendip.theories.merits.samples import effective_number
from serendip.theories.mixture import MixtureClassifier, TheorySample
from serendip.theories.samples import family_of, read_channel_samples, sample_name
from serendip.theories.training import TrainingRecord, channel_files, select_events

__all__ = ["ChannelEvents", "Evaluation", "evaluate", "write_results"]

_FEWEST = 2


@dataclass(frozen=True)
class ChannelEvents:
    r"""Background of one channel that was used.

    Attributes
    ----------
    model
        Folder of the classifier.
    events
        Events that were scored.
    generated
        Number of generated events; some are measured several times.
    effective
        Number of generated events of equal weight with the same relative error, :math:`(\sum_g w_g)^2 / \sum_g w_g^2`, where
        :math:`w_g` is the weight of all measurements of one.
    trained
        Events left out because they trained, or may have.
    """

    model: str
    events: int
    generated: int
    effective: float
    trained: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of merit of one model in one or more channels.

    Attributes
    ----------
    merits
        By signal and channel.
    families
        Family of each signal.
    trained
        Whether the model of the channel trained on this signal, by signal and channel; then its test events were used.
    channels
        Background by channel.
    left_out
        Signals with too few events in a channel, by signal and channel, and how many they have.
    total
        Total improvement from reliable points; None if there is none.
    total_all
        The same from all points.
    """

    merits: Mapping[tuple[str, str], Merits]
    families: Mapping[str, str]
    trained: Mapping[tuple[str, str], bool]
    channels: Mapping[str, ChannelEvents]
    left_out: Mapping[tuple[str, str], int]
    total: TotalImprovement | None
    total_all: TotalImprovement

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return {
            "channels": {name: vars(events) for name, events in self.channels.items()},
            "signals": [
                {"signal": signal, "channel": channel, "family": self.families[signal],
                 "trained": self.trained[signal, channel], **found.to_dict()}
                for (signal, channel), found in self.merits.items()
            ],
            "left_out": [
                {"signal": signal, "channel": channel, "events": n}
                for (signal, channel), n in self.left_out.items()
            ],
            "total_improvement": None if self.total is None else self.total.to_dict(),
            "total_improvement_all_points": self.total_all.to_dict(),
        }  # fmt: skip


def evaluate(
    models: Sequence[Path],
    background: Sequence[Path],
    signals: Sequence[Path],
    rng: np.random.Generator,
    *,
    targets: Sequence[float] = TARGETS,
    convention: Convention = "strict",
    min_events: int = 50,
    min_background: float = MIN_BACKGROUND,
) -> Evaluation:
    r"""Score samples with trained mixtures.

    Files used in the training are identified by name; of them only the test events count. Measurements of one
    generated event count in all errors as one event with the sum of their weights.

    Parameters
    ----------
    models
        Folders of ``serendip theories train``, one for each channel.
    background, signals
        Folders of ``serendip simulate channel``, with all their files, or single files. Public files, whose names end with their
        channel, are used in that channel.
    rng
        For the errors of the total improvement.
    targets
        Background efficiencies.
    convention, min_background
        As in :func:`~serendip.theories.merits.figures.merits`.
    min_events
        Signals with fewer events in a channel are left out there; at least 2.

    Raises
    ------
    InputError
        If a file or model is missing or damaged, two models are of one channel, or all events of a sample trained.
    """
    if min_events < _FEWEST:
        raise InputError(f"min_events is {min_events}; figures of merit need at least {_FEWEST} events")
    folders: dict[str, tuple[Path, TrainingRecord]] = {}
    for folder in models:
        record = TrainingRecord.load(folder)
        if record.channel in folders:
            raise InputError(
                f"{folders[record.channel][0]} and {folder} are both of channel {record.channel}; give one model for each channel"
            )
        folders[record.channel] = (folder, record)
    if not folders:
        raise InputError("give at least one trained model")
    merits: dict[tuple[str, str], Merits] = {}
    trained: dict[tuple[str, str], bool] = {}
    left_out: dict[tuple[str, str], int] = {}
    channels: dict[str, ChannelEvents] = {}
    for channel, (folder, record) in folders.items():
        classifier = MixtureClassifier.load(folder)
        standard, chosen = (channel_files(paths, channel)[0] for paths in (background, signals))
        if not standard or not chosen:
            raise InputError(
                f"no {'signal' if standard else 'background'} file is for channel {channel} of {folder}"
            )
        found = read_channel_samples(
            standard, chosen, channel, harmonised=record.harmonised, photons=record.photons, rotate=record.rotate,
            min_events=0, split_seed=record.split_seed,
        )  # fmt: skip
        if found.features != classifier.features:
            raise InputError(
                f"{folder}: the features of the model differ from those in its record; train it again"
            )
        sizes = {path.stem: found.kept[path.stem][1] for path in standard}
        sample = _unseen_background(found.background, sizes, record)
        if len(sample.x) < _FEWEST:
            raise InputError(
                f"channel {channel}: {len(sample.x)} of {len(found.background.x)} background events are held out from {folder}; "
                "give other background files"
            )
        group = np.unique(np.asarray(sample.group), return_inverse=True)[1]
        weight = np.bincount(group, sample.weight).astype(np.float64)
        channels[channel] = ChannelEvents(
            model=str(folder),
            events=len(sample.x),
            generated=len(weight),
            effective=effective_number(weight),
            trained=len(found.background.x) - len(sample.x),
        )
        reference = BackgroundScores(classifier.score(sample.x), sample.weight, group)
        for theory in found.theories:
            name = sample_name(theory.name)[0]
            if (name, channel) in merits or (name, channel) in left_out:
                raise InputError(f"duplicate signal '{name}' in channel {channel}; give each once")
            events = record.unseen(theory, theory.name)
            if len(events.x) < min_events:
                left_out[name, channel] = len(events.x)
                continue
            merits[name, channel] = reference.merits(
                classifier.score(events.x), events.weight, targets=targets, convention=convention,
                min_background=min_background,
            )  # fmt: skip
            trained[name, channel] = record.trained_on(theory.name)
    if not merits:
        raise InputError(
            f"no signal has {min_events} events that did not train: "
            + ", ".join(f"{name} in channel {channel}: {n}" for (name, channel), n in left_out.items())
        )
    return Evaluation(
        merits=merits,
        families={name: family_of(name) for name, _ in merits},
        trained=trained,
        channels=channels,
        left_out=left_out,
        total=_total(merits, rng),
        total_all=total_improvement(merits, rng),
    )


def write_results(path: Path, evaluation: Evaluation, model: str) -> None:
    """Write a table of the challenge: ``Signal,Model,Chan,AUC,1e-2,1e-3,1e-4``, one row for each signal and channel.

    All points are written, reliable or not, since the form has no place for the difference; ``read_results`` of
    :mod:`serendip.theories.merits.tables` reads it.

    Parameters
    ----------
    path
        The file.
    evaluation
        The evaluation.
    model
        Its name.

    Raises
    ------
    InputError
        If the file cannot be written or the name is empty.
    """
    if not model.strip():
        raise InputError("the model needs a name in the table of results")
    targets = [point.target for point in next(iter(evaluation.merits.values())).points]
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["Signal", "Model", "Chan", "AUC", *(_heading(target) for target in targets)])
        for (signal, channel), found in evaluation.merits.items():
            table.writerow([signal, model, channel, repr(found.auc), *(repr(p.eps_s) for p in found.points)])


def _heading(target: float) -> str:
    short = f"{target:.0e}".replace("e-0", "e-")
    return short if float(short) == target else repr(target)


def _unseen_background(
    sample: TheorySample, sizes: Mapping[str, int], record: TrainingRecord
) -> TheorySample:
    """Events of all files that did not train; ``sizes`` are the files in the order of the events."""
    parts, start = [], 0
    for name, size in sizes.items():
        parts.append(record.unseen(select_events(sample, slice(start, start + size)), name))
        start += size

    def join(field: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, field) for part in parts])

    return TheorySample(sample.name, sample.family, join("x"), join("weight"), join("group"), join("fold"))


def _total(merits: Mapping[tuple[str, str], Merits], rng: np.random.Generator) -> TotalImprovement | None:
    if not any(point.reliable for found in merits.values() for point in found.points):
        return None
    return total_improvement(merits, rng, reliable=True)
