"""Settings of a validation: those of a search, and options and thresholds of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.search.config import SearchConfig, explain, parse_settings
from serendip.validate.registry import KINDS

__all__ = ["KindOptions", "RegionOptions", "Sample", "ValidateConfig", "parse_validation"]

Sample = Literal["auto", "data", "label", "simulation"]
"""Background sample of a kind, see :func:`serendip.validate.regions.background_sample`."""

_PLACEHOLDER = (1.0, 2.0)


class KindOptions(BaseModel):
    """Base of the options of a kind; an unknown option is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RegionOptions(KindOptions):
    """Options of kinds that replace the signal region by windows next to it."""

    sample: Sample = "auto"
    """Background sample: ``"data"`` (outside the signal region), ``"label"``, ``"simulation"``, or ``"auto"`` (labels if there are any,
    else data)."""
    per_side: int = Field(default=2, ge=1, le=10)
    """Windows on each side of the signal region."""
    gap: float = Field(default=0.5, ge=0.0, le=10.0)
    """Distance of the first of them in widths; it is a sideband of both."""


class ValidateConfig(SearchConfig):
    """The keys of a search. A simulation may be given to be compared with, and a window be missing where none is needed."""

    no_flag = SearchConfig.no_flag | {"calibration": "is made here, by the kind null"}

    def check_consistency(self) -> None:
        """Stop if settings contradict each other; a window and what is simulated may be anything that a kind can use."""
        changes: dict[str, Any] = {}
        if self.window is None and self.scan is None and self.width is None and self.signal_width is None:
            changes["window"] = _PLACEHOLDER
        try:
            SearchConfig.check_consistency(self.model_copy(update=changes))
        except ValueError as error:
            if self.simulation is None:
                raise
            # a search refuses a simulation that no method starts from; anything else is wrong with or without one
            changes |= {"simulation": None, "simulation_weight": None, "simulation_where": None}
            try:
                SearchConfig.check_consistency(self.model_copy(update=changes))
            except ValueError:
                raise error from None

    @property
    def windows(self) -> tuple[Window, ...]:
        """The signal regions in GeV; none if neither a window nor a scan was given."""
        return () if self.window is None and self.scan is None else super().windows


def parse_validation(
    settings: dict[str, Any], kinds: Sequence[str], source: str
) -> tuple[ValidateConfig, dict[str, BaseModel]]:
    """Validate the settings of a search with a key ``validate: {KIND: {OPTION: VALUE}}``.

    Parameters
    ----------
    settings
        As a YAML file has them.
    kinds
        The kinds to run.
    source
        Begins error messages.

    Returns
    -------
    The configuration, and the options of each kind of ``kinds``.

    Raises
    ------
    InputError
        Naming the key, the given value and the allowed ones.
    """
    settings = dict(settings)
    given = settings.pop("validate", None) or {}
    if not isinstance(given, dict) or not all(isinstance(value or {}, dict) for value in given.values()):
        raise InputError(
            f"{source}: expected validate: {{KIND: {{OPTION: VALUE}}}}, with KIND of {', '.join(KINDS)}"
        )
    # to YAML, the kind `null` without quotes is a missing value, not a word
    if None in given:
        given = dict(given)
        given["null"] = (given.pop(None) or {}) | (given.get("null") or {})
    for kind in given:
        KINDS[str(kind)]
    config = parse_settings(ValidateConfig, settings, source)
    options = {}
    for kind in dict.fromkeys(kinds):
        module = KINDS[kind]
        try:
            options[kind] = module.Options(**(given.get(kind) or {}))
        except ValidationError as error:
            raise InputError(f"{source}: validate.{kind}: {explain(error, module.Options)}") from None
        if getattr(module, "NEEDS_WINDOW", True) and not config.windows:
            raise InputError(
                f"{source}: '{kind}' needs a window (LO:HI) or a scan: the signal region of the search"
            )
    return config, options
