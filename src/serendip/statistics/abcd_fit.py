"""Old name of :mod:`serendip.statistics.abcd.fit`."""

from serendip.statistics.abcd.fit import (
    AbcdFit,
    AbcdLimit,
    abcd_limit,
    exact_log_p_value,
    expected_z,
    fit_abcd,
)

__all__ = ["AbcdFit", "AbcdLimit", "abcd_limit", "exact_log_p_value", "expected_z", "fit_abcd"]
