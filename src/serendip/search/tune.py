"""Options of a method, chosen without labels by ARGOS on events that no p-value is computed from.

Each trial is evaluated with :func:`serendip.search.judge.judge`, on four folds of the tuning events.

Looking at the window costs: options that were chosen for their excess in some events bias every p-value from these
events. A sequential search never tests fold 0, so by default tuning uses that fold only, and given the options the counts of the other folds are Poisson as before. ``best.yaml`` records the events used (``tuned``), and a search that tests them anyway is refused or gets a warning.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.density.base import ConditionalDensity
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.io.files import make_folder
from serendip.io.json import write_json
from serendip.io.yaml import write_yaml
from serendip.methods.background import train_background
from serendip.methods.base import BackgroundRequest, Method
from serendip.methods.registry import get_method
from serendip.runs.progress import Progress
from serendip.runs.reuse import stored_record
from serendip.search.config import SearchConfig
from serendip.search.engine import read_events, read_simulation
from serendip.search.folds import cross_training_plan, event_folds
from serendip.search.judge import judge
from serendip.search.tuned import FOLD_KEYS, Tuned, TuneOn
from serendip.statistics.combination import in_order
from serendip.version import __version__

__all__ = ["ALL_WARNING", "TuneResult", "tune", "tuning_events"]

ALL_WARNING = (
    "tuned on all events: the options were chosen by looking at the data in the window. A p-value from the same events "
    "with these options is too small; for other data, take the options and leave out 'tuned'"
)

_FOLDS = 4
_SALT = 0x7E57
_STARTUP_TRIALS = 8
_ASKS_PER_TRIAL = 50


@dataclass(frozen=True)
class TuneResult:
    """The return value of :func:`tune`.

    Attributes
    ----------
    path
        The folder.
    content
        Content of ``tune.json``.
    """

    path: Path
    content: dict[str, Any]


def tuning_events(config: SearchConfig, events: Events, on: TuneOn) -> Events:
    """Events that tuning may look at, without their labels.

    Raises
    ------
    InputError
        If the search would test all of its folds.
    """
    if on == "all":
        return events.without_label()
    if not in_order(config.combination):
        raise InputError(
            f"combination '{config.combination}' tests every event, so that none is left to tune on; use 'weighted' or "
            "'sequential', "
            "or tune on other data with --on all --unblind"
        )
    fold = event_folds(events, config.folds, config.seed)
    return events.select(fold == 0).without_label()


def tune(
    config: SearchConfig,
    out: Path | str,
    *,
    trials: int = 20,
    on: TuneOn = "untested",
    unblind: bool = False,
    threads: int = 1,
    progress: Progress | None = None,
) -> TuneResult:
    """Choose the options of every method of a search and write ``tune.json`` and ``best.yaml`` into a folder.

    Parameters
    ----------
    config
        The search that the options are for. Options that it sets are not changed.
    out
        Folder: new, or one of the same settings, where finished trials are not repeated.
    trials
        Trials for each method, with different options each, the first with the defaults that hold together with the
        options of the search. The others come from Optuna's tree-structured Parzen estimator; the same seed gives the
        same trials.
    on
        ``"untested"``: fold 0 of a sequential search; ``"all"``: all events, see :data:`ALL_WARNING`.
    unblind
        Needed for ``"all"``: the output depends on the observed events in the window. Recorded in
        ``tune.json``.
    threads
        Of each training.
    progress
        Receives progress messages.

    Raises
    ------
    InputError
        If a method cannot be tuned or was tuned already, the folder holds something else, ``unblind`` does not fit
        ``on``, or Optuna is not installed.
    """
    if trials < 1:
        raise InputError(f"--trials {trials}: at least one is needed")
    _check_blinding(on, unblind)
    if config.tuned is not None:
        raise InputError(
            f"the options of {', '.join(config.tuned.methods)} were tuned already ('tuned' in the settings): start from "
            "the settings that this tuning started from"
        )
    for name in config.method:
        if get_method(name).uses_labels:
            raise InputError(f"method '{name}' is a reference that uses the truth; it has nothing to tune")
        if not _choices(config, name):
            raise InputError(
                f"method '{name}' cannot be tuned: it names no options for it, or all of them are set already"
            )
    _optuna()
    events = read_events(config)
    sample = tuning_events(config, events, on)
    simulation = read_simulation(config)
    path = Path(out)
    content = _open(path, config, on, events, sample, simulation)
    fold = event_folds(sample, _FOLDS, config.seed + _SALT)
    for name in config.method:
        known = content["methods"].setdefault(name, {"trials": []})["trials"]
        densities: dict[tuple[BackgroundRequest, Window], ConditionalDensity] = {}

        def evaluate(options: dict[str, Any], name: str = name, densities: Any = densities) -> dict[str, Any]:
            found = [
                judge(
                    lambda window=window: _method(  # type: ignore[misc]
                        config, name, options, sample, fold, window, densities, simulation, threads
                    ),
                    sample,
                    window,
                    fold,
                    seed=config.seed,
                )
                for window in config.windows
            ]
            means = {key: float(np.mean([asdict(one)[key] for one in found])) for key in asdict(found[0])}
            return means | {"error": means["error"] / np.sqrt(len(found))}

        if progress is not None:
            progress.start(f"tuning {name}", trials)
        for trial in _trials(config, name, trials, known, evaluate):
            if len(known) <= trial["number"]:
                known.append(trial)
                write_json(path / "tune.json", content)
            if progress is not None:
                progress.advance(_line(trial))
        content["methods"][name]["best"] = _best(known[:trials])
    write_json(path / "tune.json", content)
    settings = config.model_dump(mode="json", exclude_defaults=True)
    settings["options"] = {
        name: config.options.get(name, {}) | entry["trials"][entry["best"]]["options"]
        for name, entry in content["methods"].items()
    }
    settings["tuned"] = Tuned(
        on=on, methods=config.method, **{key: getattr(config, key) for key in FOLD_KEYS}
    ).model_dump(mode="json")
    write_yaml(path / "best.yaml", settings, f"# {ALL_WARNING}\n" if on == "all" else "")
    return TuneResult(path, content)


def _check_blinding(on: TuneOn, unblind: bool) -> None:
    if on == "all" and not unblind:
        raise InputError(
            "--on all uses every event in the window: ARGOS of a trial reveals a signal there, and a search of the "
            "same events is no longer blind. Add --unblind if this is intended; it is recorded in tune.json"
        )
    if on == "untested" and unblind:
        raise InputError(
            "--unblind is used with --on all only: the search does not test the fold that is tuned on"
        )


def _best(trials: list[dict[str, Any]]) -> int:
    """Number of the best trial; that of the defaults, unless another is better by twice the error of the difference.

    The best of many trials is partly the luckiest one.
    """
    best = max((trial for trial in trials if trial["value"] is not None), key=lambda trial: trial["value"])
    error = math.hypot(best["error"], trials[0]["error"])
    return int(best["number"]) if best["value"] - trials[0]["value"] > 2 * error else 0


def _choices(config: SearchConfig, name: str) -> dict[str, tuple[Any, ...]]:
    """Values to try of each option that is not fixed, the default among them, without those that the fixed ones exclude."""
    fixed = config.options.get(name, {})
    defaults = config.method_config(name)
    choices = {}
    for option, named in get_method(name).Config.tunable.items():
        default = getattr(defaults, option)
        values = tuple(
            value for value in named if value == default or _allowed(config, name, {option: value})
        )
        if default not in values:
            values = (default, *values)
        if option not in fixed and len(values) > 1:
            choices[option] = values
    return choices


def _allowed(config: SearchConfig, name: str, options: dict[str, Any]) -> bool:
    try:
        _method_config(config, name, options)
    except InputError:
        return False
    return True


def _method_config(config: SearchConfig, name: str, options: dict[str, Any]) -> Any:
    """Configuration of a method with these options besides those of the search."""
    together = config.options | {name: config.options.get(name, {}) | options}
    return config.model_copy(update={"options": together}).method_config(name)


def _method(
    config: SearchConfig,
    name: str,
    options: dict[str, Any],
    events: Events,
    fold: NDArray[np.int64],
    window: Window,
    densities: dict[tuple[BackgroundRequest, Window], ConditionalDensity],
    simulation: Events | None,
    threads: int,
) -> Method:
    """The untrained method of a trial, with a density that an earlier trial may have trained."""
    cls = get_method(name)
    settings = _method_config(config, name, options)
    plan = cross_training_plan(fold, _FOLDS, "kfold-bonferroni")
    method = cls(
        settings,
        seed=config.seed,
        threads=threads,
        simulation=simulation if cls.uses_simulation(settings) else None,
    )
    method.check(events, window, plan.splits)
    request = method.background_request(window)
    if request is not None:
        if (request, window) not in densities:
            densities[request, window] = train_background(
                request, events, plan.splits, seed=config.seed, threads=threads
            )
        method.background = densities[request, window]
    return method


def _trials(
    config: SearchConfig,
    name: str,
    trials: int,
    known: list[dict[str, Any]],
    evaluate: Callable[[dict[str, Any]], dict[str, Any]],
) -> Any:
    """Yield the trials in order, each with other options, until there are no more of them.

    Known ones are passed to the sampler again, which continues as if it had never been stopped.
    """
    optuna = _optuna()
    choices = _choices(config, name)
    defaults = config.method_config(name)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=_STARTUP_TRIALS),
    )
    study.enqueue_trial({option: getattr(defaults, option) for option in choices})
    done: dict[str, float | None] = {}
    space = math.prod(len(values) for values in choices.values())
    for _ in range(_ASKS_PER_TRIAL * trials):
        if len(done) == min(trials, space):
            return
        asked = study.ask()
        options = {option: asked.suggest_categorical(option, values) for option, values in choices.items()}
        key = json.dumps(options, sort_keys=True)
        if key not in done:
            trial = _run(len(done), options, known, evaluate)
            done[key] = trial["value"]
            yield trial
        value = done[key]
        if value is None:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(asked, value)


def _run(
    number: int,
    options: dict[str, Any],
    known: list[dict[str, Any]],
    evaluate: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """The trial of these options, if it is not among the known ones."""
    if number < len(known):
        if known[number]["options"] != options:
            raise InputError(
                f"trial {number} was made by another version of Optuna or serendip; choose another folder"
            )
        return known[number]
    started = time.perf_counter()
    trial: dict[str, Any] = {"number": number, "options": options, "value": None}
    try:
        trial |= evaluate(options)
    except InputError as error:
        # without the defaults there is nothing to compare with, and most likely nothing works
        if number == 0:
            raise
        trial["failed"] = str(error)
    return trial | {"seconds": round(time.perf_counter() - started, 2)}


def _line(trial: dict[str, Any]) -> str:
    options = ", ".join(f"{option} {value}" for option, value in trial["options"].items())
    worth = f"{trial['value']:.4f}" if trial["value"] is not None else f"failed ({trial['failed']})"
    return f"trial {trial['number']}: {worth} ({options})"


def _open(
    path: Path, config: SearchConfig, on: TuneOn, events: Events, sample: Events, simulation: Events | None
) -> dict[str, Any]:
    settings = config.model_dump(mode="json")
    digests = [events.without_label().digest(), None if simulation is None else simulation.digest()]
    text = json.dumps([__version__, settings, on, *digests], sort_keys=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    started = {
        "schema": 1,
        "settings": settings,
        "on": on,
        "warning": ALL_WARNING if on == "all" else None,
        "unblinding": [{"time": now, "config_hash": config.digest()}] if on == "all" else [],
        "serendip": __version__,
        "key": hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
        "n_events": len(sample),
        "methods": {},
    }
    found = stored_record(path, "tune.json", "tuning")
    if found is None:
        make_folder(path)
        return started
    if found.get("key") != started["key"]:
        raise InputError(
            f"--out {path}: was tuned with other settings, events or version of serendip; choose another folder"
        )
    return found


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError("serendip tune needs Optuna: pip install 'serendip[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
