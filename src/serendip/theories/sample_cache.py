"""Selected and encoded samples of a channel in one Parquet file, so that they are made once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.io.files import atomic_write
from serendip.theories.mixture import TheorySample
from serendip.theories.samples import ChannelSamples, family_of

__all__ = ["read_samples", "write_samples"]

_KEY = b"serendip.samples"
_COLUMNS = ("sample", "process", "weight", "group", "fold")


def write_samples(samples: ChannelSamples, path: Path) -> None:
    """Write samples with the flat encoding, one row for each event.

    The columns are ``sample``, ``process``, ``weight``, ``group``, ``fold`` and the features; families and left-out samples are in the metadata of the file.

    Raises
    ------
    InputError
        If events are not encoded as one row of features each, or a sample has no weight, group or fold.
    """
    everything = (samples.background, *samples.theories)
    for sample in everything:
        if np.ndim(sample.x) != 2 or sample.weight is None or sample.group is None or sample.fold is None:
            raise InputError(
                f"'{sample.name}' cannot be stored: flat features, weight, group and fold are needed"
            )
    sizes = [len(sample.x) for sample in everything]
    names = np.repeat(np.arange(len(everything), dtype=np.int32), sizes)
    process = [*samples.process.tolist(), *(t.name for t in samples.theories for _ in range(len(t.x)))]
    columns: dict[str, Any] = {
        "sample": pa.DictionaryArray.from_arrays(names, [sample.name for sample in everything]),
        "process": pa.array(process).dictionary_encode(),
        "weight": np.concatenate([np.asarray(sample.weight) for sample in everything]),
        "group": np.concatenate([np.asarray(sample.group) for sample in everything]),
        "fold": np.concatenate([np.asarray(sample.fold) for sample in everything]),
    }
    x = np.concatenate([sample.x for sample in everything])
    columns |= {name: np.ascontiguousarray(x[:, i]) for i, name in enumerate(samples.features)}
    record = {
        "schema": 1,
        "channel": samples.channel,
        "features": list(samples.features),
        "samples": [[sample.name, sample.family, len(sample.x)] for sample in everything],
        "kept": {name: list(counts) for name, counts in samples.kept.items()},
        "left_out": dict(samples.left_out),
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(record).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_samples(path: Path) -> ChannelSamples:
    """Read the file of :func:`write_samples`.

    Raises
    ------
    InputError
        If the file is missing, damaged or another one, or the families of its theories have changed since.
    """
    try:
        table = pq.read_table(path)
        record = json.loads(table.schema.metadata[_KEY])
        features, listed = tuple(record["features"]), record["samples"]
        x = np.empty((len(table), len(features)), dtype=np.float32)
        for i, name in enumerate(features):
            x[:, i] = table[name].to_numpy()
        plain: dict[str, NDArray[Any]] = {name: table[name].to_numpy() for name in _COLUMNS[2:]}
        process = np.asarray(table["process"].to_numpy(), dtype=np.str_)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a file of samples ({error}); delete it to make it again") from None
    for name, family, _ in listed[1:]:
        if family != (today := family_of(name)):
            raise InputError(
                f"{path}: '{name}' was of the family '{family}' when this was made and is of '{today}' now; begin the study in another "
                "folder"
            )
    found, start = [], 0
    for name, family, size in listed:
        rows = slice(start, start + size)
        found.append(
            TheorySample(
                name, family, x[rows], plain["weight"][rows], plain["group"][rows], plain["fold"][rows]
            )
        )
        start += size
    return ChannelSamples(
        channel=record["channel"],
        features=features,
        background=found[0],
        process=process[: len(found[0].x)],
        theories=tuple(found[1:]),
        kept={name: (counts[0], counts[1]) for name, counts in record["kept"].items()},
        left_out=record["left_out"],
    )
