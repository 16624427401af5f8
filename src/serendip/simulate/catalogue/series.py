"""Points of one particle that differ in its mass and decay."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from serendip.simulate.pythia_lines import mass, only
from serendip.simulate.theory_point import TheoryPoint

__all__ = ["series"]


def series(
    stem: str,
    family: str,
    particle: str,
    code: int,
    switches: tuple[str, ...],
    rows: Iterable[tuple[float, str, str]],
    *,
    decay: Callable[[int, str], tuple[str, ...]] = only,
) -> list[TheoryPoint]:
    """Give one point for each row.

    Parameters
    ----------
    stem
        Begins the names; mass and label follow.
    family
        Of all points; ``{}`` is replaced by the label.
    particle, code
        Its name, and its number in Pythia.
    switches
        Lines that turn its production on.
    rows
        Mass in GeV, decay products and label of each point.
    decay
        Makes the lines of the decay.
    """
    return [
        TheoryPoint(
            f"{stem}{m:g}_{label}",
            family.format(label),
            {particle: m},
            (*switches, *mass(code, m), *decay(code, products)),
        )
        for m, products, label in rows
    ]
