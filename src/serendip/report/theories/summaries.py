"""The numbers of the figures of a study of many theories: models in the plane of total improvements, signals, saturation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from serendip.errors import InputError
from serendip.theories.merits import (
    ModelImprovement,
    ResultTable,
    TotalImprovement,
    best_per_signal,
    significance_improvement,
)

__all__ = [
    "FAMILIES",
    "ImprovementPlane",
    "Marked",
    "ModelPoint",
    "Saturation",
    "SaturationCurve",
    "SignalBox",
    "SignalBoxes",
    "improvement_plane",
    "model_family",
    "saturation_curve",
    "signal_boxes",
]

# Beginnings of the names of the published models, the longer ones first.
FAMILIES = (
    ("Combined", "flow with Deep SVDD or VAE"),
    ("Flow", "spline flow"),
    ("DeepSetVAE", "DeepSet VAE"),
    ("DeepSVDD", "Deep SVDD"),
    ("DAGMM", "DAGMM"),
    ("ALAD", "ALAD"),
    ("LS_", "in the latent space of a VAE"),
    ("KDE", "KDE"),
    ("SimpleAE", "autoencoder"),
    ("CNN", "convolutional VAE"),
    ("VAE_", "convolutional VAE"),
    ("VAE-", "β-VAE"),
)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPoint(_Record):
    """Minimum, median and maximum TI of a model over its signals; errors where they are known."""

    model: str
    family: str
    minimum: float
    median: float
    maximum: float
    minimum_error: float | None = None
    median_error: float | None = None
    maximum_error: float | None = None


class ImprovementPlane(_Record):
    """Published models, and the ones to compare with them."""

    published: tuple[ModelPoint, ...]
    ours: tuple[ModelPoint, ...]


class Marked(_Record):
    """Significance improvement of one model for one signal."""

    model: str
    value: float
    error: float | None = None


class SignalBox(_Record):
    """Spread of the models for one signal: 5, 25, 50, 75 and 95 % quantiles, the best one, and marked models."""

    signal: str
    n_models: int
    quantiles: tuple[float, float, float, float, float]
    best: float
    best_model: str
    marked: tuple[Marked, ...]


class SignalBoxes(_Record):
    """Largest significance improvement per signal, in one channel or (None) over all."""

    channel: str | None
    signals: tuple[SignalBox, ...]


class SaturationCurve(_Record):
    """A quantity against the number of theories: median and central 68 % over random orders."""

    name: str
    x: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n_orders: int


class Saturation(_Record):
    """Curves on common axes.

    ``levels`` are horizontal lines, such as the best unsupervised model; ``level_of`` gives those that belong to a curve its number, and so
    its colour.
    """

    x_label: str
    y_label: str
    curves: tuple[SaturationCurve, ...]
    levels: dict[str, float] = {}
    level_of: dict[str, int] = {}
    x_log: bool = False
    title: str = ""

    def placed_levels(self) -> list[tuple[str, float, int | None, int]]:
        """Name, value, number of the curve, and the how-many-th level of that curve it is."""
        seen: dict[int | None, int] = {}
        found = []
        for name, value in self.levels.items():
            curve = self.level_of.get(name)
            found.append((name, value, curve, seen.get(curve, 0)))
            seen[curve] = seen.get(curve, 0) + 1
        return found


def model_family(model: str) -> str:
    """Kind of a published model, from its name; ``"other"`` if it is none of the challenge."""
    return next((family for start, family in FAMILIES if model.startswith(start)), "other")


def improvement_plane(
    published: Iterable[ModelImprovement],
    ours: Mapping[str, TotalImprovement],
    kinds: Mapping[str, str] | None = None,
) -> ImprovementPlane:
    """Collect the points of the plane.

    Parameters
    ----------
    published
        As read by :func:`serendip.theories.merits.tables.read_improvements`.
    ours
        Models by name, with errors.
    kinds
        Kind of each of them, drawn in the same style; default: each is one of its own.
    """
    return ImprovementPlane(
        published=tuple(
            ModelPoint(
                model=entry.model,
                family=model_family(entry.model),
                minimum=entry.minimum,
                median=entry.median,
                maximum=entry.maximum,
            )
            for entry in published
        ),
        ours=tuple(
            ModelPoint(
                model=name,
                family=name if kinds is None else kinds[name],
                minimum=entry.minimum,
                median=entry.median,
                maximum=entry.maximum,
                minimum_error=entry.minimum_error,
                median_error=entry.median_error,
                maximum_error=entry.maximum_error,
            )
            for name, entry in ours.items()
        ),
    )


def signal_boxes(
    table: ResultTable,
    ours: Mapping[str, TotalImprovement],
    *,
    channel: str | None = None,
    highlight: Sequence[str] = (),
) -> SignalBoxes:
    """Compare models signal by signal.

    Parameters
    ----------
    table
        Published results.
    ours
        Models by name. For a channel, join only results of that channel.
    channel
        Use the results of this channel only; default: the largest over the channels.
    highlight
        Models of the table to mark as well.

    Raises
    ------
    InputError
        If the table has no rows in the channel, or lacks a highlighted model.
    """
    missing = [model for model in highlight if model not in table.models]
    if missing:
        raise InputError(f"the table has no model '{missing[0]}'; it has {len(table.models)} others")
    if channel is not None:
        table = table.select(table.channel == channel)
    if len(table) == 0:
        raise InputError(f"the table has no rows in channel {channel}")
    keys = np.char.add(np.char.add(table.signal, "\n"), table.model)
    names, best = best_per_signal(keys, significance_improvement(table.eps_s, table.targets))
    signal, model = (np.array(part) for part in zip(*(name.split("\n") for name in names), strict=True))
    boxes = []
    for name in np.unique(signal):
        here = signal == name
        values, models = best[here], model[here].tolist()
        known = dict(zip(models, values.tolist(), strict=True))
        marked = [Marked(model=m, value=known[m]) for m in highlight if m in known]
        marked += [
            Marked(model=m, value=entry.value, error=entry.error)
            for m, result in ours.items()
            for entry in result.signals
            if entry.signal == name
        ]
        boxes.append(
            SignalBox(
                signal=str(name),
                n_models=len(values),
                quantiles=tuple(np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()),
                best=float(values.max()),
                best_model=models[int(np.argmax(values))],
                marked=tuple(marked),
            )
        )
    return SignalBoxes(channel=channel, signals=tuple(sorted(boxes, key=lambda box: -box.quantiles[2])))


def saturation_curve(name: str, n_theories: ArrayLike, values: ArrayLike) -> SaturationCurve:
    """Summarise random orders.

    Parameters
    ----------
    name
        In the legend.
    n_theories
        Theories (or families) in the mixture, shape ``(n_steps,)``, rising.
    values
        The quantity, shape ``(n_orders, n_steps)``.

    Raises
    ------
    InputError
        If the shapes do not fit or a value is not finite.
    """
    x, y = np.asarray(n_theories, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or y.ndim != 2 or y.shape[1] != len(x) or len(y) == 0 or np.any(np.diff(x) <= 0):
        raise InputError(
            f"saturation curve '{name}': numbers of theories must rise, with one column of values each; the shapes are "
            f"{x.shape} and {y.shape}"
        )
    if not np.isfinite(y).all():
        order, step = np.argwhere(~np.isfinite(y))[0]
        raise InputError(
            f"saturation curve '{name}': order {order} has no finite value at {x[step]:g} theories"
        )
    low, median, high = np.quantile(y, [0.16, 0.5, 0.84], axis=0)
    return SaturationCurve(
        name=name,
        x=tuple(x.tolist()),
        median=tuple(median.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        n_orders=len(y),
    )
