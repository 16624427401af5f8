"""The catalogue of theories that Pythia 8 can generate: the signals of arXiv:2207.07631 and arXiv:2105.14027, and ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

from serendip.errors import InputError
from serendip.simulate.catalogue import bosons, exotics, paper_bosons, paper_susy, rpv, susy
from serendip.simulate.catalogue.acceptance import ACCEPTANCE
from serendip.simulate.catalogue.papers import MIXTURES, SIGNALS
from serendip.simulate.processes import PROCESSES, Sample
from serendip.simulate.theory_point import Origin, TheoryPoint

__all__ = [
    "CATALOGUE",
    "FAMILIES",
    "RENAMED",
    "current_name",
    "family_of",
    "known_samples",
    "refuse_other_names",
]

_ORIGIN: dict[str, Origin] = {name: "substitute" for signal in SIGNALS for name in signal.substitutes}
_ORIGIN |= {signal.made: "published" for signal in SIGNALS if signal.made}

_ALL = tuple(
    replace(point, origin=_ORIGIN.get(point.name, "ours"), acceptance=dict(ACCEPTANCE.get(point.name, {})))
    for module in (paper_susy, paper_bosons, susy, rpv, bosons, exotics)
    for point in module.POINTS
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

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "hh_h400_WW": "h400_WW",
        "hh_h800_ZZ": "h800_ZZ",
        "hh_h900_hh": "h900_hh",
        "aa_a400_tt": "a400_tt",
        "aa_a500_Zh": "a500_Zh",
        "gllp_gl1400_neut600": "glgl_lqd_gl1400_neut600",
        "gllp_gl1800_neut400": "glgl_lqd_gl1800_neut400",
        "gllpp_lambdapp_gl1400_neut500": "glgl_udd_gl1400_neut500",
        "neut1neut1lep_neut1_200": "neutneut_lle_neut200",
        "neut1neut1lep_neut1_500": "neutneut_lle_neut500",
        "neut1neut1lep_neut1_900": "neutneut_lle_neut900",
        "neut1neut1_neut1_500": "neutneut_lqd_neut500",
        "neut1neut1_neut1_800": "neutneut_lqd_neut800",
        "chachalep_cha400_neut150": "chacha_lle_cha400_neut150",
        "chachalep_cha750_neut400": "chacha_lle_cha750_neut400",
        "sllp_sl600_neut300": "slsl_lqd_sl600_neut300",
        "snul_snu400_neut200": "snusnu_lle_snu400_neut200",
        "snul_snu700_neut200": "snusnu_lle_snu700_neut200",
        "snulp_snu650_neut300": "snusnu_lqd_snu650_neut300",
        "gluino pair": "glgl",
        "squark pair": "sqsq",
        "gluino squark": "glsq",
        "stop pair": "stop",
        "sbottom pair": "sbottom",
        "chargino neutralino": "chaneuti",
        "chargino pair": "chachalep",
        "slepton pair": "slsl",
        "sneutrino pair": "snusnu",
        "gauge mediation": "gmsb_glgl,gmsb_neutneut",
        "RPV stop, lambda'": "stlp",
        "RPV stop, lambda''": "stlpp",
        "RPV gluino, lambda'": "gllp",
        "RPV slepton, lambda": "sll",
        "doubly charged Higgs": "type2seesaw",
        "charged Higgs pair": "HH",
    }
)
"""Former names of points and families, before the names of arXiv:2207.07631 were adopted with the meaning of that paper."""


def current_name(name: str) -> str:
    """Name of a point today, given that of a file made under an earlier name."""
    return RENAMED.get(name, name)


def family_of(name: str) -> str:
    """Family of a point, of today's or an earlier name; the name itself if it is not a point."""
    point = CATALOGUE.get(current_name(name))
    return point.family if point else name


def refuse_other_names(names: Collection[str]) -> None:
    """Refuse names of points and families that are called otherwise now, and published names that are not made.

    Raises
    ------
    InputError
        With the names of today, or the reason and the substitutes.
    """
    for signal in SIGNALS:
        if signal.name in names and not signal.made and signal.name not in FAMILIES:
            instead = f"; take {' or '.join(signal.substitutes)}" if signal.substitutes else ""
            raise InputError(f"'{signal.name}' of arXiv:{signal.paper} is not made: {signal.remark}{instead}")
    if found := [f"'{name}' is called '{RENAMED[name]}'" for name in names if name in RENAMED]:
        raise InputError(f"{', '.join(found)} now, after the families and signals of arXiv:{MIXTURES}")


def known_samples() -> dict[str, tuple[Sample, ...]]:
    """Samples of each process of the Standard Model, each family and each point, by name.

    ``SM`` and ``BSM`` are all of them, ``published`` the signals of the papers with their substitutes.
    """
    out = {name: process.samples() for name, process in PROCESSES.items()}
    out["SM"] = tuple(sample for samples in out.values() for sample in samples)
    out["BSM"] = tuple(point.sample() for point in _ALL)
    out["published"] = tuple(point.sample() for point in _ALL if point.origin != "ours")
    out |= {family: tuple(point.sample() for point in points) for family, points in FAMILIES.items()}
    return out | {name: (point.sample(),) for name, point in CATALOGUE.items()}
