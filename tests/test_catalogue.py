from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.simulate.catalogue.acceptance import ACCEPTANCE
from serendip.simulate.catalogue.points import CATALOGUE, FAMILIES, PAPER, catalogue_table, known_samples
from serendip.simulate.fast_detector import measure
from serendip.simulate.pythia import make_pythia
from serendip.simulate.record import generate_record
from serendip.simulate.slha import HEAVY, slha_file, slha_text
from serendip.theories.selection import ChannelSelection

N1, N2, C1, T1, B1, GLUINO = 1000022, 1000023, 1000024, 1000006, 1000005, 1000021
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
DECAYS = {
    r"glgl\d+_neut.*": {**TO_GLUINO, N1: STABLE},
    r"glgl\d+_WZ.*": {GLUINO: ((1, 2, C1), (1, 1, N2)), C1: ((24, N1),), N2: ((23, N1),), N1: STABLE},
    r"sqsq_.*": {N1: STABLE, **SQUARKS},
    r"glsq_.*": {**TO_GLUINO, **SQUARKS, N1: STABLE},
    r"stop\d+_t_.*": {T1: ((6, N1),), N1: STABLE},
    r"stop2b.*": {T1: ((5, C1),), C1: ((24, N1),), N1: STABLE},
    r"sbottom.*": {B1: ((5, N1),), N1: STABLE},
    r"chaneut_.*": {C1: ((24, N1),), N2: ((23, N1),), N1: STABLE},
    r"chacha_.*": {C1: ((24, N1),), N1: STABLE},
    r"slsl_.*": {N1: STABLE, **SLEPTONS},
    r"snusnu_.*": {C1: ((24, N1),), N1: STABLE, **TO_CHARGINO},
    r"gmsb_glgl.*": {N1: ((22, 1000039), (23, 1000039)), 1000039: STABLE, **TO_GLUINO},
    r"gmsb_neutneut_.*_Z": {N1: ((23, 1000039),), 1000039: STABLE, **HIGGSINOS},
    r"gmsb_neutneut_.*_h": {N1: ((25, 1000039),), 1000039: STABLE, **HIGGSINOS},
    r"stlp_.*": {T1: ((5, 13), (5, 15))},
    r"stlpp_.*": {T1: ((6, N1),), **LAMBDA_PP},
    r"stl_.*": {T1: ((6, N1),), **LAMBDA},
    r"gllp_.*": {**LAMBDA_P, **TO_GLUINO},
    r"gllpp_.*": {GLUINO: ((6, 6, N1),), **LAMBDA_PP},
    r"sqsq1_.*": {**LAMBDA_P, **SQUARKS},
    r"neut1neut1lep_.*": {**LAMBDA, **HIGGSINOS},
    r"neut1neut1_.*": {**LAMBDA_P, **HIGGSINOS},
    r"chachalep_.*": {C1: ((24, N1),), **LAMBDA},
    r"sll_.*": {
        1000011: ((13, 14),), 1000013: ((12, 13),),
        2000011: ((12, 13), (11, 14)), 2000013: ((12, 13), (11, 14)),
    },
    r"sllp_.*": {**LAMBDA_P, **SLEPTONS},
    r"snul_.*": {**LAMBDA, **SNEUTRINOS},
    r"snulp_.*": {**LAMBDA_P, **SNEUTRINOS},
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
    r"hh_.*_WW": {35: ((24, 24),)},
    r"hh_.*_ZZ": {35: ((23, 23),)},
    r"hh_.*_hh": {35: ((25, 25),)},
    r"aa_.*_tt": {36: ((6, 6),)},
    r"aa_.*_Zh": {36: ((23, 25),)},
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


@cache
def standard_pythia():
    import pythia8mc

    return pythia8mc.Pythia("", False)


def seen_decays(point, n_events: int, codes: set[int]) -> dict[int, set[tuple[int, ...]]]:
    """Products of ``codes``, and of all particles outside the Standard Model, in hard processes without showers."""
    usual = standard_pythia()
    pythia = usual.__class__(usual.settings, usual.particleData, False)
    process_only = (
        "PartonLevel:all = off",
        "HadronLevel:all = off",
        "Print:quiet = on",
        "Beams:eCM = 13000.",
    )
    with slha_file(point.slha) as lines:
        assert all(pythia.readString(line, False) for line in (*process_only, *lines, *point.settings))
        assert pythia.init()
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
    assert len(known) == len(CATALOGUE) + len(FAMILIES) + 14 + 2
    assert len({sample.name for sample in (*known["SM"], *known["BSM"])}) == len(known["SM"]) + len(CATALOGUE)


def test_every_point_has_a_channel_and_every_channel_its_points():
    assert set(ACCEPTANCE) == set(CATALOGUE)
    assert [point.name for point in CATALOGUE.values() if not point.channels] == []
    per_channel = Counter(channel for point in CATALOGUE.values() for channel in point.channels)
    # arXiv:2207.07631 trains on 37, 51, 18 and 71 points in channels 1, 2a, 2b and 3
    assert per_channel["1"] >= 37
    assert per_channel["2a"] >= 10
    assert per_channel["2b"] >= 18
    assert per_channel["3"] >= 60
    families = {
        channel: {p.family for p in CATALOGUE.values() if channel in p.channels} for channel in per_channel
    }
    assert all(len(found) >= 5 for found in families.values())


def test_a_point_is_json():
    facts = json.loads(json.dumps(CATALOGUE["chaneut_cha400_neut200"].to_dict()))
    assert facts["family"] == "chargino neutralino"
    assert facts["masses"] == {"C1": 400, "N2": 400, "N1": 200}
    assert facts["channels"] == [name for name, value in facts["acceptance"].items() if value >= 0.01]
    assert "BLOCK MASS" in facts["slha"]


def test_the_page_shows_the_table_as_it_is():
    page = Path(__file__).parents[1] / "docs" / "theories-simulated.md"
    assert catalogue_table() in page.read_text()


def test_table_names_every_point_and_every_family_of_the_papers():
    table = catalogue_table()
    rows = table.splitlines()[2:]
    for name in CATALOGUE:
        assert f"`{name}`" in table
    for paper in PAPER:
        assert sum(row.startswith(f"| `{paper.name}` |") for row in rows) == 1
        assert all(family in FAMILIES for family in paper.families)
        # where there is nothing, the reason is given
        assert paper.families or paper.remark
    assert all(row.count("|") == 5 for row in rows)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("glgl1600_neutralino800", 1000021),
        ("stlpp_st900_neut400", 1000006),
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


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_every_point_decays_as_its_name_says(name):
    (expected,) = (decays for pattern, decays in DECAYS.items() if re.fullmatch(pattern, name))
    found = seen_decays(CATALOGUE[name], 10, set(expected))
    assert next(iter(expected)) in found
    assert {code: products - set(expected.get(code, ())) for code, products in found.items()} == {
        code: set() for code in found
    }


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
    with pytest.raises(InputError, match="'stop' is no sparticle"):
        slha_text({"stop": 500.0}, {})
    with pytest.raises(InputError, match=r"t1 \(500 GeV\) cannot decay to 6, 1000022, which need 571 GeV"):
        slha_text(masses, {"t1": [(1.0, (6, 1000022))]})
    with pytest.raises(InputError, match="branching ratios of t1 add up to"):
        slha_text(masses, {"t1": [(0.5, (5, 24, 1000022))]})
    with pytest.raises(InputError, match="mass of N1 is -1 GeV"):
        slha_text({"N1": -1.0}, {})
    with pytest.raises(InputError, match="expected wino or higgsino"):
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
