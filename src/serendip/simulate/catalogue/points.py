"""The catalogue of theories that Pythia 8 can generate, and how it compares with that of arXiv:2207.07631."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from serendip.simulate.catalogue import bosons, exotics, rpv, susy
from serendip.simulate.catalogue.acceptance import ACCEPTANCE
from serendip.simulate.processes import PROCESSES, Sample
from serendip.simulate.theory_point import TheoryPoint

__all__ = ["CATALOGUE", "FAMILIES", "PAPER", "PaperFamily", "catalogue_table", "known_samples"]

_ALL = tuple(
    replace(point, acceptance=dict(ACCEPTANCE.get(point.name, {})))
    for point in (
        *susy.POINTS,
        *rpv.POINTS,
        *bosons.POINTS,
        *exotics.POINTS,
    )
)

CATALOGUE: Mapping[str, TheoryPoint] = MappingProxyType({point.name: point for point in _ALL})
"""All points by name."""

FAMILIES: Mapping[str, tuple[TheoryPoint, ...]] = MappingProxyType(
    {
        family: tuple(point for point in _ALL if point.family == family)
        for family in dict.fromkeys(point.family for point in _ALL)
    }
)
"""Points of each family."""


@dataclass(frozen=True)
class PaperFamily:
    """A family of arXiv:2207.07631 or arXiv:2105.14027 and what stands for it here.

    Attributes
    ----------
    name
        As in the names of the paper's files.
    title
        What it is.
    families
        Families of the catalogue; empty if there is none.
    remark
        What differs, or why there is none.
    """

    name: str
    title: str
    families: tuple[str, ...]
    remark: str


PAPER: tuple[PaperFamily, ...] = (
    PaperFamily("glgl_", "gluino pairs", ("gluino pair",), ""),
    PaperFamily(
        "gluino_m_neutralino_m", "gluino cascades to leptons", ("gluino pair",), "point with W and Z"
    ),
    PaperFamily("sqsq_sq", "squark pairs", ("squark pair",), ""),
    PaperFamily("glsq", "gluino and squark", ("gluino squark",), ""),
    PaperFamily("stop, stop2b", "stop pairs", ("stop pair",), "to top neutralino or bottom chargino"),
    PaperFamily(
        "stopjets", "stop pairs and jets", ("stop pair",), "jets from the parton shower, no extra partons"
    ),
    PaperFamily("sbottom", "sbottom pairs", ("sbottom pair",), ""),
    PaperFamily("chaneutN_cha", "chargino and neutralino", ("chargino neutralino",), ""),
    PaperFamily("chacha_cha", "chargino pairs", ("chargino pair",), ""),
    PaperFamily("slsl_sl", "slepton pairs", ("slepton pair",), ""),
    PaperFamily("gmsb_glgl", "gluino pairs, gauge mediation", ("gauge mediation",), ""),
    PaperFamily(
        "gmsb_neutneut_neut", "neutralinos, gauge mediation", ("gauge mediation",), "higgsinos, to Z or h"
    ),
    PaperFamily(
        "neutNneutN_neutN_", "neutralinos, R-parity broken to quarks", ("RPV neutralino, lambda'",), ""
    ),
    PaperFamily("neutNneutNlep_", "neutralinos, R-parity broken to leptons", ("RPV neutralino, lambda",), ""),
    PaperFamily("chachalep_cha", "charginos, R-parity broken to leptons", ("RPV chargino, lambda",), ""),
    PaperFamily(
        "chaneutNlep_cha",
        "chargino and neutralino, R-parity broken to leptons",
        ("RPV chargino, lambda", "RPV neutralino, lambda"),
        "the mixed production is part of the higgsinos",
    ),
    PaperFamily("gllp_gl", "gluino, lambda'", ("RPV gluino, lambda'",), ""),
    PaperFamily("gllpp_lambdapp_gl", "gluino, lambda''", ("RPV gluino, lambda''",), ""),
    PaperFamily("stlp_st", "stop, lambda'", ("RPV stop, lambda'",), ""),
    PaperFamily("stlpp_st", "stop, lambda''", ("RPV stop, lambda''",), ""),
    PaperFamily("sqsq1_sq", "squark, R-parity broken", ("RPV squark, lambda'",), ""),
    PaperFamily("sll_sl", "slepton, lambda", ("RPV slepton, lambda",), ""),
    PaperFamily("sllp_sl", "slepton, lambda'", ("RPV slepton, lambda'",), ""),
    PaperFamily("snul_snu", "sneutrino, lambda", ("RPV sneutrino, lambda",), ""),
    PaperFamily("snulp_snu", "sneutrino, lambda'", ("RPV sneutrino, lambda'",), ""),
    PaperFamily("LReff_mW_mZ", "left-right symmetry", ("left-right W_R", "left-right Z_R"), ""),
    PaperFamily("type2seesaw_mH_mS", "doubly charged Higgs", ("doubly charged Higgs",), ""),
    PaperFamily(
        "wprime{A,V}{m}", "W'", ("W' to tb", "W' to WZ", "W' to taunu"), "axial and vector are not split"
    ),
    PaperFamily("HH_", "heavy Higgs", ("heavy Higgs to WW, ZZ",), ""),
    PaperFamily("hh_", "Higgs pairs", ("heavy Higgs to hh",), "resonant; the box diagram is not in Pythia"),
    PaperFamily("AA_", "pseudoscalar", ("heavy pseudoscalar",), ""),
    PaperFamily(
        "mDM500, monojet_Zp",
        "dark matter and a jet",
        ("dark matter, vector mediator", "dark matter, scalar mediator"),
        "the jet comes from the parton shower",
    ),
    PaperFamily(
        "btzpLoop{A,V}{m}",
        "Z' that couples to b and t through loops",
        ("Z' to tt", "Z' to tautau"),
        "produced from light quarks: loop couplings are not in Pythia",
    ),
    PaperFamily(
        "monoV_Zp", "dark matter and a W or Z", (), "not in Pythia; see mono-Z of large extra dimensions"
    ),
    PaperFamily("monotop", "dark matter and a top", (), "needs a flavour-changing vertex that Pythia lacks"),
    PaperFamily(
        "pp23mt, pp24mt", "Z' of L_mu - L_tau, radiated off a lepton", (), "2 -> 3 and 2 -> 4, not in Pythia"
    ),
)
"""Families of the papers, in the order of the appendix of arXiv:2207.07631 as far as it is known."""


def known_samples() -> dict[str, tuple[Sample, ...]]:
    """Samples of each process of the Standard Model, each family and each point, by name; ``SM`` and ``BSM`` are all of them."""
    out = {name: process.samples() for name, process in PROCESSES.items()}
    out["SM"] = tuple(sample for samples in out.values() for sample in samples)
    out["BSM"] = tuple(point.sample() for point in _ALL)
    out |= {family: tuple(point.sample() for point in points) for family, points in FAMILIES.items()}
    return out | {name: (point.sample(),) for name, point in CATALOGUE.items()}


def catalogue_table() -> str:
    """Markdown table: each family of the papers, what stands for it here, and what differs or is missing."""
    lines = ["| papers | what it is | here | remark |", "|---|---|---|---|"]
    for paper in PAPER:
        here = []
        for family in paper.families:
            names = ", ".join(f"`{point.name}`" for point in FAMILIES[family])
            here.append(f"{family}: {names}")
        lines.append(f"| `{paper.name}` | {paper.title} | {'; '.join(here) or 'none'} | {paper.remark} |")
    used = {family for paper in PAPER for family in paper.families}
    for family, points in FAMILIES.items():
        if family not in used:
            names = ", ".join(f"`{point.name}`" for point in points)
            lines.append(f"| none | {family} | {names} | not in the papers |")
    return "\n".join(lines) + "\n"
