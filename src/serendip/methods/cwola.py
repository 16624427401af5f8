r"""CWoLa hunting (arXiv:1902.02634, 2005.02983; with trees: 2309.13111).

The classifier separates the events of the signal region from those of two strips at its edges. If the
features do not depend on the mass, the background is the same in both, and all there is to learn is signal:

.. math:: \frac{p_\mathrm{SR}(x)}{p_\mathrm{strips}(x)} \;\text{ rises with }\; \frac{p_S(x)}{p_B(x)}
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from serendip.classify.build import ClassifierName, SelectBy
from serendip.classify.nested import NestedEnsemble
from serendip.classify.splits import fit_splits
from serendip.errors import InputError
from serendip.events.events import Events, Window
from serendip.methods.base import HeldOut, MethodConfig, Template, as_splits, require_events
from serendip.methods.classifier import ClassifierMethod

__all__ = ["Cwola", "CwolaConfig"]

_INNER_FOLDS = 4
_SHARE = "share of the strips"


class CwolaConfig(MethodConfig):
    """Options of :class:`Cwola`.

    Attributes
    ----------
    strip_width
        Width of each strip, in widths of the window: as wide as the window by default.
    strip_width_gev
        Width of each strip in GeV; if given, it replaces ``strip_width``.
    classifier
        ``"trees"`` or ``"network"``.
    members
        Classifiers that are averaged (with nested validation rounded up to a multiple of four).
    select_by
        Criterion on validation events for early stopping and for the choice of the restart: the loss (and
        the efficiency at a cut that leaves 2 % of the strips), or ARGOS (:func:`serendip.classify.argos.argos`).
    validation
        ``"random"``: every classifier holds back a random part of the sample; ``"nested"``: each of four inner folds evaluates several trainings on the three others, of which the best is kept
        (:class:`~serendip.classify.nested.NestedEnsemble`), as in the original work.
    validation_fraction
        The part that is held back with ``"random"``. Less than half helps with many features, most of them without
        use (``docs/performance.md``).
    restarts
        Trainings for each inner fold of the nested validation; default: 5.
    min_events
        Fewest events in the window, and in each strip, of the sample of one model.
    """

    tunable: ClassVar[dict[str, tuple[Any, ...]]] = {
        "strip_width": (0.5, 0.75, 1.0, 1.5),
        "classifier": ("trees", "network"),
        "select_by": ("loss", "argos"),
        "validation": ("random", "nested"),
    }

    strip_width: PositiveFloat = 1.0
    strip_width_gev: PositiveFloat | None = None
    classifier: ClassifierName = "trees"
    members: PositiveInt = 20
    select_by: SelectBy = "loss"
    validation: Literal["random", "nested"] = "random"
    validation_fraction: float = Field(default=0.5, gt=0.0, lt=1.0)
    restarts: PositiveInt | None = None
    min_events: PositiveInt = 10

    @model_validator(mode="after")
    def _restarts_need_nested(self) -> Self:
        if self.restarts is not None and self.validation != "nested":
            raise ValueError("restarts requires validation 'nested'")
        default = type(self).model_fields["validation_fraction"].default
        if self.validation == "nested" and self.validation_fraction != default:
            raise ValueError("validation_fraction is used with validation 'random', not with 'nested'")
        return self


class Cwola(ClassifierMethod):
    """Signal region against the adjacent strips, each with half the weight of the signal region."""

    name = "cwola"
    title = "CWoLa hunting: signal region against sideband strips"
    Config = CwolaConfig
    config: CwolaConfig

    def strips(self, window: Window) -> tuple[Window, Window]:
        """Return the lower and the upper strip."""
        width = self.config.strip_width_gev or self.config.strip_width * window.width
        if width >= window.low:
            raise InputError(
                f"strips of {width:g} GeV next to the window {window} would reach down to zero mass; "
                "use narrower strips"
            )
        return Window(window.low - width, window.low), Window(window.high, window.high + width)

    def check(self, events: Events, window: Window, splits: NDArray[np.bool_]) -> None:
        """Stop if the window or a strip has too few events in a split."""
        regions = self._regions(events, window)
        for mask in as_splits(splits, len(events)):
            self._balanced(events.weights, mask & regions, window)

    def fit(self, events: Events, window: Window, splits: NDArray[np.bool_] | None = None) -> Self:
        """Train one classifier for each split on the events of the window and the strips.

        Arguments as in :meth:`.Method.fit`.

        Raises
        ------
        InputError
            If the window or a strip has too few events in a split, e.g. because it lies beyond the edge of
            the spectrum.
        """
        masks = as_splits(splits, len(events))
        regions = self._regions(events, window)
        used = regions.any(axis=0)
        self._x, self._masks, self._in_window = events.x[used], masks[:, used], regions[0, used]
        event_weights, regions = events.weights[used], regions[:, used]
        self._weight = np.stack(
            [self._balanced(event_weights, mask & regions, window) for mask in self._masks]
        )
        self._classifiers = fit_splits(
            self.classifier(), self._x, self._in_window, self._weight, self._masks,
            None if events.groups is None else events.groups[used],
        )  # fmt: skip
        return self

    def classifier(self) -> Any:
        """Return the untrained classifier; override it to use any other scikit-learn estimator."""
        config = self.config
        if config.validation != "nested":
            return super().classifier()
        return NestedEnsemble(
            self._ensemble(-(-config.members // _INNER_FOLDS)),
            inner_folds=_INNER_FOLDS,
            restarts=config.restarts or 5,
            select_by="argos" if config.select_by == "argos" else "efficiency",
            random_state=self.seed,
        )

    def template(self, split: int = 0) -> Template:
        """Return the strip events that model ``split`` was trained on, with their weights."""
        rows = self._masks[split] & ~self._in_window
        return Template(x=self._x[rows], weights=self._weight[split, rows])

    def held_out(
        self, events: Events, window: Window, split: int, rng: np.random.Generator
    ) -> HeldOut | None:
        """Window against strips; as control the strips against the next ones outside.

        A score that has learnt the mass rises towards the window, and so from the outer strips to the inner ones.
        """
        lower, upper = self.strips(window)
        outer = (
            Window(max(2 * lower.low - lower.high, 0.5 * lower.low), lower.low),
            Window(upper.high, upper.high + upper.width),
        )
        weights, m = events.weights, events.m

        def half_each(regions: tuple[Window, Window]) -> Events:
            masks = [region.contains(m) for region in regions]
            for mask, region in zip(masks, regions, strict=True):
                require_events(mask & (weights > 0), self.config.min_events, f"strip {region}", window)
            share = sum((mask * weights / weights[mask].sum() for mask in masks), start=np.zeros(len(m)))
            kept = masks[0] | masks[1]
            columns = dict(events.columns) | {_SHARE: share}
            return replace(events, columns=columns, weight=_SHARE).select(kept)

        strips = half_each((lower, upper))
        data = events.select(window.contains(m))
        try:
            return HeldOut(data, strips, strips, half_each(outer))
        except InputError:
            return HeldOut(data, strips)

    def _regions(self, events: Events, window: Window) -> NDArray[np.bool_]:
        """Masks of signal region, lower and upper strip, shape ``(3, n_events)``."""
        return np.stack([region.contains(events.m) for region in (window, *self.strips(window))])

    def _balanced(
        self, weights: NDArray[np.float64], regions: NDArray[np.bool_], window: Window
    ) -> NDArray[np.float64]:
        """Weights of one model, in which each strip sums to half the signal region; shape ``(n,)``.

        ``regions`` are the masks of signal region, lower and upper strip.
        """
        lower, upper = self.strips(window)
        names = ("signal region", f"lower strip ({lower})", f"upper strip ({upper})")
        out = np.zeros(len(weights))
        for name, rows, share in zip(names, regions, (1.0, 0.5, 0.5), strict=True):
            require_events(rows & (weights > 0), self.config.min_events, name, window)
            out[rows] = weights[rows] * (share * weights[regions[0]].sum() / weights[rows].sum())
        return out
