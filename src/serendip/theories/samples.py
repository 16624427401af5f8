"""Generated or public samples as training data: one channel, harmonised and encoded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.darkmachines import read_events
from serendip.events.objects import KINDS, ObjectEvents
from serendip.events.objects_parquet import read_parquet
from serendip.simulate.catalogue import points
from serendip.simulate.channel import read_settings
from serendip.theories.channels import select
from serendip.theories.encoding import FlatEncoding, ObjectEncoding, encode, encode_objects
from serendip.theories.harmonise import harmonise
from serendip.theories.split import hash_fold
from serendip.theories.training_sample import TheorySample

__all__ = ["ChannelSamples", "family_of", "read_channel_samples", "sample_files", "sample_name"]

_PARQUET = (".parquet", ".pq")
_CHANNEL = re.compile(r"_chan(1|2a|2b|3)(?=_|$)")
_OBJECTS = 20
_EXPECTED = "a folder of 'serendip simulate channel' or a file (CSV of the Dark Machines format, Parquet)"


@dataclass(frozen=True, eq=False)
class ChannelSamples:
    """Background and theories of one channel.

    Attributes
    ----------
    channel
        ``"1"``, ``"2a"``, ``"2b"`` or ``"3"``.
    features
        Names of the last axis of ``x``.
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
    truncated
        Events in the channel with an object that has no place in the encoding, by file.
    """

    channel: str
    features: tuple[str, ...]
    background: TheorySample
    process: NDArray[Any]
    theories: tuple[TheorySample, ...]
    kept: Mapping[str, tuple[int, int]]
    left_out: Mapping[str, int]
    truncated: Mapping[str, int] = field(default_factory=dict)


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
    encoding: Literal["flat", "objects"] = "flat",
    max_objects: int | None = None,
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
    photons
        Count the photons (``"flat"``), or keep them in the lists (``"objects"``).
    rotate
        Turn each event so that MET points along :math:`\phi = 0`.
    min_events
        Theories with fewer events in the channel are left out.
    split_seed
        Of the numbers by which events can be split (``fold`` of the samples).
    encoding
        ``"flat"``: the 85 numbers of :func:`~serendip.theories.encoding.encode`, for boosted trees. ``"objects"``: lists of objects,
        shape ``(n, max_objects, n_features)``, zero where there is no object
        (:func:`~serendip.theories.encoding.encode_objects`), for set networks.
    max_objects
        Length of the lists, MET included; the softest objects beyond are left out and counted. Default: 20. For ``"objects"`` only.

    Raises
    ------
    InputError
        If a file is missing or damaged, two have the same name, no background event is in the channel, or an option is not
        valid.
    """
    if encoding not in ("flat", "objects"):
        raise InputError(f"the encoding can be 'flat' or 'objects', not '{encoding}'")
    if encoding == "flat" and max_objects is not None:
        raise InputError(
            "max_objects is for encoding='objects'; the flat encoding has fixed slots for each kind"
        )
    kept: dict[str, tuple[int, int]] = {}
    truncated: dict[str, int] = {}

    def load(path: Path, number: int) -> tuple[ObjectEvents, TheorySample, tuple[str, ...]]:
        events = read_parquet(path) if path.suffix.lower() in _PARQUET else read_events(path)[0]
        fold = hash_fold(events.event_id, events.process, split_seed)
        # Row numbers take the place of IDs, so that the remaining events can be found in the file.
        numbered = replace(events, event_id=np.arange(len(events)).astype(np.str_))
        if harmonised:
            inside, _ = harmonise(numbered, channel)
        else:
            inside = numbered.select(select(numbered, channel, max_jet_eta=None))
        rows = inside.event_id.astype(np.int64)
        kept[path.stem] = (len(events), len(inside))
        encoded: FlatEncoding | ObjectEncoding
        if encoding == "flat":
            encoded = encode(inside, photons=photons, rotate=rotate)
            x = encoded.features
        else:
            shown = inside if photons else inside.keep_objects(inside.kind != KINDS.index("g"))
            encoded = encode_objects(shown, _OBJECTS if max_objects is None else max_objects, rotate=rotate)
            x = encoded.values
        truncated[path.stem] = encoded.truncated_events
        family = family_of(path.stem)
        sample = TheorySample(
            path.stem,
            family,
            x,
            np.array(inside.weight),
            _groups(events.event_id, rows, number),
            fold[rows],
        )
        return inside, sample, encoded.names

    files = sample_files(background), sample_files(theories)
    names = [path.stem for group in files for path in group]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"duplicate samples: {', '.join(twice)}")
    if old := [name for name in names if name != points.current_name(name) in names]:
        both = ", ".join(f"{name} and {points.current_name(name)}" for name in old)
        raise InputError(
            f"samples are given under both their old and current names: {both}; take one of the two"
        )
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
        truncated=truncated,
    )


def sample_name(stem: str) -> tuple[str, str | None]:
    """Name of a sample and, where the file name has it, its channel.

    Examples
    --------
    >>> sample_name("glgl1400_neutralino1100_chan1"), sample_name("sbottom600_neutralino100")
    (('glgl1400_neutralino1100', '1'), ('sbottom600_neutralino100', None))
    """
    found = _CHANNEL.search(stem)
    return (stem[: found.start()], found.group(1)) if found else (stem, None)


def family_of(stem: str) -> str:
    """Family in the catalogue of the theory of a file, also under an earlier name; else the name of the theory."""
    return points.family_of(sample_name(stem)[0])


def sample_files(paths: Sequence[Path]) -> list[Path]:
    """Single files, and all files of folders."""
    found = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; expected {_EXPECTED}")
        if not path.is_dir():
            found.append(path)
            continue
        for name in read_settings(path)["samples"]:
            file = path / f"{name}.parquet"
            if not file.exists():
                raise InputError(f"{file}: missing; repeat the command that made {path} to complete it")
            found.append(file)
    return found


def _groups(event_id: NDArray[np.str_], rows: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Number of each event; those that were measured several times share one.

    Measurements of one generated event follow each other in generated files. In public files several separate events may have the same ID; and an ID shared by more than a hundredth of the events in a row has no meaning.
    """
    runs = np.cumsum(np.append(0, event_id[1:] != event_id[:-1])) if len(event_id) else np.zeros(0, dtype=int)
    _, index, counts = np.unique(runs[rows], return_inverse=True, return_counts=True)
    if len(counts) and counts.max() > max(8, 0.01 * len(event_id)):
        index = np.arange(len(rows))
    return np.asarray(index + number * 2**40, dtype=np.int64)
