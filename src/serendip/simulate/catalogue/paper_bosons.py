"""Gauge and Higgs bosons of arXiv:2207.07631, and substitutes for those missing in Pythia."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serendip.simulate.catalogue.bosons import large_tan_beta
from serendip.simulate.catalogue.papers import MIXTURES, SIGNALS
from serendip.simulate.pythia_lines import mass, only, only_pair
from serendip.simulate.theory_point import TheoryPoint

__all__ = ["POINTS"]

Masses = Mapping[str, float]

_Z, _W, _H1, _H2, _A, _HC = 23, 24, 25, 35, 36, 37
_Z_PRIME, _W_PRIME, _H_PLUS_PLUS = 32, 34, 9900041
_BSM = "Higgs:useBSM = on"
_LEPTONS = "11 13 15"


def _w_prime(name: str, family: str, masses: Masses) -> TheoryPoint:
    vector = int(name.startswith("wprimeV"))
    couplings = (("vq", vector), ("vl", vector), ("aq", 1 - vector), ("al", 1 - vector))
    lines = tuple(f"Wprime:{key} = {value}." for key, value in couplings)
    settings = ("NewGaugeBoson:ffbar2Wprime = on", *lines, *mass(_W_PRIME, masses["W'"]))
    return TheoryPoint(name, family, masses, settings)


def _left_right(name: str, family: str, masses: Masses) -> TheoryPoint:
    # right-handed: V + A of the W' as Pythia writes it, and a = -v of the Z'
    w = tuple(f"Wprime:{key} = 1." for key in ("vq", "aq", "vl", "al"))
    fermions = ("d", "u", "e", "nue")
    z = (*(f"Zprime:v{f} = 1." for f in fermions), *(f"Zprime:a{f} = -1." for f in fermions))
    return TheoryPoint(
        name,
        family,
        masses,
        (
            "NewGaugeBoson:ffbar2Wprime = on",
            "NewGaugeBoson:ffbar2gmZZprime = on",
            "Zprime:gmZmode = 3",
            *w,
            *z,
            *mass(_W_PRIME, masses["W'"]),
            *mass(_Z_PRIME, masses["Z'"]),
        ),
    )


def _seesaw(name: str, family: str, masses: Masses) -> TheoryPoint:
    """Small vacuum expectation value of the triplet: all decays are to leptons, equally to all flavours."""
    flavours = ("ee", "mue", "mumu", "taue", "taumu", "tautau")
    return TheoryPoint(
        name,
        family,
        masses,
        (
            _BSM,
            "LeftRightSymmmetry:ffbar2HLHL = on",
            "HiggsBSM:ffbar2H+H- = on",
            "HiggsBSM:ffbar2H+-H2 = on",
            "HiggsHchg:coup2H2W = 1.",
            "LeftRightSymmmetry:vL = 1e-6",
            *(f"LeftRightSymmmetry:coupH{pair} = 0.1" for pair in flavours),
            *mass(_H_PLUS_PLUS, masses["H++"]),
            *only(_H_PLUS_PLUS, _LEPTONS),
            *_equal_channels(_HC, masses["H+"], ("-11 12", "-13 14", "-15 16")),
            *_equal_channels(_H2, masses["H"], ("12 -12", "14 -14", "16 -16")),
        ),
    )


def _equal_channels(code: int, m: float, products: tuple[str, ...]) -> tuple[str, ...]:
    rate = 1 / len(products)
    verbs = ("oneChannel", *("addChannel" for _ in products[1:]))
    narrow = (f"{code}:mWidth = {0.001 * m:g}", f"{code}:doForceWidth = on")
    channels = (
        f"{code}:{verb} = 1 {rate:.6f} 100 {each}" for verb, each in zip(verbs, products, strict=True)
    )
    return (*mass(code, m, 0.05), *narrow, *channels)


def _dilaton(name: str, family: str, masses: Masses) -> TheoryPoint:
    pairs = tuple(f"{_H2}:onIfMatch = {code} {code}" for code in (6, 24, 23, 25))
    settings = (_BSM, "HiggsBSM:gg2H2 = on", *mass(_H2, masses["S"]), f"{_H2}:onMode = off", *pairs)
    return TheoryPoint(name, family, masses, settings)


def _charged_higgs_pair(name: str, family: str, masses: Masses) -> TheoryPoint:
    m = masses["H+"]
    # above m(t) + m(b), without H+ -> W h
    decay = ("HiggsHchg:coup2H1W = 0.", *only(_HC, "6")) if m > 180 else only(_HC, _LEPTONS)
    settings = (_BSM, "HiggsBSM:ffbar2H+H- = on", "HiggsHchg:tanBeta = 1.", *mass(_HC, m), *decay)
    return TheoryPoint(name, family, masses, settings)


def _scalar_pair(code: int, m: float, decays: tuple[str, ...]) -> tuple[str, ...]:
    """Settings of gg -> h* -> pair: a spectrum of the mass of the pair, from threshold, as broad as the mass of the particle."""
    return (
        _BSM,
        "Higgs:clipWings = off",
        "HiggsBSM:gg2H2 = on",
        "HiggsH2:coup2H1H1 = 1.",
        "HiggsH2:coup2A3A3 = 1.",
        f"{_H2}:m0 = {2.2 * m:g}",
        f"{_H2}:mWidth = {m:g}",
        f"{_H2}:doForceWidth = on",
        f"{_H2}:mMin = {2 * m:g}",
        f"{_H2}:mMax = 12000.",
        *only_pair(_H2, f"{code} {code}"),
        *mass(code, m, 0.05),
        f"{code}:mWidth = {0.003 * m:g}",
        f"{code}:doForceWidth = on",
        *decays,
    )


def _heavy_higgs_pair(name: str, family: str, masses: Masses) -> TheoryPoint:
    decay = only_pair(_H1, f"{_W} {_W}")
    return TheoryPoint(name, family, masses, _scalar_pair(_H1, masses["H"], decay))


def _pseudoscalar_pair(name: str, family: str, masses: Masses) -> TheoryPoint:
    decay = (*large_tan_beta(_A), *only(_A, "5 15"))
    return TheoryPoint(name, family, masses, _scalar_pair(_A, masses["A"], decay))


_BUILD: Mapping[str, Callable[[str, str, Masses], TheoryPoint]] = {
    "LReff": _left_right,
    "type2seesaw": _seesaw,
    "Wprime": _w_prime,
    "mDM": _dilaton,
    "HH": _charged_higgs_pair,
    "hh": _heavy_higgs_pair,
    "AA": _pseudoscalar_pair,
}


def _loop(m: float) -> TheoryPoint:
    """A light pseudoscalar that recoils against a gluon, made by a top loop; too light for b b it leaves unseen.

    A scalar differs in the cross section alone, so that axial-vector and vector share it.
    """
    decay = only(_A, "5") if m > 9 else (f"{_A}:mayDecay = off",)
    settings = (_BSM, "HiggsBSM:gg2A3g(l:t) = on", "PhaseSpace:pTHatMin = 300.", *mass(_A, m, 0.02), *decay)
    return TheoryPoint(f"ggAg{m:g}", "btzpLoop", {"A": m}, settings)


def _as_w(m: float) -> tuple[str, ...]:
    """A W of another mass, 2 % wide; no top quarks are around, whose decays would suffer."""
    return (*mass(_W, m, 0.05), f"{_W}:mWidth = {0.02 * m:g}", f"{_W}:doForceWidth = on")


def _as_z(m: float) -> tuple[str, ...]:
    return (*mass(_Z, m, 0.05), f"{_Z}:mWidth = {0.02 * m:g}", f"{_Z}:doForceWidth = on")


_PAIR = ("WeakDoubleBoson:ffbar2ZW = on", *only(_W, _LEPTONS), *only(_Z, _LEPTONS))


def _substitutes() -> list[TheoryPoint]:
    out = [_loop(m) for m in (5.0, 10.0, 20.0, 30.0, 40.0, 50.0)]
    for m in (10.0, 20.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0):
        out.append(TheoryPoint(f"wprime{m:g}_Z_lep", "Wprime", {"W'": m}, (*_PAIR, *_as_w(m))))
    for w, z in ((500.0, 10.0), (100.0, 100.0), (100.0, 500.0), (500.0, 100.0), (500.0, 500.0)):
        settings = (*_PAIR, *_as_w(w), *_as_z(z))
        out.append(TheoryPoint(f"wzprime_{w:g}_{z:g}_lep", "LReff", {"W'": w, "Z'": z}, settings))
    recoil = (
        "WeakBosonAndParton:qqbar2Wg = on",
        "WeakBosonAndParton:qg2Wq = on",
        "PhaseSpace:pTHatMin = 300.",
    )
    for m in (10.0, 50.0, 100.0, 500.0):
        settings = (*recoil, *_as_w(m), *only(_W, f"1 2 3 4 {_LEPTONS}"), f"{_W}:offIfAny = 6")
        out.append(TheoryPoint(f"wprime{m:g}_jet", "LReff", {"W'": m}, settings))
    return out


POINTS: tuple[TheoryPoint, ...] = (
    *(
        _BUILD[signal.family](signal.made, signal.family, signal.masses)
        for signal in SIGNALS
        if signal.paper == MIXTURES and signal.made and signal.family in _BUILD
    ),
    *_substitutes(),
)
