r"""Training on files, with a part of every file kept for tests, and the record of it that later steps rely on.

Events with a number below the test fraction do not train (:func:`~serendip.theories.split.held_out`). The record stored with the model names the files, so that evaluation and searches use only held-out events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.io.files import reading
from serendip.io.json import load_json, write_json
from serendip.simulate.catalogue.points import refuse_other_names
from serendip.simulate.channel import read_settings
from serendip.theories.channels import CHANNELS
from serendip.theories.mixture import MixtureClassifier, MixtureConfig, TheorySample, train_mixture
from serendip.theories.samples import family_of, read_channel_samples, sample_name
from serendip.version import __version__
from serendip.wording import counted

__all__ = [
    "TrainingRecord",
    "channel_files",
    "choose_theories",
    "select_events",
    "train_channel",
]

_RECORD = "training.json"
_FEWEST = 20


@dataclass(frozen=True)
class TrainingRecord:
    """Record of the training of a model.

    Attributes
    ----------
    channel
        ``"1"``, ``"2a"``, ``"2b"`` or ``"3"``.
    harmonised, photons, rotate
        As in :func:`~serendip.theories.samples.read_channel_samples`.
    test_fraction, split_seed
        Events with ``hash_fold(event_id, process, split_seed) < test_fraction`` did not train.
    background, theories
        Names of the files (without folder and ending) that trained, and the number of events of each that did; for theories at most the requested number.
    families
        Family of each theory.
    left_out
        Theories that did not train, and why.
    version
        Of the package.
    """

    channel: str
    harmonised: bool
    photons: bool
    rotate: bool
    test_fraction: float
    split_seed: int
    background: Mapping[str, int]
    theories: Mapping[str, int]
    families: Mapping[str, str]
    left_out: Mapping[str, str]
    version: str = __version__

    def trained_on(self, name: str) -> bool:
        """Whether a file of this name trained."""
        return name in self.background or name in self.theories

    def unseen(self, sample: TheorySample, name: str) -> TheorySample:
        r"""Events of a file that did not train.

        Parameters
        ----------
        sample
            Events of one file with their numbers of ``split_seed``.
        name
            Of the file.

        Returns
        -------
        sample
            Of a file that trained, the test events, with weights divided by the test fraction; otherwise all.

        Raises
        ------
        InputError
            If the events have no numbers.
        """
        if not self.trained_on(name):
            return sample
        if sample.fold is None:
            raise InputError(
                f"'{name}': it was used in the training, and without event numbers its test events are not known"
            )
        test = np.asarray(sample.fold) < self.test_fraction
        scale = 1.0 / self.test_fraction if self.test_fraction else 1.0
        weight = np.ones(len(test)) if sample.weight is None else sample.weight
        return replace(select_events(sample, test), weight=weight[test] * scale)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return {"schema": 1, **asdict(self)}

    def save(self, folder: Path) -> None:
        """Write ``training.json`` into the folder of the model."""
        write_json(folder / _RECORD, self.to_dict())

    @classmethod
    def load(cls, folder: Path) -> TrainingRecord:
        """Read the files of :meth:`save`; InputError if it is not there or damaged."""
        path = folder / _RECORD
        missing = "expected a folder of 'serendip theories train'"
        with reading(path, missing=missing, damaged="train the model again"):
            content = load_json(path, schema=1)
            del content["schema"]
            record = cls(**content)
            if record.channel not in CHANNELS or not 0 <= record.test_fraction < 1:
                raise ValueError("channel or test fraction")
        return record


def channel_files(paths: Sequence[Path], channel: str) -> tuple[list[Path], list[Path]]:
    """Files of folders and single files that belong to a channel.

    Public files contain one channel, given in their names (``..._chan2b.csv``); generated ones serve all.

    Returns
    -------
    files, others
        Those of the channel, and those of other channels.

    Raises
    ------
    InputError
        If a folder is none of ``serendip simulate channel``.
    """
    found = []
    for path in paths:
        if path.is_dir():
            found += [path / f"{name}.parquet" for name in read_settings(path)["samples"]]
        else:
            found.append(path)
    mine = [path for path in found if sample_name(path.stem)[1] in (None, channel)]
    return mine, [path for path in found if path not in mine]


def choose_theories(
    files: Sequence[Path], only: Sequence[str], without: Sequence[str]
) -> tuple[list[Path], dict[str, str]]:
    """Take theories by name or family out of files.

    Parameters
    ----------
    files
        One for each theory.
    only
        Names or families to take; empty: all.
    without
        Names or families to leave out of them.

    Returns
    -------
    files, left_out
        Those that train, and the names of the others with the reason.

    Raises
    ------
    InputError
        If a name is that of no file and no family of a file, or nothing is left.
    """
    called = {path: {path.stem, sample_name(path.stem)[0], family_of(path.stem)} for path in files}
    known = set().union(*called.values())
    if unknown := [name for name in (*only, *without) if name not in known]:
        refuse_other_names(unknown)
        raise InputError(
            f"no theory and no family of the given files is called {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    chosen, left_out = [], {}
    for path, names in called.items():
        if only and not names & set(only):
            left_out[path.stem] = "not asked for"
        elif names & set(without):
            left_out[path.stem] = "left out as asked"
        else:
            chosen.append(path)
    if not chosen:
        raise InputError("no theory is left to train on; give more files or leave out fewer")
    return chosen, left_out


def train_channel(
    background: Sequence[Path],
    theories: Sequence[Path],
    channel: str,
    config: MixtureConfig,
    *,
    test_fraction: float = 0.3,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    harmonised: bool = True,
    photons: bool = True,
    rotate: bool = False,
) -> tuple[MixtureClassifier, TrainingRecord]:
    """Read samples of a channel and train a classifier on all events but the test events.

    Parameters
    ----------
    background, theories, channel, harmonised, photons, rotate
        As in :func:`~serendip.theories.samples.read_channel_samples`. Public files of another channel are left out.
    config
        Of the training; its seed is that of the split too.
    test_fraction
        Expected part of the events of each file that does not train, at least 0 and below 1.
    only, without
        Theories or families to take and to leave out.

    Raises
    ------
    InputError
        If a file, an option or a name is wrong, or no theory has enough events.
    """
    if channel not in CHANNELS:
        raise InputError(f"channel '{channel}' is not known; expected one of {', '.join(CHANNELS)}")
    if not 0 <= test_fraction < 1:
        raise InputError(f"the test fraction is {test_fraction:g}; expected a number from 0 to below 1")
    standard, other_standard = channel_files(background, channel)
    candidates, other_theories = channel_files(theories, channel)
    if not standard or not candidates:
        raise InputError(f"no {'background' if not standard else 'theory'} file is for channel {channel}")
    chosen, left_out = choose_theories(candidates, only, without)
    left_out |= {path.stem: "file of another channel" for path in (*other_standard, *other_theories)}
    found = read_channel_samples(
        standard,
        chosen,
        channel,
        harmonised=harmonised,
        photons=photons,
        rotate=rotate,
        split_seed=config.seed,
    )
    left_out |= {name: f"{counted(n, 'event')} in the channel, too few" for name, n in found.left_out.items()}
    trained_background: dict[str, int] = {}
    keep = _trains(found.background, test_fraction)
    ends = np.cumsum([found.kept[path.stem][1] for path in standard])
    for path, part in zip(standard, np.split(keep, ends[:-1]), strict=True):
        trained_background[path.stem] = int(np.count_nonzero(part))
    mixed = [select_events(sample, _trains(sample, test_fraction)) for sample in found.theories]
    for sample in mixed:
        if len(sample.x) < _FEWEST:
            left_out[sample.name] = f"{counted(len(sample.x), 'event')} left to train, too few"
    mixed = [sample for sample in mixed if len(sample.x) >= _FEWEST]
    if not mixed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise InputError(f"no theory has enough events in channel {channel} ({reasons})")
    standard_model = select_events(found.background, keep)
    trained = train_mixture(
        standard_model.x, mixed, config, features=found.features, background_weight=standard_model.weight,
        background_group=standard_model.group,
    )  # fmt: skip
    record = TrainingRecord(
        channel=channel,
        harmonised=harmonised,
        photons=photons,
        rotate=rotate,
        test_fraction=test_fraction,
        split_seed=config.seed,
        background=trained_background,
        theories={sample.name: min(len(sample.x), config.events_per_theory) for sample in mixed},
        families={sample.name: sample.family for sample in mixed},
        left_out=left_out,
    )
    return trained, record


def _trains(sample: TheorySample, test_fraction: float) -> NDArray[np.bool_]:
    if sample.fold is None:
        raise InputError(f"'{sample.name}': events without numbers cannot be split")
    return np.asarray(np.asarray(sample.fold) >= test_fraction)


def select_events(sample: TheorySample, rows: NDArray[Any] | slice) -> TheorySample:
    """Some events of a sample, with their weights, groups and numbers."""

    def take(values: Any) -> Any:
        return None if values is None else values[rows]

    return replace(
        sample, x=sample.x[rows], weight=take(sample.weight), group=take(sample.group), fold=take(sample.fold)
    )
