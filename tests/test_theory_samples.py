"""Samples of a channel as training data: folders and files, selection, groups, families, what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from serendip.errors import InputError
from serendip.events.darkmachines_write import write_events
from serendip.events.objects import ObjectEvents
from serendip.events.objects_parquet import write_parquet
from serendip.theories.encoding import feature_names
from serendip.theories.mixture import BoostConfig, MixtureConfig, train_mixture
from serendip.theories.samples import read_channel_samples


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


def test_what_is_missing_is_named(folders, tmp_path):
    with pytest.raises(InputError, match="twice: ttbar_a"):
        read_channel_samples([folders[0]], [folders[0] / "ttbar_a.parquet"], "1")
    with pytest.raises(InputError, match=r"settings.json: missing"):
        read_channel_samples([tmp_path], [folders[1]], "1")
    with pytest.raises(InputError, match="no background event is in channel 2a"):
        read_channel_samples([folders[0]], [folders[1]], "2a")
    (tmp_path / "settings.json").write_text(json.dumps({"samples": {"gone": {}}}), encoding="utf-8")
    with pytest.raises(InputError, match=r"gone.parquet: missing; repeat the command"):
        read_channel_samples([tmp_path], [folders[1]], "1")
