"""Every method on the same events, with more and more injected signal: who finds it, and at what cost.

A comparison is a grid of cells, one for each number of injected signal events and each repeat. In each cell all methods use the same events and folds, and share densities (:class:`~serendip.methods.base.BackgroundRequest`). All trainings
lie in one folder under keys that follow from their events and settings, so that methods, injections and repeats can be added later and finished trainings are kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.density.base import ConditionalDensity
from serendip.errors import InputError
from serendip.events.events import Events
from serendip.io.json import read_json, write_json
from serendip.methods.registry import get_method
from serendip.runs.executor import as_finished, available_cores, local_executor
from serendip.runs.folder import RunDirectory
from serendip.runs.progress import LogProgress, Progress
from serendip.runs.training import TaskResult
from serendip.search.compare.config import MAY_CHANGE, CompareConfig, LeftOut
from serendip.search.compare.results import Comparison
from serendip.search.compare.stress import stress
from serendip.search.compare.summary import five_sigma, summary
from serendip.search.config import SearchConfig
from serendip.search.engine import plan_training, read_events, read_simulation, start_run
from serendip.search.folds import cross_training_plan, event_folds
from serendip.search.injection import Sample, check_injections, inject, look_at
from serendip.search.measure import prepare_window
from serendip.search.merits import merits
from serendip.search.sight import dead_looks, warn_of_dead_looks
from serendip.search.task import BackgroundTask, Task, run_background, run_task

__all__ = ["run_compare"]

_BATCH = 64
# which quantities the file of a measurement has
_MERITS = 4


@dataclass(frozen=True)
class _Cell:
    """One injection of one repeat; ``rows`` are its events in the whole sample."""

    injection: int
    repeat: int
    config: SearchConfig
    rows: NDArray[np.int64]

    def __str__(self) -> str:
        return f"{self.injection} signal events, repeat {self.repeat + 1}"


@dataclass(frozen=True)
class _Job:
    """One training, or one measurement of a finished training, in one cell."""

    cell: _Cell
    task: Task
    background: BackgroundTask | None = None
    result: TaskResult | None = None
    min_background: int = 0


def run_compare(
    config: CompareConfig,
    out: Path | str,
    *,
    left_out: Sequence[LeftOut] = (),
    strict: bool = True,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare methods and write ``compare.json``.

    Parameters
    ----------
    config
        The methods and events to compare.
    out
        The folder: new, or one of a comparison on the same events, which is then continued.
    left_out
        Methods that were left out before (:func:`choose_methods`); they are reported.
    strict
        A method without labels that cannot train stops the comparison. If False, it is left out there and reported.
        A finished training that cannot be measured is left out in both cases.
    jobs
        Worker processes; default: one for each core that this process may use. Each training runs on one thread, so
        that times compare.
    executor
        Runs the trainings instead of local processes.
    progress
        Receives progress messages.

    Returns
    -------
    Content of ``compare.json``.

    Raises
    ------
    InputError
        If the input, the configuration or the folder cannot be used; nothing is trained in that case. Also if nothing
        is left that could be compared.
    """
    clock = time.perf_counter()
    progress = progress or LogProgress()
    run = RunDirectory(Path(out), "comparison", MAY_CHANGE)
    settings = config.resolved()
    if "injections" not in (run.settings() or settings):
        raise InputError(f"--out {run.path}: holds another run, not a comparison; choose another folder")
    run.check(settings)
    events, simulation = read_events(config), read_simulation(config)
    (window,) = config.windows
    sample = look_at(events, window)
    check_injections(sample, config.injections, window)
    original = events
    if config.correlate or config.noise:
        events = stress(events, correlate=config.correlate, noise=config.noise, seed=config.seed)
        if simulation is not None:
            simulation = stress(
                simulation,
                correlate=config.correlate,
                noise=config.noise,
                seed=config.seed,
                sample="simulation",
            )
    cells, missing = _cells(config, events, simulation, strict=strict)
    run.open(settings)
    manifest = start_run(run, config, original, unblind=True)

    plans: list[_Job] = []
    for cell in cells:
        plan = plan_training(cell.config, run, events.select(cell.rows), simulation, 1)
        plans += [_Job(cell, task, plan.backgrounds.get((task.method, task.window))) for task in plan.tasks]
    cores = jobs or available_cores()
    context = local_executor(cores) if executor is None else nullcontext(executor)
    with context as pool:
        missing += _train(run, plans, events, simulation, pool, progress, strict=strict)
        plans = [job for job in plans if run.has_task(job.task.key)]
        entries, unmeasured = _measure(config, run, plans, events, pool, progress)
    missing += unmeasured
    if not entries:
        raise InputError(
            f"no method can be compared: {'; '.join(dict.fromkeys(entry.reason for entry in missing))}"
        )
    rows = summary(entries, [name for name in config.method if get_method(name).uses_labels])
    content = {
        "schema": 1,
        "seed": config.seed,
        "config": settings,
        "mass_name": events.mass,
        "unit": "GeV",
        "window": [window.low, window.high],
        "features": list(events.features),
        "sample": _facts(sample),
        "min_background": config.min_background,
        "methods": [
            {
                "name": name,
                "title": get_method(name).title,
                "uses_labels": get_method(name).uses_labels,
                "working_points": list(get_method(name).working_points or config.working_points),
                "weighted": config.weighted(name),
            }
            for name in config.method
        ],
        "left_out": [vars(entry) for entry in (*left_out, *missing)],
        "entries": entries,
        "summary": rows,
        "five_sigma": five_sigma(rows),
        "timing_s": {"this_call": time.perf_counter() - clock, "trainings": _cost(entries)},
    }
    results = Comparison.model_validate(content)
    results.write(run.path / "compare.json")
    manifest["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(run.path / "manifest.json", manifest)
    return results.content()


def _facts(sample: Sample) -> dict[str, Any]:
    return vars(sample) | {"signal_share_in_window": sample.share}


def _cells(
    config: CompareConfig, events: Events, simulation: Events | None, *, strict: bool
) -> tuple[list[_Cell], list[LeftOut]]:
    """Draw all injections and ask every method about each, so that nothing stops after hours of training."""
    (window,) = config.windows
    cells, missing = [], []
    for injection in config.injections:
        for repeat in range(config.repeats):
            rows = inject(events, window, injection, repeat, config.seed)
            part = events.select(rows)
            # new folds and networks in each repeat: the bands include the randomness of the training
            seed = (config.seed + repeat) % 2**32
            fold = event_folds(part, config.folds, seed)
            if repeat == 0:
                prepared = prepare_window(part, window, config)
                if injection == config.injections[0]:
                    warn_of_dead_looks(dead_looks(config, part, fold, [prepared]), config.n_looks)
            splits = cross_training_plan(
                fold, config.folds, config.combination, inside=window.contains(part.m)
            ).splits
            able = []
            for name in config.method:
                cls, options = get_method(name), config.method_config(name)
                try:
                    method = cls(options, seed=seed, simulation=simulation)
                    method.check(part if cls.uses_labels else part.without_label(), window, splits)
                    method.background_request(window)
                except InputError as error:
                    if strict and not cls.uses_labels:
                        raise
                    missing.append(LeftOut(name, str(error), injection))
                    continue
                able.append(name)
            if able:
                chosen = {name: config.options[name] for name in able if name in config.options}
                changes = {"method": tuple(able), "options": chosen, "seed": seed}
                cells.append(_Cell(injection, repeat, config.model_copy(update=changes), rows))
    if not cells:
        raise InputError(
            f"no method can be trained: {'; '.join(dict.fromkeys(entry.reason for entry in missing))}"
        )
    # one line for each method and injection, not for each repeat
    return cells, list({(entry.method, entry.injection): entry for entry in missing}.values())


def _background_job(
    job: _Job, events: Events, simulation: Events | None
) -> tuple[ConditionalDensity, dict[str, Any]] | InputError:
    assert job.background is not None
    try:
        return run_background(job.background, events.select(job.cell.rows), simulation)
    except InputError as error:
        return error


def _task_job(job: _Job, events: Events, simulation: Events | None) -> TaskResult | InputError:
    try:
        return run_task(job.task, events.select(job.cell.rows), simulation)
    except InputError as error:
        return error


def _merits_job(job: _Job, events: Events) -> dict[str, Any] | InputError:
    assert job.result is not None
    name = job.task.method
    config = job.cell.config.model_copy(
        update={"method": (name,), "options": {k: v for k, v in job.cell.config.options.items() if k == name}}
    )
    try:
        return merits(config, events.select(job.cell.rows), job.result, min_background=job.min_background)
    except InputError as error:
        return error


def _train(
    run: RunDirectory,
    plans: Sequence[_Job],
    events: Events,
    simulation: Events | None,
    pool: Executor | None,
    progress: Progress,
    *,
    strict: bool,
) -> list[LeftOut]:
    """Train the remaining tasks: first the densities of all cells, then the methods, so that no core waits.

    Returns the methods that could not be trained, for example because their training diverged.
    """
    failed: list[LeftOut] = []

    def fail(job: _Job, error: InputError) -> None:
        if strict and not get_method(job.task.method).uses_labels:
            raise error
        failed.append(LeftOut(job.task.method, f"repeat {job.cell.repeat + 1}: {error}", job.cell.injection))
        progress.advance(f"{job.task.method}, {job.cell}: left out")

    todo = [job for job in plans if not run.has_task(job.task.key)]
    users: dict[str, list[_Job]] = {}
    for job in todo:
        if job.background:
            users.setdefault(job.background.key, []).append(job)
    first = [jobs[0] for key, jobs in users.items() if not run.has_task(key)]
    progress.start("training", len(plans) + len(first))
    for job in plans:
        if run.has_task(job.task.key):
            progress.advance(f"{job.task.method}, {job.cell} (already there)")
    densities: dict[str, ConditionalDensity] = {}
    for job, trained in as_finished(pool, _background_job, first, events, simulation):
        assert job.background is not None
        key = job.background.key
        if isinstance(trained, InputError):
            for user in users[key]:
                fail(user, trained)
        else:
            run.write_background(key, *trained)
        progress.advance(f"background density of {', '.join(u.task.method for u in users[key])}, {job.cell}")
    ready = []
    for job in todo:
        if job.background is None:
            ready.append(job)
        elif run.has_task(key := job.background.key):
            if key not in densities:
                densities[key] = run.read_background(key)[0]
            ready.append(replace(job, task=replace(job.task, background=densities[key])))
    for job, result in as_finished(pool, _task_job, ready, events, simulation):
        if isinstance(result, InputError):
            fail(job, result)
        else:
            run.write_task(job.task.key, result)
            progress.advance(f"{job.task.method}, {job.cell}")
    return failed


def _measure(
    config: CompareConfig,
    run: RunDirectory,
    plans: Sequence[_Job],
    events: Events,
    pool: Executor | None,
    progress: Progress,
) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """Measure the remaining entries; returns all entries in the order of the plans, and those that cannot be measured.

    A measurement lies in the folder of its training and goes with it.
    """
    settings = (config.working_points, config.background, config.range, config.sqrt_s, config.min_background)
    digest = run.task_key("merits", _MERITS, *settings)
    where = [run.task_folder(job.task.key) / f"merits-{digest}.json" for job in plans]
    progress.start("measuring", len(plans))
    todo, failed = [], []
    for job, path in zip(plans, where, strict=True):
        if path.exists():
            progress.advance(f"{job.task.method}, {job.cell} (already there)")
        else:
            todo.append(job)
    paths = {job.task.key: path for job, path in zip(plans, where, strict=True)}
    # in batches: the scores of all trainings together may not fit into memory
    for start in range(0, len(todo), _BATCH):
        batch = [
            replace(job, result=run.read_task(job.task.key), min_background=config.min_background)
            for job in todo[start : start + _BATCH]
        ]
        for job, found in as_finished(pool, _merits_job, batch, events):
            if isinstance(found, InputError):
                reason = f"repeat {job.cell.repeat + 1} cannot be measured: {found}"
                failed.append(LeftOut(job.task.method, reason, job.cell.injection))
                progress.advance(f"{job.task.method}, {job.cell}: left out")
                continue
            write_json(paths[job.task.key], found)
            progress.advance(f"{job.task.method}, {job.cell}")
    users = Counter(job.background.key for job in plans if job.background)
    measured = [(job, path) for job, path in zip(plans, where, strict=True) if path.exists()]
    return [_entry(run, job, path, users) for job, path in measured], failed


def _entry(run: RunDirectory, job: _Job, path: Path, users: Mapping[str, int]) -> dict[str, Any]:
    own = run.read_task(job.task.key).facts
    shared = None if job.background is None else run.read_background(job.background.key)[1]
    peaks = [facts["peak_memory_gib"] for facts in (own, shared) if facts and facts["peak_memory_gib"]]
    return {
        "method": job.task.method,
        "injection": job.cell.injection,
        "repeat": job.cell.repeat,
        "seed": job.cell.config.seed,
        "task": job.task.key,
        "background_task": job.background and job.background.key,
        **read_json(path, damaged="delete it and repeat the command"),
        "cost": {
            "own_s": own["total_s"],
            "background_s": shared and shared["total_s"],
            "background_users": job.background and users[job.background.key],
            "cpu_s": own["cpu_s"] + (shared["cpu_s"] if shared else 0.0),
            "peak_memory_gib": max(peaks, default=None),
        },
    }


def _cost(entries: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of all trainings, each shared density once."""
    shared = {entry["background_task"]: entry["cost"]["background_s"] or 0.0 for entry in entries}
    return float(sum(entry["cost"]["own_s"] for entry in entries) + sum(shared.values()))
