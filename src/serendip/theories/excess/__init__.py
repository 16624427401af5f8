"""The search for an excess with the score of a mixture of theories.

* :mod:`~serendip.theories.excess.regions` - signal regions in weighted simulation, and in resampled simulation
* :mod:`~serendip.theories.excess.measure` - local and global p-value of data in them, in one channel and in several
* :mod:`~serendip.theories.excess.null` - false-positive rates
* :mod:`~serendip.theories.excess.files` - scores of the events of files
"""

from serendip.theories.excess.measure import (
    ChannelsExcess,
    ExcessResult,
    Normalise,
    RegionExcess,
    combine_channels,
    excess,
)
from serendip.theories.excess.null import NullRate, NullRates, null_rates

__all__ = [
    "ChannelsExcess",
    "ExcessResult",
    "Normalise",
    "NullRate",
    "NullRates",
    "RegionExcess",
    "combine_channels",
    "excess",
    "null_rates",
]
