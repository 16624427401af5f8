"""Model-agnostic searches for new physics at particle colliders.

=========================  =======================================================================:func:`bump`, :func:`fit`  one spectrum without any classifier
:func:`simulate`           events from Pythia 8
=========================  ==============================================================================

Everything loads at first use. The programs are functions, which also have the names ``run_search``, ..., ``run_limit`` and ``simulate_dijet``;
``search``, ``validate`` and ``simulate`` are packages that can be called.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from serendip.version import __version__

if TYPE_CHECKING:
    from serendip.api.programs import (
        Outcome,
        run_compare,
        run_infer,
        run_limit,
        run_monitor,
        run_search,
        run_validate,
    )
    from serendip.api.programs import run_compare as compare
    from serendip.api.programs import run_infer as infer
    from serendip.api.programs import run_limit as limit
    from serendip.api.programs import run_monitor as monitor
    from serendip.api.programs import run_search as search
    from serendip.api.programs import run_validate as validate
    from serendip.api.run import Run, open_run
    from serendip.api.spectra import bump, fit
    from serendip.errors import InputError, SerendipError
    from serendip.events.audit import Audit
    from serendip.events.audit import audit as inspect
    from serendip.events.events import Events, Window, concatenate
    from serendip.events.read import read
    from serendip.events.write import write
    from serendip.search.results import Look, Results
    from serendip.simulate.dijet import simulate_dijet
    from serendip.simulate.dijet import simulate_dijet as simulate
    from serendip.statistics.anywhere import PeakSearch
    from serendip.statistics.bump import BumpResult
    from serendip.statistics.spectrum_fit import SpectrumFitResult
    from serendip.validate.base import Validation

__all__ = [
    "Audit",
    "BumpResult",
    "Events",
    "InputError",
    "Look",
    "Outcome",
    "PeakSearch",
    "Results",
    "Run",
    "SerendipError",
    "SpectrumFitResult",
    "Validation",
    "Window",
    "__version__",
    "bump",
    "compare",
    "concatenate",
    "fit",
    "infer",
    "inspect",
    "limit",
    "monitor",
    "open_run",
    "read",
    "run_compare",
    "run_infer",
    "run_limit",
    "run_monitor",
    "run_search",
    "run_validate",
    "search",
    "simulate",
    "simulate_dijet",
    "validate",
    "write",
]

_HOMES = {
    "Audit": "events.audit",
    "BumpResult": "statistics.bump",
    "Events": "events.events",
    "InputError": "errors",
    "Look": "search.results",
    "Outcome": "api.programs",
    "PeakSearch": "statistics.anywhere",
    "Results": "search.results",
    "Run": "api.run",
    "SerendipError": "errors",
    "SpectrumFitResult": "statistics.spectrum_fit",
    "Validation": "validate.base",
    "Window": "events.events",
    "audit": "events.audit",
    "bump": "api.spectra",
    "concatenate": "events.events",
    "fit": "api.spectra",
    "open_run": "api.run",
    "read": "events.read",
    "run_compare": "api.programs",
    "run_infer": "api.programs",
    "run_limit": "api.programs",
    "run_monitor": "api.programs",
    "run_search": "api.programs",
    "run_validate": "api.programs",
    "simulate_dijet": "simulate.dijet",
    "write": "events.write",
}
_SHORT = {
    "compare": "run_compare",
    "infer": "run_infer",
    "inspect": "audit",
    "limit": "run_limit",
    "monitor": "run_monitor",
}
# programs with the names of the packages that they are made of
_PACKAGES = {"search": "run_search", "simulate": "simulate_dijet", "validate": "run_validate"}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"serendip.{name}")
    own = _SHORT.get(name, name)
    if name in __all__ and own in _HOMES:
        return getattr(import_module(f"serendip.{_HOMES[own]}"), own)
    raise AttributeError(f"module 'serendip' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Program(ModuleType):
    """A package that is called as a program."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._function(*args, **options)

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(self._function)

    @property
    def _function(self) -> Any:
        return __getattr__(_PACKAGES[self.__name__.removeprefix("serendip.")])


class _Face(ModuleType):
    """Makes programs of the packages that an import, of whatever form, sets as attributes of ``serendip``."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PACKAGES and type(value) is ModuleType:
            value.__class__ = _Program
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
