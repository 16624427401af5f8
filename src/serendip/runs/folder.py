"""The run directory: the whole truth of a search, in files that public tools can read."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from serendip.density import ConditionalDensity, load_density
from serendip.errors import InputError
from serendip.events.events import Events
from serendip.events.formats import Source, shown
from serendip.io.files import atomic_folder, make_folder, reading
from serendip.io.json import jsonable, read_json, write_json
from serendip.io.yaml import write_yaml
from serendip.runs.reuse import check_same, stored_record
from serendip.runs.training import TaskResult
from serendip.version import __version__

__all__ = ["FinishedRun", "RunDirectory"]

_PACKAGES = ("numpy", "scipy", "iminuit", "scikit-learn", "torch", "zuko", "pyarrow")

_AGAIN = "delete the folder of this training and repeat the command"


@dataclass(frozen=True)
class FinishedRun:
    """The return value of a program.

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
    holds
        Its content, for messages: "search", "comparison".
    may_change
        Settings that may differ between two calls for one folder: finished trainings are found by their content.
    """

    def __init__(self, path: Path, holds: str = "search", may_change: Collection[str] = ()) -> None:
        self.path, self.holds, self.may_change = path, holds, may_change

    def settings(self) -> dict[str, Any]:
        """Settings that the folder belongs to, of its ``config.yaml``; empty for a new folder.

        Raises
        ------
        InputError
            If the folder holds other files, or these are damaged.
        """
        return stored_record(self.path, "config.yaml", self.holds) or {}

    def check(self, settings: Mapping[str, Any]) -> None:
        """Stop if the folder cannot hold a run with these settings; writes nothing.

        Raises
        ------
        InputError
            If the folder belongs to a run with other settings or holds other files.
        """
        advice = "or repeat the settings of its config.yaml to continue it"
        if self.may_change:
            advice = f"only {', '.join(self.may_change)} may change"
        if found := self.settings():
            check_same(
                found,
                settings,
                f"--out {self.path}: holds a {self.holds}",
                may_change=self.may_change,
                advice=f"choose another folder; {advice}",
            )

    def open(self, settings: Mapping[str, Any]) -> None:
        """Create the folder, or continue in it.

        Raises
        ------
        InputError
            As :meth:`check`, and if the folder cannot be written.
        """
        self.check(settings)
        make_folder(self.path / "tasks")
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise InputError(f"--out {self.path}: is not writable")
        if self.may_change or not (self.path / "config.yaml").exists():
            write_yaml(self.path / "config.yaml", settings)

    # manifest -----------------------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any]:
        """The manifest as written so far; empty if there is none."""
        path = self.path / "manifest.json"
        if not path.exists():
            return {}
        content = read_json(path, damaged="choose another folder")
        if not isinstance(content.get("input", {}), dict):
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
            The inputs, by their names in the manifest: where from, and the events.
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
        facts = read_json(folder / "task.json", damaged=_AGAIN)
        with reading(folder, damaged=_AGAIN):
            return load_density(folder), facts

    def _write(self, key: str, fill: Callable[[Path], None], facts: dict[str, Any]) -> None:
        with atomic_folder(self.task_folder(key)) as temporary:
            fill(temporary)
            write_json(temporary / "task.json", facts)

    def read_task(self, key: str) -> TaskResult:
        """Load a finished training.

        Raises
        ------
        InputError
            If its files are damaged.
        """
        folder = self.task_folder(key)
        facts = read_json(folder / "task.json", damaged=_AGAIN)
        with reading(folder, damaged=_AGAIN):
            return TaskResult.load(folder, facts)

    @staticmethod
    def task_key(*parts: Any) -> str:
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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
