"""The signals of arXiv:2207.07631 and arXiv:2105.14027, and the corresponding points here: ``papers.csv`` in this folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["CHALLENGE", "MIXTURES", "SIGNALS", "PaperSignal"]

MIXTURES, CHALLENGE = "2207.07631", "2105.14027"
"""The paper on mixtures of theories, and that of the Dark Machines challenge."""


@dataclass(frozen=True)
class PaperSignal:
    """A signal of a paper.

    Attributes
    ----------
    paper
        arXiv number.
    family, name
        As in the paper; the challenge has no families, there they are those of the catalogue.
    channels
        Channels in which the paper has it.
    masses
        Published masses in GeV.
    made
        Point of the catalogue that has its production, masses and decays; empty if there is none. The name is the published one, but for a
        name that the paper uses for two sets of masses, and for names with dots.
    substitutes
        Points that come nearest to it.
    remark
        Missing information in the paper, differences, or why it is not generated.
    """

    paper: str
    family: str
    name: str
    channels: tuple[str, ...]
    masses: Mapping[str, float]
    made: str
    substitutes: tuple[str, ...]
    remark: str


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(";")) if text else ()


def _read() -> tuple[PaperSignal, ...]:
    text = files(__package__).joinpath("papers.csv").read_text(encoding="utf-8")
    return tuple(
        PaperSignal(
            row["paper"],
            row["family"],
            row["name"],
            _split(row["channels"]),
            {label: float(mass) for label, mass in map(str.split, _split(row["masses"]))},
            row["made"],
            _split(row["substitutes"]),
            row["remark"],
        )
        for row in csv.DictReader(text.splitlines())
    )


SIGNALS: tuple[PaperSignal, ...] = _read()
"""All of them, in the order of the papers."""
