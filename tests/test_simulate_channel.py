from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from serendip.cli.parsing import split_names
from serendip.cli.simulate import app
from serendip.errors import InputError
from serendip.events.darkmachines import read_events
from serendip.events.objects import KINDS
from serendip.events.objects_parquet import read_parquet
from serendip.simulate.catalogue.points import known_samples
from serendip.simulate.channel import SimulateConfig, read_settings, simulate_samples
from serendip.simulate.chunks import Counted, run_chunks
from serendip.simulate.fast_detector import CARDS, ObjectDetector, measure, tag_probability
from serendip.simulate.processes import PROCESSES, Sample, samples_named
from serendip.simulate.pythia import Particles, make_pythia
from serendip.simulate.record import Hadrons, Record, generate_record, heavy_quark
from serendip.statistics.pvalues import binomial_interval
from serendip.theories.channels import ht, select
from serendip.theories.selection import ChannelSelection

ELECTRON, MUON, PHOTON, PION, NEUTRINO = 11, 13, 22, 211, 12
PERFECT = ObjectDetector(
    jet_noise=0.0,
    jet_stochastic=0.0,
    jet_constant=0.0,
    central_efficiency=1.0,
    forward_efficiency=1.0,
    ecal_stochastic=0.0,
    ecal_constant=0.0,
    muon_constant=0.0,
    muon_slope=0.0,
)
NO_HADRONS = Hadrons(np.zeros(0, np.int64), np.zeros(0, bool), *(np.zeros(0) for _ in range(3)))


def record(particles, invisible=(0.0, 0.0), hadrons=NO_HADRONS, copies=1):
    """Events with the same particles (pdg, pt, eta, phi)."""
    pdg, pt, eta, phi = (np.array(column) for column in zip(*particles, strict=True))
    p4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)])
    return Record(
        Particles(np.tile(pdg, copies), np.tile(p4, copies), np.full(copies, len(pdg))),
        np.tile(np.array(invisible, dtype=float)[:, None], copies),
        hadrons,
    )


def seen(events, row=0):
    rows = slice(events.offsets[row], events.offsets[row + 1])
    return [(KINDS[k], round(float(pt), 6)) for k, pt in zip(events.kind[rows], events.pt[rows], strict=True)]


def rng():
    return np.random.default_rng(1)


# Detector


def test_jet_resolution_of_the_cards():
    pt = np.array([20.0, 300.0])
    assert CARDS["atlas"].jet_resolution(pt) == pytest.approx([0.24, 0.06], abs=0.005)
    assert CARDS["darkmachines"].jet_resolution(pt) == pytest.approx([0.28, 0.0993], abs=0.002)


def test_tag_probability_closed_form():
    assert tag_probability(np.array([100.0] * 3), np.array([5, 4, 0])) == pytest.approx(
        [0.72828, 0.143882, 0.00273], rel=1e-4
    )


def test_heavy_quark_of_hadrons_and_nothing_else():
    codes = [511, -5122, 10521, 421, 4122, 443, 211, 2212, 5203, 5, 1000005, 4900111, 541, 22]
    assert heavy_quark(np.array(codes)).tolist() == [5, 5, 5, 4, 4, 4, 0, 0, 0, 0, 0, 0, 5, 0]


def test_order_kinds_and_balance_with_a_perfect_detector():
    particles = [
        (PHOTON, 30.0, 0.3, -1.0),
        (MUON, 25.0, -1.0, 2.5),
        (-ELECTRON, 50.0, 0.0, 0.0),
        (-MUON, 45.0, 2.6, -2.5),
        (PION, 80.0, 1.0, 1.2),
        (PION, 120.0, -2.0, 3.0),
    ]
    truth = -sum(np.array([pt * np.cos(phi), pt * np.sin(phi)]) for _, pt, _, phi in particles)
    events = measure(record(particles, truth), rng(), process="p", first_id=7, detector=PERFECT)
    assert seen(events) == [("j", 120), ("j", 80), ("e+", 50), ("m+", 45), ("m-", 25), ("g", 30)]
    assert events.energy[0] == pytest.approx(120 * np.cosh(2.0))
    assert events.met[0] == pytest.approx(np.hypot(*truth))
    assert events.met_phi[0] == pytest.approx(np.arctan2(truth[1], truth[0]))
    assert events.event_id[0] == "7"
    assert events.process[0] == "p"
    other = measure(record(particles, (3.0, 4.0)), rng(), process="p", met="truth", detector=PERFECT)
    assert other.met[0] == pytest.approx(5.0)


def test_isolation_dressing_and_lost_muons():
    near = [(ELECTRON, 40.0, 0.0, 0.0), (PION, 4.7, 0.2, 0.2)]
    assert seen(measure(record(near), rng(), process="p", detector=PERFECT))[0] == ("e-", 40)
    near[1] = (PION, 4.9, 0.2, 0.2)
    assert [k for k, _ in seen(measure(record(near), rng(), process="p", detector=PERFECT))] == ["j"]
    # a muon may have twice as much beside it
    near[0] = (MUON, 40.0, 0.0, 0.0)
    assert seen(measure(record(near), rng(), process="p", detector=PERFECT))[0] == ("m-", 40)
    shines = [(ELECTRON, 40.0, 0.0, 0.0), (PHOTON, 8.0, 0.0, 0.05)]
    ((kind, pt),) = seen(measure(record(shines), rng(), process="p", detector=PERFECT))
    assert kind == "e-"
    assert pt == pytest.approx(48.0, abs=0.05)
    blind = replace(PERFECT, central_efficiency=0.0)
    events = measure(record([(MUON, 40.0, 0.0, 0.0)]), rng(), process="p", detector=blind)
    assert seen(events) == []
    assert events.met[0] == pytest.approx(0.0)
    # an electron that is not identified is a jet
    events = measure(record([(ELECTRON, 40.0, 0.0, 0.0)]), rng(), process="p", detector=blind)
    assert seen(events) == [("j", 40)]


def test_a_lost_muon_is_missing_momentum():
    particles = [(MUON, 40.0, 0.0, 0.0), (PION, 40.0, 0.0, np.pi)]
    blind = replace(PERFECT, central_efficiency=0.0)
    events = measure(record(particles), rng(), process="p", detector=blind)
    assert seen(events) == [("j", 40)]
    assert events.met[0] == pytest.approx(40.0)
    assert measure(record(particles), rng(), process="p", detector=PERFECT).met[0] == pytest.approx(
        0, abs=1e-9
    )


@pytest.mark.parametrize("card", ["atlas", "darkmachines"])
def test_smearing_of_jets_goes_into_the_missing_momentum(card):
    n = 4000
    events = measure(
        record([(PION, 200.0, 0.5, 0.0)], (0, 0), copies=n), rng(), process="p", detector=CARDS[card]
    )
    sigma = float(CARDS[card].jet_resolution(np.array(200.0)))
    assert np.std(events.pt) / 200.0 == pytest.approx(sigma, rel=5 / np.sqrt(2 * n))
    assert np.mean(events.pt) == pytest.approx(200.0, abs=5 * 200 * sigma / np.sqrt(n))
    # nothing recoils: the missing momentum balances the jet as it was measured
    assert events.met == pytest.approx(events.pt)


def test_efficiency_and_tags_are_as_frequent_as_promised():
    n = 4000
    hadrons = Hadrons(np.arange(n), np.ones(n, bool), np.full(n, 80.0), np.full(n, 0.1), np.full(n, 2.0))
    particles = [(PION, 100.0, 0.0, 2.0), (ELECTRON, 60.0, 2.0, -1.0)]
    events = measure(
        record(particles, hadrons=hadrons, copies=n),
        rng(),
        process="p",
        detector=replace(PERFECT, forward_efficiency=0.85),
    )
    tags, electrons = int(events.of_kind("b").sum()), int(events.of_kind("e-").sum())
    for count, expected in ((tags, 0.72828), (electrons, 0.85)):
        low, high = binomial_interval(count, n, 0.9999)
        assert low < expected < high
    far = replace(hadrons, eta=np.full(n, 0.6))
    light = measure(record(particles, hadrons=far, copies=n), rng(), process="p", detector=PERFECT)
    assert light.of_kind("b").sum() < 0.01 * n


def mixed_events(times=1):
    """Three events with electrons that have photons, muons and jets, ``times`` one after the other."""
    parts = [
        [(ELECTRON, 60.0, 0.2, -1.0), (PHOTON, 9.0, 0.22, -1.02), (PION, 100.0, 0.0, 2.0), (MUON, 45.0, 1.7, 1.0)],
        [(PION, 150.0, 0.5, 0.1), (PION, 60.0, -1.0, 2.9)],
        [(PHOTON, 80.0, 1.9, 0.0), (-MUON, 50.0, -0.5, 2.0), (-ELECTRON, 40.0, -2.0, 1.2), (PION, 90.0, 0.0, -2.0)],
    ]  # fmt: skip
    records = [record(particles, (5.0 * k, 1.0)).visible for k, particles in enumerate(parts)] * times
    visible = Particles(
        np.concatenate([each.pdg for each in records]),
        np.concatenate([each.p4 for each in records], axis=1),
        np.concatenate([each.counts for each in records]),
    )
    event = np.concatenate([np.array([0, 1, 1]) + 3 * k for k in range(times)])
    angles = (np.tile(values, times) for values in ([80.0, 70.0, 30.0], [0.1, 0.5, -1.1], [2.0, 0.2, 2.8]))
    hadrons = Hadrons(event, np.tile([True, True, False], times), *angles)
    return Record(visible, np.tile([[0.0, 5.0, 10.0], [1.0, 1.0, 1.0]], times), hadrons)


@pytest.mark.parametrize("met", ["measured", "truth"])
def test_to_measure_an_event_again_is_to_measure_a_copy(met):
    half = ObjectDetector(central_efficiency=0.5, forward_efficiency=0.3)
    options = {"process": "p", "met": met, "detector": half}
    again = measure(mixed_events(), rng(), smearings=200, first_id=7, **options)
    copies = measure(mixed_events(200), rng(), **options)
    assert again.event_id.astype(int).tolist() == [7, 8, 9] * 200
    for name in ("offsets", "kind", "energy", "pt", "eta", "phi", "met", "met_phi"):
        assert np.array_equal(getattr(again, name), getattr(copies, name)), name
    # every combination of identified and lost leptons is there
    patterns = {tuple(k for k, _ in seen(again, row) if k not in "jb") for row in range(0, 600, 3)}
    assert patterns == {(), ("e-",), ("m-",), ("e-", "m-")}
    assert set(again.kind) == {KINDS.index(kind) for kind in ("j", "b", "e-", "e+", "m-", "m+", "g")}


def test_measurements_without_enough_missing_momentum_are_left_out():
    whole = measure(mixed_events(), rng(), process="p", smearings=60)
    few = measure(mixed_events(), rng(), process="p", smearings=60, min_met=90.0)
    wanted = whole.select(whole.met >= 90.0)
    assert 30 < len(few) < 150
    for name in ("event_id", "offsets", "kind", "energy", "pt", "eta", "phi", "met", "met_phi"):
        assert np.array_equal(getattr(few, name), getattr(wanted, name)), name


def test_an_event_without_particles_is_empty():
    nothing = Record(
        Particles(np.zeros(0, np.int32), np.zeros((4, 0)), np.zeros(3, np.int64)),
        np.zeros((2, 3)),
        NO_HADRONS,
    )
    events = measure(nothing, rng(), process="p")
    assert len(events) == 3
    assert events.n_objects == 0
    assert events.met.tolist() == [0, 0, 0]


# Chunks


def chunks_run(selected, *, wanted, max_generated, done=None, size=10):
    made, ended = [], []

    def work(index):
        made.append(index)
        return Counted(size, selected(index), size)

    sample = Sample("s", "s", (), ("1",))
    run_chunks(
        [sample],
        lambda _sample, index: index,
        work,
        {"s": dict(done or {})},
        lambda _sample, chunks: ended.append(chunks),
        wanted=wanted,
        max_generated=max_generated,
        first=lambda index: index * size,
        jobs=1,
        progress=lambda *_: None,
    )
    return made, ended


def test_the_shortest_row_of_chunks_is_used():
    assert chunks_run(lambda k: 3, wanted=10, max_generated=10_000) == ([0, 1, 2, 3], [4])
    # chunk 3 was made by another run with more processes; 2 is still missing
    done = dict.fromkeys((0, 1, 3), Counted(10, 3, 10))
    assert chunks_run(lambda k: 3, wanted=10, max_generated=10_000, done=done) == ([2], [4])
    assert chunks_run(lambda k: 3, wanted=6, max_generated=10_000, done=done) == ([], [2])


def test_a_hopeless_sample_stops_at_the_cap():
    assert chunks_run(lambda k: 0, wanted=1, max_generated=45) == ([0, 1, 2, 3, 4], [5])
    assert chunks_run(lambda k: 0, wanted=1, max_generated=45, size=0) == ([0], [1])


# Processes


def test_samples_of_a_process_cover_it_without_overlap():
    names = [sample.name for process in PROCESSES.values() for sample in process.samples()]
    assert len(set(names)) == len(names)
    slices = [s.settings[-2:] for s in PROCESSES["w_jets"].samples() if s.name.startswith("w_jets_lnu")]
    edges = [float(line.split("=")[1]) for pair in slices for line in pair if "pTHat" in line]
    assert edges == [100, 250, 250, 450, 450, 800, 800]


def test_samples_named():
    known = known_samples()
    assert [s.name for s in samples_named(["njets_pt400to600", "zz_pt150"], known, ["2a"])] == [
        "njets_pt400to600",
        "zz_pt150",
    ]
    of_2a = samples_named(["ttbar"], known, ["2a"])
    assert [s.name for s in of_2a] == ["ttbar_ll_pt0to200", "ttbar_ll_pt200to400", "ttbar_ll_pt400"]
    # a sixth of the background of channel 1
    assert "njets_pt300to400" in [s.name for s in samples_named(["njets"], known, ["1"])]
    with pytest.raises(InputError, match="did you mean ttbar"):
        samples_named(["tbar"], known, ["1"])
    with pytest.raises(InputError, match=r"'njets' has no sample in channel 2a, only in 1, 3"):
        samples_named(["njets"], known, ["2a"])


# Physics


def generated(sample, n, met="measured"):
    pythia = make_pythia(sample.settings, 1)
    made = generate_record(pythia, n)
    return measure(made, rng(), process=sample.process, met=met), pythia.infoPython().sigmaGen() * 1e9


def of_process(name):
    process = PROCESSES[name]
    return Sample(name, name, process.settings, ("1",))


def test_top_pairs_have_two_b_quarks_and_the_published_cross_section():
    n = 400
    events, sigma = generated(of_process("ttbar"), n)
    # arXiv:2105.14027, table 1, leading order with up to two jets
    assert 541 / 2 < sigma < 541 * 2
    # two b-jets, tagged with about 70 %, 90 % of them inside the acceptance
    assert events.of_kind("b").sum() / n == pytest.approx(2 * 0.70 * 0.9, abs=0.25)
    leptons = events.of_kind("e-", "e+", "m-", "m+").sum() / n
    # 2 W, each with 25 % to an electron or muon (through a tau as well)
    assert 0.2 < leptons < 0.5


@pytest.mark.parametrize(("name", "published"), [("zz", 9.91), ("ww", 82.1), ("zw", 31.6)])
def test_cross_sections_of_dibosons(name, published):
    pythia = make_pythia([*PROCESSES[name].settings, "PartonLevel:all = off"], 1)
    pythia.nextBatch(200, "skip")
    assert published / 2 < pythia.infoPython().sigmaGen() * 1e9 < published * 2


def test_the_z_peak():
    sample = next(s for s in PROCESSES["z_jets"].samples() if s.name == "z_jets_ll_pt100to250")
    events, _ = generated(sample, 400)
    masses = []
    for i in range(len(events)):
        rows = np.arange(events.offsets[i], events.offsets[i + 1])
        for minus, plus in (("e-", "e+"), ("m-", "m+")):
            a, b = (rows[events.kind[rows] == KINDS.index(kind)] for kind in (minus, plus))
            if len(a) and len(b):
                a, b = a[0], b[0]
                cosh, cos = np.cosh(events.eta[a] - events.eta[b]), np.cos(events.phi[a] - events.phi[b])
                masses.append(np.sqrt(2 * events.pt[a] * events.pt[b] * (cosh - cos)))
    assert len(masses) > 100
    assert np.median(masses) == pytest.approx(91.2, abs=1.0)
    assert np.mean(np.abs(np.array(masses) - 91.2) < 10) > 0.85


def test_gluinos_have_more_missing_momentum_than_top_quarks():
    (gluino,) = known_samples()["glgl1600_neutralino800"]
    from serendip.simulate.slha import slha_file

    with slha_file(gluino.slha) as lines:
        pythia = make_pythia([*lines, *gluino.settings], 1)
    made = generate_record(pythia, 100)
    signal = measure(made, rng(), process="g")
    top, _ = generated(of_process("ttbar"), 100)
    assert np.median(signal.met) > 5 * np.median(top.met)
    # neutralinos carry it: truth and measurement agree within the resolution
    truth = np.hypot(*made.invisible)
    assert np.median(np.abs(signal.met - truth) / truth) < 0.2
    assert select(signal, "1").mean() > 0.5
    assert ht(signal).mean() > 1000


# Engine


@pytest.fixture(scope="module")
def two():
    known = known_samples()
    return samples_named(["glgl1600_neutralino800", "ttbar_ll_pt200to400"], known, ["1", "2b", "3"])


CONFIG = SimulateConfig(40, seed=3, chunk=40)


@pytest.fixture(scope="module")
def folder(two, tmp_path_factory):
    path = tmp_path_factory.mktemp("channel") / "out"
    simulate_samples(path, two, ChannelSelection(("1", "2b", "3")), CONFIG)
    return path


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def test_files_and_numbers(folder, two):
    settings = read_settings(folder)
    assert settings["settings"]["luminosity_fb"] == 10
    for sample in two:
        facts = settings["samples"][sample.name]
        events = read_parquet(folder / f"{sample.name}.parquet")
        text, report = read_events(folder / f"{sample.name}.csv")
        assert report.read == len(events) == 40 == facts["events"]
        assert facts["complete"]
        assert text.pt == pytest.approx(events.pt, rel=1e-5)
        assert text.met == pytest.approx(events.met, rel=1e-5)
        assert np.array_equal(text.kind, events.kind)
        assert set(text.process) == {sample.process}
        # sigma x 10/fb over what was generated until the last event that was selected
        ids = events.event_id.astype(int)
        assert np.all(np.diff(ids) > 0)
        assert facts["generated"] == ids[-1] + 1
        assert events.weight == pytest.approx(facts["cross_section_pb"] * 1e4 / facts["generated"])
        assert facts["acceptance"] == pytest.approx(40 / facts["generated"])
        low, high = facts["acceptance_interval"]
        assert low < facts["acceptance"] < high
        masks = [select(events, name) for name in ("1", "2b", "3")]
        assert np.logical_or.reduce(masks).all()
        assert [int(mask.sum()) for mask in masks] == [facts["selected"][name] for name in ("1", "2b", "3")]
        assert 0 < facts["cross_section_error_pb"] < 0.3 * facts["cross_section_pb"]
        # objects as documented in section 2 of arXiv:2105.14027
        jets, electrons = events.of_kind("j", "b"), events.of_kind("e-", "e+")
        assert events.pt[jets].min() > 20
        assert np.abs(events.eta[jets]).max() < 2.8
        assert not electrons.any() or events.pt[electrons].min() > 15


def test_interrupted_continued_and_extended(folder, two, tmp_path):
    again = tmp_path / "out"
    selection = ChannelSelection(("1", "2b", "3"))
    simulate_samples(again, two[:1], selection, replace(CONFIG, events=15))
    few = read_parquet(again / f"{two[0].name}.parquet")
    # a chunk with damaged numbers is made again
    lost = sorted((again / ".parts" / two[0].name).glob("*.json"))[0]
    lost.write_text("{")
    simulate_samples(again, two, selection, CONFIG)
    assert contents(again) == contents(folder)
    many = read_parquet(again / f"{two[0].name}.parquet").select(np.arange(15))
    assert np.array_equal(few.met, many.met)
    assert np.array_equal(few.pt, many.pt)


def test_the_number_of_processes_changes_nothing(folder, two, tmp_path):
    simulate_samples(tmp_path / "out", two, ChannelSelection(("1", "2b", "3")), CONFIG, jobs=2)
    assert contents(tmp_path / "out") == contents(folder)


def test_another_seed_gives_other_events(folder, two, tmp_path):
    simulate_samples(
        tmp_path / "out", two[:1], ChannelSelection(("1", "2b", "3")), replace(CONFIG, seed=4, events=5)
    )
    other = read_parquet(tmp_path / "out" / f"{two[0].name}.parquet")
    assert not np.isin(other.met, read_parquet(folder / f"{two[0].name}.parquet").met).any()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"seed": 9}, "seed"),
        ({"met": "truth"}, "met"),
        ({"card": "atlas"}, "card, detector"),
        ({"mpi": True}, "mpi"),
    ],
)
def test_a_folder_of_other_settings_is_refused(folder, two, change, names):
    with pytest.raises(InputError, match=rf"made with other settings \({names}\)"):
        simulate_samples(folder, two, ChannelSelection(("1", "2b", "3")), replace(CONFIG, **change))


def test_a_sample_of_other_settings_is_refused(folder, two):
    changed = replace(two[1], settings=(*two[1].settings, "PhaseSpace:pTHatMin = 210"))
    with pytest.raises(InputError, match="'ttbar_ll_pt200to400' was made with other Pythia settings"):
        simulate_samples(folder, [changed], ChannelSelection(("1", "2b", "3")), CONFIG)


def test_the_cap_keeps_what_there_is(two, tmp_path):
    config = SimulateConfig(1000, seed=3, chunk=30, max_generated=50)
    (result,) = simulate_samples(tmp_path / "out", two[:1], ChannelSelection(("3",)), config)
    assert not result.complete
    assert result.generated == 50
    assert 40 < result.events <= 50
    events = read_parquet(tmp_path / "out" / f"{two[0].name}.parquet")
    assert events.event_id.astype(int).max() < 50
    assert result.acceptance == result.events / 50
    assert len(events) == result.events
    # the expected number of events: cross section x luminosity x acceptance
    expected = result.cross_section_pb * 1e4 * result.acceptance
    assert events.weight.sum() == pytest.approx(expected)
    (none,) = simulate_samples(
        tmp_path / "none", two[:1], ChannelSelection(("2a",)), replace(config, max_generated=20)
    )
    assert none.events == 0
    assert (tmp_path / "none" / f"{two[0].name}.csv").read_text() == ""


def test_more_events_may_be_allowed_later(two, tmp_path, monkeypatch):
    monkeypatch.setattr("serendip.simulate.channel._BATCH", 10)
    config = SimulateConfig(1000, seed=3, chunk=40, max_generated=25)
    selection = ChannelSelection(("3",))
    (short,) = simulate_samples(tmp_path / "out", two[:1], selection, config)
    assert short.generated == 25
    parts = sorted((tmp_path / "out" / ".parts" / two[0].name).glob("*.json"))
    # chunks of 10, 20, 40 events: the second ends with the batch that reaches 25
    assert [json.loads(path.read_text())["generated"] for path in parts] == [10, 20]
    few = read_parquet(tmp_path / "out" / f"{two[0].name}.parquet")
    for folder in ("out", "at_once"):
        (result,) = simulate_samples(tmp_path / folder, two[:1], selection, replace(config, max_generated=55))
        assert result.generated == 55
    assert contents(tmp_path / "out") == contents(tmp_path / "at_once")
    parts = sorted((tmp_path / "out" / ".parts" / two[0].name).glob("*.json"))
    assert [json.loads(path.read_text())["generated"] for path in parts] == [10, 20, 30]
    many = read_parquet(tmp_path / "out" / f"{two[0].name}.parquet")
    assert np.array_equal(few.met, many.met[: len(few)])


def test_no_chunk_beyond_the_cap_is_started_beside_a_running_one(two, tmp_path):
    """Chunks of 250 and 500 events reach it exactly; the first says nothing of the size of the second."""
    config = SimulateConfig(10_000, seed=3, max_generated=750)
    (result,) = simulate_samples(tmp_path / "out", two[1:], ChannelSelection(("2a",)), config, jobs=2)
    assert result.generated == 750
    assert len(list((tmp_path / "out" / ".parts" / two[1].name).glob("*.json"))) == 2


def test_smearings_share_the_weight(two, tmp_path):
    sample = replace(two[0], smearings=3)
    config = SimulateConfig(10_000, seed=3, chunk=30, max_generated=30)
    (result,) = simulate_samples(tmp_path / "out", [sample], ChannelSelection(("3",)), config)
    assert 60 < result.events <= 90
    assert result.acceptance == pytest.approx(result.events / 90)
    assert result.weight == pytest.approx(result.cross_section_pb * 1e4 / 90)
    ids = read_parquet(tmp_path / "out" / f"{sample.name}.parquet").event_id.astype(int)
    assert np.all(np.diff(ids) >= 0)
    assert np.bincount(ids).max() == 3


def test_rare_channels_are_measured_more_often_with_smaller_weights(two, tmp_path):
    """Events in the rare channel come from all measurements, the others from the usual number; sums of weights agree."""
    sample = replace(two[0], smearings=2)
    often = replace(sample, rare_channels=("1",), rare_smearings=12)
    config = SimulateConfig(10_000, seed=3, chunk=60, max_generated=60)
    selection = ChannelSelection(("1", "3"))
    sums, found = [], []
    for name, one in (("usual", sample), ("often", often)):
        (result,) = simulate_samples(tmp_path / name, [one], selection, config)
        events = read_parquet(tmp_path / name / f"{one.name}.parquet")
        _, masks = selection(events)
        sums.append([events.weight[masks[c]].sum() / (result.cross_section_pb * 1e4) for c in ("1", "3")])
        found.append((result, events, masks["1"]))
    result, events, rare = found[1]
    assert events.weight[rare] == pytest.approx(result.cross_section_pb * 1e4 / 60 / 12)
    assert events.weight[~rare] == pytest.approx(result.cross_section_pb * 1e4 / 60 / 2)
    assert result.weight == pytest.approx(events.weight[~rare][0])
    assert 2 < np.bincount(events.event_id.astype(int)[rare]).max() <= 12
    assert 0 < np.bincount(events.event_id.astype(int)[~rare]).max() <= 2
    assert result.acceptance == pytest.approx(events.weight.sum() / (result.cross_section_pb * 1e4))
    # the same 60 generated events, whose measurements scatter by a tenth
    assert sums[1] == pytest.approx(sums[0], rel=0.15)
    facts = read_settings(tmp_path / "often")["samples"][often.name]
    assert (facts["rare_channels"], facts["rare_smearings"]) == (["1"], 12)
    with pytest.raises(InputError, match="other Pythia settings or numbers of measurements"):
        simulate_samples(tmp_path / "usual", [often], selection, config)


def test_a_folder_that_does_not_know_of_rare_channels_is_continued(two, tmp_path):
    out, selection = tmp_path / "out", ChannelSelection(("3",))
    config = SimulateConfig(5, seed=3, chunk=10)
    simulate_samples(out, two[:1], selection, config)
    path = out / "settings.json"
    record = json.loads(path.read_text())
    del record["samples"][two[0].name]["rare_channels"], record["samples"][two[0].name]["rare_smearings"]
    path.write_text(json.dumps(record))
    (result,) = simulate_samples(out, two[:1], selection, replace(config, events=8))
    assert result.events == 8
    often = replace(two[0], rare_channels=("3",), rare_smearings=4)
    with pytest.raises(InputError, match="numbers of measurements"):
        simulate_samples(out, [often], selection, config)


def test_qcd_is_measured_more_often_for_channel_1():
    for sample in (*PROCESSES["njets"].samples(), *PROCESSES["gam_jets"].samples()):
        assert sample.rare_channels == ("1",)
        assert sample.rare_smearings > sample.smearings


def test_bad_arguments(two, tmp_path):
    selection = ChannelSelection(("3",))
    with pytest.raises(InputError, match="events is 0"):
        SimulateConfig(0)
    with pytest.raises(InputError, match="met 'true'"):
        SimulateConfig(1, met="true")
    with pytest.raises(InputError, match="card 'cms'"):
        SimulateConfig(1, card="cms")
    with pytest.raises(InputError, match="given twice: glgl"):
        simulate_samples(tmp_path, [two[0], two[0]], selection, CONFIG)
    with pytest.raises(InputError, match="0 jobs"):
        simulate_samples(tmp_path, two, selection, CONFIG, jobs=0)
    with pytest.raises(InputError, match="no channel '4'"):
        ChannelSelection(("4",))
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        simulate_samples(tmp_path, two, selection, CONFIG)


# Command line


def test_command_line(folder, two, tmp_path):
    run = CliRunner().invoke
    out = tmp_path / "out"
    shutil.copytree(folder / ".parts", out / ".parts")
    shutil.copy(folder / "settings.json", out)
    words = ["channel", "--process", "glgl1600_neutralino800", "--channel", "1,2b,3", "--seed", "3"]
    done = run(app, [*words, "--events", "5", "--out", str(out)])
    # the chunks there have another size
    assert isinstance(done.exception, InputError)
    assert "(chunk)" in str(done.exception)
    done = run(app, [*words, "--events", "5", "--out", str(tmp_path / "new"), "--max-generated", "3"])
    assert done.exit_code == 0, done.output
    assert "of 3 generated" in done.output
    assert "stopped after 3 generated events with" in done.stderr
    assert "sigma 0.0" in done.output
    facts = json.loads((tmp_path / "new" / "settings.json").read_text())
    assert facts["settings"]["seed"] == 3
    assert facts["samples"]["glgl1600_neutralino800"]["events"] == 3
    assert "may end" not in done.stderr
    words = [
        "channel",
        "--process",
        "HH_103",
        "--channel",
        "2a",
        "--max-generated",
        "40",
        "--out",
        str(tmp_path / "rare"),
    ]
    done = run(app, words)
    assert done.exit_code == 0, done.output
    assert (
        "HH_103: too rare in all channels; in channel 2a it may end after 40 generated events with few or none"
        in done.stderr
    )
    assert "HH_103: stopped after 40 generated events with 0 of 1000 selected ones" in done.stderr


def test_names_of_families_may_have_commas():
    known = known_samples()
    text = "RPV stop, lambda,ttbar, large extra dimensions, mono-Z ,zz"
    assert split_names(text, known) == ["RPV stop, lambda", "ttbar", "large extra dimensions, mono-Z", "zz"]


def test_command_line_list_and_errors():
    run = CliRunner().invoke
    listed = run(app, ["channel", "--list"]).output
    assert "ttbar_ll_pt0to200" in listed
    assert "glgl1600_neutralino800  (channels 1, 3)" in re.sub(" +published +", "  ", listed)
    assert "4top: four top quarks" in listed
    bad = run(app, ["channel", "--process", "ttbar"])
    assert "--process and --out are needed" in str(bad.exception)
