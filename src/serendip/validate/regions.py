"""Where background can be tested without opening the signal region: its sidebands, labelled background, or simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.io.units import GEV
from serendip.methods.registry import get_method
from serendip.runs.folder import RunDirectory
from serendip.runs.training import TaskResult
from serendip.search.config import SearchConfig
from serendip.search.engine import TrainingPlan, plan_training, read_events, read_simulation, train
from serendip.search.folds import cross_training_plan, event_folds
from serendip.search.measure import Measurement, measure, prepare_window
from serendip.search.sight import dead_looks, warn_of_dead_looks
from serendip.validate.base import Work
from serendip.validate.config import Sample

__all__ = [
    "Background",
    "Region",
    "Searched",
    "background_sample",
    "facts_of",
    "search_region",
    "validation_regions",
    "without_references",
]


@dataclass(frozen=True, eq=False)
class Background:
    """Events presumably without signal.

    Attributes
    ----------
    events
        Data keep their label, which is hidden from all methods.
    simulation
        For methods that start from one.
    hidden
        Masses that must not be looked at; None: all may be.
    origin
        ``"data"``, ``"label"`` or ``"simulation"``.
    """

    events: Events
    simulation: Events | None
    hidden: Window | None
    origin: str

    def facts(self) -> dict[str, Any]:
        """Description of the sample, for the page."""
        hidden = self.hidden
        return {"sample": self.origin, "closed": None if hidden is None else [hidden.low, hidden.high]}


def background_sample(config: SearchConfig, sample: Sample) -> Background:
    """Read the background sample.

    Parameters
    ----------
    config
        The search.
    sample
        ``"data"``: the events outside all windows of the search, which stay closed. ``"label"``: the events that the label
        calls background, at all masses. ``"simulation"``: the simulated events, at all masses. ``"auto"``: labels if there
        are any, else data.

    Raises
    ------
    InputError
        If the sample is not there.
    """
    if sample == "simulation":
        simulated = read_simulation(config)
        if simulated is None:
            raise InputError(
                "sample 'simulation' needs simulated background with the same columns (--simulation FILE)"
            )
        return Background(simulated, simulated, None, "simulation")
    events, simulation = read_events(config), read_simulation(config)
    if sample == "label" or (sample == "auto" and events.label is not None):
        if events.label is None:
            raise InputError(
                "sample 'label' needs the truth: name the label column (--label COL), 0 = background"
            )
        chosen = events.select(~events.labels).without_label()
        if not len(chosen):
            raise InputError(f"column '{events.label}' calls none of the {len(events)} events background")
        return Background(chosen, simulation, None, "label")
    windows = config.windows
    hidden = Window(min(w.low for w in windows), max(w.high for w in windows))
    return Background(events, simulation, hidden, "data")


@dataclass(frozen=True, eq=False)
class Region:
    """A window without signal, with the events that may be used to test it.

    Attributes
    ----------
    window
        Treated as the signal region.
    events, simulation
        All events at masses that may be looked at from here.
    config
        The search with this window.
    """

    window: Window
    events: Events
    simulation: Events | None
    config: SearchConfig

    def __str__(self) -> str:
        return str(self.window)


def validation_regions(
    config: SearchConfig,
    background: Background,
    *,
    per_side: int,
    gap: float,
    wanted: Sequence[Window] = (),
) -> tuple[tuple[Region, ...], dict[str, str]]:
    r"""Windows of the relative width of the signal region, next to it.

    With :math:`r = \mathrm{high}/\mathrm{low}` of the signal region, the windows above it begin at
    :math:`\mathrm{high}\, r^{g + i}`, :math:`i = 0, 1, \dots`, and those below end at :math:`\mathrm{low}\, r^{-g - i}`.
    If the signal region is closed, a window is tested with the events on its own side of it only: a
    spectrum with a hole cannot be fitted as one. Otherwise the windows of the search are tested as well.

    Parameters
    ----------
    config
        The search.
    background
        The events.
    per_side
        Windows on each side.
    gap
        Distance ``g`` between the signal region and the first of them in widths, at least 0; it is a sideband.
    wanted
        Windows to test instead.

    Returns
    -------
    The regions, and why others were left out, by window.

    Raises
    ------
    InputError
        If no window can be tested, with the reasons.
    """
    hidden = background.hidden
    if wanted:
        places = list(wanted)
    else:
        first, last = config.windows[0], config.windows[-1]
        places = [] if hidden is not None else list(config.windows)
        for i in range(per_side):
            ratio = first.high / first.low
            high = first.low * ratio ** -(gap + i)
            places.append(Window(high / ratio, high))
            ratio = last.high / last.low
            low = last.high * ratio ** (gap + i)
            places.append(Window(low, low * ratio))
    regions, left_out = [], {}
    for window in sorted(Window(*(float(f"{edge:.4g}") for edge in (w.low, w.high))) for w in places):
        try:
            regions.append(_region(config, background, window))
        except InputError as error:
            left_out[str(window)] = str(error)
    if not regions:
        reasons = "; ".join(f"{where}: {why}" for where, why in left_out.items())
        closed = "" if hidden is None else f" outside {hidden}"
        raise InputError(
            f"no window{closed} can be tested ({reasons}); give narrower windows, a labelled background (--label) or "
            "simulation (sample: simulation), or other windows to test"
        )
    return tuple(regions), left_out


def without_references(config: SearchConfig) -> SearchConfig:
    """Return the search without methods that know the truth, and without a calibration, which belongs to its own windows.

    Raises
    ------
    InputError
        If no method is left.
    """
    methods = tuple(name for name in config.method if not get_method(name).uses_labels)
    if not methods:
        raise InputError(
            f"{', '.join(config.method)}: references that use the truth are not validated; choose another method"
        )
    options = {name: value for name, value in config.options.items() if name in methods}
    return config.model_copy(update={"method": methods, "options": options, "calibration": None})


def _region(config: SearchConfig, background: Background, window: Window) -> Region:
    events, simulation, hidden = background.events, background.simulation, background.hidden
    side = (0.0, np.inf)
    if hidden is not None:
        if window.low < hidden.high and window.high > hidden.low:
            raise InputError(f"overlaps with the closed region {hidden}")
        side = (0.0, hidden.low) if window.high <= hidden.low else (hidden.high, np.inf)
        events = _within(events, side)
        simulation = None if simulation is None else _within(simulation, side)
    if len(events) == 0:
        raise InputError("there are no events on this side of the closed region")
    scale = GEV[config.unit]
    bounds = config.mass_range
    if bounds is not None:
        bounds = max(bounds[0], side[0]), min(bounds[1], side[1])
        if bounds[0] >= bounds[1]:
            raise InputError(f"the range {config.range} has no events on this side of the closed region")
    own = without_references(config).model_copy(
        update={
            "window": (window.low / scale, window.high / scale),
            "scan": None,
            "width": None,
            "signal_width": None,
            "step": 1.0,
            "range": None if bounds is None else (bounds[0] / scale, bounds[1] / scale),
        }
    )
    (window,) = own.windows
    prepare_window(events, window, own)
    fold, inside = event_folds(events, own.folds, own.seed), window.contains(events.m)
    splits = cross_training_plan(fold, own.folds, own.combination, inside=inside).splits
    for name in own.method:
        get_method(name)(own.method_config(name), seed=own.seed, simulation=simulation).check(
            events, window, splits
        )
    return Region(window, events, simulation, own)


def _within(events: Events, side: tuple[float, float]) -> Events:
    return events.select((events.m >= side[0]) & (events.m < side[1]))


@dataclass(frozen=True, eq=False)
class Searched:
    """A region after the search.

    Attributes
    ----------
    region
        The region.
    measurement
        Its looks, and the global p-value if requested.
    tasks
        Finished trainings by method and window.
    plan
        The trainings.
    fold
        Fold of each event, shape ``(n,)``.
    """

    region: Region
    measurement: Measurement
    tasks: Mapping[tuple[str, Window], TaskResult]
    plan: TrainingPlan
    fold: NDArray[np.int64]


def search_region(
    region: Region,
    work: Work,
    *,
    blinded: bool = False,
    trials: bool = False,
) -> Searched:
    """Train all methods in a region and measure; finished trainings in ``OUT/tasks`` are not repeated."""
    run, config = RunDirectory(work.out), region.config
    fold = event_folds(region.events, config.folds, config.seed)
    plan = plan_training(config, run, region.events, region.simulation, 1)
    tasks = train(plan, run, region.events, region.simulation, None, work.jobs, work.progress)
    windows = [prepare_window(region.events, window, config) for window in config.windows]
    warn_of_dead_looks(dead_looks(config, region.events, fold, windows), config.n_looks)
    measurement = measure(config, region.events, fold, windows, tasks, blinded=blinded, trials=trials)
    return Searched(region, measurement, tasks, plan, fold)


def facts_of(
    background: Background, regions: Sequence[Region], left_out: Mapping[str, str]
) -> dict[str, Any]:
    """Description of the test, for the page."""
    return background.facts() | {
        "windows": [[region.window.low, region.window.high] for region in regions],
        "left_out": dict(left_out),
    }
