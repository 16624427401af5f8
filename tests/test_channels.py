from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.events.objects import KINDS, ObjectEvents, concatenate
from serendip.theories.channels import CHANNELS, Channel, Multiplicity, cut_masks, ht, select
from serendip.theories.encoding import (
    encode,
    encode_objects,
    energies,
    feature_names,
    object_feature_names,
)
from serendip.theories.harmonise import Requirement, clean_objects, harmonise, triggered

Object = tuple[str, float, float, float]


def event(objects: Sequence[Object], met: float = 1000.0, met_phi: float = 0.0) -> ObjectEvents:
    """One event of objects (kind, pT, eta, phi) with a mass of a tenth of pT."""
    pt, eta, phi = (np.array([o[i] for o in objects], dtype=float) for i in (1, 2, 3))
    return ObjectEvents(
        event_id=np.array(["7"]),
        process=np.array(["made"]),
        weight=np.ones(1),
        met=np.array([met]),
        met_phi=np.array([met_phi]),
        offsets=np.array([0, len(objects)]),
        kind=np.array([KINDS.index(o[0]) for o in objects], dtype=np.int8),
        energy=np.hypot(pt * np.cosh(eta), 0.1 * pt),
        pt=pt,
        eta=eta,
        phi=phi,
    )


def jets(*pts: float, eta: float = 0.0) -> list[Object]:
    return [("b" if i == 1 else "j", pt, eta, 0.5 * i) for i, pt in enumerate(pts)]


def leptons(*pts: float) -> list[Object]:
    return [(("e-", "m+", "e+", "m-")[i], pt, 0.0, 0.5 * i) for i, pt in enumerate(pts)]


GOOD_1 = jets(300, 200, 60, 60)


@pytest.mark.parametrize(
    ("channel", "objects", "met", "passes"),
    [
        ("1", GOOD_1, 200, True),
        ("1", GOOD_1, 199.999, False),
        ("1", jets(300, 180, 60, 60), 300, True),
        ("1", jets(300, 179.999, 60, 60), 300, False),
        ("1", jets(880, 80, 60, 60), 216, True),
        ("1", jets(880, 80, 60, 60), 215.999, False),
        ("1", jets(300, 200, 60, 50.001), 200, True),
        ("1", jets(300, 200, 60, 50), 200, False),
        ("1", jets(200.001, 200, 150, 60), 200, True),
        ("1", jets(200, 200, 150, 60), 200, False),
        ("1", [*jets(300, 200, 60), *leptons(60)], 200, False),
        ("2a", leptons(15.001, 20, 30), 50, True),
        ("2a", leptons(15, 20, 30), 50, False),
        ("2a", leptons(16, 20, 30), 49.999, False),
        ("2a", [*leptons(20, 30), ("g", 90, 0, 0)], 50, False),
        ("2b", [*leptons(15.001, 20), *jets(50)], 50, True),
        ("2b", [*leptons(15, 20), *jets(50)], 50, False),
        ("2b", [*leptons(16, 20), *jets(49.999)], 50, False),
        ("2b", [*leptons(16, 20), *jets(29, 20.001, 20.0)], 90, False),
        ("2b", [*leptons(16, 20), *jets(50)], 49.999, False),
        ("3", jets(400, 200), 100, True),
        ("3", jets(400, 200), 99.999, False),
        ("3", jets(400, 199.999), 100, False),
    ],
)
def test_each_cut_on_both_sides_of_its_boundary(
    channel: str, objects: list[Object], met: float, passes: bool
) -> None:
    assert select(event(objects, met), channel).tolist() == [passes]


def test_strict_met_changes_the_boundary_only() -> None:
    at, above = event(jets(400, 200), 100), event(jets(400, 200), 100.001)
    assert select(at, "3").all()
    assert not select(at, "3", strict_met=True).any()
    assert select(above, "3", strict_met=True).all()
    assert "MET > 100 GeV" in cut_masks(at, "3", strict_met=True)


def test_ht_counts_jets_above_20_inside_the_limit() -> None:
    sample = event(
        [
            ("j", 100, 2.799, 0),
            ("b", 50, -2.8, 0),
            ("j", 20, 0, 0),
            ("j", 20.5, 4, 0),
            ("e-", 70, 0, 0),
            ("g", 90, 0, 0),
        ]
    )
    assert ht(sample).tolist() == [100]
    assert ht(sample, max_jet_eta=None).tolist() == [170.5]
    assert ht(sample, max_jet_eta=3.0).tolist() == [150]


def test_the_eta_limit_acts_on_the_number_of_jets_too() -> None:
    forward = event([*jets(600, 200, 60), ("j", 60, 3.0, 0)], 250)
    assert not select(forward, "1").any()
    assert select(forward, "1", max_jet_eta=None).all()
    failed = [cut for cut, mask in cut_masks(forward, "1").items() if not mask.any()]
    assert failed == ["N(jets, pT > 50 GeV) >= 4"]
    # leptons have no jet limit
    assert select(event([("e-", 20, 3, 0), ("m-", 20, 3, 0), ("m+", 20, 3, 0)], 60), "2a").all()


def test_channels_say_what_they_cut() -> None:
    assert CHANNELS["1"].cuts() == (
        "HT >= 600 GeV",
        "MET >= 200 GeV",
        "MET/HT >= 0.2",
        "N(jets, pT > 50 GeV) >= 4",
        "N(jets, pT > 200 GeV) >= 1",
    )
    assert CHANNELS["2a"].cuts() == ("MET >= 50 GeV", "N(leptons, pT > 15 GeV) >= 3")
    for kinds in (("m-", "m+"), ("b",), ("g", "m+")):
        assert str(Multiplicity(2, kinds, 30.0)) == f"N({'/'.join(kinds)}, pT > 30 GeV) >= 2"
    assert {name: (c.background_events, c.luminosity) for name, c in CHANNELS.items()} == {
        "1": (214_185, 7.79),
        "2a": (20_005, 309.6),
        "2b": (340_268, 7.8),
        "3": (8_544_111, 8.02),
    }
    assert json.loads(json.dumps(CHANNELS["2b"].to_dict()))["cuts"][0] == "HT >= 50 GeV"
    own = Channel("own", 0.0, 30.0, 0.0, (), 1.0, 0)
    assert select(event(jets(30), 30), own).all()


def test_wrong_channels_and_limits_are_named() -> None:
    with pytest.raises(InputError, match=r"no channel '2'; expected one of 1, 2a, 2b, 3"):
        select(event(GOOD_1), "2")
    with pytest.raises(InputError, match="max_jet_eta must be a positive number"):
        ht(event(GOOD_1), max_jet_eta=0)


@pytest.mark.parametrize(
    ("inside", "outside", "reason"),
    [
        (("j", 20.001, 2.799, 0), ("j", 20, 0, 0), "low"),
        (("b", 21, -2.799, 0), ("b", 21, -2.8, 0), "eta"),
        (("e-", 15.001, 2.499, 0), ("e-", 15, 0, 0), "low"),
        (("e+", 16, 1.45, 0), ("e+", 16, 2.5, 0), "eta"),
        (("m-", 15.001, 2.699, 0), ("m-", 16, -2.7, 0), "eta"),
        (("m+", 16, 0, 0), ("m+", 14, 3, 0), "low"),
        (("g", 20.001, 2.369, 0), ("g", 20, 3, 0), "low"),
        (("g", 21, 0, 0), ("g", 21, 2.37, 0), "eta"),
    ],
)
def test_object_requirements(inside: Object, outside: Object, reason: str) -> None:
    keep, low_pt, outside_eta = clean_objects(event([inside, outside]))
    assert keep.tolist() == [True, False]
    assert (low_pt[1], outside_eta[1]) == (reason == "low", reason == "eta")
    assert not low_pt[0]
    assert not outside_eta[0]


def test_one_object_keeps_the_event() -> None:
    sample = concatenate(
        [
            event([("e-", 26, 1.4, 0)]),
            event([("e-", 26, 1.53, 0)]),
            event([("m-", 26, 1.4, 0)]),
            event([("j", 60, 0, 0), ("g", 25, 0, 0)]),
            event([("j", 60.1, 0, 0)]),
        ]
    )
    assert triggered(sample).tolist() == [False, True, True, False, True]
    soft = event(leptons(16, 17, 18), 60)
    assert len(harmonise(soft, "2a")[0]) == 0
    kept, report = harmonise(soft, "2a", triggers=())
    assert len(kept) == 1
    assert list(report.failed) == list(CHANNELS["2a"].cuts())


def test_harmonise_counts_what_it_removes() -> None:
    sample = concatenate(
        [
            event([*GOOD_1, ("j", 90, 3.5, 0), ("g", 15, 0, 0), ("g", 15, 3, 0)], 200),
            event([*jets(600, 200, 60), ("j", 60, -3, 0)], 250),
            event([*jets(300, 100, 60), ("b", 180, 3, 0)], 250),
            event([*GOOD_1, ("m-", 12, 0, 0)], 199),
            event(GOOD_1, 210),
        ]
    )
    kept, report = harmonise(sample, "1")
    assert kept.met.tolist() == [200, 210]
    assert np.diff(kept.offsets).tolist() == [4, 4]
    assert report.low_pt == dict.fromkeys(KINDS, 0) | {"g": 2, "m-": 1}
    assert report.outside_eta == dict.fromkeys(KINDS, 0) | {"j": 2, "b": 1}
    assert report.changed_events == 4
    assert (report.events, report.kept) == (5, 2)
    assert report.lost_first["HT >= 600 GeV"] == 1
    assert report.lost_first["MET >= 200 GeV"] == 1
    assert report.lost_first["N(jets, pT > 50 GeV) >= 4"] == 1
    assert report.failed["N(jets, pT > 50 GeV) >= 4"] == 2
    assert sum(report.lost_first.values()) == 3
    assert json.loads(json.dumps(report.to_dict()))["fraction"] == 0.4
    assert "2 with low pT, 0 outside the eta range, of 2" in str(report)
    again, second = harmonise(kept, "1")
    assert again.equals(kept)
    assert second.fraction == 1.0


def test_harmonise_without_requirements_keeps_objects() -> None:
    forward = event([*jets(600, 200, 60), ("j", 60, -3, 0)], 250)
    kept, report = harmonise(forward, "1", requirements=())
    assert kept.equals(forward)
    assert report.changed_events == 0
    assert math.isnan(harmonise(forward.select(np.array([], dtype=int)), "1")[1].fraction)
    with pytest.raises(InputError, match="more than one requirement for j"):
        harmonise(forward, "1", requirements=[Requirement(("j", "b"), 1, 1), Requirement(("j",), 2, 2)])


@pytest.mark.parametrize(
    ("name", "lines", "fraction"),
    [
        ("background_chan1_7.79_reduced", 1000, "1.000"),
        ("glgl1400_neutralino1100_chan1", 4096, "0.963"),
        ("monojet_Zp2000.0_DM_50.0_chan1", 1130, "0.891"),
        ("sqsq_sq1800_neut800_chan1", 2822, "0.926"),
        ("stop2b1000_neutralino300_chan1", 5282, "0.986"),
    ],
)
def test_real_files_keep_the_known_fractions(shared_data: Path, name: str, lines: int, fraction: str) -> None:
    from serendip.events.darkmachines import read_events

    events = read_events(shared_data / "darkmachines" / "channel_1" / f"{name}.csv")[0]
    assert len(events) == lines
    assert select(events, "1", max_jet_eta=None).all()
    kept, report = harmonise(events, "1")
    assert f"{report.fraction:.3f}" == fraction
    assert np.count_nonzero(select(events, "1")) == len(kept)
    encoded = encode(kept)
    assert encoded.features[:, encoded.names.index("n_j")].sum() == report_count(kept, "j")
    assert encoded.massless == 0


def report_count(events: ObjectEvents, kind: str) -> int:
    return int(np.count_nonzero(events.of_kind(kind)))


def slow_encoding(events: ObjectEvents) -> np.ndarray:
    """The 85 numbers, event by event."""
    rows = []
    for i in range(len(events)):
        mine = range(events.offsets[i], events.offsets[i + 1])
        row = [events.met[i], events.met_phi[i]]
        row += [sum(KINDS[events.kind[o]] == kind for o in mine) for kind in KINDS]
        for kind, n in (("j", 7), ("b", 4), ("e-", 2), ("e+", 2), ("m-", 2), ("m+", 2)):
            chosen = sorted((o for o in mine if KINDS[events.kind[o]] == kind), key=lambda o: -events.pt[o])
            for o in chosen[:n]:
                row += [events.energy[o], events.pt[o], events.eta[o], events.phi[o]]
            row += [0.0] * 4 * (n - len(chosen[:n]))
        rows.append(row)
    return np.array(rows, dtype=np.float32)


def random_events(n: int, seed: int) -> ObjectEvents:
    rng = np.random.default_rng(seed)
    offsets = np.r_[0, np.cumsum(rng.integers(0, 30, n))]
    size = offsets[-1]
    pt = rng.exponential(50, size) + 20
    eta = rng.normal(0, 1.5, size)
    return ObjectEvents(
        np.full(n, "1"),
        np.full(n, "made"),
        np.ones(n),
        rng.exponential(100, n),
        rng.uniform(-np.pi, np.pi, n),
        offsets,
        rng.integers(0, 7, size).astype(np.int8),
        np.hypot(pt * np.cosh(eta), 5),
        pt,
        eta,
        rng.uniform(-np.pi, np.pi, size),
    )


def test_85_features_against_a_loop() -> None:
    events = random_events(300, 1)
    encoded = encode(events)
    assert encoded.features.dtype == np.float32
    assert encoded.features.shape == (300, 85)
    np.testing.assert_array_equal(encoded.features, slow_encoding(events))
    counts = encoded.features[:, 2:9]
    over = np.maximum(counts[:, :6] - np.array([7, 4, 2, 2, 2, 2]), 0)
    assert list(encoded.truncated.values()) == over.sum(axis=0).tolist()
    assert encoded.truncated_events == np.count_nonzero(over.sum(axis=1)) > 0
    assert json.loads(json.dumps(encoded.to_dict()))["truncated"]["e-"] == encoded.truncated["e-"] > 0


def test_names_and_order_of_the_features() -> None:
    names = feature_names()
    assert len(names) == len(set(names)) == 85
    assert names[:9] == ("met", "met_phi", "n_j", "n_b", "n_em", "n_ep", "n_mm", "n_mp", "n_g")
    assert names[9:14] == ("j1_energy", "j1_pt", "j1_eta", "j1_phi", "j2_energy")
    assert names[37] == "b1_energy"
    assert names[53:55] == ("em1_energy", "em1_pt")
    assert names[-1] == "mp2_phi"
    assert all(name.isidentifier() for name in names)
    assert feature_names(photons=False) == tuple(name for name in names if name != "n_g")
    events = random_events(50, 2)
    without = encode(events, photons=False)
    np.testing.assert_array_equal(without.features, np.delete(slow_encoding(events), 8, axis=1))


def test_rotation_is_measured_from_met() -> None:
    events = random_events(100, 3)
    plain, turned = encode(events), encode(events, rotate=True)
    assert turned.names == feature_names(rotate=True)
    assert "met_phi" not in turned.names
    for name in turned.names:
        a, b = plain.features[:, plain.names.index(name)], turned.features[:, turned.names.index(name)]
        if not name.endswith("_phi"):
            np.testing.assert_array_equal(a, b)
            continue
        there = plain.features[:, plain.names.index(name.replace("phi", "pt"))] > 0
        assert np.all((b > -np.pi - 1e-6) & (b <= np.pi + 1e-6))
        delta = (b - (a - events.met_phi))[there] / (2 * np.pi)
        np.testing.assert_allclose(delta, np.rint(delta), atol=1e-6)
        assert not b[~there].any()


def three_components() -> ObjectEvents:
    events = random_events(20, 4)
    energy = events.energy.copy()
    energy[5:8] = np.nan
    fields = {name: getattr(events, name) for name in events.__dataclass_fields__}
    return ObjectEvents(**fields | {"energy": energy})


def test_missing_energies_are_massless_or_refused() -> None:
    events = three_components()
    energy, massless = energies(events)
    assert massless == 3
    np.testing.assert_allclose(energy[5:8], (events.pt * np.cosh(events.eta))[5:8])
    np.testing.assert_array_equal(energy[8:], events.energy[8:])
    assert encode(events).massless == encode_objects(events, 40).massless == 3
    owner = int(events.event_of[5])
    with pytest.raises(InputError, match=rf"3 objects have no energy, the first in event {owner} "):
        encode(events, missing_energy="refuse")
    with pytest.raises(InputError, match="not 'guess'"):
        energies(events, "guess")  # type: ignore[arg-type]


def test_object_list_against_a_loop() -> None:
    events = random_events(200, 5)
    encoded = encode_objects(events, 12)
    assert encoded.names == object_feature_names()
    assert encoded.values.shape == (200, 12, 13)
    lost = dict.fromkeys(KINDS, 0)
    for i in range(len(events)):
        mine = sorted(range(events.offsets[i], events.offsets[i + 1]), key=lambda o: -events.pt[o])
        for o in mine[11:]:
            lost[KINDS[events.kind[o]]] += 1
        rows = [[math.log(events.met[i])] * 2 + [0, math.sin(events.met_phi[i]), math.cos(events.met_phi[i])]]
        rows[0] += [0.0] * 7 + [1.0]
        for o in mine[:11]:
            hot = [float(events.kind[o] == k) for k in range(8)]
            angles = [math.sin(events.phi[o]), math.cos(events.phi[o])]
            rows.append([math.log(events.energy[o]), math.log(events.pt[o]), events.eta[o], *angles, *hot])
        np.testing.assert_allclose(encoded.values[i, : len(rows)], rows, rtol=1e-5, atol=1e-6)
        assert encoded.mask[i].tolist() == [True] * len(rows) + [False] * (12 - len(rows))
        assert not encoded.values[i, len(rows) :].any()
    assert encoded.truncated == lost
    assert encoded.truncated_events == np.count_nonzero(np.diff(events.offsets) > 11)


def test_object_list_options() -> None:
    events = random_events(50, 6)
    angle = encode_objects(events, 40, phi="angle")
    assert angle.names[:4] == ("log_energy", "log_pt", "eta", "phi")
    turned = encode_objects(events, 40, phi="angle", rotate=True)
    np.testing.assert_allclose(turned.values[:, 0, 3], 0)
    delta = (turned.values[..., 3] - angle.values[..., 3] + events.met_phi[:, None])[angle.mask] / (2 * np.pi)
    np.testing.assert_allclose(delta, np.rint(delta), atol=1e-6)
    assert sum(angle.truncated.values()) == 0
    no_met = encode_objects(event(jets(50), met=0.0), 5)
    assert no_met.floored_met == 1
    assert no_met.values[0, 0, 1] == pytest.approx(math.log(1e-3))
    with pytest.raises(InputError, match="max_objects must be at least 2"):
        encode_objects(events, 1)
    with pytest.raises(InputError, match="not 'degrees'"):
        encode_objects(events, phi="degrees")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"the energy of an object of event 0 .* is 0"):
        encode_objects(event([("j", 0.0, 0, 0)]))


def test_events_without_objects() -> None:
    empty = event([], met=80.0)
    assert encode(empty).features.tolist() == [[80.0] + [0.0] * 84]
    assert encode_objects(empty).mask.sum() == 1
    assert not select(empty, "1").any()
