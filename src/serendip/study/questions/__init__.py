"""The questions of a study, one file each.

A question has ``stages(context)``, a generator of lists of trainings (each list is finished before the next is requested), and ``answer(context,
progress)``, which returns JSON-able numbers.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__all__ = ["load_question"]


def load_question(name: str) -> ModuleType:
    """Return the module of a question."""
    return import_module(f"serendip.study.questions.{name}")
