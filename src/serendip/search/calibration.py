"""Calibrations of ``kfold-summed`` on disk: written by the null test, read by a search of the same kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from serendip.errors import InputError
from serendip.events.events import Window
from serendip.io.files import reading
from serendip.io.json import load_json, write_json
from serendip.search.config import SearchConfig
from serendip.statistics.calibration import NullDistribution
from serendip.version import __version__

__all__ = ["Calibration", "Curve", "read_calibration", "search_settings"]

# the events, the looks, and settings that do not affect distributions: all other settings have to agree
_FREE = (
    *(
        "file",
        "id",
        "group",
        "label",
        "tree",
        "simulation",
        "window",
        "scan",
        "width",
        "signal_width",
        "step",
        "method",
        "options",
    ),
    *("working_points", "toys", "seed", "tuned", "calibration", "unit"),
)
_SIZE_TOLERANCE = 0.1


def search_settings(config: SearchConfig) -> dict[str, Any]:
    """Settings on which the null distribution of a look depends, besides its method, window and working point."""
    settings = {key: value for key, value in config.resolved().items() if key not in _FREE}
    return settings | {"range": None if config.mass_range is None else list(config.mass_range)}


class Curve(BaseModel):
    """Null distribution of one look.

    Attributes
    ----------
    method, options, window, working_point
        Which look; all options of the method are written out.
    events
        Mean number of events in the fitted range outside the window.
    z, observed, expected
        Naive significance, count and expectation of each experiment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    options: dict[str, Any]
    window: tuple[float, float]
    working_point: float
    events: float
    z: tuple[float, ...]
    observed: tuple[float, ...]
    expected: tuple[float, ...]


class Calibration(BaseModel):
    """Null distributions of the looks of a search.

    Attributes
    ----------
    serendip
        Version that made them.
    settings
        As :func:`search_settings` gives them.
    source
        How the pseudo-data were made.
    curves
        One for each look.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    serendip: str = __version__
    settings: dict[str, Any]
    source: dict[str, Any]
    curves: tuple[Curve, ...]

    def write(self, path: Path) -> None:
        """Write the calibration as JSON."""
        write_json(path, self.model_dump(mode="json"))

    def null(
        self, config: SearchConfig, method: str, window: Window, working_point: float
    ) -> NullDistribution:
        """Null distribution of one look of a search.

        Raises
        ------
        InputError
            If the calibration lacks this look or was made for another configuration of the method.
        """
        return NullDistribution(self._curve(config, method, window, working_point).z)  # type: ignore[arg-type]

    def _curve(self, config: SearchConfig, method: str, window: Window, working_point: float) -> Curve:
        options = config.method_config(method).model_dump(mode="json")
        look = f"method '{method}' in {window} at working point {working_point:g}"
        found = [
            curve
            for curve in self.curves
            if curve.method == method
            and curve.window == (window.low, window.high)
            and curve.working_point == working_point
        ]
        if not found:
            raise InputError(
                f"calibration {config.calibration}: has no {look}; run 'serendip validate null' with the settings of "
                "this search"
            )
        changed = [
            key
            for key in options.keys() | found[0].options.keys()
            if options.get(key) != found[0].options.get(key)
        ]
        if changed:
            raise InputError(
                f"calibration {config.calibration}: was made with other options of '{method}' "
                f"({', '.join(sorted(changed))}); run 'serendip validate null' with the settings of this search"
            )
        return found[0]

    def check(
        self, config: SearchConfig, method: str, window: Window, working_point: float, events: int
    ) -> None:
        """Stop if the calibration does not belong to a look of a search.

        Parameters
        ----------
        events
            Number of events of the search in the fitted range outside the window.

        Raises
        ------
        InputError
            Naming the differences.
        """
        wanted = search_settings(config)
        changed = [
            f"{key} (there {self.settings.get(key)!r}, here {wanted.get(key)!r})"
            for key in sorted(wanted.keys() | self.settings.keys())
            if self.settings.get(key) != wanted.get(key)
        ]
        if changed:
            raise InputError(
                f"calibration {config.calibration}: was made with other settings: {'; '.join(changed)}"
            )
        if self.serendip != __version__:
            raise InputError(
                f"calibration {config.calibration}: was made by version {self.serendip}, this is "
                f"{__version__}; remake it with 'serendip validate null'"
            )
        curve = self._curve(config, method, window, working_point)
        if abs(events / curve.events - 1) > _SIZE_TOLERANCE:
            raise InputError(
                f"calibration {config.calibration}: was made with {curve.events:.0f} events around {window}, the search has "
                f"{events}; make it with as many events as the search has"
            )


def read_calibration(config: SearchConfig) -> Calibration | None:
    """Read the calibration that a configuration names; None if it names none.

    Raises
    ------
    InputError
        If the file is missing or no calibration.
    """
    if config.calibration is None:
        return None
    path = Path(config.calibration)
    expected = "expected a calibration as 'serendip validate null' writes it"
    with reading(path, missing=expected, damaged=expected):
        return Calibration(**load_json(path))
