"""Look a table over before a search: ranges, gaps, copies, and columns that would spoil the result.

Two things spoil a weakly supervised search without any message. A feature that follows the mass lets a
classifier
find the signal region instead of a signal, which sculpts the spectrum. A feature that gives the label away
is a truth column in disguise. Both are searched for here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, rankdata

from serendip.errors import InputError
from serendip.events.cuts import apply_cut
from serendip.events.dependence import Telling
from serendip.events.events import Events, column_names
from serendip.events.expressions import Expression
from serendip.events.expressions.values import EXACT, missing
from serendip.events.formats import Source
from serendip.events.formats.table import Table
from serendip.events.identity import group_codes
from serendip.events.roles import Roles, as_numbers, open_resolved
from serendip.events.weights import WeightSum, weight_sum
from serendip.io.units import in_gev

__all__ = ["Audit", "ColumnAudit", "audit", "distance_correlation", "single_feature_auc"]

SAMPLE = 3000
AUC_SAMPLE = 200_000
GIVEAWAY = 0.95
BATCH_BYTES = 1 << 29


@dataclass(frozen=True)
class ColumnAudit:
    """Facts about one column.

    Attributes
    ----------
    name, dtype, role
        ``role`` is mass, feature, weight, label, id, group or empty.
    minimum, median, maximum
        Of the finite values; None for text.
    nan, inf
        Numbers of missing and of infinite values.
    constant
        True if all values are equal.
    mass_correlation, mass_correlation_null
        Distance correlation with the mass, from 0 to 1, and the value that at most one in a hundred columns
        independent of the mass exceeds; None without a mass.
    auc
        How well this column alone separates signal from background: 0.5 not at all, 1 fully; None without a
        label.
    """

    name: str
    dtype: str
    role: str
    minimum: float | None
    median: float | None
    maximum: float | None
    nan: int
    inf: int
    constant: bool
    mass_correlation: float | None = None
    mass_correlation_null: float | None = None
    auc: float | None = None


@dataclass(frozen=True)
class Audit:
    """Result of :func:`audit`.

    Attributes
    ----------
    file, format, tree
        Where the table is.
    rows_in_file, rows
        Before and after the cut.
    undecided
        Rows that the cut leaves out because a value is missing, by reason.
    columns
        One entry for each column.
    jagged
        Columns with a list of values for each event, and the type of the values; their values are not looked at.
    unreadable
        Columns that cannot be used, and why.
    duplicated_ids
        Number of rows with a duplicate id; None without an id.
    duplicated_columns
        Groups of columns with the same values.
    mass_correlated
        Columns that follow the mass beyond chance, the strongest first.
    weights
        Sum of the weights and effective number of events, over sums of groups if there are some; None without.
    dependence
        Signs that events depend on each other, in words: copies, near copies, several rows of one event.
    giveaways
        Columns that alone separate signal and background with an AUC above 0.95.
    """

    file: str
    format: str
    tree: str | None
    rows_in_file: int
    rows: int
    columns: tuple[ColumnAudit, ...]
    jagged: Mapping[str, str]
    unreadable: Mapping[str, str]
    duplicated_ids: int | None
    duplicated_columns: tuple[tuple[str, ...], ...]
    mass_correlated: tuple[str, ...]
    giveaways: tuple[str, ...]
    undecided: Mapping[str, int] = field(default_factory=dict)
    dependence: tuple[str, ...] = ()
    weights: WeightSum | None = None

    @property
    def constant(self) -> tuple[str, ...]:
        """Columns with one value."""
        return tuple(column.name for column in self.columns if column.constant)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON-able values."""
        return {**asdict(self), "constant": list(self.constant)}


def _centred(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    distances = np.abs(values[:, None] - values)
    row = distances.mean(axis=0)
    mean = float(row.mean())
    distances -= row
    distances -= row[:, None]
    distances += mean
    return distances, mean


def distance_correlation(x: NDArray[Any], y: NDArray[Any], level: float = 0.01) -> tuple[float, float]:
    r"""Distance correlation of two variables, and its size under independence.

    .. math:: \mathcal{R}^2 = \frac{\overline{A B}}{\sqrt{\overline{A^2}\ \overline{B^2}}}

    with the doubly centred distance matrices :math:`A_{ij}` of ``x`` and :math:`B_{ij}` of ``y``
    (Székely, Rizzo, Bakirov, arXiv:0803.4101). It is 0 only for independent variables. Under
    independence :math:`n \mathcal{R}^2 - \bar a \bar b + 1`, with the mean distances :math:`\bar a, \bar b`
    in units that make the denominator 1, exceeds the ``1 - level`` quantile of :math:`\chi^2_1` with a
    probability of at most ``level`` (chi-square test of distance correlation, arXiv:1912.12150). The second
    number is this limit.

    Parameters
    ----------
    x, y
        Shape ``(n,)``; takes memory and time of order :math:`n^2`.
    level
        Probability to exceed the limit.

    Returns
    -------
    tuple of float
        Correlation in [0, 1], and its limit under independence. Both are 0 if a variable is constant.
    """
    return _distance_correlation(_centred(np.asarray(x, np.float64)), np.asarray(y, np.float64), level)


def _distance_correlation(
    centred_x: tuple[NDArray[np.float64], float], y: NDArray[np.float64], level: float
) -> tuple[float, float]:
    (a, mean_a), (b, mean_b) = centred_x, _centred(y)
    # einsum instead of BLAS, whose threads get in each other's way for such short sums on a busy machine.
    covariance, vary_x, vary_y = (float(np.einsum("ij,ij", c, d)) for c, d in ((a, b), (a, a), (b, b)))
    scale = math.sqrt(vary_x * vary_y)
    if scale == 0:
        return 0.0, 0.0
    n = len(y)
    # The plug-in estimate is too large by mean_a * mean_b / n, which the test subtracts.
    limit = (float(chi2.ppf(1 - level, 1)) - 1) / n + mean_a * mean_b * n / scale
    return math.sqrt(max(covariance, 0.0) / scale), math.sqrt(limit)


def single_feature_auc(values: NDArray[Any], signal: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of a cut on one variable, in the better direction; ties count half.

    Parameters
    ----------
    values
        Shape ``(n,)``, finite.
    signal
        Truth, shape ``(n,)``.

    Returns
    -------
    float
        From 0.5 (useless) to 1; 0.5 if one class is empty.
    """
    n_signal, n_background = int(np.count_nonzero(signal)), int(np.count_nonzero(~signal))
    if n_signal == 0 or n_background == 0:
        return 0.5
    rank_sum = float(rankdata(values)[signal].sum())
    area = (rank_sum - n_signal * (n_signal + 1) / 2) / (n_signal * n_background)
    return max(area, 1 - area)


def audit(
    source: Source | Events | Any,
    *,
    mass: str | None = None,
    features: Sequence[str] = (),
    weight: str | None = None,
    label: str | None = None,
    id: str | Sequence[str] | None = None,
    group: str | Sequence[str] | None = None,
    where: str | None = None,
    tree: str | None = None,
    unit: str = "GeV",
    preset: str | None = None,
    seed: int = 0,
) -> Audit:
    """Look a table over.

    Unlike :func:`serendip.read` it needs no mass and refuses no bad values, it counts them.

    Parameters
    ----------
    source
        A file, files or a table in memory as for :func:`serendip.read`, or events, which bring their roles with them.
    mass, features, weight, label, id, group, where, tree, unit, preset
        As for :func:`serendip.read`. With features, only they and the other roles are looked at; else all
        columns.
    seed
        Of the random subsamples for correlations (3000 events) and AUC (200,000 events).

    Raises
    ------
    InputError
        If the file or an expression cannot be used.

    Examples
    --------
    >>> found = serendip.inspect("events.parquet", mass="mjj", features=["mj1", "tau21"], label="truth")
    >>> found.rows, found.mass_correlated
    (4060, ('tau21', 'mj1'))
    """
    if isinstance(source, Events):
        return _audit_events(source, seed)
    scale = in_gev(unit)
    with open_resolved(
        source, tree, preset, unit, mass=mass, features=list(features), weight=weight, label=label, id=id, group=group,
        where=where,
    ) as (table, roles):  # fmt: skip
        return _audit_table(table, roles, everything=not (features or preset), scale=scale, seed=seed)


def _audit_events(events: Events, seed: int) -> Audit:
    named = {events.mass: "mass", events.weight: "weight", events.label: "label", events.group: "group"}
    named |= dict.fromkeys(column_names(events.id), "id")
    roles = {name: named.get(name, "feature" if name in events.features else "") for name in events.columns}
    examiner = _Examiner(
        len(events),
        seed,
        mass=events.m,
        signal=None if events.label is None else events.labels,
    )
    for name, values in events.columns.items():
        examiner.add(name, str(values.dtype), roles[name], values)
    examiner.telling.groups = events.groups
    file, form = str(events.provenance.get("file", "")), str(events.provenance.get("format", ""))
    return examiner.result(file, form, None, len(events), {}, {})


def _audit_table(table: Table, roles: Roles, *, everything: bool, scale: float, seed: int) -> Audit:
    rows: NDArray[np.int64] | slice = slice(None)
    undecided: dict[str, int] = {}
    n = table.n_rows

    def load(names: Sequence[str]) -> dict[str, Any]:
        loaded = table.load(names)
        return loaded if isinstance(rows, slice) else {name: values[rows] for name, values in loaded.items()}

    def numbers(expression: Expression) -> NDArray[Any]:
        raw = load(sorted(expression.columns))
        return expression({name: as_numbers(table, name, values) for name, values in raw.items()})

    if roles.where is not None:
        raw = table.load(sorted(roles.where.columns))
        raw = {name: as_numbers(table, name, values) for name, values in raw.items()}
        rows, undecided = apply_cut(table.name, roles.where, raw)
        n = len(rows)
    mass = None if roles.mass is None else np.asarray(numbers(roles.mass), np.float64) * scale
    signal = None
    if roles.label is not None:
        signal = as_numbers(table, roles.label, load([roles.label])[roles.label]) > 0.5
    examiner = _Examiner(n, seed, mass, signal)

    named = {roles.label: "label"} | dict.fromkeys(roles.grouping, "group") | dict.fromkeys(roles.id, "id")
    used = [(e, role) for e, role in ((roles.mass, "mass"), (roles.weight, "weight")) if e is not None]
    used += [(feature, "feature") for feature in roles.features]
    expressions = {e.text: role for e, role in used}
    for expression, role in used:
        if role == "mass":
            assert mass is not None
            examiner.add(expression.text, str(mass.dtype), role, mass)
        elif not (expression.plain and everything):
            values = numbers(expression)
            examiner.add(expression.text, str(values.dtype), role, values)
    left = [
        name
        for name in (table.types if everything else named)
        if name is not None and name not in examiner.seen
    ]
    failed: dict[str, str] = {}
    batch = max(1, BATCH_BYTES // (8 * table.n_rows))
    for i in range(0, len(left), batch):
        for name, values in _loaded(load, left[i : i + batch], failed).items():
            examiner.add(name, table.types[name], named.get(name, expressions.get(name, "")), values)
    if failed and not examiner.seen and not table.jagged:
        raise InputError(f"{table.name}: column '{next(iter(failed))}' {next(iter(failed.values()))}")

    def place(i: int) -> str:
        return table.place(int(i if isinstance(rows, slice) else rows[i]))

    examiner.telling.place = place
    if roles.grouping:
        examiner.telling.groups = group_codes(table.name, load(roles.grouping), place)
    examiner.undecided = undecided
    jagged = table.jagged if everything else {}
    unreadable = {**table.unreadable, **failed} if everything else failed
    return examiner.result(table.name, table.format, table.tree, table.n_rows, jagged, unreadable)


def _loaded(
    load: Callable[[Sequence[str]], dict[str, Any]], names: Sequence[str], failed: dict[str, str]
) -> dict[str, Any]:
    """Columns of a table; those that fail are put aside with the message, so that one does not hide all others."""
    try:
        return load(names)
    except InputError as error:
        if len(names) == 1:
            failed[names[0]] = str(error).split(f"column '{names[0]}' ", 1)[-1]
            return {}
    return {name: values for one in names for name, values in _loaded(load, [one], failed).items()}


def _content(values: NDArray[Any]) -> bytes:
    """Bytes that are equal for equal numbers of any type."""
    rounded = np.asarray(values, dtype=np.float64)
    whole = values.dtype.kind in "iu" and np.any(np.abs(rounded) >= EXACT)
    return (values.astype(np.int64) if whole else rounded).tobytes()


def _repeated(ids: Sequence[NDArray[Any]]) -> int | None:
    """Rows with a duplicate id; None without an id."""
    if not ids:
        return None
    keys = [
        np.unique(v if v.dtype.kind in "iuf" else v.astype(str), return_inverse=True)[1].ravel() for v in ids
    ]
    together = keys[0]
    for key in keys[1:]:
        together = np.unique(together * (int(key.max()) + 1) + key, return_inverse=True)[1].ravel()
    return len(together) - int(together.max()) - 1


class _Examiner:
    """Collects the facts about one column after the other."""

    def __init__(
        self, n: int, seed: int, mass: NDArray[np.float64] | None, signal: NDArray[np.bool_] | None
    ) -> None:
        self.n = n
        self.mass, self.signal = mass, signal
        self.seen: dict[str, ColumnAudit] = {}
        self._digests: dict[bytes, list[str]] = {}
        self._rng = np.random.default_rng(seed)
        self._auc_rows = self._subsample(np.arange(n), AUC_SAMPLE)
        self._mass_rows = np.empty(0, dtype=np.int64)
        if mass is not None:
            self._mass_rows = self._subsample(np.flatnonzero(np.isfinite(mass)), SAMPLE)
            self._centred_mass = _centred(mass[self._mass_rows])
        self.ids: list[NDArray[Any]] = []
        self.undecided: dict[str, int] = {}
        self.telling = Telling()
        self.weights: NDArray[np.float64] | None = None

    def _subsample(self, rows: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        return rows if len(rows) <= size else np.sort(self._rng.choice(rows, size, replace=False))

    def add(self, name: str, dtype: str, role: str, values: NDArray[Any]) -> None:
        if role == "id":
            self.ids.append(values)
        if values.dtype.kind not in "biuf":
            empty = sum(value is None or value == "" for value in values)
            constant = all(value == values[0] for value in values)
            self._remember(name, "\0".join(map(str, values)).encode(), constant=constant)
            self.seen[name] = ColumnAudit(name, dtype, role, None, None, None, empty, 0, constant)
            return
        absent = missing(values)
        masked = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
        values = np.ma.filled(values, 0)
        finite = np.isfinite(values) & ~absent
        good = values if finite.all() else values[finite]
        middle = float(np.median(good)) if len(good) else None
        low, high = ((f(good) + 0).item() if len(good) else None for f in (np.min, np.max))
        constant = len(good) == self.n and low == high
        nan = int(np.count_nonzero(absent))
        hidden = b"" if masked is None else masked.tobytes()
        self._remember(name, _content(values) + hidden, constant=constant)
        if role == "weight":
            self.weights = np.where(finite, values, 0).astype(np.float64)
        if role in ("mass", "feature", ""):
            self.telling.add(name, role, np.where(absent, np.nan, values) if masked is not None else values)
        correlation = null = area = None
        if role in ("", "feature") and len(good) and not constant:
            correlation, null = self._against_mass(values, finite)
            area = self._against_label(values, finite)
        inf = self.n - len(good) - nan
        self.seen[name] = ColumnAudit(
            name, dtype, role, low, middle, high, nan, inf, constant, correlation, null, area
        )

    def _worth(self) -> WeightSum | None:
        groups, w = self.telling.groups, self.weights
        if groups is None:
            return None if w is None else weight_sum(w)
        member = np.unique(groups, return_inverse=True)[1]
        return weight_sum(np.bincount(member, w))

    def _remember(self, name: str, content: bytes, *, constant: bool) -> None:
        if not constant:
            self._digests.setdefault(hashlib.blake2b(content, digest_size=16).digest(), []).append(name)

    def _against_mass(
        self, values: NDArray[Any], finite: NDArray[np.bool_]
    ) -> tuple[float | None, float | None]:
        if self.mass is None:
            return None, None
        good = finite[self._mass_rows]
        sample = np.asarray(values[self._mass_rows[good]], dtype=np.float64)
        if len(sample) < 10:
            return None, None
        centred = self._centred_mass if good.all() else _centred(self.mass[self._mass_rows[good]])
        return _distance_correlation(centred, sample, 0.01)

    def _against_label(self, values: NDArray[Any], finite: NDArray[np.bool_]) -> float | None:
        if self.signal is None:
            return None
        rows = self._auc_rows[finite[self._auc_rows]]
        return single_feature_auc(values[rows], self.signal[rows])

    def result(
        self,
        file: str,
        form: str,
        tree: str | None,
        rows_in_file: int,
        jagged: Mapping[str, str],
        unreadable: Mapping[str, str],
    ) -> Audit:
        columns = tuple(self.seen.values())
        correlated = [
            c
            for c in columns
            if c.mass_correlation is not None and c.mass_correlation > (c.mass_correlation_null or 0.0)
        ]
        correlated.sort(key=lambda c: c.mass_correlation or 0.0, reverse=True)
        return Audit(
            file=file,
            format=form,
            tree=tree,
            rows_in_file=rows_in_file,
            rows=self.n,
            columns=columns,
            jagged=dict(jagged),
            unreadable=dict(unreadable),
            duplicated_ids=_repeated(self.ids),
            undecided=self.undecided,
            dependence=self.telling.signs(),
            weights=self._worth(),
            duplicated_columns=tuple(tuple(names) for names in self._digests.values() if len(names) > 1),
            mass_correlated=tuple(column.name for column in correlated),
            giveaways=tuple(c.name for c in columns if c.auc is not None and c.auc > GIVEAWAY),
        )
