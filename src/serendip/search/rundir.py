"""The run directory: the whole truth of a search, in files that public tools can read."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import psutil
import yaml
from numpy.typing import NDArray

from serendip.density import ConditionalDensity, load_density
from serendip.errors import InputError
from serendip.events.events import Events
from serendip.events.files import atomic_write
from serendip.events.formats import Source, shown
from serendip.search.config import SearchConfig
from serendip.statistics.template_count import TemplateCurves
from serendip.version import __version__

__all__ = ["FinishedRun", "RunDirectory", "TaskResult", "write_json"]

_ARRAYS = ("scores", "template", "template_weights", "signal", "signal_size", "more_scores")
_CURVES = "template_curves.npz"
_PACKAGES = ("numpy", "scipy", "iminuit", "scikit-learn", "torch", "zuko", "pyarrow")


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN and infinity become null, since JSON has neither."""
    text = json.dumps(_jsonable(content), indent=1, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, np.ndarray):
        return _jsonable(value.tolist())
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


@dataclass(frozen=True)
class TaskResult:
    """What one finished training leaves behind.

    Attributes
    ----------
    scores
        Score of every event by a model that never saw it, shape ``(n,)``; NaN for a fold that is not tested.
    template, template_weights
        What the last model took for background in the signal region, shape ``(k, d)`` and ``(k,)``; empty if none.
    signal
        Events drawn from the signal that the last model learnt, mass and features, shape ``(k, 1 + d)``; empty if
        the method learns none.
    signal_size
        Fraction of signal in the window, its error, the fraction in training, the gain in ln L and the largest one where no
        signal is expected (NaN: not looked at), shape ``(5,)``; empty if none. Not among the facts, which anybody reads: it says what lies in the window.
    facts
        JSON-able: method, window, timing, closure.
    efficiency, curves
        Template efficiency of every score, shape ``(n,)``, and what templates of bootstrap samples make of it, for
        template counting; None without.
    model
        Files of the last model by path, see :mod:`serendip.search.models`; None if it cannot be saved, and for a
        training that was read back.
    more_scores
        Scores in further orders of the folds, shape ``(n_orders - 1, n)``.
    """

    scores: NDArray[np.float64]
    template: NDArray[np.float32]
    template_weights: NDArray[np.float64]
    signal: NDArray[np.float64]
    signal_size: NDArray[np.float64]
    facts: dict[str, Any]
    model: dict[str, bytes] | None = None
    efficiency: NDArray[np.float64] | None = None
    curves: TemplateCurves | None = None
    more_scores: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def all_scores(self) -> tuple[NDArray[np.float64], ...]:
        """Scores in all orders of the folds."""
        return (self.scores, *self.more_scores)


@dataclass(frozen=True)
class FinishedRun:
    """What a program returns.

    Attributes
    ----------
    path
        The run directory.
    results
        Content of its file of results.
    """

    path: Path
    results: dict[str, Any]


class RunDirectory:
    """A folder that belongs to one configuration and one input.

    Parameters
    ----------
    path
        The folder; :meth:`open` creates it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, config: SearchConfig) -> None:
        """Stop if the folder cannot hold this search; writes nothing.

        Raises
        ------
        InputError
            If the folder belongs to another search or holds other files.
        """
        config_file = self.path / "config.yaml"
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--out {self.path}: is a file, a folder is needed")
        if config_file.exists():
            try:
                found = yaml.safe_load(config_file.read_text(encoding="utf-8"))
            except yaml.YAMLError:
                found = None
            wanted = config.resolved()
            found = found if isinstance(found, dict) else {}
            # a setting that did not exist when the run was made is one that is not given
            changed = sorted(key for key in wanted.keys() | found.keys() if found.get(key) != wanted.get(key))
            if changed:
                raise InputError(
                    f"--out {self.path}: holds a search with other settings ({', '.join(changed)} differ); "
                    "choose another folder, or repeat the settings of its config.yaml to continue it"
                )
        elif self.path.is_dir() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise InputError(f"--out {self.path}: is not empty and not a serendip run; choose another folder")

    def continued(self, config: SearchConfig) -> SearchConfig:
        """Settings that were chosen from the sample when the run began and are not given now; without a run, ``config``."""
        try:
            found = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            found = None
        if not isinstance(found, dict):
            return config
        chosen: dict[str, Any] = {}
        with suppress(KeyError, TypeError, ValueError):
            chosen = {
                "folds": int(found["folds"]),
                "working_points": tuple(float(point) for point in found["working_points"]),
            }
        return config.model_copy(
            update={key: value for key, value in chosen.items() if key not in config.model_fields_set}
        )

    def open(self, config: SearchConfig) -> None:
        """Create the folder, or continue in it.

        Raises
        ------
        InputError
            As :meth:`check`, and if the folder cannot be written.
        """
        self.check(config)
        config_file = self.path / "config.yaml"
        try:
            (self.path / "tasks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {self.path}: cannot be created ({error.strerror})") from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise InputError(f"--out {self.path}: is not writable")
        if not config_file.exists():
            with atomic_write(config_file) as temporary:
                temporary.write_text(yaml.safe_dump(config.resolved(), sort_keys=False), encoding="utf-8")

    # manifest -----------------------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any]:
        """The manifest as written so far; empty if there is none."""
        path = self.path / "manifest.json"
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise InputError(f"{path}: is damaged ({error}); choose another folder") from None
        if not isinstance(content, dict) or not isinstance(content.get("input", {}), dict):
            raise InputError(f"{path}: is damaged (not the record of a run); choose another folder")
        return content

    def start(
        self, config: SearchConfig, events: Events, simulation: Events | None = None, *, unblind: bool
    ) -> dict[str, Any]:
        """Record input, versions and hardware; returns the manifest.

        Raises
        ------
        InputError
            If the run was started on an input with other content.
        """
        manifest = self.manifest()
        inputs = {"input": (config.file, events)}
        if simulation is not None and config.simulation is not None:
            inputs["simulation"] = (config.simulation, simulation)
        records = {name: _record(file, sample) for name, (file, sample) in inputs.items()}
        for name, record in records.items():
            known = (manifest.get(name) or {}).get("digest")
            if known is not None and known != record["digest"]:
                raise InputError(
                    f"--out {self.path}: was started on other events: the content of {record['file']} has changed "
                    "since; choose another folder"
                )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        manifest.setdefault("unblinding", [])
        if unblind and not manifest["unblinding"]:
            manifest["unblinding"] = [{"time": now, "config_hash": config.digest()}]
        manifest |= {
            "serendip": __version__,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in _PACKAGES},
            "seed": config.seed,
            "config_hash": config.digest(),
            **records,
            "hardware": {
                "machine": platform.machine(),
                "system": platform.system(),
                "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
                "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            },
            "started": manifest.get("started", now),
            "command": " ".join(["serendip", *sys.argv[1:]]),
        }
        write_json(self.path / "manifest.json", manifest)
        return manifest

    @property
    def unblinded(self) -> bool:
        """True once the run was unblinded; that cannot be taken back."""
        return bool(self.manifest().get("unblinding"))

    # tasks --------------------------------------------------------------------------------------------------

    def task_folder(self, key: str) -> Path:
        """Where a finished training lives."""
        return self.path / "tasks" / key

    def has_task(self, key: str) -> bool:
        """True if that training is finished."""
        return (self.task_folder(key) / "task.json").exists()

    def write_task(self, key: str, result: TaskResult) -> None:
        """Store a finished training in one step: it is there as a whole or not at all."""

        def fill(folder: Path) -> None:
            for name in _ARRAYS:
                np.save(folder / f"{name}.npy", getattr(result, name), allow_pickle=False)
            if result.curves is not None and result.efficiency is not None:
                arrays = {"efficiency": result.efficiency} | result.curves.arrays()
                np.savez(folder / _CURVES, allow_pickle=False, **arrays)
            for name, content in (result.model or {}).items():
                path = folder / "model" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

        self._write(key, fill, result.facts)

    def write_background(self, key: str, density: ConditionalDensity, facts: dict[str, Any]) -> None:
        """Store a density of background, in one step as :meth:`write_task`."""
        self._write(key, density.save, facts)

    def read_background(self, key: str) -> tuple[ConditionalDensity, dict[str, Any]]:
        """Load a density of background and the facts about its training.

        Raises
        ------
        InputError
            If its files are damaged.
        """
        folder = self.task_folder(key)
        try:
            return load_density(folder), json.loads((folder / "task.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError) as error:
            raise _damaged(folder, error) from None

    def _write(self, key: str, fill: Callable[[Path], None], facts: dict[str, Any]) -> None:
        folder = self.task_folder(key)
        temporary = folder.with_name(f".{key}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            fill(temporary)
            (temporary / "task.json").write_text(
                json.dumps(_jsonable(facts), indent=1) + "\n", encoding="utf-8"
            )
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise InputError(
                f"{folder}: cannot be written ({error.strerror or error}); free space and repeat the command"
            ) from None

    def read_task(self, key: str) -> TaskResult:
        """Load a finished training.

        Raises
        ------
        InputError
            If its files are damaged.
        """
        folder = self.task_folder(key)
        try:
            scores, template, weights, signal, size, more = (
                np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS
            )
            facts = json.loads((folder / "task.json").read_text(encoding="utf-8"))
            efficiency, curves = None, None
            if (folder / _CURVES).exists():
                with np.load(folder / _CURVES, allow_pickle=False) as stored:
                    arrays = dict(stored)
                efficiency, curves = arrays.pop("efficiency"), TemplateCurves.from_arrays(arrays)
        except (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
            raise _damaged(folder, error) from None
        return TaskResult(
            scores, template, weights, signal, size, facts,
            efficiency=efficiency, curves=curves, more_scores=more,
        )  # fmt: skip

    def task_key(self, *parts: Any) -> str:
        """Content address of a training: the same inputs and settings give the same key."""
        text = json.dumps([__version__, *_jsonable(list(parts))], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _record(file: Source, sample: Events) -> dict[str, Any]:
    facts: dict[str, Any] = _jsonable(dict(sample.provenance))
    return facts | {
        "file": shown(file),
        "digest": sample.digest(),
        "rows_read": sample.provenance.get("rows_in_file"),
        "rows_used": len(sample),
    }


def _damaged(folder: Path, error: Exception) -> InputError:
    return InputError(f"{folder}: is damaged ({error}); delete this folder and repeat the command")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
