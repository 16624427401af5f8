"""The catalogue against the published lists of signals, and names of earlier versions."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.objects import ObjectEvents
from serendip.events.objects_parquet import write_parquet
from serendip.simulate.catalogue.acceptance import ACCEPTANCE
from serendip.simulate.catalogue.papers import CHALLENGE, MIXTURES, SIGNALS
from serendip.simulate.catalogue.points import CATALOGUE, FAMILIES, RENAMED, family_of, known_samples
from serendip.simulate.catalogue.table import catalogue_table, usable
from serendip.theories.sample_cache import read_samples, write_samples
from serendip.theories.samples import family_of as sample_family
from serendip.theories.samples import read_channel_samples
from serendip.theories.training import choose_theories

MIXED = [signal for signal in SIGNALS if signal.paper == MIXTURES]


def test_the_table_in_the_package_is_the_published_one(shared_data):
    path = shared_data / "darkmachines" / "paper_catalogue.csv"
    if not path.exists():
        pytest.skip(f"no {path}")
    published = list(csv.DictReader(path.read_text().splitlines()))
    here: dict[tuple[str, str], set[str]] = {}
    for signal in MIXED:
        here.setdefault((signal.family, signal.name), set()).update(signal.channels)
    there = {(row["family"], row["name"]): set(filter(None, row["channels"].split(";"))) for row in published}
    assert list(here.items()) == list(there.items())
    for row in published:
        lightest = re.search(
            r"m\(LSP\)(?: about)? (\d+)(?: \(channel 1\) or (\d+))?", row["production, decay, masses in GeV"]
        )
        rows = [signal for signal in MIXED if signal.name == row["name"]]
        if lightest:
            masses = [signal.masses.get("N1", signal.masses.get("C1")) for signal in rows]
            assert masses == [float(mass) for mass in lightest.groups() if mass], row["name"]


def test_numbers_of_signals_in_each_channel():
    assert len({signal.name for signal in MIXED}) == 97
    assert len({signal.family for signal in MIXED}) == 31
    named = {
        channel: len({s.name for s in MIXED if channel in s.channels}) for channel in ("1", "2a", "2b", "3")
    }
    assert named == {"1": 31, "2a": 47, "2b": 16, "3": 57}
    assert sum(signal.paper == CHALLENGE for signal in SIGNALS) == 19


def test_every_published_signal_is_made_or_has_its_reason():
    for signal in SIGNALS:
        assert signal.made or signal.remark, signal.name
        points = [CATALOGUE[name] for name in (signal.made, *signal.substitutes) if name]
        assert [point.origin for point in points] == ["published"] * bool(signal.made) + ["substitute"] * len(
            signal.substitutes
        )
        if signal.made:
            point = CATALOGUE[signal.made]
            assert signal.made == signal.name or signal.made == "neut4neut4_neut4_923_lsp97"
            assert point.family == signal.family
            assert signal.masses.items() <= point.masses.items(), signal.name
        # in every channel of the paper there is a point with events, or the reason is given
        assert signal.remark or all(usable(signal, channel) for channel in signal.channels), signal.name
    not_made = {signal.family for signal in MIXED if not signal.made}
    assert not_made == {"btzpLoop", "snusnu"}


def test_published_points_have_no_other_physics_under_two_names():
    """Twins would be in the training and in the test of a mixture at once."""
    seen: dict[tuple[tuple[str, ...], str | None], str] = {}
    for point in CATALOGUE.values():
        twin = seen.setdefault((tuple(sorted(point.settings)), point.slha), point.name)
        assert twin == point.name


def test_channels_2a_and_2b_have_as_many_points_as_the_paper():
    assert set(ACCEPTANCE) == set(CATALOGUE)
    count = {
        channel: sum(channel in p.channels for p in CATALOGUE.values()) for channel in ("1", "2a", "2b", "3")
    }
    assert count["1"] >= 37
    assert count["2a"] >= 51
    assert count["2b"] >= 18
    assert count["3"] >= 71
    # what has no events anywhere is simulated only if it is asked for by name
    silent = [point for point in CATALOGUE.values() if not point.channels]
    assert {point.family for point in silent} == {"LReff", "Wprime", "HH"}
    assert all(point.origin == "published" for point in silent)


def test_the_single_signals_of_the_paper_are_usable_where_it_trains_on_them(shared_data):
    path = shared_data / "darkmachines" / "paper_single_signals.csv"
    if not path.exists():
        pytest.skip(f"no {path}")
    by_name = {signal.name: signal for signal in MIXED}
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 28
    stand_ins = {row["name"]: usable(by_name[row["name"]], row["channel"]) for row in rows}
    assert [name for name, points in stand_ins.items() if not points] == []
    assert {name for name, points in stand_ins.items() if points[0] != name} == {"LReff_100_100"}


def test_axial_and_vector_couplings_differ():
    def couplings(name: str) -> dict[str, float]:
        lines = re.findall(r"Wprime:(\w\w) = (\S+)", "\n".join(CATALOGUE[name].settings))
        return {key: float(value) for key, value in lines}

    assert couplings("wprimeA100") == {"vq": 0, "vl": 0, "aq": 1, "al": 1}
    assert couplings("wprimeV100") == {"vq": 1, "vl": 1, "aq": 0, "al": 0}
    assert CATALOGUE["wprimeA100"].masses == CATALOGUE["wprimeV100"].masses == {"W'": 100}


def test_the_page_shows_the_table_as_it_is():
    page = Path(__file__).parents[1] / "docs" / "theories-simulated.md"
    table = catalogue_table()
    assert table in page.read_text(encoding="utf-8")
    assert not [name for name in CATALOGUE if f"`{name}`" not in table]


def test_the_list_says_what_is_published(capsys):
    assert run(["simulate", "channel", "--list"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "glgl glgl_1178 published (channels 1, 2b, 3)" in shown
    assert "glgl2000_neutralino200 ours (channels 1, 3)" in shown
    assert "ggAg50 substitute (channels 3)" in shown
    assert "btzpLoopA50: the loop gg -> g Z' is not in Pythia" in shown
    assert "monotop_200_A: needs a flavour-changing vertex" in shown
    assert "wprimeA100 published (too rare in all channels)" in shown


def test_names_of_earlier_versions_are_refused_with_those_of_today(tmp_path, capsys):
    for name, today in RENAMED.items():
        assert name not in known_samples()
        assert all(part in CATALOGUE or part in FAMILIES for part in today.split(","))
    for command in ("simulate channel", "theories simulate"):
        for old in ("hh_h400_WW", "RPV stop, lambda'", "gauge mediation"):
            arguments = [*command.split(), "--process", f"ttbar,{old}", "--out", str(tmp_path / "out")]
            assert run(arguments) == 2
            assert f"'{old}' is called '{RENAMED[old]}' now" in " ".join(capsys.readouterr().err.split())
        assert run([*command.split(), "--process", "btzpLoopA50", "--out", str(tmp_path / "out")]) == 2
        shown = " ".join(capsys.readouterr().err.split())
        assert "'btzpLoopA50' of arXiv:2207.07631 is not made: the loop gg -> g Z' is not in Pythia" in shown
        assert shown.endswith("take ggAg50")
    assert not (tmp_path / "out").exists()


def sample(folder: Path, name: str, n: int = 60) -> Path:
    """Events of channel 3."""
    rng = np.random.default_rng(len(name))
    pt, eta = np.full((n, 2), 400.0), rng.uniform(-2, 2, (n, 2))
    made = ObjectEvents(
        event_id=np.arange(n).astype(str), process=np.full(n, name), weight=np.ones(n), met=np.full(n, 200.0),
        met_phi=rng.uniform(-3, 3, n), offsets=2 * np.arange(n + 1), kind=np.zeros(2 * n, dtype=np.int8),
        energy=(pt * np.cosh(eta)).ravel(), pt=pt.ravel(), eta=eta.ravel(), phi=rng.uniform(-3, 3, 2 * n),
    )  # fmt: skip
    write_parquet(made, folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


def test_samples_under_earlier_names_keep_their_physics(tmp_path):
    """Files made before the names changed are of the family of what they hold."""
    old, public, ours = (
        sample(tmp_path, name) for name in ("neut1neut1lep_neut1_500", "stop365_chan1", "h400_WW")
    )
    background = sample(tmp_path, "ttbar", 200)
    found = read_channel_samples([background], [old, ours], "3", min_events=10)
    assert [(theory.name, theory.family) for theory in found.theories] == [
        ("neut1neut1lep_neut1_500", "RPV neutralino, lambda"),
        ("h400_WW", "heavy Higgs to WW, ZZ"),
    ]
    assert family_of("neut3neut3lep_neut3_616") == "neutineutilep"
    assert choose_theories([old, public], ["stop"], [])[0] == [public]
    assert sample_family(public.stem) == "stop"
    with pytest.raises(InputError, match="'stop pair' is called 'stop' now"):
        choose_theories([old, public], [], ["stop pair"])
    write_samples(found, tmp_path / "cache.parquet")
    assert [theory.family for theory in read_samples(tmp_path / "cache.parquet").theories] == [
        "RPV neutralino, lambda",
        "heavy Higgs to WW, ZZ",
    ]
    before = replace(found, theories=(replace(found.theories[0], family="RPV neutralino"), found.theories[1]))
    write_samples(before, tmp_path / "cache.parquet")
    with pytest.raises(
        InputError, match=r"was of the family 'RPV neutralino' .* is of 'RPV neutralino, lambda' now"
    ):
        read_samples(tmp_path / "cache.parquet")
    twice = sample(tmp_path, "neutneut_lle_neut500")
    with pytest.raises(
        InputError, match="neut1neut1lep_neut1_500 and neutneut_lle_neut500; take one of the two"
    ):
        read_channel_samples([background], [old, twice], "3", min_events=10)
