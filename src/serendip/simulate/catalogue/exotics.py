"""Catalogue of leptoquarks, excited fermions, extra dimensions, dark matter, hidden valleys and heavy quarks."""

from __future__ import annotations

from serendip.simulate.catalogue.series import series
from serendip.simulate.pythia_lines import mass, only, only_pair
from serendip.simulate.theory_point import TheoryPoint

__all__ = ["POINTS"]

_LIGHT_LEPTONS = "11 13"


def _leptoquarks() -> list[TheoryPoint]:
    use = ("LeptoQuark:gg2LQLQbar = on", "LeptoQuark:qqbar2LQLQbar = on")
    rows = (
        (600.0, "6 15", "ttau"),
        (1000.0, "6 15", "ttau"),
        (800.0, "5 16", "bnu"),
        (1200.0, "4 13", "cmu"),
        (900.0, "6 13", "tmu"),
    )

    def decay(code: int, products: str) -> tuple[str, ...]:
        return (f"{code}:0:products = {products}",)

    return series("lqlq", "leptoquark pair", "LQ", 42, use, rows, decay=decay)


def _excited() -> list[TheoryPoint]:
    out = []
    scale = ("ExcitedFermion:Lambda = {:g}", "ExcitedFermion:contactDec = 0.")
    for m, products, label in (
        (1500.0, "24", "qW"),
        (1500.0, "23", "qZ"),
        (2500.0, "23", "qZ"),
    ):
        out.append(
            TheoryPoint(
                f"qstar{m:g}_{label}",
                "excited quark",
                {"q*": m},
                (
                    "ExcitedFermion:dg2dStar = on",
                    "ExcitedFermion:ug2uStar = on",
                    scale[0].format(m),
                    *mass(4000001, m),
                    *mass(4000002, m),
                    *only(4000001, products),
                    *only(4000002, products),
                ),
            )
        )
    for m, process, code, products, label in (
        (500.0, "qqbar2eStare", 4000011, "24", "enuW"),
        (1000.0, "qqbar2muStarmu", 4000013, "24", "munuW"),
        (800.0, "qqbar2nueStarnue", 4000012, "24", "nueW"),
        (800.0, "qqbar2eStareStar", 4000011, "23", "eeZZ"),
    ):
        out.append(
            TheoryPoint(
                f"lstar{m:g}_{label}",
                "excited lepton",
                {"l*": m},
                (
                    f"ExcitedFermion:{process} = on",
                    scale[0].format(3 * m),
                    scale[1],
                    *mass(code, m),
                    *only(code, products),
                ),
            )
        )
    return out


def _dimensions() -> list[TheoryPoint]:
    out = []
    monojet = (
        "ExtraDimensionsLED:gg2Gg = on",
        "ExtraDimensionsLED:qg2Gq = on",
        "ExtraDimensionsLED:qqbar2Gg = on",
    )
    for n, md in ((2, 5000.0), (4, 3000.0), (6, 3000.0)):
        out.append(
            TheoryPoint(
                f"add_monojet_n{n}_md{md:g}",
                "large extra dimensions, monojet",
                {"M_D": md},
                (
                    *monojet,
                    f"ExtraDimensionsLED:n = {n}",
                    f"ExtraDimensionsLED:MD = {md:g}",
                    "ExtraDimensionsLED:CutOffMode = 1",
                    "5000039:m0 = 1200.",
                    "5000039:mWidth = 1000.",
                    "5000039:mMin = 1.",
                    "5000039:mMax = 10000.",
                    "PhaseSpace:pTHatMin = 250.",
                ),
            )
        )
    out.append(
        TheoryPoint(
            "add_monoz_n3_md2000",
            "large extra dimensions, mono-Z",
            {"M_D": 2000.0},
            (
                "ExtraDimensionsLED:ffbar2GZ = on",
                "ExtraDimensionsLED:n = 3",
                "ExtraDimensionsLED:MD = 2000.",
                "ExtraDimensionsLED:CutOffMode = 1",
                "5000039:m0 = 1000.",
                "5000039:mWidth = 1000.",
                "5000039:mMin = 1.",
                "5000039:mMax = 10000.",
                "PhaseSpace:pTHatMin = 50.",
                *only(23, _LIGHT_LEPTONS),
            ),
        )
    )
    graviton = ((1000.0, "23 23", "ZZ"), (1500.0, "24 -24", "WW"), (2000.0, "25 25", "hh"))
    use = ("ExtraDimensionsG*:gg2G* = on", "ExtraDimensionsG*:ffbar2G* = on")
    out += series("rsg", "warped dimension, graviton", "G*", 5100039, use, graviton, decay=only_pair)
    use = ("ExtraDimensionsG*:qqbar2KKgluon* = on", "ExtraDimensionsG*:KKintMode = 2")
    return out + series("kkgluon", "warped dimension, gluon", "g*", 5100021, use, [(2000.0, "6", "tt")])


def _dark_matter() -> list[TheoryPoint]:
    out = []
    for m, dm in ((2000.0, 50.0), (3500.0, 1.0)):
        out.append(
            TheoryPoint(
                f"monojet_Zp{m:g}_DM{dm:g}",
                "dark matter, vector mediator",
                {"Z'": m, "DM": dm},
                ("DM:ffbar2Zp2XX = on", *mass(55, m), f"52:m0 = {dm:g}", *only(55, "52")),
            )
        )
    out.append(
        TheoryPoint(
            "monojet_S500_DM1",
            "dark matter, scalar mediator",
            {"S": 500.0, "DM": 1.0},
            ("DM:gg2S2XX = on", *mass(54, 500.0), "52:m0 = 1.", *only(54, "52")),
        )
    )
    out.append(
        TheoryPoint(
            "monoh_Zp1000_DM1",
            "dark matter, mono-Higgs",
            {"Z'": 1000.0, "DM": 1.0},
            (
                "DM:ffbar2ZpH = on",
                *mass(55, 1000.0),
                "52:m0 = 1.",
                *only(55, "52"),
                "PhaseSpace:pTHatMin = 200.",
            ),
        )
    )
    return out


def _hidden_valley() -> list[TheoryPoint]:
    out = []
    shower = (
        "HiddenValley:Ngauge = 3",
        "HiddenValley:FSR = on",
        "HiddenValley:fragment = on",
        "HiddenValley:alphaFSR = 0.5",
        "4900101:m0 = 10.",
        "4900111:m0 = 20.",
        "4900113:m0 = 20.",
    )
    # a share of the hidden mesons is stable and leaves the detector unseen
    semi = (
        "4900111:oneChannel = 1 0.5 91 5 -5",
        "4900111:addChannel = 1 0.5 0 12 -12",
        "4900113:oneChannel = 1 0.5 91 5 -5",
        "4900113:addChannel = 1 0.5 0 12 -12",
    )
    for m in (1500.0, 3000.0):
        out.append(
            TheoryPoint(
                f"hv_zv{m:g}",
                "hidden valley, Z_v",
                {"Zv": m, "piv": 20.0},
                (
                    "HiddenValley:ffbar2Zv = on",
                    *shower,
                    *semi,
                    *mass(4900023, m),
                    *only(4900023, "4900101"),
                ),
            )
        )
    for partner, code, label, m in (
        ("Dv", 4900001, "d", 800.0),
        ("Bv", 4900005, "b", 1000.0),
        ("Tv", 4900006, "t", 900.0),
    ):
        out.append(
            TheoryPoint(
                f"hv_{label}{m:g}",
                "hidden valley, coloured partner",
                {partner: m},
                (
                    f"HiddenValley:gg2{partner}{partner}bar = on",
                    f"HiddenValley:qqbar2{partner}{partner}bar = on",
                    f"{code}:m0 = {m:g}",
                    "4900101:m0 = 100.",
                ),
            )
        )
    out.append(
        TheoryPoint(
            "hv_mu500",
            "hidden valley, charged partner",
            {"MUv": 500.0},
            ("HiddenValley:ffbar2MUvMUvbar = on", "4900013:m0 = 500.", "4900101:m0 = 50."),
        )
    )
    return out


def _heavy_quarks() -> list[TheoryPoint]:
    out = []
    for code, quark, pair, m, product, label in (
        (8, "t'", "tPrimetPrime", 900.0, "5", "bW"),
        (7, "b'", "bPrimebPrime", 800.0, "6", "tW"),
        (7, "b'", "bPrimebPrime", 1200.0, "6", "tW"),
    ):
        group = "FourthTop" if code == 8 else "FourthBottom"
        out.append(
            TheoryPoint(
                f"{quark[0]}prime{m:g}_{label}",
                "heavy quark pair",
                {quark: m},
                (
                    f"{group}:gg2{pair}bar = on",
                    f"{group}:qqbar2{pair}bar = on",
                    f"{code}:m0 = {m:g}",
                    # the partner must not be a decay product
                    f"{15 - code}:m0 = 10000.",
                    *only(code, product),
                ),
            )
        )
    return out


POINTS: tuple[TheoryPoint, ...] = (
    *_leptoquarks(),
    *_excited(),
    *_dimensions(),
    *_dark_matter(),
    *_hidden_valley(),
    *_heavy_quarks(),
)
