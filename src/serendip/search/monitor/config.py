"""The settings of a monitor."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from serendip.methods.registry import get_method
from serendip.search.config import SearchConfig

__all__ = ["MonitorConfig"]

_IDLE = ("label", "working_points", "combination", "orders", "calibration", "counting", "toys", "tuned")


class MonitorConfig(SearchConfig):
    """All settings that affect the numbers of a monitor: the keys of a search that are used here."""

    no_flag = SearchConfig.no_flag | dict.fromkeys(_IDLE, "belongs to a search")

    folds: int = Field(default=1, ge=1, le=20)
    """Parts of each period after the first: a part is scored by a model trained on the earlier periods and the earlier parts of its own."""

    @model_validator(mode="after")
    def _monitored(self) -> Self:
        for name in _IDLE:
            if name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is a setting of a search and is not used in a monitor; remove it")
        for name in self.method:
            method = get_method(name)
            if method.uses_labels or not method.trains or method.working_points is not None:
                raise ValueError(
                    f"method '{name}' cannot be monitored: the evidence uses scores of models trained on earlier periods, "
                    "without truth labels; use cwola, cathode or another method of that kind"
                )
        return self

    def resolved(self) -> dict[str, Any]:
        """All settings with every default written out, JSON-able."""
        return {key: value for key, value in super().resolved().items() if key not in _IDLE}
