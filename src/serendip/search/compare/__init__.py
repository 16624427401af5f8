"""Methods compared on the same events with injected signal.

* :mod:`~serendip.search.compare.run` - the comparison
* :mod:`~serendip.search.compare.config` - its settings
* :mod:`~serendip.search.compare.stress` - features that follow the mass, and noise
* :mod:`~serendip.search.compare.summary` - medians over repeats, and the signal at 5 sigma
"""

from serendip.search.compare.config import (
    CompareConfig,
    LeftOut,
    choose_methods,
    method_names,
    parse_comparison,
)
from serendip.search.compare.run import run_compare

__all__ = ["CompareConfig", "LeftOut", "choose_methods", "method_names", "parse_comparison", "run_compare"]
