"""Samples of a channel as training data: folders and files, selection, groups, families, what is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.events.darkmachines_write import write_events
from serendip.events.objects import ObjectEvents
from serendip.events.objects_parquet import read_parquet, write_parquet
from serendip.theories.encoding import encode_objects, feature_names, object_feature_names
from serendip.theories.mixture import BoostConfig, MixtureConfig, train_mixture
from serendip.theories.samples import read_channel_samples
from serendip.theories.sets import SetConfig, train_set_network


def sample(
    n: int, seed: int, *, met: float = 900.0, eta: float = 2.0, copies: int = 1, same_id: bool = False
) -> ObjectEvents:
    """Channel-1 events of five jets; the last jet may lie far forward, and events may be measured several times."""
    rng = np.random.default_rng(seed)
    pt = np.sort(60 + rng.exponential(120, (n, 5)), axis=1)[:, ::-1] + [600, 0, 0, 0, 0]
    etas = rng.uniform(-2, 2, (n, 5))
    etas[:, 4] = eta
    phi = rng.uniform(-3.1, 3.1, (n, 5))
    ids = np.zeros(n, dtype=int) if same_id else np.arange(n) // copies
    return ObjectEvents(
        event_id=ids.astype(str), process=np.full(n, f"p{seed}"), weight=np.full(n, 0.1 * seed),
        met=met + rng.exponential(50, n), met_phi=rng.uniform(-3.1, 3.1, n), offsets=5 * np.arange(n + 1),
        kind=np.zeros(5 * n, dtype=np.int8), energy=(pt * np.cosh(etas)).ravel(), pt=pt.ravel(), eta=etas.ravel(),
        phi=phi.ravel(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    top = tmp_path_factory.mktemp("samples")
    files = {
        "SM": {"ttbar_a": sample(300, 1, copies=3), "qcd_b": sample(400, 2)},
        "BSM": {"glgl1600_neutralino800": sample(300, 3, met=1500.0), "rare": sample(50, 4)},
    }
    for folder, content in files.items():
        (top / folder).mkdir()
        for name, events in content.items():
            write_parquet(events, top / folder / f"{name}.parquet")
        record = {"schema": 1, "settings": {}, "samples": {name: {} for name in content}}
        (top / folder / "settings.json").write_text(json.dumps(record), encoding="utf-8")
    return top / "SM", top / "BSM"


def test_folders_become_one_background_and_the_theories_with_enough_events(folders):
    found = read_channel_samples([folders[0]], [folders[1]], "1")
    assert found.features == feature_names()
    assert found.background.x.shape == (700, 85)
    assert found.background.x.dtype == np.float32
    assert list(found.background.weight) == [0.1] * 300 + [0.2] * 400
    assert list(found.process) == ["p1"] * 300 + ["p2"] * 400
    (theory,) = found.theories
    assert theory.name == "glgl1600_neutralino800"
    assert theory.family != theory.name
    assert found.left_out == {"rare": 50}
    assert found.kept["ttbar_a"] == (300, 300)
    assert theory.x[:, 0].min() > 1500


def test_copies_share_a_group_and_ids_that_mean_nothing_do_not(folders, tmp_path):
    group = read_channel_samples([folders[0]], [folders[1]], "1").background.group
    assert len(np.unique(group[:300])) == 100
    assert len(np.unique(group[300:])) == 400
    # the same IDs in another file are other events
    assert not set(group[:300]) & set(group[300:])
    write_events(sample(300, 5, same_id=True), tmp_path / "public.csv")
    (theory,) = read_channel_samples([folders[0]], [tmp_path / "public.csv"], "1").theories
    assert len(np.unique(theory.group)) == 300
    assert (theory.name, theory.family) == ("public", "public")


def test_harmonised_samples_have_lost_what_the_other_never_had(folders, tmp_path):
    write_parquet(sample(300, 6, eta=4.0), tmp_path / "forward.parquet")
    column = feature_names().index("j5_eta")
    clean = read_channel_samples([folders[0]], [tmp_path / "forward.parquet"], "1").theories[0]
    raw = read_channel_samples(
        [folders[0]], [tmp_path / "forward.parquet"], "1", harmonised=False, photons=False
    )
    assert np.all(clean.x[:, column] == 0)
    position = raw.features.index("j5_eta")
    assert np.all(raw.theories[0].x[:, position] == 4.0)
    assert len(raw.features) == 84


def test_samples_train_a_mixture(folders):
    pytest.importorskip("lightgbm")
    found = read_channel_samples([folders[0]], [folders[1]], "1")
    config = MixtureConfig(boost=BoostConfig(rounds=50, leaves=8))
    standard = found.background
    trained = train_mixture(
        standard.x, found.theories, config, features=found.features, background_weight=standard.weight,
        background_group=standard.group,
    )  # fmt: skip
    assert trained.validation_auc > 0.95
    assert next(iter(trained.gains())) == "met"


def test_lists_of_objects_are_those_of_the_same_events(folders):
    flat = read_channel_samples([folders[0]], [folders[1]], "1")
    found = read_channel_samples([folders[0]], [folders[1]], "1", encoding="objects", rotate=True)
    assert found.features == object_feature_names()
    x = found.background.x
    assert (x.shape, x.dtype) == ((700, 20, 13), np.float32)
    for name in ("weight", "group", "fold"):
        assert np.array_equal(getattr(found.background, name), getattr(flat.background, name))
    assert (found.left_out, found.kept) == (flat.left_out, flat.kept)
    # the first object is MET, along phi = 0
    assert np.exp(x[:, 0, 1]) == pytest.approx(flat.background.x[:, 0], rel=1e-5)
    assert np.all(x[:, 0, 3:5] == [0.0, 1.0])
    (theory,) = read_channel_samples([folders[0]], [folders[1]], "1", encoding="objects").theories
    given = read_parquet(folders[1] / "glgl1600_neutralino800.parquet")
    assert np.array_equal(theory.x, encode_objects(given).values)
    assert set(found.truncated.values()) == {0}


def test_objects_without_a_place_are_counted_and_photons_can_be_left_out(folders, tmp_path):
    events = sample(300, 7, met=900.0)
    kind = events.kind.copy()
    kind[4::5] = 6
    write_parquet(replace(events, kind=kind), tmp_path / "gamma.parquet")
    one = [tmp_path / "gamma.parquet"]
    full = read_channel_samples([folders[0]], one, "1", encoding="objects", max_objects=5)
    assert full.background.x.shape == (700, 5, 13)
    assert full.truncated["gamma"] == len(full.theories[0].x) == full.kept["gamma"][1]
    photon = object_feature_names().index("is_g")
    longer = read_channel_samples([folders[0]], one, "1", encoding="objects", max_objects=6)
    assert longer.truncated["gamma"] == 0
    assert np.all(longer.theories[0].x[..., photon].sum(1) == 1)
    without = read_channel_samples([folders[0]], one, "1", encoding="objects", max_objects=5, photons=False)
    assert without.truncated["gamma"] == 0
    assert not np.any(without.theories[0].x[..., photon])


def test_lists_train_a_set_network(folders):
    found = read_channel_samples([folders[0]], [folders[1]], "1", encoding="objects", max_objects=8)
    standard = found.background
    config = SetConfig(width=16, epochs=30, batch_size=64, learning_rate=0.01, device="cpu")
    trained = train_set_network(
        standard.x, found.theories, config, features=found.features, background_weight=standard.weight,
        background_group=standard.group,
    )  # fmt: skip
    # MET alone tells them apart
    assert trained.validation_auc > 0.95


def test_what_is_missing_is_named(folders, tmp_path):
    with pytest.raises(InputError, match="'flat' or 'objects', not 'sets'"):
        read_channel_samples([folders[0]], [folders[1]], "1", encoding="sets")
    with pytest.raises(InputError, match="max_objects is for encoding='objects'"):
        read_channel_samples([folders[0]], [folders[1]], "1", max_objects=9)
    with pytest.raises(InputError, match="max_objects must be at least 2"):
        read_channel_samples([folders[0]], [folders[1]], "1", encoding="objects", max_objects=1)
    with pytest.raises(InputError, match="duplicate samples: ttbar_a"):
        read_channel_samples([folders[0]], [folders[0] / "ttbar_a.parquet"], "1")
    with pytest.raises(InputError, match=r"settings.json: no such file"):
        read_channel_samples([tmp_path], [folders[1]], "1")
    with pytest.raises(InputError, match="no background event is in channel 2a"):
        read_channel_samples([folders[0]], [folders[1]], "2a")
    (tmp_path / "settings.json").write_text(json.dumps({"samples": {"gone": {}}}), encoding="utf-8")
    with pytest.raises(InputError, match=r"gone.parquet: missing; repeat the command"):
        read_channel_samples([tmp_path], [folders[1]], "1")
