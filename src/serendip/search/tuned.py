"""What a search knows of the tuning of its options."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["FOLD_KEYS", "Columns", "TuneOn", "Tuned"]

TuneOn = Literal["untested", "all"]

FOLD_KEYS = ("folds", "seed", "id", "group", "where", "tree", "preset")
"""Settings of a search that say which events are in which fold."""

Columns = str | tuple[str, ...] | None
"""One column or several."""


class Tuned(BaseModel):
    """Which events the options were chosen on, written by ``serendip tune``.

    Attributes
    ----------
    on
        ``"untested"``: fold 0 of a sequential search; ``"all"``: every event.
    methods
        Methods whose options were chosen.
    folds, seed, id, group, where, tree, preset
        Settings of the tuning that say which events are in fold 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: TuneOn
    methods: tuple[str, ...]
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
