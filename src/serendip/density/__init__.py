"""Conditional density models p(x|m) with exact densities and sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serendip.density.base import ConditionalDensity
from serendip.errors import InputError
from serendip.io.json import read_json

__all__ = ["KINDS", "ConditionalDensity", "load_density", "make_density"]

KINDS = ("flow-matching", "spline", "spline-coupling", "maf")
"""Names of all density models."""


def make_density(kind: str, **options: Any) -> ConditionalDensity:
    """Return an unfitted density model.

    ``kind`` is ``"flow-matching"``, ``"spline"``, ``"spline-coupling"`` or ``"maf"``.
    """
    return _class_of(kind)(**options)  # type: ignore[no-any-return]


def load_density(folder: str | Path) -> ConditionalDensity:
    """Read a fitted density model of any kind from the folder that its ``save`` wrote."""
    facts = read_json(Path(folder) / "density.json", missing="the folder contains no density", schema=1)
    return _class_of(facts["kind"]).load(folder)  # type: ignore[no-any-return]


def _class_of(kind: str) -> Any:
    # torch takes seconds to import: only when a model is requested
    from serendip.density.flow_matching import FlowMatching
    from serendip.density.flows import AffineFlow, CouplingFlow, SplineFlow

    kinds: dict[str, Any] = {cls.kind: cls for cls in (FlowMatching, SplineFlow, CouplingFlow, AffineFlow)}
    if kind not in kinds:
        raise InputError(f"there is no density model '{kind}'; choose one of: {', '.join(kinds)}")
    return kinds[kind]
