"""Search methods by name."""

from __future__ import annotations

from serendip.methods.base import Method
from serendip.registry import Registry

__all__ = ["METHODS", "get_method"]

METHODS: Registry[type[Method]] = Registry(
    "method",
    {
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
    },
    "a subclass of serendip.methods.base.Method",
    lambda found: isinstance(found, type) and issubclass(found, Method),
)
"""All methods by name."""


def get_method(name: str) -> type[Method]:
    """Return the class of a method.

    Raises
    ------
    InputError
        If there is no method of this name, or the package that provides it is broken.

    Examples
    --------
    >>> get_method("cwola").title
    'CWoLa hunting: signal region against sideband strips'
    """
    return METHODS[name]
