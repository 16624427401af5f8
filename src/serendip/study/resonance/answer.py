"""The answer to the question about a resonance: numbers, and how they follow from the entries of the searches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serendip.statistics.pvalues import asimov_z

__all__ = ["INPUTS", "ResonantAnswer", "ResonantRow", "resonant_notes", "resonant_rows"]

_SMALLEST_SHAPE_P = 0.01
_LARGEST_NULL_Z = 3.0
_LARGEST_STEP = 0.01

INPUTS: dict[str, str] = {
    "features": "plain features",
    "features+score": "plain features and the score",
    "features+flat": "plain features and the score without the mass",
    "score": "the score alone",
    "flat": "the score without the mass, alone",
    "cut score": "a cut on the score, no training",
    "cut flat": "a cut on the score without the mass, no training",
    "none": "no cut at all: the bump hunt",
}
"""The compared inputs."""


@dataclass(frozen=True)
class ResonantRow:
    r"""One input of the search at one size of the signal: medians over the repeats, with the smallest and largest value.

    Attributes
    ----------
    inputs
        Key of :data:`INPUTS`.
    s_over_sqrt_b
        Injected signal in the window, in units of :math:`\sqrt{B}`.
    signal
        Its number of events.
    working_point
        Background efficiency; 1 without a cut.
    sic
        Significance improvement in the window at the working point, from the truth; None without signal.
    max_sic
        Largest one that leaves enough background.
    better, ratio
        Repeats in which the largest SIC is above that of the plain features, of how many, and the ratio of the two; None where there is
        nothing to compare.
    z_expected
        Asimov significance of the excess that the signal adds (:func:`~serendip.study.resonance.looks.added_excess`) over the background
        that the fit predicts, with its error.
    z
        Local significance found in the pseudo-data.
    shape_p
        p-value of the mass shape of selected background against all background: small if the cut sculpts.
    distance_correlation
        Of score and mass in the sidebands; :attr:`correlation_limit` is its 99 % limit without dependence.
    """

    inputs: str
    s_over_sqrt_b: float
    signal: int
    working_point: float
    sic: tuple[float, float, float] | None
    max_sic: tuple[float, float, float] | None
    better: tuple[int, int] | None
    ratio: tuple[float, float, float] | None
    z_expected: tuple[float, float, float] | None
    z: tuple[float, float, float] | None
    shape_p: tuple[float, float, float] | None
    distance_correlation: tuple[float, float, float] | None
    correlation_limit: float | None

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class ResonantAnswer:
    """The return value of :func:`resonant_question`.

    Attributes
    ----------
    resonance, family
        The signal.
    theories
        In the mixture.
    left_out
        Families that were not.
    window, range
        In GeV.
    events
        Facts about the pseudo-data: groups, unweighted events, overweight, luminosity, background and signal in the window.
    score
        Facts about the score: AUC of its training, AUC of the resonance in the window, correlation with the mass, before and
        after it was flattened.
    rows
        Results.
    notes
        Caveats: cuts that sculpt, false excesses, steps of the score.
    """

    resonance: str
    family: str
    theories: tuple[str, ...]
    left_out: tuple[str, ...]
    window: tuple[float, float]
    range: tuple[float, float]
    events: Mapping[str, Any]
    score: Mapping[str, Any]
    rows: tuple[ResonantRow, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return {"schema": 1, **asdict(self)}

    def _sample(self) -> str:
        return (
            f"{self.events['events']:,} background events ({self.events['effective']:,.0f} effective), "
            f"{self.events['background_in_window']:,} in the window"
        )

    def __str__(self) -> str:
        low, high = self.window
        lines = [
            f"{self.resonance} in {low:g}-{high:g} GeV, mixture of {len(self.theories)} theories without {', '.join(self.left_out)}",
            self._sample(),
            f"{'inputs':<16}{'S/sqrt(B)':>10}{'eps_B':>7}{'SIC':>8}{'max SIC':>9}{'ratio':>7}{'better':>8}{'Z exp.':>8}{'Z':>7}{'shape p':>9}",
        ]
        for row in self.rows:
            better = "" if row.better is None else f"{row.better[0]}/{row.better[1]}"
            cells = [
                f"{row.inputs:<16}{row.s_over_sqrt_b:>10.3g}{row.working_point:>7.3g}{_median(row.sic):>8}{_median(row.max_sic):>9}",
                f"{_median(row.ratio):>7}{better:>8}{_median(row.z_expected):>8}{_median(row.z):>7}{_median(row.shape_p):>9}",
            ]
            lines.append("".join(cells))
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def resonant_rows(
    inputs: str, size: float, number: int, found: Mapping[str, Sequence[Mapping[str, Any]]], scale: float
) -> Iterator[ResonantRow]:
    r"""Rows of one input at one injection, one for each working point.

    Parameters
    ----------
    inputs
        Key of :data:`INPUTS`.
    size, number
        Signal in the window: :math:`S/\sqrt{B}`, and its number of events.
    found
        Entries as in ``compare.json``, by input.
    scale
        Counts divided by this are Poisson-like (1 without weights).
    """
    mine = {entry["repeat"]: entry for entry in found[inputs] if entry["injection"] == number}
    plain = {entry["repeat"]: entry for entry in found["features"] if entry["injection"] == number}
    entries = list(mine.values())
    if not entries:
        return
    # the same events, folds and seeds: repeat by repeat
    pairs = [
        (entry["max_sic"]["sic"], plain[repeat]["max_sic"]["sic"])
        for repeat, entry in mine.items()
        if repeat in plain and entry["max_sic"] and plain[repeat]["max_sic"]
    ]
    compared = inputs != "features" and number > 0 and bool(pairs)
    for place, look in enumerate(entries[0]["looks"]):
        point = look["working_point"]
        looks = [entry["looks"][place] for entry in entries]
        expected = [
            float(
                asimov_z(
                    max(one["added"], 0.0) / scale, one["expected"] / scale, one["expected_error"] / scale
                )
            )
            for one in looks
            if one["expected"] > 0
        ]
        whole = point == 1
        yield ResonantRow(
            inputs=inputs,
            s_over_sqrt_b=size,
            signal=number,
            working_point=point,
            # without a cut nothing is improved
            sic=((1.0, 1.0, 1.0) if whole else _spread(_sics(entries, point))) if number else None,
            max_sic=(
                (1.0, 1.0, 1.0) if whole else _spread([e["max_sic"]["sic"] for e in entries if e["max_sic"]])
            )
            if number
            else None,
            better=(sum(a > b for a, b in pairs), len(pairs)) if compared and not whole else None,
            ratio=_spread([a / b for a, b in pairs if b > 0]) if compared and not whole else None,
            z_expected=_spread(expected) if number else None,
            z=_spread([one["z_local"] for one in looks if one["z_local"] is not None]),
            shape_p=_spread([one["mass_shape"]["p"] for one in looks if one["mass_shape"]]),
            distance_correlation=None
            if whole
            else _spread([entry["distance_correlation"] for entry in entries]),
            correlation_limit=None
            if whole
            else float(np.median([entry["distance_correlation_null"] for entry in entries])),
        )


def resonant_notes(rows: Sequence[ResonantRow], score: Mapping[str, Any]) -> tuple[str, ...]:
    """Caveats to the results.

    Parameters
    ----------
    rows
        All of them.
    score
        Facts about the score, with ``largest_step``: the fraction of events with the commonest score.
    """
    notes = []
    # with signal the inputs that learn it are allowed to change the spectrum of the background a little
    quiet = [row for row in rows if row.signal == min(other.signal for other in rows)]
    sculpts = sorted({row.inputs for row in quiet if row.shape_p and row.shape_p[0] < _SMALLEST_SHAPE_P})
    if sculpts:
        notes.append(
            f"cuts change the mass shape of background (p < {_SMALLEST_SHAPE_P:g}): {', '.join(sculpts)}"
        )
    false = sorted({row.inputs for row in quiet if row.signal == 0 and row.z and row.z[0] > _LARGEST_NULL_Z})
    if false:
        notes.append(f"an excess above {_LARGEST_NULL_Z:g} sigma is found without signal: {', '.join(false)}")
    if score["largest_step"] > _LARGEST_STEP:
        notes.append(
            f"the score has steps ({100 * score['largest_step']:.1f} % of the events have the same one), which reveal the mass once it is decorrelated: "
            "train with a smaller learning_rate, or raise smear"
        )
    return tuple(notes)


def _sics(entries: Sequence[Mapping[str, Any]], point: float) -> list[float]:
    return [at["sic"] for entry in entries for at in entry["sic_at"] if at["working_point"] == point]


def _spread(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Median, smallest and largest."""
    if not len(values):
        return None
    return float(np.median(values)), float(min(values)), float(max(values))


def _median(spread: tuple[float, float, float] | None) -> str:
    return "" if spread is None else f"{spread[0]:.2g}" if spread[0] < 0.1 else f"{spread[0]:.2f}"
