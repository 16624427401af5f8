"""Examples in docstrings are right."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import serendip

SOURCE = Path(serendip.__file__).parent
MODULES = sorted(
    "serendip." + ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    # those of api write runs, and are tested with it
    if ">>> " in path.read_text(encoding="utf-8") and path.parent.name != "api"
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert not doctest.testmod(import_module(name)).failed


def test_there_are_examples() -> None:
    assert len(MODULES) > 10
