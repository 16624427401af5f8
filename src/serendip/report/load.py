"""Typed reading of a finished run directory: the only input of a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError

from serendip.errors import InputError
from serendip.report.pictures import (
    Closure,
    ClosureFeature,
    Correlation,
    Diagnostics,
    HeavyEvent,
    LearnedSignal,
    LeftOut,
    LeftOutSide,
    OrderOfFolds,
    Roc,
    Scores,
    Selected,
    SelectedFeature,
    Spectrum,
    Truth,
    Weighted,
    Weights,
)
from serendip.report.records import (
    EffectiveEvents,
    Fit,
    Fold,
    GlobalResult,
    Look,
    Order,
    Record,
    Results,
    SidebandExcess,
)

__all__ = [
    "Chosen", "Closure", "ClosureFeature", "Correlation", "Diagnostics", "EffectiveEvents", "Fit", "Fold",
    "GlobalResult", "HeavyEvent", "LearnedSignal", "LeftOut", "LeftOutSide", "Look", "Manifest", "Order", "OrderOfFolds", "Results", "Roc", "Run", "Scores",
    "Selected", "SelectedFeature", "SidebandExcess", "Spectrum", "Truth", "Weighted", "Weights", "read_run",
]  # fmt: skip

T = TypeVar("T", bound=BaseModel)


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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{path.parent}: no {path.name}, so this is not the directory of a finished run. "
            "Expected a folder written by 'serendip search --out RUN'; "
            "if the search was interrupted, repeat the same command to finish it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def _read_json(path: Path, kind: type[T]) -> T:
    repeat = "repeat the search command to write it again"
    try:
        return kind.model_validate(json.loads(_text(path)))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: damaged, not JSON (line {error.lineno}, column {error.colno}: {error.msg}); {repeat}"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise InputError(f"{path}: '{where}' is not as expected ({first['msg']}); {repeat}") from None


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
    results = _read_json(path / "results.json", Results)
    diagnostics = _read_json(path / "diagnostics.json", Diagnostics)
    manifest = _read_json(path / "manifest.json", Manifest)
    text = _text(path / "config.yaml")
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path / 'config.yaml'}: damaged, not YAML ({error})") from None
    if not isinstance(config, dict):
        raise InputError(
            f"{path / 'config.yaml'}: expected 'key: value' lines, found {type(config).__name__}"
        )
    return Run(path, results, diagnostics, manifest, text, config)
