"""Typed reading of a finished run directory: the only input of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from serendip.errors import InputError
from serendip.io.records import Record
from serendip.io.yaml import read_yaml
from serendip.search.diagnostic_records import Diagnostics
from serendip.search.results import Results

__all__ = ["Chosen", "Manifest", "Run", "read_run"]

_DAMAGED = "repeat the search command to write it again"
_MISSING = (
    "this is not the directory of a finished run; expected a folder written by 'serendip search --out RUN'; if the search "
    "was interrupted, repeat the same command to finish it"
)


class _Input(Record):
    file: str | None = None
    rows_read: int | None = None
    rows_used: int | None = None
    left_out: Mapping[str, int] = Field(default_factory=dict)
    digest: str | None = None


class Chosen(Record):
    """Settings that a search chose from the size of its sample."""

    sideband_events: float
    folds: int | None = None
    working_points: tuple[float, ...] | None = None


class _Unblinding(Record):
    time: str
    config_hash: str = ""


class Manifest(Record):
    """``manifest.json``: versions, input, timings, unblinding log."""

    serendip: str
    python: str | None = None
    packages: Mapping[str, str] = Field(default_factory=dict)
    seed: int | None = None
    input: _Input = Field(default_factory=_Input)
    hardware: Mapping[str, Any] = Field(default_factory=dict)
    timing_s: Mapping[str, float] = Field(default_factory=dict)
    started: str | None = None
    finished: str | None = None
    unblinding: tuple[_Unblinding, ...] = ()
    chosen: Chosen | None = None


@dataclass(frozen=True)
class Run:
    """All inputs of a report."""

    path: Path
    results: Results
    diagnostics: Diagnostics
    manifest: Manifest
    config_text: str
    config: Mapping[str, Any]


def read_run(path: Path) -> Run:
    """Read ``results.json``, ``diagnostics.json``, ``manifest.json`` and ``config.yaml`` of a run directory.

    Raises
    ------
    InputError
        If a file is missing or damaged; the message names it.
    """
    if not path.is_dir():
        raise InputError(
            f"{path}: no such folder; expected the run directory written by 'serendip search --out RUN'"
        )
    said = {"missing": _MISSING, "damaged": _DAMAGED}
    results = Results.read(path / "results.json", **said)
    diagnostics = Diagnostics.read(path / "diagnostics.json", **said)
    manifest = Manifest.read(path / "manifest.json", **said)
    config = read_yaml(path / "config.yaml", **said)
    text = (path / "config.yaml").read_text(encoding="utf-8")
    return Run(path, results, diagnostics, manifest, text, config)
