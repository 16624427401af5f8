"""The kinds of validation by name. A kind is a module, see :mod:`serendip.validate.base`."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pydantic import BaseModel

from serendip.errors import InputError
from serendip.registry import Registry

__all__ = ["KINDS", "is_kind", "kind_names"]


def is_kind(found: Any) -> bool:
    """Whether something is a module with all that :mod:`serendip.validate.base` asks of a kind."""
    options = getattr(found, "Options", None)
    return (
        isinstance(found, ModuleType)
        and isinstance(getattr(found, "QUESTION", None), str)
        and isinstance(options, type)
        and issubclass(options, BaseModel)
        and callable(getattr(found, "run", None))
    )


KINDS: Registry[ModuleType] = Registry(
    "validation",
    {
        name: f"serendip.validate.{name}"
        for name in ("closure", "sculpting", "control", "null", "bias", "coverage", "injection", "simulation")
    },
    "a module with QUESTION, Options (a pydantic model) and run",
    is_kind,
)
"""All kinds, in the order in which they run and are shown."""


def kind_names(text: str) -> tuple[str, ...]:
    """Names in ``KIND[,KIND...]`` or ``all``, in the order of :data:`KINDS`.

    Raises
    ------
    InputError
        If a name is unknown, or there is none.
    """
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted:
        raise InputError(f"name at least one validation: {', '.join(KINDS)}, or all")
    if "all" in wanted:
        return tuple(KINDS)
    for name in wanted:
        KINDS[name]
    return tuple(name for name in KINDS if name in wanted)
