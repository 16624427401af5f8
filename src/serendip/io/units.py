"""Units of energy."""

from __future__ import annotations

from serendip.errors import InputError

__all__ = ["ENERGIES", "GEV", "in_gev"]

#: Units that masses can be given in, in GeV.
GEV = {"GeV": 1.0, "TeV": 1000.0}
#: Units that the header of a file can state, in GeV.
ENERGIES = {"eV": 1e-9, "keV": 1e-6, "MeV": 1e-3, **GEV}


def in_gev(unit: str) -> float:
    """Give the size of a unit of mass in GeV.

    Raises
    ------
    InputError
        If masses cannot be given in it.

    Examples
    --------
    >>> in_gev("TeV")
    1000.0
    """
    if unit not in GEV:
        raise InputError(f"the unit '{unit}' is not known; expected {' or '.join(GEV)}")
    return GEV[unit]
