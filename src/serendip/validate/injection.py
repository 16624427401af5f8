r"""Increasing amounts of signal are injected and compared with the result.

The ladder is a comparison of one configuration (:func:`serendip.search.compare.run.run_compare`): labelled background with a random subset of the labelled signal, several repeats each, retrained every time. Two curves come out of it.

* Significance out against significance in, :math:`S/\sqrt{B}` of the window before any cut.
* :math:`\hat\mu` against :math:`\mu`, in units of the largest injection. The search measures the selected signal, so that
  :math:`\hat\mu = (n - b) / (\varepsilon S_\mathrm{max})` with the efficiency :math:`\varepsilon` of that training on the injected signal, known from the labels; of weighted events it is their mean weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from scipy import stats

from serendip.errors import InputError
from serendip.search.compare import CompareConfig, run_compare
from serendip.search.config import SearchConfig
from serendip.search.fields import Listed
from serendip.statistics.pvalues import asimov_z
from serendip.validate.base import Answer, Check, Work, answers, look_name
from serendip.validate.config import KindOptions
from serendip.validate.curves import ladder_pictures

__all__ = ["QUESTION", "Options", "run"]

QUESTION = "Is an injected signal found, with the right size?"

Array = NDArray[np.float64]


class Options(KindOptions):
    r"""Options of the injection ladder.

    Attributes
    ----------
    injections
        Signal events in the window; 0 is always among them.
    repeats
        Random parts of the signal for each, with folds and seeds of their own.
    max_pull
        Largest mean of ``(n - b - s) / error`` over all steps with signal, besides two of its errors; ``s`` is the
        selected signal.
    max_bias
        Largest distance of the slope of :math:`\hat\mu` against :math:`\mu` from 1, besides two of its errors.
    min_gain
        The largest injection is found with at least this many times the significance of a count in the window
        without any cut.
    max_null_z
        Largest mean significance without signal, besides two of its errors. All repeats share the same background, so that one fluctuation affects all of them.
    """

    injections: Annotated[tuple[PositiveInt, ...], Listed] = (100, 250, 500, 1000)
    repeats: int = Field(default=5, ge=2)
    max_pull: PositiveFloat = 0.5
    max_bias: PositiveFloat = 0.3
    min_gain: PositiveFloat = 1.0
    max_null_z: PositiveFloat = 2.0

    @field_validator("injections")
    @classmethod
    def _two_steps(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        value = tuple(sorted(set(value)))
        if len(value) < 2:
            raise ValueError("a ladder has at least two injections, e.g. 100,250,500")
        return value


@answers("injection")
def run(config: SearchConfig, options: Options, work: Work) -> Answer:
    """Train on every injection that is missing in ``OUT/validation/injection`` and evaluate the ladder.

    Raises
    ------
    InputError
        If there is no label, not enough signal or more than one window.
    """
    if config.window is None:
        raise InputError("an injection ladder has one window: give window (LO:HI) in place of the scan")
    if config.label is None and config.preset is None:
        raise InputError(
            "an injection ladder needs labelled signal and background: name the label column (--label COL)"
        )
    settings = config.model_dump() | {"injections": (0, *options.injections), "repeats": options.repeats}
    found = run_compare(
        CompareConfig(**settings),
        work.out / "validation" / "injection",
        jobs=work.jobs,
        progress=work.progress,
    )
    ladders = [
        _ladder(found["entries"], method["name"], point, max(options.injections))
        for method in found["methods"]
        for point in ([None] if method["weighted"] else method["working_points"])
    ]
    checks = [check for ladder in ladders for check in _checks(ladder, options)]
    facts = {name: found[name] for name in ("sample", "window", "five_sigma")} | {"ladders": ladders}
    return checks, facts, ladder_pictures(ladders)


def _ladder(
    entries: Sequence[dict[str, Any]], method: str, point: float | None, largest: int
) -> dict[str, Any]:
    """All repeats of one method with weights or at one working point, their median Z, and the line of mu-hat against mu."""
    steps = []
    for entry in entries:
        if entry["method"] != method:
            continue
        (look,) = (look for look in entry["looks"] if look["working_point"] == point)
        injected, selected = entry["signal_in_window"], look["true_signal"]
        signal = look["observed"] - look["expected"]
        # an empty window has the error of one event
        variance = max(look["variance"], look["scale"] ** 2)
        error = float(np.sqrt(variance + look["expected_error"] ** 2))
        efficiency = selected / injected if injected else None
        size = efficiency * largest if efficiency else None
        steps.append(
            {
                "injected": entry["injection"],
                "repeat": entry["repeat"],
                "s_over_sqrt_b": entry["s_over_sqrt_b"],
                "z_inclusive": float(asimov_z(injected, entry["background_in_window"])),
                # p = 1 has no significance; None: the look is dead
                "z": None if look["p_local"] is None else look["z_local"] or -3.0,
                "signal_found": signal,
                "signal_found_error": error,
                "signal_selected": selected,
                "efficiency": efficiency,
                "mu": entry["injection"] / largest,
                "mu_hat": signal / size if size else None,
                "mu_hat_error": error / size if size else None,
            }
        )
    return {
        "method": method,
        "working_point": point,
        "steps": steps,
        "medians": _medians(steps),
        "line": _line(steps),
    }


def _medians(steps: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Median significance of each injection, of the repeats that have one."""
    rows = []
    for injected in sorted({step["injected"] for step in steps}):
        same = [step for step in steps if step["injected"] == injected and step["z"] is not None]
        if same:
            inclusive = float(np.mean([step["z_inclusive"] for step in same]))
            z = float(np.median([step["z"] for step in same]))
            rows.append({"injected": injected, "z_inclusive": inclusive, "z": z})
    return rows


def _line(steps: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """Weighted straight line through mu-hat against mu; None with fewer than two different mu."""
    used = [step for step in steps if step["mu_hat"] is not None]
    mu, found, error = (np.array([step[name] for step in used]) for name in ("mu", "mu_hat", "mu_hat_error"))
    if len(np.unique(mu)) < 2:
        return None
    design = np.stack([np.ones_like(mu), mu], axis=1) / error[:, None]
    covariance = np.linalg.inv(design.T @ design)
    offset, slope = covariance @ (design.T @ (found / error))
    return {
        "offset": float(offset),
        "offset_error": float(np.sqrt(covariance[0, 0])),
        "slope": float(slope),
        "slope_error": float(np.sqrt(covariance[1, 1])),
    }


def _mean(values: Sequence[float]) -> tuple[float, float]:
    array = np.array(values, dtype=float)
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array)))


def _checks(ladder: dict[str, Any], options: Options) -> list[Check]:
    name = f"{ladder['method']}, {look_name(ladder['working_point'])}"
    steps = ladder["steps"]
    if any(step["z"] is None for step in steps):
        return [
            Check(
                f"can find anything, {name}",
                False,
                None,
                None,
                "enough sideband events in a fold",
                "no event counts, of signal or background: use a looser working point or fewer folds",
            )
        ]
    null = [max(step["z"], -3.0) for step in steps if step["injected"] == 0]
    strong = [step for step in steps if step["injected"] == max(options.injections)]
    with_signal = [step for step in steps if step["injected"] > 0]
    checks = []
    if len(null) > 1:
        mean, error = _mean(null)
        checks.append(
            Check(
                f"nothing injected, nothing found, {name}",
                mean - 2 * error < options.max_null_z,
                mean,
                error,
                f"mean Z below {options.max_null_z:g} + 2 errors",
                "an excess without signal: the background estimate or the combination of folds is not valid",
            )
        )
    if len(with_signal) > 1:
        pulls = [
            (step["signal_found"] - step["signal_selected"]) / step["signal_found_error"]
            for step in with_signal
        ]
        mean, error = _mean(pulls)
        checks.append(
            Check(
                f"no more signal found than selected, {name}",
                mean - 2 * error < options.max_pull,
                mean,
                error,
                f"mean pull below {options.max_pull:g} + 2 errors",
                "the excess contains background in addition to the signal: the cut sculpts the background, or the fit is wrong",
            )
        )
        rank = stats.spearmanr([step["injected"] for step in steps], [step["z"] for step in steps])
        checks.append(
            Check(
                f"significance rises with the signal, {name}",
                bool(rank.statistic > 0 and rank.pvalue < 0.05),
                float(rank.statistic),
                None,
                "rank correlation above 0 (p < 0.05)",
                "more signal is not found more clearly: the method does not learn it at these sizes",
            )
        )
    if (line := ladder["line"]) is not None:
        checks.append(
            Check(
                f"signal strength is recovered, {name}",
                abs(line["slope"] - 1) < options.max_bias + 2 * line["slope_error"],
                line["slope"],
                line["slope_error"],
                f"slope within 1 +- ({options.max_bias:g} + 2 errors)",
                "the measured signal strength is off: below 1, signal in the sidebands raises the expected background; "
                "above 1, background is mistaken for signal",
            )
        )
    if len(strong) > 1:
        mean, error = _mean([step["z"] / step["z_inclusive"] for step in strong])
        checks.append(
            Check(
                f"gain over the inclusive count at {max(options.injections)} events, {name}",
                mean + 2 * error >= options.min_gain,
                mean,
                error,
                f"at least {options.min_gain:g} - 2 errors",
                "the cut does not find more than counting all events of the window, even if their background were known "
                "exactly",
            )
        )
    return checks
