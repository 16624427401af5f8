"""The run directory: the whole truth of a search, in files that public tools can read."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import psutil
import yaml

from serendip.density import ConditionalDensity, load_density
from serendip.errors import InputError
from serendip.events.events import Events
from serendip.events.formats import Source, shown
from serendip.io.files import atomic_write
from serendip.io.json import jsonable, write_json
from serendip.runs.training import TaskResult
from serendip.version import __version__

__all__ = ["FinishedRun", "RunDirectory"]

_PACKAGES = ("numpy", "scipy", "iminuit", "scikit-learn", "torch", "zuko", "pyarrow")


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

    def settings(self) -> dict[str, Any]:
        """Settings that the folder belongs to, of its ``config.yaml``; empty if there are none that can be read."""
        try:
            found = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            found = None
        return found if isinstance(found, dict) else {}

    def check(self, settings: Mapping[str, Any]) -> None:
        """Stop if the folder cannot hold a run with these settings; writes nothing.

        Raises
        ------
        InputError
            If the folder belongs to another search or holds other files.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--out {self.path}: is a file, a folder is needed")
        if (self.path / "config.yaml").exists():
            found = self.settings()
            # a setting that did not exist when the run was made is one that is not given
            changed = sorted(
                key for key in settings.keys() | found.keys() if found.get(key) != settings.get(key)
            )
            if changed:
                raise InputError(
                    f"--out {self.path}: holds a search with other settings ({', '.join(changed)} differ); "
                    "choose another folder, or repeat the settings of its config.yaml to continue it"
                )
        elif self.path.is_dir() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise InputError(f"--out {self.path}: is not empty and not a serendip run; choose another folder")

    def open(self, settings: Mapping[str, Any]) -> None:
        """Create the folder, or continue in it.

        Raises
        ------
        InputError
            As :meth:`check`, and if the folder cannot be written.
        """
        self.check(settings)
        config_file = self.path / "config.yaml"
        try:
            (self.path / "tasks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {self.path}: cannot be created ({error.strerror})") from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise InputError(f"--out {self.path}: is not writable")
        if not config_file.exists():
            with atomic_write(config_file) as temporary:
                temporary.write_text(yaml.safe_dump(dict(settings), sort_keys=False), encoding="utf-8")

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
        self,
        settings: Mapping[str, Any],
        inputs: Mapping[str, tuple[Source, Events]],
        *,
        digest: str,
        unblind: bool,
    ) -> dict[str, Any]:
        """Record input, versions and hardware; returns the manifest.

        Parameters
        ----------
        settings
            All settings, as for :meth:`open`.
        inputs
            What is read, by its name in the manifest: where from, and the events.
        digest
            Short hash of the settings.
        unblind
            Looks at the events in the windows; recorded, and cannot be taken back.

        Raises
        ------
        InputError
            If the run was started on an input with other content.
        """
        manifest = self.manifest()
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
            manifest["unblinding"] = [{"time": now, "config_hash": digest}]
        manifest |= {
            "serendip": __version__,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in _PACKAGES},
            "seed": settings["seed"],
            "config_hash": digest,
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
        self._write(key, result.save, result.facts)

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
                json.dumps(jsonable(facts), indent=1) + "\n", encoding="utf-8"
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
            return TaskResult.load(folder)
        except (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile) as error:
            raise _damaged(folder, error) from None

    def task_key(self, *parts: Any) -> str:
        """Content address of a training: the same inputs and settings give the same key."""
        text = json.dumps([__version__, *jsonable(list(parts))], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _record(file: Source, sample: Events) -> dict[str, Any]:
    facts: dict[str, Any] = jsonable(dict(sample.provenance))
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
