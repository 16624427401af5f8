"""``serendip theories audit`` on the public files and on made-up samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from serendip.cli.main import run
from serendip.events.darkmachines import read_events
from serendip.events.darkmachines_write import write_events
from serendip.events.objects import ObjectEvents
from serendip.events.objects_parquet import write_parquet


def sample(n: int, seed: int, *, digits: int | None = None) -> ObjectEvents:
    """Channel-1 events: five jets, the first hard; optionally momenta with few digits."""
    rng = np.random.default_rng(seed)
    pt = 60 + rng.exponential(120, (n, 5))
    pt[:, 0] += 500
    if digits is not None:
        pt = np.round(pt, digits)
    eta, phi = rng.normal(0, 0.9, (n, 5)).clip(-2.7, 2.7), rng.uniform(-3.1, 3.1, (n, 5))
    return ObjectEvents(
        event_id=np.arange(n).astype(str), process=np.full(n, "made"), weight=np.ones(n),
        met=300 + rng.exponential(80, n), met_phi=rng.uniform(-3.1, 3.1, n), offsets=5 * np.arange(n + 1),
        kind=np.zeros(5 * n, dtype=np.int8), energy=(pt * np.cosh(eta) * (1 + 0.02 * rng.random((n, 5)))).ravel(), pt=pt.ravel(), eta=eta.ravel(),
        phi=phi.ravel(),
    )  # fmt: skip


def test_audit_of_the_public_files_names_the_edge(shared_data: Path, capsys):
    folder = shared_data / "darkmachines" / "channel_1"
    files = [folder / "background_chan1_7.79_reduced.csv", folder / "monojet_Zp2000.0_DM_50.0_chan1.csv"]
    assert run(["theories", "audit", *map(str, files), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["signals"]
    edge = found["as_published"]["edges"][0]
    assert edge["feature"] == "jet_max_abs_eta"
    assert edge["beyond"] == 318
    assert found["harmonised"]["edges"] == []
    assert found["harmonise"]["kept"] == 1007


def test_what_is_left_after_harmonising_is_a_failure(tmp_path: Path, capsys):
    write_events(sample(400, 1), tmp_path / "background.csv")
    # a file of full precision would differ by its digits
    write_events(sample(400, 2), tmp_path / "same.csv")
    write_parquet(read_events(tmp_path / "same.csv")[0], tmp_path / "same.parquet")
    write_events(sample(400, 3, digits=0), tmp_path / "rounded.csv")
    background = str(tmp_path / "background.csv")
    assert run(["theories", "audit", background, str(tmp_path / "same.parquet")]) == 0
    assert "Separated by construction: nothing found" in capsys.readouterr().out
    assert run(["theories", "audit", background, str(tmp_path / "rounded.csv")]) == 1
    captured = capsys.readouterr()
    assert "still differ by artefacts after harmonising: rounded.csv" in captured.err
    assert "digits" in captured.out


def test_bad_input_is_explained(tmp_path: Path, capsys):
    (tmp_path / "bad.csv").write_text("1;x;1;200000;0.1;j,1,nan,0,0;\n", encoding="utf-8")
    write_events(sample(60, 1), tmp_path / "good.csv")
    assert run(["theories", "audit", str(tmp_path / "bad.csv"), str(tmp_path / "good.csv")]) == 2
    assert "line 1" in capsys.readouterr().err
    assert (
        run(["theories", "audit", str(tmp_path / "good.csv"), str(tmp_path / "good.csv"), "--channel", "7"])
        == 2
    )
    assert "7" in capsys.readouterr().err
    assert run(["theories", "audit", str(tmp_path / "none.csv"), str(tmp_path / "good.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err
