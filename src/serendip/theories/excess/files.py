"""The search for an excess on files: a trained mixture, data, and simulation that did not train it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.theories.mixture import MixtureClassifier, TheorySample
from serendip.theories.samples import ChannelSamples, read_channel_samples
from serendip.theories.training import TrainingRecord, channel_files, select_events

__all__ = ["ChannelScores", "ScoredEvents", "channel_scores"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScoredEvents:
    """Scores of one sample, with weights and groups, shapes ``(n,)``."""

    scores: Array
    weights: Array
    groups: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ChannelScores:
    """Scores of one model for data and simulation.

    Attributes
    ----------
    model, channel
        Folder and channel.
    data, simulation
        Events of the channel; training events of the simulation are left out.
    trained
        Simulated events left out because they trained, or may have.
    data_read, simulation_read
        Events in the files.
    data_weight
        Weight of all data events in the file, where it is the same and not one; each counts as one event. Otherwise None.
    data_copies
        Data events that share their event ID and process with an earlier one.
    """

    model: str
    channel: str
    data: ScoredEvents
    simulation: ScoredEvents
    trained: int
    data_read: int
    simulation_read: int
    data_weight: float | None
    data_copies: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, without the events."""
        numbers = {name: value for name, value in vars(self).items() if not isinstance(value, ScoredEvents)}
        return numbers | {"data": len(self.data.scores), "simulation": len(self.simulation.scores)}


def channel_scores(
    model: Path, data: Sequence[Path], background: Sequence[Path], *, held_out_only: bool = False
) -> ChannelScores:
    """Score data and simulation with a trained mixture, in its channel.

    Parameters
    ----------
    model
        Folder of ``serendip theories train``.
    data
        Dark Machines CSV or Parquet files.
    background
        Simulated Standard Model: folders of ``serendip simulate channel`` or single files. From a file whose name is among the training files, only the test events are used, with weights scaled to the whole file.
    held_out_only
        Use only the test events of *every* background file, for training files under another name.

    Raises
    ------
    InputError
        If a file or model is missing or damaged, a data file was used in the training or is among the background, no event is in the channel, or all simulation was used in the training.
    """
    record = TrainingRecord.load(model)
    classifier = MixtureClassifier.load(model)
    real, standard = (channel_files(paths, record.channel)[0] for paths in (data, background))
    for what, files in (("data", real), ("background", standard)):
        if not files:
            raise InputError(f"no {what} file is for channel {record.channel} of {model}")
    for path in real:
        if record.trained_on(path.stem):
            raise InputError(
                f"{path}: a file of this name trained {model}; its events were used in the training of that model"
            )
        if path.resolve() in {other.resolve() for other in standard}:
            raise InputError(f"{path}: is given as data and as background")
    seen = _read("data", real, record)
    simulated = _read("background", standard, record)
    for found in (seen, simulated):
        if found.features != classifier.features:
            raise InputError(
                f"{model}: the features of the model differ from those in its record; train it again"
            )
    known = next(iter(record.background), None)
    parts, start = [], 0
    for path in standard:
        size = simulated.kept[path.stem][1]
        part = select_events(simulated.background, slice(start, start + size))
        parts.append(record.unseen(part, known if held_out_only and known is not None else path.stem))
        start += size
    used = sum(len(part.x) for part in parts)
    if not used:
        raise InputError(
            f"all {len(simulated.background.x)} background events of channel {record.channel} trained {model}; give other files, or train "
            "with a test fraction"
        )
    weights = np.asarray(seen.background.weight)
    one = len(weights) > 0 and weights[0] != 1 and bool(np.all(weights == weights[0]))
    data_events = _scored(classifier, [seen.background])
    return ChannelScores(
        model=str(model),
        channel=record.channel,
        data=ScoredEvents(
            data_events.scores, np.ones(len(weights)) if one else data_events.weights, data_events.groups
        ),
        simulation=_scored(classifier, parts),
        trained=len(simulated.background.x) - used,
        data_read=sum(read for read, _ in seen.kept.values()),
        simulation_read=sum(read for read, _ in simulated.kept.values()),
        data_weight=float(weights[0]) if one else None,
        data_copies=len(weights) - len(np.unique(data_events.groups)),
    )


def _read(what: str, files: Sequence[Path], record: TrainingRecord) -> ChannelSamples:
    try:
        return read_channel_samples(
            files, [], record.channel, harmonised=record.harmonised, photons=record.photons, rotate=record.rotate,
            split_seed=record.split_seed,
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{what}: {error}") from None


def _scored(classifier: MixtureClassifier, parts: Sequence[TheorySample]) -> ScoredEvents:
    scores = [classifier.score(part.x) for part in parts if len(part.x)]
    return ScoredEvents(
        np.concatenate(scores),
        np.concatenate([np.asarray(part.weight, dtype=np.float64) for part in parts if len(part.x)]),
        np.concatenate([np.asarray(part.group, dtype=np.int64) for part in parts if len(part.x)]),
    )
