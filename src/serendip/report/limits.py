"""Tables and figures of upper limits, from the ``compare.json`` of comparisons."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pydantic import BaseModel

from serendip.errors import InputError
from serendip.io.files import make_folder
from serendip.io.json import read_json, write_json
from serendip.report import figures
from serendip.report.compare.data import read_comparison
from serendip.report.figures import COLOURS, save
from serendip.report.notation import no_mathtext
from serendip.search.injection_limits import InjectionLimit, injection_limits
from serendip.statistics.limits import BANDS
from serendip.validate.base import look_name

__all__ = ["check_claim", "print_limits", "write_limits"]

_INCLUSIVE = "bump-hunt"
_MEDIAN = BANDS.index(0)


class _Numbers(BaseModel):
    """The numbers of a figure."""

    limits: list[dict[str, Any]]
    fb_per_event: float | None = None


def check_claim(level: float, luminosity: float | None, acceptance: float) -> None:
    """Check the settings for limits, before hours of training.

    Raises
    ------
    InputError
        If one of the numbers cannot be used.
    """
    if not 0 < level < 1:
        raise InputError(f"level {level:g}: a confidence level lies between 0 and 1, for example 0.95")
    if not 0 < acceptance <= 1:
        raise InputError(f"acceptance {acceptance:g}: a share lies between 0 and 1")
    if luminosity is not None and not luminosity > 0:
        raise InputError(f"luminosity {luminosity:g}: expected a positive number of 1/fb")
    if luminosity is None and acceptance != 1.0:
        raise InputError(
            "an acceptance turns events into a cross-section and needs a luminosity (--luminosity)"
        )


def write_limits(
    comparisons: Sequence[Path],
    out: Path,
    *,
    level: float = 0.95,
    luminosity: float | None = None,
    acceptance: float = 1.0,
) -> dict[str, Any]:
    """Write ``limits.json`` and the figures: the ladder of every method, and limits against mass.

    Parameters
    ----------
    comparisons
        Folders of comparisons, one for each window.
    out
        The folder, made if it is not there.
    level
        Confidence level.
    luminosity
        In 1/fb; limits are then also quoted in fb.
    acceptance
        Share of produced signal events that is in the window before any cut.

    Returns
    -------
    Content of ``limits.json``.

    Raises
    ------
    InputError
        If a comparison is missing or has no ladder of injections, two have the same window, or the folder cannot be
        written.
    """
    found: list[InjectionLimit] = []
    windows: dict[tuple[float, float], Path] = {}
    for folder in comparisons:
        # checked once as a whole; the numbers are then used unchanged
        read_comparison(folder)
        content = read_json(folder / "compare.json")
        window = (float(content["window"][0]), float(content["window"][1]))
        if window in windows:
            raise InputError(
                f"{folder} and {windows[window]} have the same window {window[0]:g}-{window[1]:g} GeV; one is enough"
            )
        windows[window] = folder
        try:
            found += injection_limits(content, level)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
    per_event = None if luminosity is None else 1.0 / (luminosity * acceptance)
    limits = [entry.to_dict() | {"gain": _gain(entry, found)} for entry in found]
    results = {
        "schema": 1, "level": level, "luminosity_per_fb": luminosity, "acceptance": acceptance,
        "fb_per_event": per_event, "limits": limits,
    }  # fmt: skip
    make_folder(out / "figures")
    write_json(out / "limits.json", results)
    for window in windows:
        mine = [entry for entry in found if entry.window == window]
        name = f"ladder-{window[0]:.0f}-{window[1]:.0f}"
        numbers = _Numbers(limits=[entry.to_dict() for entry in mine])
        save(_ladder(mine), numbers, out / "figures" / name)
    numbers = _Numbers(limits=limits, fb_per_event=per_event)
    save(_brazil(found, per_event), numbers, out / "figures" / "limits")
    return results


def _gain(entry: InjectionLimit, found: Sequence[InjectionLimit]) -> float | None:
    """Expected limit of the bump hunt without a cut over that of this look."""
    reference = [e for e in found if e.method == _INCLUSIVE and e.window == entry.window]
    ours = entry.expected[_MEDIAN]
    if not reference or ours is None:
        return None
    inclusive = reference[0].rungs[-1].expected
    return None if inclusive is None else inclusive[_MEDIAN] / ours


def print_limits(results: dict[str, Any]) -> None:
    """Print the table of limits."""
    factor, unit = (
        (results["fb_per_event"], "fb") if results["fb_per_event"] else (1.0, "signal events in the window")
    )
    lines = [
        (
            f"{results['level']:.0%} CLs upper limits in {unit}; expected [68 % band]; gain: expected limit of the bump hunt "
            "without a cut over this one"
        ),
        "",
        "| window [GeV] | method | look | expected | observed | gain |",
        "|---|---|---|---|---|---|",
    ]
    for entry in results["limits"]:
        low, middle, high = (entry["expected"][i] for i in (1, 2, 3))
        below = ["< " if bound else "" for bound in entry["bounds"]]
        expected = f"{below[3]}{_number(middle, factor)} [{_number(low, factor)}, {_number(high, factor)}]"
        gain = "–" if entry["gain"] is None else f"{entry['gain']:.1f}"
        cut = look_name(entry["working_point"])
        window = "{:g}-{:g}".format(*entry["window"])
        lines.append(
            f"| {window} | {entry['method']} | {cut} | {expected} | {below[0]}{_number(entry['observed'], factor)} | {gain} |"
        )
    sys.stdout.write("\n".join(lines) + "\n")


def _number(value: float | None, factor: float) -> str:
    return "not excluded" if value is None else f"{value * factor:.3g}"


def _label(entry: InjectionLimit) -> str:
    cut = look_name(entry.working_point).replace("ε_B", r"$\varepsilon_B$")
    return f"{no_mathtext(entry.method)}, {cut}"


def _ladder(entries: Sequence[InjectionLimit]) -> Figure:
    """Limit that each trained selection sets against the yield that it was trained with."""
    with figures.in_style():
        figure, axes = figures.new_figure()
        reach = [rung.injected for rung in entries[0].rungs]
        axes.plot(reach, reach, color="#666666", ls=":", lw=1.2, label="limit = injected")
        for i, entry in enumerate(entries):
            rungs = [rung for rung in entry.rungs if rung.expected is not None]
            if not rungs:
                continue
            x = [rung.injected for rung in rungs]
            bands = np.array([rung.expected for rung in rungs])
            colour = COLOURS[i % len(COLOURS)]
            axes.fill_between(x, bands[:, 1], bands[:, 3], color=colour, alpha=0.12, lw=0)
            axes.plot(
                x, bands[:, _MEDIAN], color=colour, marker="o", ms=5, ls="-" if i < len(COLOURS) else "--",
                label=_label(entry),
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("injected signal events in the window")
        axes.set_ylabel(f"expected {entries[0].level:.0%} upper limit [events]")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * 12)  # room for the legend
        title = f"{entries[0].window[0]:g}-{entries[0].window[1]:g} GeV; excluded below the dotted line"
        axes.legend(fontsize=9, ncols=2, title=title, title_fontsize=10, loc="upper left")
    return figure


def _brazil(found: Sequence[InjectionLimit], per_event: float | None) -> Figure:
    """Limits against the mass: the best look with its bands, the others as lines, the bump hunt for comparison."""
    factor = 1.0 if per_event is None else per_event
    looks = dict.fromkeys((e.method, e.working_point) for e in found)
    curves = {
        key: sorted((e for e in found if (e.method, e.working_point) == key), key=lambda e: e.window)
        for key in looks
    }

    def total(key: tuple[str, float | None]) -> float:
        return float(sum(np.log(e.expected[_MEDIAN] or 1e12) for e in curves[key]))

    searched = [key for key in looks if key[0] != _INCLUSIVE]
    best = min(searched, key=total, default=None)
    with figures.in_style():
        figure, axes = figures.new_figure()
        for i, (key, entries) in enumerate(curves.items()):
            x = np.array([0.5 * sum(e.window) / 1000 for e in entries])
            half = np.array([0.5 * (e.window[1] - e.window[0]) / 1000 for e in entries])
            inclusive = key[0] == _INCLUSIVE
            values = [
                e.rungs[-1].expected if inclusive else e.expected for e in entries
            ]  # without a cut the limit does not depend on the injected yield
            bands = factor * np.array(
                [[np.nan if v is None else v for v in (row or (None,) * len(BANDS))] for row in values],
                dtype=float,
            )
            colour = COLOURS[i % len(COLOURS)]
            if key == best:
                wide = np.concatenate([x[:1] - half[:1], x, x[-1:] + half[-1:]])
                padded = np.concatenate([bands[:1], bands, bands[-1:]])
                axes.fill_between(
                    wide, padded[:, 0], padded[:, 4], color="#ffcc00", lw=0, label="95 % expected"
                )
                axes.fill_between(
                    wide, padded[:, 1], padded[:, 3], color="#85d254", lw=0, label="68 % expected"
                )
                observed = factor * np.array([np.nan if e.observed is None else e.observed for e in entries])
                axes.plot(x, observed, "o", color="#000000", ms=6, label="observed", zorder=5)
            axes.errorbar(
                x, bands[:, _MEDIAN], xerr=half, ls="--" if not inclusive else ":", lw=1.6, color=colour,
                label="bump hunt, no cut" if inclusive else _label(entries[0]),
            )  # fmt: skip
        axes.set_yscale("log")
        axes.set_xlabel("resonance mass [TeV]")
        unit = "signal events in the window" if per_event is None else r"$\sigma \times$ BR [fb]"
        axes.set_ylabel(f"{found[0].level:.0%} upper limit, {unit}")
        low, high = axes.get_ylim()
        axes.set_ylim(low / 1.5, high * 15)
        axes.legend(fontsize=9, ncols=2, loc="upper left")
    return figure
