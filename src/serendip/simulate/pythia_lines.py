"""Helpers that write lines for Pythia."""

from __future__ import annotations

__all__ = ["mass", "only", "only_pair"]


def mass(code: int, value: float, window: float = 0.3) -> tuple[str, ...]:
    """Mass of a resonance (GeV), its Breit-Wigner cut at a relative distance ``window`` from it.

    Without limits the steep parton luminosity turns the far tail into a second, low-mass peak.
    """
    return (
        f"{code}:m0 = {value:g}",
        f"{code}:mMin = {value * (1 - window):g}",
        f"{code}:mMax = {value * (1 + window):g}",
    )


def only(code: int, products: str) -> tuple[str, ...]:
    """Only decays to these products (any of them)."""
    return (f"{code}:onMode = off", f"{code}:onIfAny = {products}")


def only_pair(code: int, products: str) -> tuple[str, ...]:
    """Only decays to exactly these products."""
    return (f"{code}:onMode = off", f"{code}:onIfMatch = {products}")
