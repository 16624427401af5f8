"""Ladders of injected signal for upper limits: the settings, the samples of each mass, and their comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, field_validator

from serendip.errors import InputError
from serendip.events.read import read
from serendip.events.signal_weight import weight_of_signal
from serendip.io.units import GEV
from serendip.runs.progress import Progress
from serendip.search.compare import CompareConfig, run_compare
from serendip.search.config import Combination, DataConfig, parse_settings
from serendip.search.fields import Listed
from serendip.search.signal_points import ID, LABEL, MASS, SignalPoint, signal_points

__all__ = ["LadderConfig", "LimitConfig", "ladder_settings", "limit_settings", "make_ladders"]

_POISSON = ("weighted", "sequential")
# Settings fixed by the sample of each mass, which cannot be chosen for the searches.
_OWN = {
    *(
        "file",
        "mass",
        "features",
        "label",
        "id",
        "window",
        "scan",
        "injections",
        "weight",
        "group",
        "range",
        "mask",
    ),
}


class LadderConfig(CompareConfig):
    """What the searches are trained with: the keys of a comparison, with other defaults."""

    no_flag = (
        CompareConfig.no_flag
        | dict.fromkeys(_OWN, "belongs to the sample of each mass")
        | dict.fromkeys(
            ("simulation", "simulation_weight", "simulation_where"), "has not the columns of these samples"
        )
        | dict.fromkeys(
            ("min_background", "correlate", "noise"), "changes no limit, or is a stress of a comparison"
        )
    )

    method: Annotated[tuple[str, ...], Listed] = ("cwola", "bump-hunt")
    """Methods; default: cwola,bump-hunt; bump-hunt is the inclusive reference."""
    repeats: PositiveInt = 3
    """Random subsets of the signal for each yield."""
    folds: int = Field(default=10, ge=2, le=100)
    """Number of folds."""
    combination: Combination = "weighted"
    """weighted (default) or sequential: cuts at the working points."""


class LimitConfig(DataConfig):
    """The events, the injected simulated signal, and the settings of the searches."""

    no_flag = DataConfig.no_flag | {"search": "its keys are flags of their own"}

    inject: str
    """Simulated signal with the same columns: makes the ladders of injected yields."""
    masses: tuple[float, ...] = Field(min_length=1)
    """Signal masses in GeV, M[,M...]; each is the centre of its window."""
    signal_mass: str | None = None
    """Column of the signal with the generated mass in GeV; needed for more than one mass."""
    inject_where: str | None = None
    """Cut on the signal; default: none."""
    signal_weight: str | None = None
    """Event weight in --inject, not negative: events are drawn in proportion to it; default: that of --weight, if the file has it."""
    width: float = Field(default=0.12, gt=0, lt=1)
    """Relative width of the windows."""
    injections: tuple[int, ...] = ()
    """Yields in the window, N[,N...]; default: seven from 0.5 to 5 times the square root of its events."""
    search: dict[str, Any] = Field(default_factory=dict)
    """Keys of :class:`LadderConfig`: ``method``, ``folds``, ``repeats``, ``options``, ..."""

    @field_validator("masses", "injections", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        """Text with commas counts as a list; a single number too."""
        parts = value.split(",") if isinstance(value, str) else value
        try:
            values = [float(part) for part in (parts if isinstance(parts, list | tuple) else [parts])]
        except (TypeError, ValueError):
            values = [math.nan]
        if not all(map(math.isfinite, values)):
            raise ValueError(f"'{value}': expected numbers with commas, e.g. 3000,3500")
        return sorted(set(values))


def limit_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a :class:`LimitConfig` from flat keys: those that are not its own belong to the searches."""
    own = {name: value for name, value in given.items() if name in LimitConfig.model_fields}
    return own | {"search": {name: value for name, value in given.items() if name not in own}}


def make_ladders(
    config: LimitConfig,
    out: Path,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
    page: Callable[[Path], Any] | None = None,
) -> list[Path]:
    """Inject increasing amounts of signal of each mass and retrain the searches; a second call continues.

    Parameters
    ----------
    config
        The settings.
    out
        Samples and comparisons are below its folder ``ladders``.
    jobs
        Worker processes; default: one for each core.
    progress
        Receives progress messages.
    page
        Writes the report of a comparison.

    Returns
    -------
    The folders of the comparisons, one for each mass.

    Raises
    ------
    InputError
        If a file or a setting cannot be used; nothing is trained in that case.
    """
    combination = config.search.get("combination", "weighted")
    if combination not in _POISSON:
        raise InputError(
            f"combination {combination}: limits count events whose sum is (compound) Poisson; take {' or '.join(_POISSON)}"
        )
    if taken := sorted(set(config.search) & _OWN):
        raise InputError(
            f"{', '.join(taken)}: no setting of limits, which make samples, labels and a window for each mass (masses, width, injections)"
        )
    points = _points(config, out)
    configs = [parse_settings(LadderConfig, ladder_settings(config, point), "limit") for point in points]
    folders = []
    for point, one in zip(points, configs, strict=True):
        folder = point.file.parent / "comparison"
        run_compare(one, folder, jobs=jobs, progress=progress)
        if page is not None:
            page(folder)
        folders.append(folder)
    return folders


def ladder_settings(config: LimitConfig, point: SignalPoint) -> dict[str, Any]:
    """Settings of the comparison of one mass, whose sample is in GeV."""
    scale = GEV[config.unit]
    return config.search | {
        "range": None if config.range is None else [edge * scale for edge in config.range],
        "mask": [[edge * scale for edge in mask] for mask in config.mask],
        "file": str(point.file), "mass": MASS, "features": list(point.features), "label": LABEL, "id": ID,
        "window": [point.window.low, point.window.high], "injections": list(point.injections),
        "weight": point.weight, "group": point.group,
    }  # fmt: skip


def _points(config: LimitConfig, out: Path) -> list[SignalPoint]:
    """The samples of all masses."""
    common: dict[str, Any] = {
        "mass": config.mass, "tree": config.tree, "unit": config.unit, "preset": config.preset, "for_training": False,
    }  # fmt: skip
    events = read(
        config.file,
        features=config.features,
        where=config.where,
        weight=config.weight,
        group=config.group,
        independent=True,
        **common,
    )
    weight = weight_of_signal(
        config.file, Path(config.inject), config.weight, config.signal_weight, config.tree
    )
    # as an additional feature the generated mass passes the same cut, and the same rows are left out
    point = [config.signal_mass] if config.signal_mass else []
    signal = read(
        config.inject,
        features=[*events.features, *point],
        where=config.inject_where,
        weight=weight,
        **common,
    )
    return signal_points(
        events.without_label(),
        signal.without_label(),
        signal.x[:, -1].astype(float) if point else None,
        config.masses,
        config.width,
        out / "ladders",
        config.injections,
        config.search.get("seed", 1),
    )
