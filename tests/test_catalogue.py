from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.simulate.catalogue import CATALOGUE, FAMILIES, PAPER, catalogue_table, known_samples
from serendip.simulate.catalogue_acceptance import ACCEPTANCE
from serendip.simulate.fast_detector import measure
from serendip.simulate.pythia import make_pythia
from serendip.simulate.record import generate_record
from serendip.simulate.slha import HEAVY, slha_file, slha_text
from serendip.theories.selection import ChannelSelection


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
