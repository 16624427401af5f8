"""The density of background that CATHODE, LaCATHODE, ANODE, R-ANODE and CURTAINs learn in the sidebands.

It is the slowest part of these methods and the same for all of them, so a method requests it (:class:`~serendip.methods.base.BackgroundRequest`) and the engine trains each distinct one once.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt, model_validator

from serendip.density import make_density
from serendip.density.base import ConditionalDensity
from serendip.events.events import Events, Window
from serendip.methods.base import BackgroundRequest, Method, MethodConfig
from serendip.methods.template_method import sidebands_within
from serendip.statistics.fit import SpectrumFit, fit_spectrum

__all__ = [
    "BackgroundConfig",
    "DensityKind",
    "MassConfig",
    "background_density",
    "fit_masses",
    "train_background",
    "widened",
]

DensityKind = Literal["flow-matching", "spline", "spline-coupling", "maf"]

_MASS_BINS = 40
_SHARED_FREQUENCIES = 4
# How far outside the window a shared density is taken as background, in widths of the window: a network is smooth,
# so a signal in the window reaches a little beyond its edges.
_MARGIN = 0.25


class BackgroundConfig(MethodConfig):
    """Options of the density of background.

    Attributes
    ----------
    density
        ``"spline"`` (autoregressive), ``"spline-coupling"``, ``"maf"`` (affine) or ``"flow-matching"``, which is the
        default of a shared background.
    background
        ``"window"``: trained on the events outside the window. ``"shared"``: one training on all events for
        all windows of a scan; inside a window it is interpolated between the masses at its edges
        (arXiv:2410.20537), so that a signal there does not become background.
    steps, batch_size
        Training steps and events of each model in a step. Flow matching takes 2000 steps by default.
    sideband_gev
        How far the sidebands reach from the window, in GeV. Default: all events outside the window.
    inside_window
        Whether the method evaluates the density inside the window, so that a shared one has to be interpolated.
    """

    inside_window: ClassVar[bool] = True

    density: DensityKind = "spline"
    background: Literal["window", "shared"] = "window"
    steps: PositiveInt = 1000
    batch_size: PositiveInt = 512
    sideband_gev: PositiveFloat | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        """Defaults that depend on other options."""
        if not isinstance(given, dict):
            return given
        filled: dict[str, Any] = {}
        if given.get("background") == "shared" and cls.inside_window:
            filled["density"] = "flow-matching"
        if (filled | given).get("density") == "flow-matching":
            filled["steps"] = 2000
        return filled | given

    @model_validator(mode="after")
    def _can_be_shared(self) -> Self:
        if self.background == "window":
            return self
        if self.inside_window and self.density != "flow-matching":
            raise ValueError(
                f"background 'shared' interpolates a flow-matching density, not one of kind '{self.density}'"
            )
        if self.sideband_gev is not None:
            raise ValueError("background 'shared' learns from all masses: remove sideband_gev")
        return self

    def density_options(self) -> dict[str, Any]:
        """Options of the density model, by its names of them."""
        return {"steps": self.steps, "batch_size": self.batch_size}

    def request(self, window: Window) -> BackgroundRequest:
        """Return the request for the density of a window."""
        options = self.density_options()
        if self.background == "window":
            return BackgroundRequest(self.density, tuple(sorted(options.items())), window, self.sideband_gev)
        if self.density == "flow-matching":
            options["frequencies"] = _SHARED_FREQUENCIES
        return BackgroundRequest(self.density, tuple(sorted(options.items())), None)


class MassConfig(MethodConfig):
    """Options of the fit of the mass distribution in the window.

    Attributes
    ----------
    spectrum
        Background function of the mass fit, by its name in :func:`serendip.statistics.functions.get_family`.
    spectrum_range
        How far the mass fit reaches from the window on either side, in widths of the window.
    """

    spectrum: str = "exppoly"
    spectrum_range: PositiveFloat = 2.0


def train_background(
    request: BackgroundRequest, events: Events, splits: NDArray[np.bool_], *, seed: int, threads: int
) -> ConditionalDensity:
    """Train the density of a request, one model for each row of ``splits``.

    Raises
    ------
    InputError
        If a split has too few events, or the training diverges.
    """
    from serendip.torch_device import limited_threads

    m = events.m
    used = (
        np.ones(len(m), dtype=bool)
        if request.outside is None
        else sidebands_within(m, request.outside, request.reach_gev)
    )
    density = make_density(request.density, seed=seed, **dict(request.options))
    with limited_threads(threads):
        return density.fit(
            events.x[used], m[used], weight=events.weights[used], splits=splits[:, used],
            groups=None if events.groups is None else events.groups[used],
        )  # fmt: skip


def background_density(
    method: Method, events: Events, window: Window, splits: NDArray[np.bool_]
) -> ConditionalDensity:
    """Return the density that a method was given, or train the one it requests; ready for use in the window."""
    request = method.background_request(window)
    if request is None:
        msg = f"method '{method.name}' does not use a background density"
        raise TypeError(msg)
    density = method.background
    if density is None:
        density = train_background(request, events, splits, seed=method.seed, threads=method.threads)
    if request.outside is None and request.density == "flow-matching":
        return density.bridged(*widened(window))
    return density


def widened(window: Window) -> tuple[float, float]:
    """Masses in GeV between which a shared density is interpolated for a window."""
    margin = _MARGIN * window.width
    return window.low - margin, window.high + margin


def fit_masses(
    m: NDArray[np.float64], weights: NDArray[np.float64], window: Window, config: MassConfig
) -> SpectrumFit:
    """Fit the spectrum outside the window, with the window masked.

    Parameters
    ----------
    m, weights
        Masses in GeV and weights of sideband events, shape ``(n,)``; events in the window are ignored.
    """
    reach = config.spectrum_range * window.width
    low, high = max(window.low - reach, m.min()), min(window.high + reach, m.max())
    # the window's edges are bin edges: no bin is half data, half hidden
    width = (high - low) / _MASS_BINS
    parts = [(low, window.low), (window.low, window.high), (window.high, high)]
    pieces = [np.linspace(a, b, max(2, round((b - a) / width)) + 1) for a, b in parts]
    edges = np.unique(np.concatenate(pieces))
    counts = np.histogram(m, edges, weights=weights)[0]
    hidden = (edges[:-1] >= window.low) & (edges[1:] <= window.high)
    near = (m >= low) & (m <= high)
    scale = float((weights[near] ** 2).sum() / weights[near].sum())
    return fit_spectrum(counts, edges, config.spectrum, mask=hidden, scale=scale)
