from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.simulate.catalogue.points import CATALOGUE, FAMILIES, known_samples
from serendip.simulate.fast_detector import measure
from serendip.simulate.pythia import make_pythia
from serendip.simulate.record import generate_record
from serendip.simulate.slha import HEAVY, SPARTICLES, slha_file, slha_text
from serendip.theories.selection import ChannelSelection

N1, N2, N3, N4, C1, C2 = 1000022, 1000023, 1000025, 1000035, 1000024, 1000037
T1, B1, GLUINO, GRAVITINO = 1000006, 1000005, 1000021, 1000039
STABLE: tuple[tuple[int, ...], ...] = ((),)
SQUARKS = {code + i: ((i, N1),) for code in (1000000, 2000000) for i in (1, 2, 3, 4)}
SLEPTONS = {code + i: ((i, N1),) for code in (1000000, 2000000) for i in (11, 13)}
SNEUTRINOS = {1000000 + i: ((i, N1),) for i in (12, 14, 16)}
TO_CHARGINO = {1000000 + i: ((i - 1, C1),) for i in (12, 14, 16)}
TO_GLUINO = {GLUINO: tuple((i, i, N1) for i in (1, 2, 3, 4))}
HIGGSINOS = {C1: ((1, 2, N1),), N2: ((1, 1, N1), (2, 2, N1))}
LAMBDA = {N1: ((12, 13, 13), (11, 13, 14))}
LAMBDA_P = {N1: ((1, 2, 13), (1, 1, 14))}
LAMBDA_PP = {N1: ((1, 2, 3),)}
HEAVY_NEUTRINOS = {
    code: tuple((d, u, lepton) if d < u else (u, d, lepton) for d in (1, 3, 5) for u in (2, 4, 6))
    for code, lepton in ((9900012, 11), (9900014, 13))
}
LEPTON_NEUTRINO = ((11, 12), (13, 14), (15, 16))
LEPTON_PAIRS = ((11, 11), (13, 13), (15, 15))
UP_DOWN = tuple(tuple(sorted((d, u))) for d in (1, 3, 5) for u in (2, 4, 6))
FERMION_PAIRS = tuple((i, i) for i in (1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16))
W_LEPTONS, Z_LEPTONS = {24: LEPTON_NEUTRINO}, {23: LEPTON_PAIRS}
CHARGINO_TO_W, N2_TO_Z = {C1: ((24, N1),), N1: STABLE}, {N2: ((23, N1),)}
LIGHT_SQUARKS = ((1, 2), (2, 1), (3, 4), (4, 3))
SQUARK_TO_C1 = {code + i: ((partner, C1),) for code in (1000000, 2000000) for i, partner in LIGHT_SQUARKS}
SQUARK_CHAIN = {code: ((code % 10, N2), *to_c1) for code, to_c1 in SQUARK_TO_C1.items()}
GLUINO_CHAIN = {
    GLUINO: ((1, 2, C2), (1, 1, N3), (2, 2, N3)),
    C2: ((23, C1), (24, N2)),
    N3: ((23, N2), (24, C1)),
    C1: ((24, N1),),
    **N2_TO_Z,
}
N3_CHAIN, N4_CHAIN = ({code: ((23, N2), (24, C1)), **CHARGINO_TO_W, **N2_TO_Z} for code in (N3, N4))
N2_CHAIN = {N2: ((23, N1), (24, C1)), **CHARGINO_TO_W}
TO_GRAVITINO = {N1: ((22, GRAVITINO), (23, GRAVITINO)), GRAVITINO: STABLE}
DECAYS = {
    r"glgl_\d+": {**GLUINO_CHAIN, N1: STABLE},
    r"sqsq_sq766": {**SQUARK_CHAIN, N2: ((1, 1, N1), (2, 2, N1)), C1: ((1, 2, N1), (3, 4, N1)), N1: STABLE},
    r"glsq1366_1562": {GLUINO: ((1, 2, C1),), **SQUARK_TO_C1, **CHARGINO_TO_W},
    r"stop\d+": {T1: ((6, N1),), N1: STABLE},
    r"stopjets\d+": {T1: ((6, N1), (5, C1)), **CHARGINO_TO_W},
    r"sbottom\d+": {B1: ((5, N1),), N1: STABLE},
    r"gmsb_glgl3601": {**GLUINO_CHAIN, **TO_GRAVITINO},
    r"gmsb_neutneut_neut721": TO_GRAVITINO,
    r"slsl_slep.*": {
        1000011: ((11, N2), (12, C1)), 1000013: ((13, N2), (14, C1)), **CHARGINO_TO_W, **N2_TO_Z,
    },
    r"neut2neut2_.*": N2_CHAIN,
    r"neut4neut4_.*": N4_CHAIN,
    r"neut2neut2lep_.*": {**N2_CHAIN, **Z_LEPTONS},
    r"neut3neut3lep_.*": {**N3_CHAIN, **Z_LEPTONS},
    r"neut4neut4lep_.*": {**N4_CHAIN, **Z_LEPTONS},
    r"chachalep_.*": CHARGINO_TO_W,
    r"chaneut3_.*": {N3: ((23, N1),), **CHARGINO_TO_W},
    r"chaneut_cha(776_neut762|867)": {**N2_TO_Z, **CHARGINO_TO_W},
    r"chaneutlep_.*": {N3: ((23, N2),), **N2_TO_Z, **CHARGINO_TO_W, **Z_LEPTONS},
    r"chaneut2lep_.*": {**N2_TO_Z, **CHARGINO_TO_W, **Z_LEPTONS},
    r"chaneut3lep_.*": {**N3_CHAIN, **Z_LEPTONS},
    r"gllp_.*": {GLUINO: ((1, 2, C1),), C1: ((1, 1, 11), (1, 1, 13))},
    r"gllpp_.*": {GLUINO: ((1, 3, 6),)},
    r"stlp_st(560|1560)": {T1: ((5, 11), (5, 13), (5, 15))},
    r"stlpp_st1000": {T1: ((6, N1),), N1: ((3, 5, 6),)},
    r"sllp_.*": {1000011: ((1, 2), (3, 4)), 1000013: ((1, 2), (3, 4))},
    r"snul_.*": {1000012: ((13, 13),), 1000014: ((11, 13),)},
    r"snulp_.*": {1000012: ((1, 1), (3, 3)), 1000014: ((1, 1), (3, 3))},
    r"wprime[AV]\d+": {34: (*UP_DOWN, *LEPTON_NEUTRINO)},
    r"LReff_.*": {32: FERMION_PAIRS, 34: (*UP_DOWN, *LEPTON_NEUTRINO)},
    r"type2seesaw_.*": {
        9900041: ((11, 11), (11, 13), (11, 15), (13, 13), (13, 15), (15, 15)),
        37: LEPTON_NEUTRINO,
        35: ((12, 12), (14, 14), (16, 16)),
    },
    r"mDM500": {35: ((6, 6), (23, 23), (24, 24), (25, 25))},
    r"HH_(103|150)": {37: ((15, 16),)},
    r"HH_754": {37: ((5, 6),)},
    r"hh_\d+": {25: ((24, 24),), 35: ((25, 25),)},
    r"AA_\d+": {36: ((5, 5), (15, 15)), 35: ((36, 36),)},
    r"ggAg5": {36: STABLE},
    r"ggAg\d0": {36: ((5, 5),)},
    r"wz?prime.*_lep": {**W_LEPTONS, **Z_LEPTONS},
    r"wprime\d+_jet": {24: (*LEPTON_NEUTRINO, *UP_DOWN)},
    r"glgl\d+_neut.*": {**TO_GLUINO, N1: STABLE},
    r"glgl\d+_WZ.*": {GLUINO: ((1, 2, C1), (1, 1, N2)), C1: ((24, N1),), N2: ((23, N1),), N1: STABLE},
    r"sqsq_sq\d+_neut.*": {N1: STABLE, **SQUARKS},
    r"glsq_.*": {**TO_GLUINO, **SQUARKS, N1: STABLE},
    r"stop\d+_t_.*": {T1: ((6, N1),), N1: STABLE},
    r"stop2b.*": {T1: ((5, C1),), C1: ((24, N1),), N1: STABLE},
    r"sbottom\d+_.*": {B1: ((5, N1),), N1: STABLE},
    r"chaneut_cha\d+_neut(?!762).*": {C1: ((24, N1),), N2: ((23, N1),), N1: STABLE},
    r"chacha_cha.*": {C1: ((24, N1),), N1: STABLE},
    r"slsl_sl\d+_neut.*": {N1: STABLE, **SLEPTONS},
    r"snusnu_snu.*": {C1: ((24, N1),), N1: STABLE, **TO_CHARGINO},
    r"gmsb_glgl\d+_neut.*": {**TO_GLUINO, **TO_GRAVITINO},
    r"gmsb_neutneut_.*_Z": {N1: ((23, 1000039),), 1000039: STABLE, **HIGGSINOS},
    r"gmsb_neutneut_.*_h": {N1: ((25, 1000039),), 1000039: STABLE, **HIGGSINOS},
    r"stlp_st(600|1000)": {T1: ((5, 13), (5, 15))},
    r"stlpp_st900_.*": {T1: ((6, N1),), **LAMBDA_PP},
    r"stl_.*": {T1: ((6, N1),), **LAMBDA},
    r"glgl_lqd_.*": {**LAMBDA_P, **TO_GLUINO},
    r"glgl_udd_.*": {GLUINO: ((6, 6, N1),), **LAMBDA_PP},
    r"sqsq1_.*": {**LAMBDA_P, **SQUARKS},
    r"neutneut_lle_.*": {**LAMBDA, **HIGGSINOS},
    r"neutneut_lqd_.*": {**LAMBDA_P, **HIGGSINOS},
    r"chacha_lle_.*": {C1: ((24, N1),), **LAMBDA},
    r"sll_.*": {
        1000011: ((13, 14),), 1000013: ((12, 13),),
        2000011: ((12, 13), (11, 14)), 2000013: ((12, 13), (11, 14)),
    },
    r"slsl_lqd_.*": {**LAMBDA_P, **SLEPTONS},
    r"snusnu_lle_.*": {**LAMBDA, **SNEUTRINOS},
    r"snusnu_lqd_.*": {**LAMBDA_P, **SNEUTRINOS},
    r"zprime.*_tt": {32: ((6, 6),)},
    r"zprime.*_tautau": {32: ((15, 15),)},
    r"zprime.*_mumu": {32: ((13, 13),)},
    r"zprime.*_WW": {32: ((24, 24),)},
    r"wprime.*_tb": {34: ((5, 6),)},
    r"wprime.*_WZ": {34: ((23, 24),)},
    r"wprime.*_taunu": {34: ((15, 16),)},
    r"lr_wr.*": {9900024: ((11, 9900012), (13, 9900014)), **HEAVY_NEUTRINOS},
    r"lr_zr.*": {9900023: ((9900012, 9900012), (9900014, 9900014)), **HEAVY_NEUTRINOS},
    r"hpp.*_tautau": {9900041: ((15, 15),)},
    r"hpp.*_WW": {9900041: ((24, 24),)},
    r"hpp.*_mutau": {9900041: ((13, 15),)},
    r"hc.*_taunu": {37: ((15, 16),)},
    r"hc.*_tb": {37: ((5, 6),)},
    r"h\d+_WW": {35: ((24, 24),)},
    r"h\d+_ZZ": {35: ((23, 23),)},
    r"h\d+_hh": {35: ((25, 25),)},
    r"a\d+_tt": {36: ((6, 6),)},
    r"a\d+_Zh": {36: ((23, 25),)},
    r"bbh.*_tautau": {35: ((15, 15),)},
    r"ha_.*_tautau": {35: ((15, 15),), 36: ((15, 15),)},
    r"lqlq.*_ttau": {42: ((6, 15),)},
    r"lqlq.*_bnu": {42: ((5, 16),)},
    r"lqlq.*_cmu": {42: ((4, 13),)},
    r"lqlq.*_tmu": {42: ((6, 13),)},
    r"qstar.*_qW": {4000001: ((2, 24),), 4000002: ((1, 24),)},
    r"qstar.*_qZ": {4000001: ((1, 23),), 4000002: ((2, 23),)},
    r"lstar.*_enuW": {4000011: ((12, 24),)},
    r"lstar.*_munuW": {4000013: ((14, 24),)},
    r"lstar.*_nueW": {4000012: ((11, 24),)},
    r"lstar.*_eeZZ": {4000011: ((11, 23),)},
    r"add_monojet_.*": {5000039: STABLE},
    r"add_monoz_.*": {5000039: STABLE, 23: ((11, 11), (13, 13))},
    r"rsg.*_ZZ": {5100039: ((23, 23),)},
    r"rsg.*_WW": {5100039: ((24, 24),)},
    r"rsg.*_hh": {5100039: ((25, 25),)},
    r"kkgluon.*_tt": {5100021: ((6, 6),)},
    r"mono[jh].*_Zp.*": {55: ((52, 52),), 52: STABLE},
    r"monojet_S.*": {54: ((52, 52),), 52: STABLE},
    r"hv_zv.*": {4900023: ((4900101, 4900101),), 4900101: STABLE},
    r"hv_d.*": {4900001: ((1, 4900101),), 4900101: STABLE},
    r"hv_b.*": {4900005: ((5, 4900101),), 4900101: STABLE},
    r"hv_t.*": {4900006: ((6, 4900101),), 4900101: STABLE},
    r"hv_mu.*": {4900013: ((13, 4900101),), 4900101: STABLE},
    r"tprime.*_bW": {8: ((5, 24),)},
    r"bprime.*_tW": {7: ((6, 24),)},
}  # fmt: skip
"""For names of points, decays of particles by code; signs left out, products rising."""


def same_physics(point) -> str:
    """Settings and decays of a point without its masses."""
    settings = re.sub(r"(?m)^(\d+:(?:m0|mMin|mMax|mWidth)) = .*$", r"\1", "\n".join(point.settings))
    slha = re.sub(r"(?s)(BLOCK MASS).*?(?=BLOCK NMIX)", r"\1", point.slha or "")
    return settings + slha


ALIKE: dict[str, list[str]] = {}
for each in CATALOGUE.values():
    ALIKE.setdefault(same_physics(each), []).append(each.name)


def expected_decays(name: str) -> dict[int, tuple[tuple[int, ...], ...]]:
    (expected,) = (decays for pattern, decays in DECAYS.items() if re.fullmatch(pattern, name))
    return expected


@cache
def standard_pythia():
    import pythia8mc

    return pythia8mc.Pythia("", False)


def process_only(point):
    """Pythia that makes hard processes and decays of resonances, and nothing else, with the fastest parton densities."""
    usual = standard_pythia()
    pythia = usual.__class__(usual.settings, usual.particleData, False)
    lines = (
        "PartonLevel:all = off",
        "HadronLevel:all = off",
        "Print:quiet = on",
        "Beams:eCM = 13000.",
        "PDF:pSet = 1",
    )
    with slha_file(point.slha) as slha:
        assert all(pythia.readString(line, False) for line in (*lines, *slha, *point.settings))
        assert pythia.init()
    return pythia


def seen_decays(pythia, n_events: int, codes: set[int]) -> dict[int, set[tuple[int, ...]]]:
    """Products of ``codes``, and of all particles outside the Standard Model."""
    found: dict[int, set[tuple[int, ...]]] = {}
    for _ in range(n_events):
        assert pythia.next()
        record: Any = pythia.process
        for i in range(3, record.size()):
            particle = record[i]
            new = particle.idAbs() in (7, 8) or particle.idAbs() > 25
            if particle.status() != -21 and (new or particle.idAbs() in codes):
                products = tuple(sorted(record[j].idAbs() for j in particle.daughterList()))
                found.setdefault(particle.idAbs(), set()).add(products)
    return found


def started(point, seed=1):
    with slha_file(point.slha) as lines:
        return make_pythia([*lines, *point.settings], seed)


def test_size_and_names():
    assert len(CATALOGUE) >= 40
    assert len(FAMILIES) >= 12
    assert sum(map(len, FAMILIES.values())) == len(CATALOGUE)
    # a name becomes a file name and a process ID
    assert all(name.replace("_", "").isalnum() and len(name) <= 60 for name in CATALOGUE)
    assert not set(CATALOGUE) & set(FAMILIES)
    known = known_samples()
    assert [sample.name for sample in known["BSM"]] == list(CATALOGUE)
    assert len(known) == len(CATALOGUE) + len(FAMILIES) + 14 + 3
    assert {sample.name for sample in known["published"]} == {
        p.name for p in CATALOGUE.values() if p.origin != "ours"
    }
    assert len({sample.name for sample in (*known["SM"], *known["BSM"])}) == len(known["SM"]) + len(CATALOGUE)


def test_a_point_is_json():
    facts = json.loads(json.dumps(CATALOGUE["chaneut_cha400_neut200"].to_dict()))
    assert facts["family"] == "chaneuti"
    assert facts["masses"] == {"C1": 400, "N2": 400, "N1": 200}
    assert facts["channels"] == [name for name, value in facts["acceptance"].items() if value >= 0.01]
    assert "BLOCK MASS" in facts["slha"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("glgl1600_neutralino800", 1000021),
        ("stlpp_st1000", 1000006),
        ("gmsb_neutneut_neut400_h", 1000022),
        ("lqlq800_bnu", 42),
        ("hpp500_mutau", 9900041),
        ("hv_b1000", 4900005),
    ],
)
def test_points_make_the_particles_they_are_named_after(name, code):
    point = CATALOGUE[name]
    pythia = started(point)
    particles = pythia.nextBatch(10, "skip").prt
    assert len(particles) == 10
    for event in particles.id.to_list():
        assert sum(abs(each) == code for each in event) >= 2
    assert pythia.infoPython().sigmaGen() > 0
    values = {"gluino": 1000021, "t1": 1000006, "N1": 1000022, "LQ": 42, "H++": 9900041, "Bv": 4900005}
    for label, mass in point.masses.items():
        if label in values:
            assert pythia.particleData.m0(values[label]) == pytest.approx(mass)


@pytest.mark.parametrize("names", list(ALIKE.values()), ids=lambda names: names[0])
def test_every_point_decays_as_its_name_says(names):
    """Points that differ by masses alone share a generator."""
    expected = expected_decays(names[0])
    assert all(expected_decays(name) == expected for name in names)
    point = CATALOGUE[names[0]]
    pythia = process_only(point)
    found = seen_decays(pythia, 25, set(expected))
    assert {code: products - set(expected.get(code, ())) for code, products in found.items()} == {
        code: set() for code in found
    }
    # what is produced decays in all ways that are few enough to be seen in 25 events
    first = next(iter(expected))
    assert first in found
    assert len(expected[first]) > 3 or found[first] == set(expected[first])


def test_every_point_has_the_masses_of_its_name():
    codes = {
        **SPARTICLES, "squark": 1000002, "slepton": 1000011, "sneutrino": 1000012, "H+": 37, "H++": 9900041, "H": 35, "A": 36,
        "S": 35, "W'": 34, "Z'": 32, "LQ": 42, "DM": 52, "W_R": 9900024, "N_R": 9900012, "Z_R": 9900023,
    }  # fmt: skip
    for point in CATALOGUE.values():
        block = (point.slha or "").partition("BLOCK MASS")[2].partition("BLOCK NMIX")[0]
        given = {int(code): float(m) for code, m in (line.split() for line in block.strip().splitlines())}
        given |= {
            int(code): float(m)
            for code, m in re.findall(r"(?m)^(\d+):m0 = (\S+)$", "\n".join(point.settings))
        }
        swapped = {"W'": 24, "Z'": 23} if re.fullmatch(r"wz?prime_?\d.*_(lep|jet)", point.name) else {}
        swapped |= {"H": 25} if point.family == "hh" else {}
        swapped |= {"Z'": 55} if point.name.startswith("mono") else {}
        swapped |= {"S": 54} if point.name.startswith("monojet_S") else {}
        for label, value in point.masses.items():
            code = swapped.get(label, codes.get(label))
            if code is not None:
                assert given[code] == pytest.approx(value), (point.name, label)
        numbers = re.findall(
            r"\d+(?!lep|neut)",
            re.sub(r"neut\dneut\d|chaneut\d|neut\d_|type2|stop2b|sqsq1|_n\d_", "_", point.name),
        )
        missing = [number for number in map(float, numbers) if number not in point.masses.values()]
        assert not missing or point.name in ("neut4neut4_neut4_923_lsp97",), (
            point.name,
            numbers,
            point.masses,
        )


@pytest.mark.parametrize(
    ("name", "wino"),
    [
        ("neut2neut2_neut2_712", 2),
        ("neut3neut3lep_neut3_616", 3),
        ("neut4neut4_neut4_923", 4),
        ("chaneut_cha867", 2),
        ("chaneut3lep_cha363", 3),
        ("chaneutlep_cha_900", 3),
    ],
)
def test_the_neutralino_that_is_produced_is_the_wino(name, wino):
    """It couples to light squarks and to the chargino that is a wino too."""
    block = CATALOGUE[name].slha.partition("BLOCK NMIX")[2].partition("BLOCK UMIX")[0]
    mixing = np.zeros((4, 4))
    for row, column, value in (line.split() for line in block.strip().splitlines()):
        mixing[int(row) - 1, int(column) - 1] = float(value)
    np.testing.assert_allclose(mixing @ mixing.T, np.eye(4), atol=1e-7)
    assert mixing[wino - 1].tolist() == [0, 1, 0, 0]
    assert mixing[0].tolist() == [1, 0, 0, 0]


def test_sparticles_that_are_not_named_are_out_of_reach():
    pythia = started(CATALOGUE["stop500_t_neutralino50"])
    data = pythia.particleData
    assert data.m0(1000006) == 500
    assert data.m0(1000022) == 50
    assert all(data.m0(code) == HEAVY for code in (1000021, 1000001, 2000006, 1000024, 1000011))
    assert not data.isVisible(1000022)


def test_invisible_momentum_of_a_gravitino():
    point = CATALOGUE["gmsb_neutneut_neut500_Z"]
    made = generate_record(started(point), 40)
    # two gravitinos with about 250 GeV each
    assert np.median(np.hypot(*made.invisible)) > 150
    assert not np.isin(np.abs(made.visible.pdg), [1000039, 1000022, 12, 14, 16]).any()


def test_slha_text_errors():
    masses = {"t1": 500.0, "N1": 400.0}
    with pytest.raises(InputError, match="'stop' is not a sparticle"):
        slha_text({"stop": 500.0}, {})
    with pytest.raises(InputError, match=r"t1 \(500 GeV\) cannot decay to 6, 1000022, which need 571 GeV"):
        slha_text(masses, {"t1": [(1.0, (6, 1000022))]})
    with pytest.raises(InputError, match="branching ratios of t1 sum to"):
        slha_text(masses, {"t1": [(0.5, (5, 24, 1000022))]})
    with pytest.raises(InputError, match="mass of N1 is -1 GeV"):
        slha_text({"N1": -1.0}, {})
    with pytest.raises(InputError, match="expected wino, wino N3, wino N4, higgsino"):
        slha_text(masses, {}, electroweakinos="bino")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CATALOGUE))
def test_every_point_gives_events_in_its_channels(name):
    point = CATALOGUE[name]
    pythia = started(point, seed=2)
    made = generate_record(pythia, 300)
    assert len(made) >= 295
    assert pythia.infoPython().sigmaGen() > 0
    _, masks = ChannelSelection()(measure(made, np.random.default_rng(2), process=name))
    for channel, mask in masks.items():
        stored = point.acceptance[channel]
        error = np.sqrt(max(stored, 2e-3) * (1 - min(stored, 0.998)) * (1 / len(made) + 1 / 500))
        assert abs(mask.mean() - stored) < 4.5 * error
