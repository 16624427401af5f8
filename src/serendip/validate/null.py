"""The whole chain on samples without signal, and its false-positive rate.

Every experiment draws a background-only sample (:mod:`serendip.search.pseudo_data`), retrains on it, and computes the p-value. A rate above its level is a p-value that claims too much. As a control that the test can fail, some experiments
also score events with models that were trained on them.

With ``kfold-summed`` among the combinations the experiments become the calibration of that rule,
``OUT/validation/null/calibration.json``, which a search uses with ``calibration: FILE``; the rates are then those of
calibrated p-values, each experiment calibrated by others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.events.formats import shown
from serendip.io.files import make_folder, reading
from serendip.io.json import load_json, write_json
from serendip.methods.background import BackgroundConfig
from serendip.methods.registry import get_method
from serendip.runs.executor import as_finished, executor_or_local
from serendip.runs.folder import RunDirectory
from serendip.search.calibration import Calibration, Curve, search_settings
from serendip.search.config import Combination, SearchConfig
from serendip.search.engine import read_events, read_simulation
from serendip.search.fields import Listed
from serendip.search.folds import event_folds
from serendip.search.measure import prepare_window
from serendip.search.null_experiment import NullExperiment, run_null_experiment
from serendip.search.pseudo_data import (
    ModelBackground,
    SampledBackground,
    background_model,
    without_window,
)
from serendip.search.sight import dead_looks
from serendip.validate.base import Answer, Check, Work, answers, look_name
from serendip.validate.config import KindOptions
from serendip.validate.curves import rate_pictures
from serendip.validate.null_verdict import column, judge
from serendip.validate.pictures import Picture

__all__ = ["QUESTION", "Options", "run"]

QUESTION = "Does the full chain, training included, find excesses in background at the nominal rate?"

_SUMMED = "kfold-summed"
_AUC_EVENTS = 10_000


class Options(KindOptions):
    """Options of the null test.

    Attributes
    ----------
    experiments
        Samples for each window.
    source
        ``"model"``: drawn from a model of the data outside the window; ``"labels"``: events of the file whose label is
        0; ``"simulation"``: events of the simulation of the search.
    events
        Mean number of events of a sample, an excess in the window of the file not counted; default: as many as the file
        has, and with background events at most half of them, for samples that share events are not independent.
    combinations
        Rules to test; default: the one of the search. All use the same samples.
    same_data
        Experiments with the control that trains and tests on the same events.
    density
        Density of the model, as the options of a method have it.
    alarm
        A rate fails if it, or a larger one, has a smaller probability than this at the nominal level.
    max_auc
        Largest AUC between pseudo-data and data outside the window.
    """

    experiments: int = Field(default=200, ge=25)
    source: Literal["model", "labels", "simulation"] = "model"
    events: PositiveInt | None = None
    combinations: Annotated[tuple[Combination, ...], Listed] = ()
    same_data: NonNegativeInt = 20
    density: BackgroundConfig = BackgroundConfig(density="flow-matching")
    alarm: float = Field(default=0.003, gt=0, lt=0.5)
    max_auc: float = Field(default=0.53, gt=0.5, lt=1)


@answers("null")
def run(config: SearchConfig, options: Options, work: Work) -> Answer:
    """Run the experiments that are missing in ``OUT/validation/null`` and evaluate all of them.

    Raises
    ------
    InputError
        If the input does not allow such samples, or a method cannot be trained on one.
    """
    for name in config.method:
        if get_method(name).uses_labels:
            raise InputError(
                f"method '{name}' is a reference that is trained with the truth: there is none in background-only samples; "
                "leave it out"
            )
    combinations = options.combinations or (config.combination,)
    events, simulation = read_events(config), read_simulation(config)
    store = RunDirectory(work.out / "validation" / "null")
    checks: list[Check] = []
    facts: dict[str, Any] = {"experiments": options.experiments, "source": options.source, "windows": []}
    figures: list[Picture] = []
    curves: list[Curve] = []
    for window in config.windows:
        one = _in_window(config, window)
        source = _source(one, options, events, simulation, store)
        checks += _sight(one, combinations, events)
        work.progress.start(f"null experiments, {window}", options.experiments)
        folder = _folder(one, options, combinations, source, simulation, store)
        found = _experiments(one, options, combinations, source, simulation, folder, work)
        if isinstance(source, ModelBackground):
            checks.append(_resemblance(events, source, one, options))
        rows, more = judge(found, options.alarm, source.shared, window)
        checks += more
        figures += rate_pictures(rows, window)
        facts["windows"].append(
            {
                "window": [window.low, window.high],
                "mean_events": source.mean,
                "shared": source.shared,
                "looks": rows,
            }
        )
        if _SUMMED in combinations:
            curves += _curves(one, found)
    if curves:
        settings = search_settings(config.model_copy(update={"combination": _SUMMED}))
        path = store.path / "calibration.json"
        made = {
            "source": options.source,
            "file": shown(config.file),
            "input": events.digest(),
            "seed": config.seed,
        }
        Calibration(settings=settings, source=made, curves=tuple(curves)).write(path)
        facts["calibration"] = str(path)
    return checks, facts, figures


def _in_window(config: SearchConfig, window: Window) -> SearchConfig:
    """The same search in one window, everything in GeV."""
    region = (window.low, window.high)
    changes = {
        "window": region,
        "scan": None,
        "width": None,
        "signal_width": None,
        "step": 1.0,
        "unit": "GeV",
        "range": config.mass_range,
    }
    return config.model_copy(update=changes)


def _source(
    config: SearchConfig, options: Options, events: Events, simulation: Events | None, store: RunDirectory
) -> ModelBackground | SampledBackground:
    if options.source == "model":
        # the calibration is about the search itself, not about these samples
        window_fit = prepare_window(
            events, config.windows[0], config.model_copy(update={"calibration": None})
        )
        size = (options.events or len(events)) / len(events)
        return background_model(events, window_fit, options.density, store, size=size, seed=config.seed)
    if options.source == "labels":
        pool = events.select(~events.labels).without_label()
    elif simulation is None:
        raise InputError(
            "null.source 'simulation' needs simulated background: give a file (--simulation FILE)"
        )
    elif any(get_method(name).uses_simulation(config.method_config(name)) for name in config.method):
        raise InputError(
            "null.source 'simulation': a method starts from the same simulation, so that its samples would hold the events "
            "it learns from; take null.source: model"
        )
    else:
        pool = simulation
    mean = options.events or min(len(events), len(pool) // 2)
    if mean > 0.9 * len(pool):
        raise InputError(
            f"samples of {mean} events cannot be drawn from {len(pool)} background events without repeating some; "
            "request fewer (null.events), or use null.source: model"
        )
    return SampledBackground(pool, float(mean))


def _folder(
    config: SearchConfig,
    options: Options,
    combinations: tuple[str, ...],
    source: ModelBackground | SampledBackground,
    simulation: Events | None,
    store: RunDirectory,
) -> Path:
    """Where the experiments of these settings lie; more of them, or other thresholds, do not change it."""
    origin = (
        [source.density.name, source.size, source.beyond, source.spectrum.params]
        if isinstance(source, ModelBackground)
        else [source.events.digest(), source.mean]
    )
    settings = config.resolved()
    for name in ("file", "toys", "calibration", "combination"):
        del settings[name]
    simulated = None if simulation is None else simulation.digest()
    key = store.task_key("null", settings, origin, simulated, combinations, options.same_data)
    return store.path / "experiments" / key


def _experiments(
    config: SearchConfig,
    options: Options,
    combinations: tuple[str, ...],
    source: ModelBackground | SampledBackground,
    simulation: Events | None,
    folder: Path,
    work: Work,
) -> list[dict[str, Any]]:
    """All experiments of a window; existing ones are read."""
    make_folder(folder, "")
    paths = [folder / f"{number:06d}.json" for number in range(options.experiments)]
    todo = []
    for number, path in enumerate(paths):
        if path.exists():
            work.progress.advance(f"experiment {number} (already there)")
        else:
            todo.append(NullExperiment(number, config, combinations, number < options.same_data))
    with executor_or_local(None, work.jobs, len(todo)) as pool:
        for job, content in as_finished(pool, run_null_experiment, todo, source, simulation):
            write_json(paths[job.number], content)
            work.progress.advance(f"experiment {job.number}")
    return [_read(path) for path in paths]


def _read(path: Path) -> dict[str, Any]:
    with reading(path, damaged="delete it and run again"):
        content = load_json(path)
        return content if content["looks"] else {}


def _resemblance(events: Events, source: ModelBackground, config: SearchConfig, options: Options) -> Check:
    """Train a classifier between pseudo-data and data outside the window."""
    from serendip.classify.separation import two_sample_auc

    (window,) = config.windows
    rng = np.random.default_rng([config.seed, 0xA0C])
    samples = [without_window(sample, window, rng, _AUC_EVENTS) for sample in (events, source.draw(rng))]
    n = min(map(len, samples))
    data, drawn = (sample.select(rng.permutation(len(sample))[:n]) for sample in samples)
    auc, error = two_sample_auc(data.x, np.ones(n), drawn.x, np.ones(n), rng)
    return Check(
        f"pseudo-data resemble the data, outside {window}",
        auc - 2 * error < options.max_auc,
        auc,
        error,
        f"AUC below {options.max_auc:g} + 2 errors",
        "a classifier distinguishes the samples of this test from the data: they are not the background of this search",
    )


def _sight(config: SearchConfig, combinations: tuple[str, ...], events: Events) -> list[Check]:
    """One undecided check for each dead look: no experiment will find an excess there."""
    dead: dict[tuple[str, Window, float | None], str] = {}
    prepared = prepare_window(events, config.windows[0], config.model_copy(update={"calibration": None}))
    fold = event_folds(events, config.folds, config.seed)
    for combination in combinations:
        one = config.model_copy(update={"combination": combination})
        dead |= {
            look: why
            for look, why in dead_looks(one, events, fold, [prepared]).items()
            if look[2] is None or not one.weighted(look[0])
        }
    return [
        Check(
            f"can find anything, {name}, {look_name(point)}, {window}",
            None,
            None,
            None,
            "enough sideband events in a fold",
            why,
        )
        for (name, window, point), why in dead.items()
    ]


def _curves(config: SearchConfig, experiments: list[dict[str, Any]]) -> list[Curve]:
    (window,) = config.windows
    return [
        Curve(
            method=look["method"],
            options=config.method_config(look["method"]).model_dump(mode="json"),
            window=(window.low, window.high),
            working_point=look["working_point"],
            events=float(np.mean([found["sideband_events"] for found in experiments])),
            **{
                name: tuple(column(experiments, _SUMMED, i, name).tolist())
                for name in ("z", "observed", "expected")
            },
        )
        for i, look in enumerate(experiments[0]["looks"][_SUMMED])
        if get_method(look["method"]).trains
    ]
