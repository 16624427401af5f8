"""The stored model of a finished training, and scoring new events with it.

Each task keeps its last model, the one that was trained on most events: the first folds 0 … n-2 with sequential
cross-training, all folds but the last with k-fold. It is stored with the reference for its scores: the scores of
sideband events of the last fold, which this model was not trained on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.io.files import reading
from serendip.io.json import load_json
from serendip.io.models import read_arrays, write_arrays
from serendip.methods.base import Method, read_model_facts
from serendip.methods.registry import get_method
from serendip.runs.folder import RunDirectory
from serendip.search.config import SearchConfig, load_config, parse_config

__all__ = [
    "MODEL_FOLDER",
    "REFERENCE_FILES",
    "StoredModel",
    "events_in_windows",
    "fingerprints",
    "pack_model",
    "run_config",
    "stored_models",
]

log = logging.getLogger(__name__)

MODEL_FOLDER = "model"

REFERENCE_FILES = ("reference.safetensors",)
"""Files of a stored model with the reference for its scores."""

(_REFERENCE,) = REFERENCE_FILES
_FINGERPRINTS = "fingerprints"
_FEWEST_FINGERPRINTS = 1024
_KEPT = 20_000
_COMPARED = 200
# errors raised by damaged or incomplete models, anywhere in numpy and torch
_BROKEN = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    RuntimeError,
    AssertionError,
)


def pack_model(
    method: Method,
    split: int,
    events: Events,
    window: Window,
    *,
    seen: NDArray[np.bool_],
    scores: NDArray[np.float64],
    sideband: NDArray[np.bool_],
) -> tuple[dict[str, bytes] | None, dict[str, Any]]:
    """Files of one model of a method, and its entry in the task.

    Parameters
    ----------
    method, split
        The fitted method and the model to keep.
    events, window
        The training sample.
    seen
        Events that this model was trained on, shape ``(n,)``.
    scores, sideband
        Score of each event and mask of the sideband events that this model scored and was not trained on, shape ``(n,)``.

    Returns
    -------
    files : dict or None
        Content by path below the folder of the model; None if the method cannot be saved.
    facts : dict
        ``model`` (null if it cannot be saved) and, in that case, ``model_note`` with the reason.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        try:
            method.save(folder, split, features=events.features, mass=events.mass, window=window)
            _check_copy(folder, method, events, scores, sideband)
        except InputError as error:
            log.info("no model is kept of %s in %s: %s", method.name, window, error)
            return None, {"model": None, "model_note": str(error)}
        _write_reference(folder, events, window, seen, scores[sideband], events.weights[sideband])
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    size = sum(len(content) for content in files.values())
    return files, {
        "model": {"split": split, "bytes": size, "sideband_events": int(np.count_nonzero(sideband))}
    }


def _check_copy(
    folder: Path,
    method: Method,
    events: Events,
    scores: NDArray[np.float64],
    sideband: NDArray[np.bool_],
) -> None:
    """Stop if the stored model does not reproduce the scores of the method: an incomplete ``save_model`` must not pass."""
    rows = np.flatnonzero(sideband)[:_COMPARED]
    try:
        again = type(method).load(folder, threads=method.threads).score(events.select(rows), 0)
    except _BROKEN as error:
        raise InputError(
            f"method '{method.name}' cannot be saved: its stored model fails ({' '.join(str(error).split())})"
        ) from None
    # networks in single precision depend a little on how many events they score at once
    if not np.allclose(again, scores[rows], rtol=1e-4, atol=1e-4):
        raise InputError(f"method '{method.name}' cannot be saved: its stored model gives other scores")


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A model of a run, ready to score.

    Attributes
    ----------
    method
        With the one model 0.
    features, mass, window
        The training setup.
    limits
        Lowest and highest value of each feature in training, shape ``(d, 2)``.
    thresholds, efficiencies
        Scores of sideband events in rising order, and the fraction of sideband events at or above each.
    folder
        Where it is stored.
    """

    method: Method
    features: tuple[str, ...]
    mass: str
    window: Window
    limits: NDArray[np.float32]
    thresholds: NDArray[np.float64]
    efficiencies: NDArray[np.float64]
    folder: Path

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> StoredModel:
        """Read a folder that :func:`pack_model` described.

        Raises
        ------
        InputError
            If it is damaged, or its method is not installed.
        """
        facts = read_model_facts(folder)
        try:
            method = get_method(facts["method"]).load(folder, threads=threads)
            arrays = read_arrays(folder / _REFERENCE)
            limits = arrays["limits"].reshape(len(facts["features"]), 2)
            thresholds, efficiencies = arrays["thresholds"], arrays["efficiencies"]
            window = Window(*(float(edge) for edge in facts["window"]))
            # parts that do not fit together show when they are used
            columns = dict(zip(facts["features"], limits, strict=True))
            corners = Events(
                columns | {facts["mass"]: np.full(2, window.centre)}, facts["mass"], tuple(facts["features"])
            )
            if np.shape(method.score(corners, 0)) != (2,):
                raise ValueError("it does not give one score for each event")
        except InputError as error:
            raise InputError(f"the model in {folder} cannot be used: {error}") from None
        except _BROKEN as error:
            raise InputError(f"the model in {folder} is damaged ({' '.join(str(error).split())})") from None
        if thresholds.ndim != 1 or thresholds.shape != efficiencies.shape or (np.diff(thresholds) <= 0).any():
            raise InputError(f"the model in {folder} is damaged (its scores in the sideband do not rise)")
        features = tuple(facts["features"])
        return cls(method, features, facts["mass"], window, limits, thresholds, efficiencies, folder)

    def score(self, events: Events) -> NDArray[np.float64]:
        """Anomaly score of each event, shape ``(n,)``.

        Raises
        ------
        InputError
            If the events have other features, or a score is not finite.
        """
        if events.features != self.features or events.mass != self.mass:
            raise InputError(
                f"the model of '{self.method.name}' was trained on {', '.join(self.features)} at mass '{self.mass}', "
                f"not on {', '.join(events.features)} at mass '{events.mass}'"
            )
        score = self.method.score(events.without_label(), 0)
        bad = np.count_nonzero(~np.isfinite(score))
        if bad:
            raise InputError(
                f"method '{self.method.name}' in {self.window} gives {bad} of {len(events)} events a score that is not "
                "a finite number; look at the features for extreme values (serendip inspect)"
            )
        return score

    def background_efficiency(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fraction of the run's sideband events at or above each score, shape ``(n,)``; 0 above all of them."""
        place = np.searchsorted(self.thresholds, score, side="left")
        return np.append(self.efficiencies, 0.0)[place]

    def outside_training(self, events: Events) -> NDArray[np.bool_]:
        """Events with a feature below the lowest or above the highest value in training, shape ``(n, d)``."""
        x = events.x
        return np.asarray((x < self.limits[:, 0]) | (x > self.limits[:, 1]))


def _write_reference(
    folder: Path,
    events: Events,
    window: Window,
    seen: NDArray[np.bool_],
    scores: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> None:
    # a method that learns nothing from the data saw no event: its range is that of the sample
    x = events.x[seen] if seen.any() else events.x
    thresholds, place = np.unique(scores, return_inverse=True)
    total = np.bincount(place, weights=weights, minlength=len(thresholds))
    at_or_above = total[::-1].cumsum()[::-1]
    efficiencies = at_or_above / max(at_or_above[0], 1e-300) if len(total) else at_or_above
    if len(thresholds) > _KEPT:
        # all of the highest scores, where working points are, and every so many of the others
        low = len(thresholds) - _KEPT // 2
        rows = np.unique(np.concatenate([
            np.linspace(0, low, _KEPT // 2).astype(int), np.arange(low, len(thresholds))
        ]))  # fmt: skip
        thresholds, efficiencies = thresholds[rows], efficiencies[rows]
    arrays = {
        "limits": np.stack([x.min(axis=0), x.max(axis=0)], axis=1),
        "thresholds": thresholds,
        "efficiencies": efficiencies,
        _FINGERPRINTS: _among_decoys(fingerprints(events.select(window.contains(events.m)))),
    }
    write_arrays(folder / _REFERENCE, arrays)


def fingerprints(events: Events) -> NDArray[np.uint64]:
    """Hash of the mass and the features of each event in single precision, shape ``(n,)``.

    Weights, labels, ids and other events change nothing, nor does a copy of the table in single precision.
    """
    rows = np.zeros(len(events), dtype=np.uint64)
    for column in (events.m.astype(np.float32), *events.x.T):
        # adding zero makes one number of -0 and 0
        bits = np.ascontiguousarray(column + np.float32(0)).view(np.uint32)
        rows = (rows ^ bits) * np.uint64(0x9E3779B97F4A7C15)
        rows ^= rows >> np.uint64(29)
    return rows


def _among_decoys(found: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Fingerprints in rising order among random numbers, padded to a power of two.

    The size of a file is visible to everybody, and must not reveal the number of events in a blinded window.
    """
    found = np.unique(found)
    size = max(_FEWEST_FINGERPRINTS, 1 << len(found).bit_length())
    rng = np.random.default_rng(int(found.sum(dtype=np.uint64)))
    decoys = rng.integers(0, 2**64, size - len(found), dtype=np.uint64)
    return np.sort(np.concatenate([found, decoys]))


def events_in_windows(run: Path, events: Events) -> NDArray[np.bool_]:
    """Which events are, by their fingerprints, events of the run in one of its windows, shape ``(n,)``.

    Raises
    ------
    InputError
        If a model of the run does not know its events.
    """
    mine, found = fingerprints(events), np.zeros(len(events), dtype=bool)
    # all methods saw the same events in a window
    for folder in {window: folder for (_, window), folder in _model_folders(run)[0].items()}.values():
        try:
            known = read_arrays(folder / _REFERENCE, _FINGERPRINTS)[_FINGERPRINTS]
        except InputError as error:
            raise InputError(
                f"the model in {folder} has no record of the events of its run ({' '.join(str(error).split())}), which "
                "is still blinded; delete its folder and repeat the search"
            ) from None
        found |= np.isin(mine, known)
    return found


def run_config(run: Path) -> SearchConfig:
    """Configuration of a run directory.

    Raises
    ------
    InputError
        If the folder is not a run directory.
    """
    if not (run / "config.yaml").is_file():
        raise InputError(f"{run}: is not a run directory (there is no config.yaml in it)")
    return parse_config(load_config(run / "config.yaml"), str(run / "config.yaml"))


def stored_models(
    run: Path, *, method: str | None = None, window: Window | None = None, threads: int = 1
) -> Iterator[StoredModel]:
    """Load the models of a run one after the other, in the order of its configuration.

    Parameters
    ----------
    run
        The run directory.
    method, window
        Only models of this method, or of this window.

    Raises
    ------
    InputError
        If the run has no such method or window, or no model of it.
    """
    config = run_config(run)
    if method is not None and method not in config.method:
        raise InputError(f"{run}: has no method '{method}'; it has: {', '.join(config.method)}")
    if window is not None and window not in config.windows:
        known = ", ".join(str(known) for known in config.windows)
        raise InputError(f"{run}: has no window {window}; it has: {known}")
    folders, notes = _model_folders(run)
    wanted = [
        (name, region)
        for name in config.method
        for region in config.windows
        if method in (None, name) and window in (None, region)
    ]
    found = [folders[key] for key in wanted if key in folders]
    missing = [key for key in wanted if key not in folders]
    if not found:
        reason = notes.get(
            missing[0], "the training is not finished, or was made by a version without models"
        )
        raise InputError(
            f"{run}: contains no model to score with ({reason}); run the search again in a new folder"
        )
    for name, region in missing:
        reason = notes.get((name, region), "the training is not finished")
        log.warning("no model of %s in %s: %s", name, region, reason)
    return (StoredModel.load(folder, threads=threads) for folder in found)


def _model_folders(run: Path) -> tuple[dict[tuple[str, Window], Path], dict[tuple[str, Window], str]]:
    """Folder of each model, and why there is none, by method and window."""
    folders, notes = {}, {}
    for path in _task_files(run):
        with reading(path, damaged="delete its folder and repeat the command"):
            facts = load_json(path)
            if "method" not in facts:
                continue
            where = (str(facts["method"]), Window(*facts["window"]))
        if (path.parent / MODEL_FOLDER).is_dir():
            folders[where] = path.parent / MODEL_FOLDER
        elif facts.get("model_note"):
            notes[where] = str(facts["model_note"])
    return folders, notes


def _task_files(run: Path) -> list[Path]:
    """The finished trainings that the run uses; its folder may hold others, of an earlier version or input."""
    directory = RunDirectory(run)
    used = directory.manifest().get("task_keys")
    if used is None:
        return sorted((run / "tasks").glob("*/task.json"))
    try:
        paths = [directory.task_folder(entry["key"]) / "task.json" for entry in used]
    except (TypeError, KeyError):
        raise InputError(f"{run / 'manifest.json'}: is damaged (task_keys)") from None
    return [path for path in paths if path.exists()]
