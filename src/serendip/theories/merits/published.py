r"""The official result tables of the Dark Machines unsupervised challenge (arXiv:2105.14027).

Per-signal tables hold AUC and :math:`\varepsilon_S` of each model, signal and channel; :func:`challenge_improvements`
makes of them the total improvements (TI) as the challenge did. :func:`impossible_rows` finds entries that cannot be
right or that ties explain, and :func:`clean` leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from serendip.theories.merits.figures import significance_improvement
from serendip.theories.merits.improvement import best_per_signal, min_median_max

__all__ = [
    "CHANNELS",
    "ModelImprovement",
    "ResultTable",
    "RowFlag",
    "challenge_improvements",
    "clean",
    "impossible_rows",
]

Array = NDArray[np.float64]
Text = NDArray[np.str_]

CHANNELS = ("1", "2a", "2b", "3")
"""Channels of the challenge. A model without a result in one of them has no TI."""

_FULL = 9  # decimals from which a number counts as not rounded


@dataclass(frozen=True, eq=False)
class ResultTable:
    """AUC and signal efficiencies, one row per model, signal and channel.

    Attributes
    ----------
    file, line
        Where the row was read, shapes ``(n,)``.
    model, signal, channel
        Shapes ``(n,)``; the channel is one of :data:`CHANNELS`.
    auc
        Shape ``(n,)``.
    eps_s
        Signal efficiency at each of ``targets``, shape ``(n, n_targets)``; NaN where :func:`clean` took it out.
    targets
        Background efficiencies, falling.
    """

    file: Text
    line: NDArray[np.int64]
    model: Text
    signal: Text
    channel: Text
    auc: Array
    eps_s: Array
    targets: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.model)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """Return some of the rows."""
        return type(self)(
            self.file[rows],
            self.line[rows],
            self.model[rows],
            self.signal[rows],
            self.channel[rows],
            self.auc[rows],
            self.eps_s[rows],
            self.targets,
        )

    @property
    def models(self) -> tuple[str, ...]:
        """Models in the order of their first row."""
        return tuple(dict.fromkeys(self.model.tolist()))


@dataclass(frozen=True)
class ModelImprovement:
    """Total improvement of one model over its signals.

    Attributes
    ----------
    model
        Its name.
    minimum, median, maximum
        Over the signals.
    n_signals
        Signals with any number; None where only the three numbers are published.
    """

    model: str
    minimum: float
    median: float
    maximum: float
    n_signals: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class RowFlag:
    """Problem of a row of a table.

    Attributes
    ----------
    row
        Its number in the table, from 0.
    file, line, model, signal, channel
        Of the row.
    kind
        ``"impossible"``: no score can give these numbers. ``"suspicious"``: a block of equal scores would.
    target
        The background efficiency of the entry that is wrong.
    reason
        In words, with the numbers.
    """

    row: int
    file: str
    line: int
    model: str
    signal: str
    channel: str
    kind: Literal["impossible", "suspicious"]
    target: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self)


def challenge_improvements(
    table: ResultTable, *, channels: Iterable[str] = CHANNELS
) -> tuple[tuple[ModelImprovement, ...], tuple[str, ...]]:
    r"""Compute the total improvements as the challenge did.

    :math:`\mathrm{SI} = \varepsilon_S/\sqrt{\varepsilon_B}` at each background efficiency; the largest of them and of the
    channels is the TI of a signal; minimum, median and maximum are taken over the signals.

    Parameters
    ----------
    table
        Any number of models.
    channels
        A model without rows in one of them is left out.

    Returns
    -------
    improvements
        By falling median; equal ones in the order of the table.
    left_out
        Models that lack a channel, or all of whose entries were removed.
    """
    si = significance_improvement(table.eps_s, table.targets)
    needed = set(channels)
    done, left_out = [], []
    for model, rows in _groups(table.model):
        _, best = best_per_signal(table.signal[rows], si[rows])
        if not needed <= set(table.channel[rows].tolist()) or len(best) == 0:
            left_out.append(model)
            continue
        low, median, high = min_median_max(best)
        done.append(ModelImprovement(model, float(low), float(median), float(high), len(best)))
    return tuple(sorted(done, key=lambda entry: -entry.median)), tuple(left_out)


def impossible_rows(table: ResultTable) -> tuple[RowFlag, ...]:
    r"""Find entries that cannot be right, and those that look like a block of equal scores.

    A ROC curve rises, so that it has at least the area to the right of each of its points,

    .. math:: \mathrm{AUC} \ge \varepsilon_S\, (1 - \varepsilon_B),

    and :math:`\varepsilon_S` falls with :math:`\varepsilon_B`. Numbers are taken to be rounded to the decimals that a
    model has in a channel; differences that rounding can explain are not impossible. Equal entries above zero at the two
    tightest background efficiencies are *suspicious*: the first point of a ROC curve beyond the target gives this if a block of equal scores contains both targets. With two decimals, or few signal events, small equal entries
    are also equal by chance.

    Returns
    -------
    flags
        By row; a row can have several.
    """
    half = _rounding(table)
    flags = []

    def add(row: int, kind: Literal["impossible", "suspicious"], column: int, reason: str) -> None:
        flags.append(
            RowFlag(
                row=row,
                file=str(table.file[row]),
                line=int(table.line[row]),
                model=str(table.model[row]),
                signal=str(table.signal[row]),
                channel=str(table.channel[row]),
                kind=kind,
                target=table.targets[column],
                reason=reason,
            )
        )

    least = np.nan_to_num(table.eps_s - half[:, None]) * (1 - np.asarray(table.targets))
    for row in np.flatnonzero(table.auc + half < least.max(axis=1)):
        column = int(np.argmax(least[row]))
        eps, target = table.eps_s[row, column], table.targets[column]
        add(
            int(row),
            "impossible",
            column,
            f"eps_S = {eps:.4g} at eps_B = {target:g} needs an AUC of at least {eps * (1 - target):.4g}, but it is "
            f"{table.auc[row]:.4g}",
        )
    for column in range(1, len(table.targets)):
        tight, loose = table.eps_s[:, column], table.eps_s[:, column - 1]
        names = f"eps_B = {table.targets[column]:g}", f"eps_B = {table.targets[column - 1]:g}"
        for row in np.flatnonzero(tight > loose + 1e-12):
            add(
                int(row),
                "impossible",
                column,
                f"eps_S = {tight[row]:.4g} at {names[0]} is larger than eps_S = {loose[row]:.4g} at {names[1]}",
            )
        if column < len(table.targets) - 1:
            continue
        for row in np.flatnonzero((tight == loose) & (tight > 0)):
            add(
                int(row),
                "suspicious",
                column,
                f"eps_S = {tight[row]:.4g} is the same at {names[0]} and {names[1]}, as a block of equal scores would "
                "give",
            )
    return tuple(sorted(flags, key=lambda flag: flag.row))


def clean(table: ResultTable, flags: Iterable[RowFlag] | None = None) -> ResultTable:
    """Remove the flagged entries.

    An impossible row loses all its entries, a suspicious one the entry at the tighter background efficiency. Rows stay, so
    that a model keeps its channels.

    Parameters
    ----------
    table
        The results.
    flags
        Default: those of :func:`impossible_rows`.
    """
    eps_s, auc = table.eps_s.copy(), table.auc.copy()
    for flag in impossible_rows(table) if flags is None else flags:
        if flag.kind == "impossible":
            eps_s[flag.row], auc[flag.row] = np.nan, np.nan
        else:
            eps_s[flag.row, table.targets.index(flag.target)] = np.nan
    return ResultTable(
        table.file, table.line, table.model, table.signal, table.channel, auc, eps_s, table.targets
    )


def _groups(names: Text) -> Iterable[tuple[str, NDArray[np.int64]]]:
    """Rows of each name, names in the order of their first row."""
    order = np.argsort(names, kind="stable")
    _, first = np.unique(names[order], return_index=True)
    for rows in sorted(np.split(order, first[1:]), key=lambda rows: rows[0]):
        if len(rows):
            yield str(names[rows[0]]), rows


def _rounding(table: ResultTable) -> Array:
    """Half a unit of the last decimal of each row; files mix models, and models round each channel their own way."""
    values = np.nan_to_num(np.column_stack([table.auc, table.eps_s]))
    decimals = np.full(values.shape, _FULL)
    for d in reversed(range(_FULL)):
        decimals[np.abs(np.round(values, d) - values) < 1e-11] = d
    most = decimals.max(axis=1)
    half = np.zeros(len(table))
    pairs = np.char.add(np.char.add(table.model, "\n"), table.channel)
    for _, rows in _groups(pairs):
        d = most[rows].max()
        half[rows] = 0.0 if d >= _FULL else 0.5 * 10.0 ** -float(d)
    return half
