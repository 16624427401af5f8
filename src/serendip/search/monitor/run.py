r"""A search that looks at the data after every period of data taking: from event tables to ``monitor.json``.

The events of each new period are scored by models of all earlier ones, and the ranks of their scores give the evidence; the evidence
of a look (a method in a window) is the product over periods, and that of all looks their mean (:mod:`serendip.statistics.eprocess`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.io.json import write_json
from serendip.methods.registry import get_method
from serendip.runs.executor import as_finished, available_cores, executor_or_local
from serendip.runs.folder import FinishedRun, RunDirectory
from serendip.runs.progress import LogProgress, Progress
from serendip.search.engine import read_simulation, start_run
from serendip.search.folds import tie_breaker
from serendip.search.measure import WindowFit, prepare_window
from serendip.search.monitor.config import MonitorConfig
from serendip.search.monitor.periods import (
    Period,
    PeriodTask,
    check_new,
    read_period,
    run_period,
    stored_periods,
    together,
    training_sets,
    write_period,
)
from serendip.search.monitor.results import Evidence, LookEvidence, Monitored, MonitoredLook, PeriodFacts
from serendip.statistics.compound import effective_number
from serendip.statistics.eprocess import (
    HORIZONS,
    PeriodEvidence,
    anytime_log_p,
    average_log_e,
    densities,
    make_transfer,
    period_evidence,
)
from serendip.statistics.pvalues import significance
from serendip.statistics.ranks import leave_one_out_rank
from serendip.statistics.weighting import FEWEST_RANKED

__all__ = ["MonitorResult", "run_monitor"]

Array = NDArray[np.float64]
Where = tuple[str, Window]


class MonitorResult(FinishedRun):
    """The return value of :func:`run_monitor`; ``results`` is the content of ``monitor.json``."""


@dataclass(frozen=True)
class _Sample:
    """All periods: their events one after the other, where each begins, and the fits of each in every window."""

    periods: list[Period]
    events: Events
    starts: NDArray[np.int64]
    fits: list[dict[Window, WindowFit]]

    def part(self, t: int) -> Events:
        """Events of one period."""
        return self.events.select(np.arange(self.starts[t], self.starts[t + 1]))


def run_monitor(
    config: MonitorConfig,
    out: Path | str,
    *,
    append: Sequence[str] = (),
    unblind: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    page: Callable[[Path], object] | None = None,
) -> MonitorResult:
    """Begin a monitor, append periods to it, or continue an interrupted one.

    Parameters
    ----------
    config
        The configuration of the search; its file is the first period.
    out
        The run directory: new, or one of the same configuration. It keeps the events of all periods.
    append
        Files of new periods, in the order of data taking; each a file, a folder or a pattern.
    unblind
        Compute and write the evidence. Recorded in the manifest; cannot be taken back.
    jobs, executor, progress
        As for :func:`~serendip.search.engine.run_search`.
    page
        Called with the folder when ``monitor.json`` is written, before the new periods count as finished.

    Raises
    ------
    InputError
        If the input, the configuration or the folder cannot be used, or a period was appended before. The folder is then as it was.
    """
    progress = progress or LogProgress()
    run = RunDirectory(Path(out), "monitor")
    run.check(config.resolved())
    folder = run.path / "periods"
    stored = stored_periods(folder)
    finished = int(run.manifest().get("periods_finished", 0))
    new = [read_period(config, config.file)] if not stored else []
    appended = [read_period(config, file) for file in append]
    pending = [period.digest for period in stored[max(finished, 1) :]]
    if appended and pending:
        if [period.digest for period in appended[: len(pending)]] != pending:
            raise InputError(
                f"--out {run.path}: period {len(stored) - 1} (from {stored[-1].file}) is not finished yet; repeat the command that "
                "appended it, or leave --append out, before you append another one"
            )
        appended = appended[len(pending) :]
    new += appended
    check_new(config, stored, new)
    simulation = read_simulation(config)
    sample = _prepare(config, [*stored, *new], simulation)

    run.open(config.resolved())
    for number, period in enumerate(new, start=len(stored)):
        write_period(folder, number, period)
    manifest = start_run(run, config, sample.periods[0].events, simulation, unblind=unblind)
    threads = manifest.setdefault("threads", jobs or available_cores() if executor is None else 1)
    tasks = _plan(config, run, sample, simulation, threads)
    manifest["task_keys"] = [
        {
            "method": task.method,
            "window": [task.window.low, task.window.high],
            "period": task.period,
            "key": task.key,
        }
        for task in tasks
    ]
    write_json(run.path / "manifest.json", manifest)
    _train(tasks, run, sample.events, simulation, executor, jobs, progress)

    progress.start("evidence", 1)
    results = _results(config, run, sample, tasks, blinded=not run.unblinded)
    results.write(run.path / "monitor.json")
    progress.advance("evidence")
    if page is not None:
        page(run.path)
    manifest["periods_finished"] = len(sample.periods)
    manifest["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(run.path / "manifest.json", manifest)
    return MonitorResult(run.path, results.content())


def _prepare(config: MonitorConfig, periods: list[Period], simulation: Events | None) -> _Sample:
    """Check every period and every window before anything is written or trained."""
    events = together(periods)
    starts = np.concatenate([[0], np.cumsum([len(period.events) for period in periods])])
    sample = _Sample(periods, events, starts, [])
    for t, period in enumerate(periods):
        part = sample.part(t)
        try:
            fits = {window: prepare_window(part, window, config) for window in config.windows}
        except InputError as error:
            raise InputError(f"period {t} ({period.file}): {error}") from None
        sample.fits.append(fits)
        if not t:
            continue
        fold, splits = training_sets(
            events.select(np.arange(starts[t + 1])), int(starts[t]), config.folds, config.seed
        )
        for window, fit in fits.items():
            side = fit.sideband(part.m)
            sizes = [
                effective_number(part.weights[side & (fold[starts[t] :] == f)]) for f in range(config.folds)
            ]
            if min(sizes) < FEWEST_RANKED:
                where = f"part {int(np.argmin(sizes))} of it has" if config.folds > 1 else "it has"
                raise InputError(
                    f"period {t} ({period.file}): ranks need {FEWEST_RANKED} sideband events around the window {window}, and {where} "
                    f"{min(sizes):.3g}; use fewer folds, or wait until there are more data and append them as one period"
                )
        seen = events.select(np.arange(starts[t + 1]))
        for name in config.method:
            method = get_method(name)(config.method_config(name), seed=config.seed, simulation=simulation)
            for window in config.windows:
                method.check(seen, window, splits)
    return sample


def _plan(
    config: MonitorConfig, run: RunDirectory, sample: _Sample, simulation: Events | None, cores: int
) -> list[PeriodTask]:
    """One training for each period, window and method, under a key of all that it depends on."""
    # from all looks and not from those that are left: a run that was continued must end with the numbers of one that was not
    threads = max(1, cores // (len(config.windows) * len(config.method)))
    digests = [period.digest for period in sample.periods]
    simulated = None if simulation is None else simulation.digest()
    tasks = []
    for t in range(1, len(digests)):
        for window in config.windows:
            for name in config.method:
                options = config.method_config(name).model_dump(mode="json")
                uses = get_method(name).uses_simulation(config.method_config(name))
                past = [*digests[: t + 1], *([simulated] if uses else [])]
                region = [window.low, window.high]
                key = run.task_key(past, "period", name, options, region, config.folds, config.seed)
                start, end = (int(edge) for edge in sample.starts[t : t + 2])
                tasks.append(
                    PeriodTask(key, name, options, window, t, start, end, config.folds, config.seed, threads)
                )
    return tasks


def _train(
    tasks: Sequence[PeriodTask],
    run: RunDirectory,
    events: Events,
    simulation: Events | None,
    executor: Executor | None,
    jobs: int | None,
    progress: Progress,
) -> None:
    todo = [task for task in tasks if not run.has_task(task.key)]
    progress.start("training", len(todo))
    with executor_or_local(executor, jobs, len(todo)) as pool:
        for task, result in as_finished(pool, run_period, todo, events, simulation):
            run.write_task(task.key, result)
            progress.advance(f"{task.method} in {task.window}, period {task.period}")


def _results(
    config: MonitorConfig, run: RunDirectory, sample: _Sample, tasks: Sequence[PeriodTask], *, blinded: bool
) -> Monitored:
    scores = {(task.method, task.window, task.period): run.read_task(task.key).scores for task in tasks}
    looks, log_w = [], []
    for name in config.method:
        for window in config.windows:
            by_period = {
                t: score for (method, where, t), score in scores.items() if (method, where) == (name, window)
            }
            found = _look(config, sample, window, by_period, blinded=blinded)
            line = np.cumsum([np.zeros(len(HORIZONS)), *(one.log_e for one in found)], axis=0)
            log_w.append(average_log_e(line, axis=1))
            periods = [
                LookEvidence(
                    expected=one.expected,
                    degree=one.degree.tolist(),
                    observed=None if blinded else one.observed,
                    log_w_horizons=None if blinded else line[t],
                    **_entry(log_w[-1], t, blinded=blinded),
                )
                for t, one in enumerate(found, start=1)
            ]
            looks.append(MonitoredLook(method=name, window=(window.low, window.high), periods=periods))
    overall = average_log_e(np.array(log_w))
    return Monitored(
        schema_version=1,
        seed=config.seed,
        blinded=blinded,
        horizons=HORIZONS,
        periods=[
            PeriodFacts(period=t, file=period.file, digest=period.digest, events=len(period.events))
            for t, period in enumerate(sample.periods)
        ],
        looks=looks,
        overall=[Evidence(**_entry(overall, t, blinded=blinded)) for t in range(1, len(sample.periods))],
    )


def _entry(log_w: Array, t: int, *, blinded: bool) -> dict[str, Any]:
    """Evidence of period ``t`` and of all until then."""
    if blinded:
        return {"period": t, **dict.fromkeys(("log_e", "log_w", "log_p", "p", "z"))}
    log_p = float(anytime_log_p(log_w[: t + 1])[-1])
    return {
        "period": t,
        "log_e": log_w[t] - log_w[t - 1],
        "log_w": log_w[t],
        "log_p": log_p,
        "p": np.exp(log_p),
        "z": significance(log_p),
    }


def _look(
    config: MonitorConfig, sample: _Sample, window: Window, scores: Mapping[int, Array], *, blinded: bool
) -> list[PeriodEvidence]:
    """Evidence of each tested period for one method; blinded: of the sidebands alone, which give the expectation."""
    start = sample.part(0)
    first = past = effective_number(start.weights[sample.fits[0][window].sideband(start.m)])
    found: list[PeriodEvidence] = []
    for t, score in sorted(scores.items()):
        part, fit = sample.part(t), sample.fits[t][window]
        until = sample.events.select(np.arange(sample.starts[t + 1]))
        fold = training_sets(until, int(sample.starts[t]), config.folds, config.seed)[0][sample.starts[t] :]
        side = fit.sideband(part.m)
        rank = leave_one_out_rank(
            score, fold, side, part.weights, tie_breaker(part.ids, config.seed), part.groups
        )
        ratio = make_transfer(fit.inclusive, 0).ratio
        density = np.zeros((len(HORIZONS), len(part)))
        for f in range(config.folds):
            n = effective_number(part.weights[side & (fold == f)])
            density[:, fold == f] = densities(rank[fold == f], past, first, n, ratio)
            past += n
        used = fit.in_range(part.m)
        if blinded:
            used &= ~window.contains(part.m)
        found.append(
            period_evidence(
                part.m[used],
                part.weights[used],
                None if part.groups is None else part.groups[used],
                density[:, used],
                window,
                fit.inclusive,
                np.sum([one.lack for one in found], axis=0) if found else None,
            )
        )
    return found
