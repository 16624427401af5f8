"""The figures of a validation as numbers: the figures in ``Validation.facts["figures"]``, drawn by the page."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["Picture", "Series"]

Numbers = tuple[float | None, ...]


class Series(BaseModel):
    """One curve, row of points or histogram.

    Attributes
    ----------
    name
        In the legend.
    x, y
        Same length; for ``"steps"`` the ``x`` are bin edges, one more than ``y``.
    error
        Standard errors of ``y``.
    style
        ``"points"``, ``"line"`` or ``"steps"``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    x: Numbers
    y: Numbers
    error: Numbers | None = None
    style: Literal["points", "line", "steps"] = "points"

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if len(self.x) != len(self.y) + (self.style == "steps"):
            raise ValueError(f"series '{self.name}': {len(self.x)} x for {len(self.y)} y ({self.style})")
        if self.error is not None and len(self.error) != len(self.y):
            raise ValueError(f"series '{self.name}': {len(self.error)} errors for {len(self.y)} y")
        return self


class Picture(BaseModel):
    """One figure.

    Attributes
    ----------
    name
        Of its files, unique in its kind of validation.
    title, caption
        Content, and what to look for.
    x_label, y_label
        With units.
    series
        The data series.
    level
        A horizontal line: where ``y`` should be.
    x_log, y_log
        Logarithmic axes.
    categories
        Names of the places ``x = 0, 1, ...`` if the axis has no numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    caption: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    level: float | None = None
    x_log: bool = False
    y_log: bool = False
    categories: tuple[str, ...] = ()
