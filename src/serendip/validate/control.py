"""Control: a search where no signal is expected must find none, and a known peak must be found.

Windows next to the signal region (:func:`~serendip.validate.regions.validation_regions`) are searched like the signal region, up to the global p-value over methods and cuts. If a known resonance is named, its window is searched as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, field_validator

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.io.units import GEV
from serendip.search.config import SearchConfig
from serendip.validate.base import Answer, Check, Work, answers, look_name
from serendip.validate.config import RegionOptions
from serendip.validate.pictures import Picture, Series
from serendip.validate.regions import (
    Region,
    Searched,
    background_sample,
    facts_of,
    search_region,
    validation_regions,
)

__all__ = ["QUESTION", "Options", "run"]

QUESTION = "Does a search where no signal is expected find none (and a known peak, if one is named)?"


class Options(RegionOptions):
    """Options and thresholds.

    Attributes
    ----------
    sample, per_side, gap
        Control windows, as in :class:`~serendip.validate.config.RegionOptions`.
    windows
        Control windows to search instead, ``(LO, HI)`` each, in the unit of the search.
    min_p
        Smallest global p-value, divided by the number of control windows.
    peak
        Windows of known resonances, ``(LO, HI)`` each, in the unit of the search. They are not control windows, unless listed in ``windows``.
    peak_z
        Least global significance of a known resonance.
    """

    windows: tuple[tuple[float, float], ...] = ()
    min_p: float = Field(default=0.01, gt=0.0, lt=1.0)
    peak: tuple[tuple[float, float], ...] = ()
    peak_z: float = Field(default=3.0, gt=0.0)

    @field_validator("windows", "peak", mode="before")
    @classmethod
    def _intervals(cls, value: Any) -> Any:
        """``LO:HI[,LO:HI...]`` and a single pair count as well."""
        if isinstance(value, str):
            value = [part.split(":") for part in value.split(",")]
        if not isinstance(value, list | tuple):
            # YAML reads 3:4 without quotes as a number
            raise ValueError(  # noqa: TRY004  (pydantic explains only this one)
                f"{value!r} is not a list of mass intervals; expected 'LO:HI[,LO:HI...]' in quotes"
            )
        if len(value) == 2 and not isinstance(value[0], list | tuple | str):
            value = [value]
        return [part.split(":") if isinstance(part, str) else part for part in value]

    @field_validator("windows", "peak")
    @classmethod
    def _positive(cls, value: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        for low, high in value:
            if not 0 < low < high < np.inf:
                raise ValueError(f"{low:g}:{high:g} is not a mass interval; expected LO:HI with 0 < LO < HI")
        return value


@answers("control")
def run(config: SearchConfig, options: Options, work: Work) -> Answer:
    """Search windows without signal, and known peaks.

    Raises
    ------
    InputError
        If no window can be searched, or the window of a known peak cannot be.
    """
    background = background_sample(config, options.sample)
    scale = GEV[config.unit]

    def in_gev(intervals: tuple[tuple[float, float], ...]) -> list[Window]:
        return [Window(low * scale, high * scale) for low, high in intervals]

    regions, left_out = validation_regions(
        config, background, per_side=options.per_side, gap=options.gap, wanted=in_gev(options.windows)
    )
    if options.windows and left_out:
        raise InputError("; ".join(f"control window {where}: {why}" for where, why in left_out.items()))
    if not options.windows:
        regions, overlapping = _beside(regions, in_gev(options.peak))
        left_out |= overlapping
    peaks = []
    for window in in_gev(options.peak):
        found, _ = validation_regions(config, background, per_side=1, gap=0.0, wanted=[window])
        peaks.append(found[0])
    searched = [search_region(region, work, trials=True) for region in regions]
    known = [search_region(region, work, trials=True) for region in peaks]
    limit = options.min_p / len(searched)
    checks = [_quiet(done, limit, options.min_p, len(searched)) for done in searched]
    checks += [_rediscovered(done, options.peak_z) for done in known]
    facts = {"searches": [_facts(done) for done in searched], "peaks": [_facts(done) for done in known]}
    return checks, facts_of(background, regions, left_out) | facts, [_picture(searched, known)]


def _beside(regions: tuple[Region, ...], peaks: list[Window]) -> tuple[tuple[Region, ...], dict[str, str]]:
    """Control windows without those that a known peak reaches into, and the reasons."""
    kept, left_out = [], {}
    for region in regions:
        reaching = [p for p in peaks if p.low < region.window.high and region.window.low < p.high]
        if reaching:
            left_out[str(region.window)] = f"the known peak {reaching[0]} reaches into it"
        else:
            kept.append(region)
    if not kept:
        raise InputError("known peaks reach into every control window: choose others (control.windows)")
    return tuple(kept), left_out


def _best(done: Searched) -> str:
    overall = done.measurement.overall
    assert overall is not None
    look = done.measurement.looks[overall.best_look]
    result = look.result
    what = "events (sum of weights)" if look.working_point is None else "events"
    return f"{look.method}, {look_name(look.working_point)}: {result.observed:.4g} {what}, {result.expected:.4g} ± {result.expected_error:.2g} expected"


def _quiet(done: Searched, limit: float, level: float, n: int) -> Check:
    overall = done.measurement.overall
    assert overall is not None
    low, high = overall.p_interval_68
    return Check(
        f"global p-value, {done.region.window}",
        bool(overall.p >= limit),
        overall.p,
        0.5 * (high - low),
        f"at least {limit:.3g} ({level:g} / {n} windows)",
        f"A small p-value is an excess where nothing is expected ({_best(done)}): the search would make one out of background "
        "in the signal region too.",
    )


def _rediscovered(done: Searched, least: float) -> Check:
    overall = done.measurement.overall
    assert overall is not None
    # with no toy above, the number of toys bounds the significance; Bonferroni over the looks bounds it from the counts
    z = max(_z_of(overall.p), _z_of(overall.bonferroni))
    return Check(
        f"known peak, {done.region.window}",
        bool(z >= least),
        z,
        None,
        f"at least {least:g} sigma (global)",
        f"A search that misses a peak which is known to be there would miss a new one ({_best(done)}).",
    )


def _z_of(p: float) -> float:
    from serendip.statistics.pvalues import z_value

    return float(z_value(p))


def _facts(done: Searched) -> dict[str, Any]:
    overall = done.measurement.overall
    assert overall is not None
    return {
        "window": [done.region.window.low, done.region.window.high],
        "global": vars(overall),
        "looks": [look.record().content() | {"folds": None} for look in done.measurement.looks],
    }


def _picture(searched: list[Searched], known: list[Searched]) -> Picture:
    series = []
    for name in searched[0].region.config.method:
        points = dict.fromkeys(
            look.working_point for look in searched[0].measurement.looks if look.method == name
        )
        for point in points:
            rows = [
                (done.region.window.centre, look.result.z_local)
                for done in (*searched, *known)
                for look in done.measurement.looks
                if (look.method, look.working_point) == (name, point)
            ]
            # a window without a single selected event has no finite significance
            y = tuple(z if z is not None and np.isfinite(z) else None for _, z in rows)
            series.append(
                Series(name=f"{name}, {look_name(point)}", x=tuple(centre for centre, _ in rows), y=y)
            )
    return Picture(
        name="control-z",
        title="Local significance in the control windows" + (" and of known peaks" if known else ""),
        caption="One point for each look. Without signal they scatter around 0 with a width of 1.",
        x_label="centre of the window [GeV]",
        y_label="local Z [σ]",
        series=tuple(series),
        level=0.0,
    )
