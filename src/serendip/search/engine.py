"""The scan from a table of events to a run directory.

``run_search`` is the whole chain: read, check, train (each method in each window is one task), cut, fit, global
p-value, files. Finished tasks are skipped, so the same call after a crash continues where it stopped.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from serendip.events.events import Events, Window
from serendip.events.formats import Source
from serendip.events.read import read
from serendip.io.files import atomic_write
from serendip.io.json import write_json
from serendip.methods.base import BackgroundRequest
from serendip.methods.registry import get_method
from serendip.runs.executor import as_finished, available_cores, executor_or_local
from serendip.runs.folder import FinishedRun, RunDirectory
from serendip.runs.progress import LogProgress, Progress
from serendip.runs.training import TaskResult
from serendip.search.config import SearchConfig
from serendip.search.diagnostics import diagnostics
from serendip.search.folds import cross_training_plan, event_folds, tie_breaker
from serendip.search.measure import measure, prepare_window
from serendip.search.results import Results
from serendip.search.second_signals import second_signals
from serendip.search.sight import choose_by_size, dead_looks, warn_of_dead_looks
from serendip.search.task import BackgroundTask, Task, run_background, run_task
from serendip.statistics.combination import in_order

__all__ = [
    "SearchResult",
    "TrainingPlan",
    "plan_training",
    "read_events",
    "read_simulation",
    "run_search",
    "start_run",
    "train",
]

log = logging.getLogger(__name__)


class SearchResult(FinishedRun):
    """The return value of ``run_search``; ``results`` is the content of ``results.json``."""


def run_search(
    config: SearchConfig,
    out: Path | str,
    *,
    unblind: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Search for a resonance and write the run directory.

    Parameters
    ----------
    config
        The configuration of the search.
    out
        The run directory: new, or one of the same configuration, which is then continued.
    unblind
        Show and write observed counts in the windows. Recorded in the manifest; cannot be taken back.
    jobs
        Worker processes; default: one for each core that this process may use.
    executor
        Runs the trainings instead of local processes, for example ``dask.distributed.Client().get_executor(pure=False)``.
    progress
        Receives progress messages.

    Returns
    -------
    SearchResult

    Raises
    ------
    InputError
        If the input, the configuration or the folder cannot be used. Nothing is trained in that case.
    """
    clock = time.perf_counter()
    progress = progress or LogProgress()
    run = RunDirectory(Path(out))
    config = _continued(config, run.settings())
    run.check(config.resolved())
    events = read_events(config)
    simulation = read_simulation(config)
    windows = [prepare_window(events, window, config) for window in config.windows]
    config, chosen = choose_by_size(config, events, windows)
    fold = event_folds(events, config.folds, config.seed)
    dead = dead_looks(config, events, fold, windows)
    warn_of_dead_looks(dead, config.n_looks)
    _check_methods(config, events, fold, simulation)
    run.open(config.resolved())
    manifest = start_run(run, config, events, simulation, unblind=unblind)
    # from the first call on: sums over threads round differently, and a run that is continued with other jobs must end
    # with the numbers of one that was not
    threads = manifest.setdefault("threads", jobs or available_cores() if executor is None else 1)
    unblinded = run.unblinded
    read_done = time.perf_counter()

    plan = plan_training(config, run, events, simulation, threads)
    if chosen is not None:
        manifest["chosen"] = chosen
    manifest["task_keys"] = [
        {"method": task.method, "window": [task.window.low, task.window.high], "key": task.key}
        for task in plan.tasks
    ]
    write_json(run.path / "manifest.json", manifest)
    tasks = train(plan, run, events, simulation, executor, jobs, progress)
    trained = time.perf_counter()

    progress.start("fits, p-values and toys", 1)
    measurement = measure(config, events, fold, windows, tasks, blinded=not unblinded, dead=dead)
    progress.advance("statistics")
    statistics_done = time.perf_counter()

    results = Results(
        schema_version=1,
        seed=config.seed,
        blinded=not unblinded,
        looks=[look.record() for look in measurement.looks],
        overall=measurement.overall,
        sidebands=second_signals(config, measurement, blinded=not unblinded),
        timing_s={
            "read": read_done - clock,
            "train": sum(task.facts["total_s"] for task in tasks.values()),
            "statistics": statistics_done - trained,
            "total": time.perf_counter() - clock,
        },
    )
    diagnostics(config, events, fold, measurement, tasks, blinded=not unblinded).write(
        run.path / "diagnostics.json"
    )
    _write_scores(run.path / "scores.parquet", events, fold, tasks, config.seed, blinded=not unblinded)
    results.write(run.path / "results.json")
    manifest["timing_s"] = results.timing_s
    manifest["tasks"] = [task.facts | {"closure": None} for task in tasks.values()]
    manifest["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(run.path / "manifest.json", manifest)
    return SearchResult(run.path, results.content())


def read_events(config: SearchConfig) -> Events:
    """Events of a configuration, in the order of their ids: the order of rows in the file changes nothing.

    Raises
    ------
    InputError
        If the file cannot be used as asked.
    """
    events = read(
        config.file,
        mass=config.mass,
        features=config.features,
        weight=config.weight,
        label=config.label,
        id=config.id,
        group=config.group,
        where=config.where,
        tree=config.tree,
        unit=config.unit,
        preset=config.preset,
        independent=True,
    )
    return events.in_order()


def read_simulation(config: SearchConfig) -> Events | None:
    """Simulated background of a configuration: the same columns as the data, without label and id.

    Raises
    ------
    InputError
        If the file cannot be used as asked.
    """
    if config.simulation is None:
        return None
    return read(
        config.simulation,
        mass=config.mass,
        features=config.features,
        weight=config.simulation_weight,
        where=config.where if config.simulation_where is None else config.simulation_where,
        tree=config.tree,
        unit=config.unit,
        preset=config.preset,
    ).without_label()


def start_run(
    run: RunDirectory,
    config: SearchConfig,
    events: Events,
    simulation: Events | None = None,
    *,
    unblind: bool,
) -> dict[str, Any]:
    """Record the input and the software of a run; returns the manifest, as :meth:`~serendip.runs.folder.RunDirectory.start`."""
    inputs: dict[str, tuple[Source, Events]] = {"input": (config.file, events)}
    if simulation is not None and config.simulation is not None:
        inputs["simulation"] = (config.simulation, simulation)
    return run.start(config.resolved(), inputs, digest=config.digest(), unblind=unblind)


def _continued(config: SearchConfig, found: Mapping[str, Any]) -> SearchConfig:
    """Settings that were chosen from the sample when the run began and are not given now; without a run, ``config``."""
    chosen: dict[str, Any] = {}
    with suppress(KeyError, TypeError, ValueError):
        chosen = {
            "folds": int(found["folds"]),
            "working_points": tuple(float(point) for point in found["working_points"]),
        }
    return config.model_copy(
        update={key: value for key, value in chosen.items() if key not in config.model_fields_set}
    )


def _check_methods(
    config: SearchConfig, events: Events, fold: NDArray[np.int64], simulation: Events | None
) -> None:
    """Ask every method about every window, so that a scan does not stop after hours of training."""
    for window in config.windows:
        inside = window.contains(events.m)
        plan = cross_training_plan(fold, config.folds, config.combination, config.positions, inside)
        for name in config.method:
            method = get_method(name)(config.method_config(name), seed=config.seed, simulation=simulation)
            method.check(events if method.uses_labels else events.without_label(), window, plan.splits)


@dataclass(frozen=True)
class TrainingPlan:
    """The trainings that a configuration needs on a sample, finished or not.

    Attributes
    ----------
    tasks
        One for each method and window.
    backgrounds
        The background density that a method requested in a window; equal ones are one training.
    """

    tasks: tuple[Task, ...]
    backgrounds: Mapping[tuple[str, Window], BackgroundTask]


def plan_training(
    config: SearchConfig, run: RunDirectory, events: Events, simulation: Events | None, cores: int
) -> TrainingPlan:
    """List the trainings, and the keys of their results; ``cores`` is shared out as threads."""
    digest = events.digest()
    positions = tuple(tuple(place) for place in config.positions.tolist())
    # the sequential schemes train one order, the folds in numerical order
    plain = in_order(config.combination) and len(positions) == 1
    scheme = "sequential" if plain else config.combination.split("-")[0]
    common = (config.folds, scheme, config.seed, *([] if plain or scheme == "kfold" else [positions]))

    wanted: dict[tuple[str, Window], BackgroundRequest] = {}
    for window in config.windows:
        for name in config.method:
            request = get_method(name)(
                config.method_config(name), seed=config.seed, simulation=simulation
            ).background_request(window)
            if request is not None:
                wanted[name, window] = request
    requests = list(dict.fromkeys(wanted.values()))

    def learns(beside_window: bool) -> list[str]:
        """Training events of an order of the folds besides the past; part of the key, since older runs used none."""
        beside = beside_window and in_order(config.combination)
        return ["beside the window: all folds that are not scored"] if beside else []

    # threads from all tasks, not from those that are left: sums over threads round differently, and a run that was
    # continued must end with the numbers of one that was not
    threads = max(1, cores // max(1, len(requests)))
    backgrounds = {
        request: BackgroundTask(
            run.task_key(
                digest, "background", asdict(request), *common, *learns(request.outside is not None)
            ),
            request,
            config.folds,
            config.combination,
            config.seed,
            threads,
            positions,
        )
        for request in requests
    }

    threads = max(1, cores // (len(config.windows) * len(config.method)))
    simulation_digest = None if simulation is None else simulation.digest()
    tasks = []
    for window in config.windows:
        for name in config.method:
            options = config.method_config(name).model_dump(mode="json")
            region = [window.low, window.high]
            simulated = get_method(name).uses_simulation(config.method_config(name))
            inputs = [digest, simulation_digest] if simulated else digest
            counted = [] if config.template_draws is None else ["template count", config.template_draws]
            beside = learns(get_method(name).trains)
            key = run.task_key(inputs, name, options, region, *common, *counted, *beside)
            tasks.append(
                Task(
                    key,
                    name,
                    options,
                    window,
                    config.folds,
                    config.combination,
                    config.seed,
                    threads,
                    positions,
                    bounds=config.mass_range,
                    template_draws=config.template_draws,
                )
            )
    return TrainingPlan(tuple(tasks), {where: backgrounds[request] for where, request in wanted.items()})


def train(
    plan: TrainingPlan,
    run: RunDirectory,
    events: Events,
    simulation: Events | None,
    executor: Executor | None,
    jobs: int | None,
    progress: Progress,
) -> dict[tuple[str, Window], TaskResult]:
    """Train the unfinished tasks; one task for each method and window, and before them one for each density."""
    todo = [task for task in plan.tasks if not run.has_task(task.key)]
    needed = {
        background.key: background
        for task in todo
        if (background := plan.backgrounds.get((task.method, task.window))) is not None
    }
    first = [background for key, background in needed.items() if not run.has_task(key)]
    progress.start("training", len(plan.tasks) + len(first))
    for task in plan.tasks:
        if run.has_task(task.key):
            progress.advance(f"{task.method} in {task.window} (already there)")
    with executor_or_local(executor, jobs, max(len(todo), len(first))) as pool:
        for background, (density, facts) in as_finished(pool, run_background, first, events):
            run.write_background(background.key, density, facts)
            progress.advance(f"background density ({background.request.outside or 'all windows'})")
        densities = {key: run.read_background(key)[0] for key in needed}
        ready = [
            replace(task, background=densities[plan.backgrounds[where].key])
            if where in plan.backgrounds
            else task
            for task in todo
            for where in [(task.method, task.window)]
        ]
        for task, result in as_finished(pool, run_task, ready, events, simulation):
            run.write_task(task.key, result)
            progress.advance(f"{task.method} in {task.window}")
    return {(task.method, task.window): run.read_task(task.key) for task in plan.tasks}


def _write_scores(
    path: Path,
    events: Events,
    fold: NDArray[np.int64],
    tasks: dict[tuple[str, Window], TaskResult],
    seed: int,
    *,
    blinded: bool,
) -> None:
    """One row for each event, method and window, with the scores in all orders of the folds.

    Blinded: the scores of the events in any window are null, and so are some others, so that a round number is not. How
    many events lie in the windows cannot be counted then.
    """
    ids = {name: pa.array(values) for name, values in events.id_columns.items()}
    n_orders = max(len(task.all_scores) for task in tasks.values())
    schema = pa.schema(
        {
            **{name: values.type for name, values in ids.items()},
            "method": pa.dictionary(pa.int8(), pa.string()),
            "window_low": pa.float64(),
            "window_high": pa.float64(),
            "fold": pa.int16(),
            "score": pa.float64(),
            **{f"score_{number}": pa.float64() for number in range(2, n_orders + 1)},
            "in_window": pa.bool_(),
            **({} if events.weight is None else {"weight": pa.float64()}),
        }
    )
    secret = np.zeros(len(events), dtype=bool)
    if blinded:
        for _, window in tasks:
            secret |= window.contains(events.m)
        shown = np.flatnonzero(~secret)
        first = np.argsort(tie_breaker(events.ids, seed)[shown], kind="stable")
        secret[shown[first[_round(len(shown)) :]]] = True
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for (method, window), task in tasks.items():
            inside = window.contains(events.m)
            n = len(events)
            columns = [
                *ids.values(),
                pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), [method]),
                pa.array(np.full(n, window.low)),
                pa.array(np.full(n, window.high)),
                pa.array(fold.astype(np.int16)),
                *(pa.array(score, mask=np.isnan(score) | secret) for score in task.all_scores),
                *[pa.nulls(n, pa.float64())] * (n_orders - len(task.all_scores)),
                # a look without a cut counts all events in its window
                pa.array(inside, mask=secret),
                *([] if events.weight is None else [pa.array(events.weights)]),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _round(n: int) -> int:
    """``n`` down to one digit and zeros."""
    unit = 10 ** max(len(str(n)) - 1, 0)
    return int(n // unit * unit)
