"""Information on the tuning of the options of a search."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from serendip.search.fields import Columns

__all__ = ["FOLD_KEYS", "TuneOn", "Tuned"]

TuneOn = Literal["untested", "all"]

FOLD_KEYS = ("folds", "seed", "id", "group", "where", "tree", "preset")
"""Settings of a search that assign events to folds."""


class Tuned(BaseModel):
    """Which events the options were chosen on, written by ``serendip tune``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    on: TuneOn
    """``"untested"``: fold 0 of a sequential search; ``"all"``: every event."""
    methods: tuple[str, ...]
    """Methods whose options were chosen."""
    # settings of the tuning that say which events are in fold 0
    folds: int
    seed: int
    id: Columns = None
    group: Columns = None
    where: str | None = None
    tree: str | None = None
    preset: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_on(cls, given: Any) -> Any:
        """In YAML 1.1 the word ``on`` without quotes means true."""
        return (
            {"on" if key is True else key: value for key, value in given.items()}
            if isinstance(given, dict)
            else given
        )
