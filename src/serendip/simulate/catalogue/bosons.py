"""Catalogue of new gauge and Higgs bosons."""

from __future__ import annotations

from collections.abc import Sequence

from serendip.simulate.catalogue.series import series
from serendip.simulate.pythia_lines import mass, only, only_pair
from serendip.simulate.theory_point import TheoryPoint

__all__ = ["POINTS"]


def _z_prime() -> list[TheoryPoint]:
    use = ("NewGaugeBoson:ffbar2gmZZprime = on", "Zprime:gmZmode = 3")
    fermions = (
        (1000.0, "6", "tt"),
        (2500.0, "6", "tt"),
        (1000.0, "15", "tautau"),
        (1500.0, "15", "tautau"),
        (1500.0, "13", "mumu"),
    )
    to_w = (*use, "Zprime:coup2WW = 1.")
    return [
        *series("zprime", "Z' to {}", "Z'", 32, use, fermions),
        *series("zprime", "Z' to {}", "Z'", 32, to_w, [(1500.0, "24", "WW")]),
    ]


def _w_prime() -> list[TheoryPoint]:
    use = ("NewGaugeBoson:ffbar2Wprime = on",)

    def points(switches: tuple[str, ...], *rows: tuple[float, str, str]) -> list[TheoryPoint]:
        return series("wprime", "W' to {}", "W'", 34, switches, rows, decay=only_pair)

    return [
        *points(use, (1000.0, "-5 6", "tb"), (2000.0, "-5 6", "tb")),
        *points((*use, "Wprime:coup2WZ = 1."), (600.0, "24 23", "WZ"), (1500.0, "24 23", "WZ")),
        *points(use, (2000.0, "-15 16", "taunu")),
    ]


def _left_right() -> list[TheoryPoint]:
    out = []
    for w_r, n_r in ((2000.0, 1000.0), (3000.0, 500.0), (1500.0, 200.0)):
        masses = {"W_R": w_r, "N_R": n_r}
        heavy = [(9900012, n_r), (9900014, n_r)]
        out.append(
            TheoryPoint(
                f"lr_wr{w_r:g}_n{n_r:g}",
                "left-right W_R",
                masses,
                (
                    "LeftRightSymmmetry:ffbar2WR = on",
                    *mass(9900024, w_r),
                    *(line for code, m in heavy for line in (f"{code}:m0 = {m:g}",)),
                    "9900016:m0 = 20000.",
                    *only(9900024, "9900012 9900014"),
                ),
            )
        )
    masses = {"Z_R": 2500.0, "N_R": 700.0, "W_R": 2200.0}
    out.append(
        TheoryPoint(
            "lr_zr2500_n700",
            "left-right Z_R",
            masses,
            (
                "LeftRightSymmmetry:ffbar2ZR = on",
                *mass(9900023, 2500.0),
                "9900024:m0 = 2200.",
                "9900012:m0 = 700.",
                "9900014:m0 = 700.",
                "9900016:m0 = 20000.",
                *only(9900023, "9900012 9900014"),
            ),
        )
    )
    doubly_charged = (
        (200.0, "-15 -15", "tautau"),
        (400.0, "-15 -15", "tautau"),
        (300.0, "24 24", "WW"),
        (500.0, "-13 -15", "mutau"),
    )
    use = ("LeftRightSymmmetry:ffbar2HLHL = on",)
    return out + series("hpp", "type2seesaw", "H++", 9900041, use, doubly_charged, decay=only_pair)


def large_tan_beta(code: int) -> tuple[str, ...]:
    """Couplings of a heavy Higgs boson of type II, aligned, with tan beta = 30."""
    name = {35: "HiggsH2", 36: "HiggsA3"}[code]
    couplings = {"coup2d": 30.0, "coup2l": 30.0, "coup2u": 1 / 30, "coup2W": 0.0, "coup2Z": 0.0}
    return tuple(f"{name}:{key} = {value:.4g}" for key, value in couplings.items())


def _higgs() -> list[TheoryPoint]:
    out = []
    h2, a3, hc = 35, 36, 37
    use = "Higgs:useBSM = on"
    tan = "HiggsHchg:tanBeta = 30."
    single: Sequence[tuple[str, str, dict[str, float], tuple[str, ...]]] = (
        (
            "hc300_taunu",
            "charged Higgs with top",
            {"H+": 300.0},
            ("HiggsBSM:bg2H+-t = on", tan, *mass(hc, 300.0), *only(hc, "15")),
        ),
        (
            "hc600_tb",
            "charged Higgs with top",
            {"H+": 600.0},
            ("HiggsBSM:bg2H+-t = on", tan, *mass(hc, 600.0), *only(hc, "6")),
        ),
        (
            "hchc250_taunu",
            "HH",
            {"H+": 250.0},
            ("HiggsBSM:ffbar2H+H- = on", tan, *mass(hc, 250.0), *only(hc, "15")),
        ),
        (
            "h400_WW",
            "heavy Higgs to WW, ZZ",
            {"H": 400.0},
            ("HiggsBSM:gg2H2 = on", *mass(h2, 400.0), *only(h2, "24")),
        ),
        (
            "h800_ZZ",
            "heavy Higgs to WW, ZZ",
            {"H": 800.0},
            ("HiggsBSM:gg2H2 = on", *mass(h2, 800.0), *only_pair(h2, "23 23")),
        ),
        (
            "h900_hh",
            "heavy Higgs to hh",
            {"H": 900.0},
            (
                "HiggsBSM:gg2H2 = on",
                "HiggsH2:coup2H1H1 = 5.",
                *mass(h2, 900.0),
                *only_pair(h2, "25 25"),
            ),
        ),
        (
            "a400_tt",
            "heavy pseudoscalar",
            {"A": 400.0},
            ("HiggsBSM:gg2A3 = on", *mass(a3, 400.0), *only(a3, "6")),
        ),
        (
            "a500_Zh",
            "heavy pseudoscalar",
            {"A": 500.0},
            ("HiggsBSM:gg2A3 = on", *mass(a3, 500.0), *only_pair(a3, "23 25")),
        ),
        (
            "bbh800_tautau",
            "heavy Higgs with b quarks",
            {"H": 800.0},
            ("HiggsBSM:gg2H2bbbar = on", *large_tan_beta(h2), *mass(h2, 800.0), *only(h2, "15")),
        ),
        (
            "ha_h300_a300_tautau",
            "heavy Higgs pair",
            {"H": 300.0, "A": 300.0},
            (
                "HiggsBSM:ffbar2A3H2 = on",
                *large_tan_beta(h2),
                *large_tan_beta(a3),
                *mass(h2, 300.0),
                *mass(a3, 300.0),
                *only(h2, "15"),
                *only(a3, "15"),
            ),
        ),
    )
    for name, family, masses, lines in single:
        out.append(TheoryPoint(name, family, masses, (use, *lines)))
    return out


POINTS: tuple[TheoryPoint, ...] = (
    *_z_prime(),
    *_w_prime(),
    *_left_right(),
    *_higgs(),
)
