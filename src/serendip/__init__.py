"""Model-agnostic searches for new physics at particle colliders.

========================  ===============================================================================
:func:`read`              a table of events, from files or memory; :func:`write` stores it
:func:`inspect`           is a table fit for a search?
:func:`run_search`        search for a resonance; a :class:`Run` has the answer, :func:`open_run` opens it again
:func:`run_monitor`       the same after every period of data taking
:func:`run_validate`      is the search right on these data?
:func:`run_compare`       which method sees most, on labelled events
:func:`run_infer`         the strength of a signal in a window
:func:`run_limit`         upper limits on a simulated signal, with the search trained on it
:func:`bump`, :func:`fit`  one spectrum without any classifier
:func:`simulate_dijet`    events from Pythia 8
========================  ===============================================================================

Everything loads at first use. ``serendip.search``, ``serendip.validate`` and ``serendip.simulate`` are packages, so the programs have ``run_`` in their
names.
"""

from __future__ import annotations

from importlib import import_module
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
    from serendip.api.run import Run, open_run
    from serendip.api.spectra import bump, fit
    from serendip.errors import InputError, SerendipError
    from serendip.events.audit import Audit
    from serendip.events.audit import audit as inspect
    from serendip.events.events import Events, Window, concatenate
    from serendip.events.read import read
    from serendip.events.write import write
    from serendip.report.load import Look, Results
    from serendip.simulate.dijet import simulate_dijet
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
    "concatenate",
    "fit",
    "inspect",
    "open_run",
    "read",
    "run_compare",
    "run_infer",
    "run_limit",
    "run_monitor",
    "run_search",
    "run_validate",
    "simulate_dijet",
    "write",
]

_HOMES = {
    "serendip.api.programs": (
        "Outcome",
        "run_compare",
        "run_infer",
        "run_limit",
        "run_monitor",
        "run_search",
        "run_validate",
    ),
    "serendip.api.run": ("Run", "open_run"),
    "serendip.api.spectra": ("bump", "fit"),
    "serendip.errors": ("InputError", "SerendipError"),
    "serendip.events.audit": ("Audit", "inspect"),
    "serendip.events.events": ("Events", "Window", "concatenate"),
    "serendip.events.read": ("read",),
    "serendip.events.write": ("write",),
    "serendip.report.load": ("Look", "Results"),
    "serendip.simulate.dijet": ("simulate_dijet",),
    "serendip.statistics.anywhere": ("PeakSearch",),
    "serendip.statistics.bump": ("BumpResult",),
    "serendip.statistics.spectrum_fit": ("SpectrumFitResult",),
    "serendip.validate.base": ("Validation",),
}
_OWN_NAMES = {"inspect": "audit"}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), _OWN_NAMES.get(name, name))
    raise AttributeError(f"module 'serendip' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
