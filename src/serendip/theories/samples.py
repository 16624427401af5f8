"""Generated or public samples as training data: one channel, harmonised and encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.darkmachines import read_events
from serendip.events.objects import ObjectEvents
from serendip.events.objects_parquet import read_parquet
from serendip.simulate.catalogue import CATALOGUE
from serendip.simulate.channel import read_settings
from serendip.theories.channels import select
from serendip.theories.encoding import encode
from serendip.theories.harmonise import harmonise
from serendip.theories.mixture import TheorySample
from serendip.theories.split import hash_fold

__all__ = ["ChannelSamples", "read_channel_samples"]

_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, eq=False)
class ChannelSamples:
    """Background and theories of one channel.

    Attributes
    ----------
    channel
        ``"1"``, ``"2a"``, ``"2b"`` or ``"3"``.
    features
        Names of the columns.
    background
        All Standard Model events, with their weights.
    process
        Process of each background event, shape ``(n,)``.
    theories
        One sample for each file that has enough events.
    kept
        Events read and kept in the channel, by file.
    left_out
        Theories with too few events in the channel, and how many they have.
    """

    channel: str
    features: tuple[str, ...]
    background: TheorySample
    process: NDArray[Any]
    theories: tuple[TheorySample, ...]
    kept: Mapping[str, tuple[int, int]]
    left_out: Mapping[str, int]


def read_channel_samples(
    background: Sequence[Path],
    theories: Sequence[Path],
    channel: str,
    *,
    harmonised: bool = True,
    photons: bool = True,
    rotate: bool = False,
    min_events: int = 200,
    split_seed: int = 1,
) -> ChannelSamples:
    r"""Read, select and encode the samples of one channel.

    Parameters
    ----------
    background, theories
        Folders of ``serendip simulate channel``, with all their files, or single files (Dark Machines CSV, Parquet). The name of a
        file is that of its theory; its family is that of the catalogue, or the name itself.
    channel
        ``"1"``, ``"2a"``, ``"2b"`` or ``"3"``.
    harmonised
        Objects are cleaned identically and the channel is selected again (:func:`~serendip.theories.harmonise.harmonise`). Without,
        events are selected with jets of any :math:`\eta`, as the public signal files were.
    photons, rotate
        As in :func:`~serendip.theories.encoding.encode`.
    min_events
        Theories with fewer events in the channel are left out.
    split_seed
        Of the numbers by which events can be split (``fold`` of the samples).

    Raises
    ------
    InputError
        If a file is missing or damaged, two have the same name, or no background event is in the channel.
    """
    kept: dict[str, tuple[int, int]] = {}

    def load(path: Path, number: int) -> tuple[ObjectEvents, TheorySample, tuple[str, ...]]:
        events = read_parquet(path) if path.suffix.lower() in _PARQUET else read_events(path)[0]
        fold = hash_fold(events.event_id, events.process, split_seed)
        # Row numbers take the place of IDs, so that what is left can be found in the file.
        numbered = replace(events, event_id=np.arange(len(events)).astype(np.str_))
        if harmonised:
            inside, _ = harmonise(numbered, channel)
        else:
            inside = numbered.select(select(numbered, channel, max_jet_eta=None))
        rows = inside.event_id.astype(np.int64)
        encoded = encode(inside, photons=photons, rotate=rotate)
        kept[path.stem] = (len(events), len(inside))
        family = CATALOGUE[path.stem].family if path.stem in CATALOGUE else path.stem
        sample = TheorySample(
            path.stem,
            family,
            encoded.features,
            np.array(inside.weight),
            _groups(events.event_id, rows, number),
            fold[rows],
        )
        return inside, sample, encoded.names

    files = _files(background), _files(theories)
    names = [path.stem for group in files for path in group]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"samples are there twice: {', '.join(twice)}")
    standard: list[tuple[NDArray[np.str_], TheorySample]] = []
    columns: tuple[str, ...] = ()
    for number, path in enumerate(files[0]):
        inside, sample, columns = load(path, number)
        standard.append((inside.process, sample))
    if not sum(len(sample.x) for _, sample in standard):
        raise InputError(f"no background event is in channel {channel}")
    chosen, left_out = [], {}
    for path in files[1]:
        _, sample, columns = load(path, 0)
        if len(sample.x) < min_events:
            left_out[sample.name] = len(sample.x)
        else:
            chosen.append(sample)
    return ChannelSamples(
        channel=channel,
        features=tuple(columns),
        background=TheorySample(
            "background",
            "Standard Model",
            np.concatenate([sample.x for _, sample in standard]),
            np.concatenate([sample.weight for _, sample in standard if sample.weight is not None]),
            np.concatenate([sample.group for _, sample in standard if sample.group is not None]),
            np.concatenate([sample.fold for _, sample in standard if sample.fold is not None]),
        ),
        process=np.concatenate([process for process, _ in standard]),
        theories=tuple(chosen),
        kept=kept,
        left_out=left_out,
    )


def _files(paths: Sequence[Path]) -> list[Path]:
    """Single files, and all files of folders."""
    found = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        for name in read_settings(path)["samples"]:
            file = path / f"{name}.parquet"
            if not file.exists():
                raise InputError(
                    f"{file}: missing; repeat the command that made {path}, which finishes what was begun"
                )
            found.append(file)
    return found


def _groups(event_id: NDArray[np.str_], rows: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Number of each event; those that were measured several times share one.

    Event IDs of generated files name the generated event. In public files they are not unique, and mean nothing: one ID
    that more than a hundredth of the events carry is no group.
    """
    _, index, counts = np.unique(event_id[rows], return_inverse=True, return_counts=True)
    if len(counts) and counts.max() > max(8, 0.01 * len(event_id)):
        index = np.arange(len(rows))
    return np.asarray(index + number * 2**40, dtype=np.int64)
