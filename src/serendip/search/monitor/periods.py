"""Periods of data taking: their events in the run directory, checks of new ones, and the trainings on all of the past."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from serendip.errors import InputError
from serendip.events.dependence import check_dependence
from serendip.events.events import Events, Window, concatenate
from serendip.events.formats import shown
from serendip.io.files import atomic_folder, reading
from serendip.io.json import load_json
from serendip.methods.registry import get_method
from serendip.runs.training import TaskResult
from serendip.search.config import SearchConfig
from serendip.search.engine import read_events
from serendip.search.folds import event_folds
from serendip.search.task import held_out_scores
from serendip.wording import counted

__all__ = [
    "Period",
    "PeriodTask",
    "check_new",
    "read_period",
    "run_period",
    "stored_periods",
    "together",
    "training_sets",
    "write_period",
]

_ROLES = ("mass", "features", "weight", "id", "group")


@dataclass(frozen=True)
class Period:
    """Events of one period, and the file that they came from."""

    file: str
    events: Events
    digest: str


def read_period(config: SearchConfig, file: str | tuple[str, ...]) -> Period:
    """Read the events of a period according to the configuration, without labels.

    Raises
    ------
    InputError
        If the file cannot be used as asked.
    """
    events = read_events(config.model_copy(update={"file": file})).without_label()
    texts = {name: values.astype(str) for name, values in events.columns.items() if values.dtype == object}
    events = replace(events, columns={**events.columns, **texts})
    return Period(shown(file), events, events.digest())


def write_period(folder: Path, number: int, period: Period) -> None:
    """Store a period in one step: it is there as a whole or not at all."""
    events = period.events
    facts = {
        "file": period.file,
        "digest": period.digest,
        "provenance": dict(events.provenance),
        **{role: getattr(events, role) for role in _ROLES},
    }
    with atomic_folder(folder / f"{number:04d}") as temporary:
        # names of columns are expressions, which no file name holds
        for place, values in enumerate(events.columns.values()):
            np.save(temporary / f"{place}.npy", values, allow_pickle=False)
        text = json.dumps(facts | {"columns": list(events.columns)}, indent=1, default=str)
        (temporary / "period.json").write_text(text + "\n", encoding="utf-8")


def stored_periods(folder: Path) -> list[Period]:
    """Periods in the order in which they were appended; none if there is no such folder.

    Raises
    ------
    InputError
        If their files are damaged.
    """
    found = []
    for place in sorted(folder.glob("[0-9]*")):
        with reading(place, damaged="choose another folder for --out"):
            facts = load_json(place / "period.json")
            columns = {
                name: np.load(place / f"{number}.npy", allow_pickle=False)
                for number, name in enumerate(facts["columns"])
            }
            roles = {role: facts[role] for role in _ROLES}
            events = Events(columns, **roles, provenance=facts["provenance"])
            if events.digest() != facts["digest"]:
                raise ValueError("its events have changed")
        found.append(Period(facts["file"], events, facts["digest"]))
    return found


def together(periods: Sequence[Period]) -> Events:
    """Events of all periods, one after the other; groups of different periods are different ones."""
    samples, last = [], 0
    for period in periods:
        events, groups = period.events, period.events.groups
        if events.group is not None and groups is not None:
            codes = np.unique(groups, return_inverse=True)[1] + last
            events, last = replace(events, columns={**events.columns, events.group: codes}), codes.max() + 1
        samples.append(events)
    return concatenate(samples)


def check_new(config: SearchConfig, known: Sequence[Period], new: Sequence[Period]) -> None:
    """Stop if a period was appended before, or shares events with another one.

    Raises
    ------
    InputError
        Naming the two periods.
    """
    periods: list[Period] = list(known)
    for period in new:
        number = len(periods)
        for before, other in enumerate(periods):
            if other.digest == period.digest:
                raise InputError(
                    f"--append {period.file}: these events are period {before} of the run already (from {other.file}); each period "
                    "counts once. Leave --append out to see the result as it stands"
                )
            if config.id is not None:
                shared = np.intersect1d(other.events.ids, period.events.ids)
                if len(shared):
                    example = shared[0].item() if shared.dtype.names is None else tuple(shared[0])
                    raise InputError(
                        f"--append {period.file}: {counted(len(shared), 'event')} of period {before} (from {other.file}) "
                        f"{'is' if len(shared) == 1 else 'are'} in it again (same id, for example {example}); append new events only"
                    )
        periods.append(period)
        if not number:
            continue
        events = together(periods)
        ends = np.cumsum([len(one.events) for one in periods])

        def place(row: int, ends: NDArray[Any] = ends) -> str:
            t = int(np.searchsorted(ends, row, side="right"))
            return f"event {row - int(ends[t - 1] if t else 0)} of period {t}"

        names = (events.mass, *events.features)
        columns = [events[name] for name in names]
        asked = config.group if isinstance(config.group, str) else None
        check_dependence(f"--append {period.file}", names, columns, events.groups, asked, place)


@dataclass(frozen=True)
class PeriodTask:
    """The training of a method in a window for one period; the period is rows ``start`` to ``end`` of all events."""

    key: str
    method: str
    options: dict[str, Any]
    window: Window
    period: int
    start: int
    end: int
    folds: int
    seed: int
    threads: int


def training_sets(
    events: Events, start: int, folds: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Part of each event of the period that begins at row ``start``, and the training events for the model of each part.

    Returns
    -------
    fold
        Shape ``(n,)``; -1 for events of earlier periods.
    splits
        Shape ``(folds, n)``.
    """
    row = np.arange(len(events))
    fold = np.full(len(events), -1)
    fold[start:] = event_folds(events.select(row >= start), folds, seed)
    return fold, np.stack([fold < f for f in range(folds)])


def run_period(task: PeriodTask, events: Events, simulation: Events | None = None) -> TaskResult:
    """Train on all earlier periods (and earlier parts of this one), and score the events of this one, in their order."""
    started, cpu = time.perf_counter(), time.process_time()
    threadpool_limits(task.threads)
    seen = events.select(np.arange(len(events)) < task.end)
    fold, splits = training_sets(seen, task.start, task.folds, task.seed)
    method_class = get_method(task.method)
    config = method_class.Config(**task.options)
    method = method_class(
        config,
        seed=task.seed,
        threads=task.threads,
        simulation=simulation if method_class.uses_simulation(config) else None,
    )
    method.fit(seen, task.window, splits)
    pairs = tuple((f, f) for f in range(task.folds))
    scores = held_out_scores(method, task.window, seen, fold, splits, pairs)[task.start :]
    facts = {
        "method": task.method,
        "window": [task.window.low, task.window.high],
        "period": task.period,
        "n_models": task.folds,
        "threads": task.threads,
        "total_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
    }
    nothing = np.empty(0)
    return TaskResult(scores, np.empty((0, 0), np.float32), nothing, nothing, nothing, facts)
