"""Model-agnostic searches for new physics at particle colliders."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serendip.events.events import Events, Window, concatenate
    from serendip.events.read import read
    from serendip.events.write import write

__version__ = "0.2.0"

__all__ = ["Events", "Window", "__version__", "concatenate", "read", "write"]

_HOMES = {
    "Events": "serendip.events.events",
    "Window": "serendip.events.events",
    "concatenate": "serendip.events.events",
    "read": "serendip.events.read",
    "write": "serendip.events.write",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'serendip' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
