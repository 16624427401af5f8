r"""ABCD: background of a region from three others that two independent variables make.

Two variables x and y, each with a cut, divide the events into four regions:

=============  ==============  ==============
\              y below cut     y at or above
=============  ==============  ==============
x at or above  B               **A** (signal)
x below cut    D               C
=============  ==============  ==============

If x and y are independent for background, :math:`N_A = N_B N_C / N_D`.

* :mod:`~serendip.statistics.abcd.regions` - counts of the regions, with weights and groups of events
* :mod:`~serendip.statistics.abcd.closure` - closure of the prediction inside B, C and D
* :mod:`~serendip.statistics.abcd.trend` - extrapolation of a dependence of x and y into A
* :mod:`~serendip.statistics.abcd.fit` - likelihood of all four counts, with signal in each of them
* :mod:`~serendip.statistics.abcd.heavy` - whether one event of large weight decides
"""

from serendip.statistics.abcd.closure import Closure, ClosureTable, closure
from serendip.statistics.abcd.fit import (
    AbcdFit,
    AbcdLimit,
    abcd_limit,
    exact_log_p_value,
    expected_z,
    fit_abcd,
)
from serendip.statistics.abcd.heavy import HeavyEvent, heaviest_event
from serendip.statistics.abcd.regions import AbcdCounts, abcd_counts, abcd_regions, region_sums
from serendip.statistics.abcd.trend import Trend

__all__ = [
    "AbcdCounts",
    "AbcdFit",
    "AbcdLimit",
    "Closure",
    "ClosureTable",
    "HeavyEvent",
    "Trend",
    "abcd_counts",
    "abcd_limit",
    "abcd_regions",
    "closure",
    "exact_log_p_value",
    "expected_z",
    "fit_abcd",
    "heaviest_event",
    "region_sums",
]
