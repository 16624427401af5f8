"""Search methods by name: those of the package, and those that others install."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from serendip.errors import InputError
from serendip.methods.base import Method

__all__ = ["GROUP", "available", "get_method"]

GROUP = "serendip.methods"
"""Entry-point group in which other packages name their :class:`~serendip.methods.base.Method` classes."""

_BUILT_IN = {
    "anode": "serendip.methods.anode:Anode",
    "autoencoder": "serendip.methods.outlier:Autoencoder",
    "bump-hunt": "serendip.methods.bump_hunt:BumpHunt",
    "cathode": "serendip.methods.cathode:Cathode",
    "curtains": "serendip.methods.curtains:Curtains",
    "cwola": "serendip.methods.cwola:Cwola",
    "dagmm": "serendip.methods.outlier:Dagmm",
    "deep-svdd": "serendip.methods.outlier:DeepSvdd",
    "ensemble": "serendip.methods.ensemble:Ensemble",
    "feta": "serendip.methods.feta:Feta",
    "flow": "serendip.methods.outlier:FlowLikelihood",
    "gaussian-mixture": "serendip.methods.outlier:GaussianMixture",
    "idealised": "serendip.methods.idealised:Idealised",
    "isolation-forest": "serendip.methods.outlier:IsolationForest",
    "kde": "serendip.methods.outlier:KernelDensity",
    "lacathode": "serendip.methods.lacathode:LaCathode",
    "planar-vae": "serendip.methods.outlier:PlanarVae",
    "ranode": "serendip.methods.ranode:Ranode",
    "salad": "serendip.methods.salad:Salad",
    "supervised": "serendip.methods.supervised:Supervised",
    "vae-radius": "serendip.methods.outlier:VaeRadius",
    "vae-reconstruction": "serendip.methods.outlier:VaeReconstruction",
}


def get_method(name: str) -> type[Method]:
    """Return the class of a method.

    Raises
    ------
    InputError
        If there is no method of this name, or a third-party package with it cannot be loaded.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        found: type[Method] = getattr(import_module(module), attribute)
        return found
    installed = _installed()
    if name not in installed:
        known = sorted([*_BUILT_IN, *installed])
        near = get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(repr(other) for other in near)}?" if near else ""
        raise InputError(f"unknown method '{name}'{hint} (available: {', '.join(known)})")
    return _load(installed[name])


def available() -> dict[str, str]:
    """Return the title of every method by name, in alphabetical order.

    A third-party package that cannot be loaded does not take the others down: its title says why.
    """
    titles = {name: get_method(name).title for name in _BUILT_IN}
    for name, entry in _installed().items():
        try:
            titles[name] = _load(entry).title
        except InputError as error:
            titles[name] = f"cannot be used: {error}"
    return dict(sorted(titles.items()))


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in _BUILT_IN}


def _load(entry: EntryPoint) -> type[Method]:
    try:
        found = entry.load()
    except Exception as error:
        raise InputError(f"method '{entry.name}' ({entry.value}) cannot be loaded: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InputError(
            f"method '{entry.name}' ({entry.value}) is not a subclass of serendip.methods.base.Method"
        )
    return found
