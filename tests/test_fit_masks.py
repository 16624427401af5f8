"""`serendip fit --mask`: a known resonance beside the signal has no say."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.statistics.fit import FitError
from serendip.statistics.model import BinnedModel
from serendip.statistics.order import deviance_p_value
from serendip.statistics.signals import gaussian
from serendip.statistics.spectrum_fit import fit_resonance, scan_masses

RANGE, Z = (60.0, 200.0), (80.0, 102.0)
SIGNAL = gaussian(130.0, 2.6)
PLAIN = {"mass_range": RANGE, "background": ("exp:2",), "bins": 70}


def events(n: int, n_z: int, n_signal: int, seed: int) -> np.ndarray:
    """Masses on an exponential of 40 GeV, with a resonance like a Z and a signal at 130 GeV."""
    rng = np.random.default_rng(seed)
    background = RANGE[0] - 40.0 * np.log1p(-rng.random(n) * -np.expm1(-(RANGE[1] - RANGE[0]) / 40.0))
    return np.concatenate([background, rng.normal(91.2, 2.5, n_z), rng.normal(130.0, 2.6, n_signal)])


def test_a_signal_beside_a_resonance_is_measured_with_a_mask_and_not_without():
    pulls = {}
    for masks in ((), (Z,)):
        fits = [
            fit_resonance(
                events(20_000, 4000, 300, seed), SIGNAL, masks=masks, limit=False, spurious=0.0, **PLAIN
            )
            for seed in range(6)
        ]
        pulls[masks] = np.mean([(fit.fit.mu - 300) / fit.fit.mu_error for fit in fits])
        assert (np.median([fit.gof_p for fit in fits]) > 0.05) == bool(masks)
    assert abs(pulls[Z,]) < 3 / np.sqrt(6)
    assert abs(pulls[()]) > 2


@pytest.mark.parametrize("options", [{"limit": True}, {"limit": False, "toys": 100}])
def test_events_in_a_mask_have_no_say_in_fit_limit_or_toys(options):
    mass = events(1500, 0, 20, 1)
    in_mask = np.random.default_rng(2).uniform(*Z, 4000)
    one, two = (
        fit_resonance(m, SIGNAL, masks=[Z], **PLAIN, **options)
        for m in (mass, np.concatenate([mass, in_mask]))
    )
    a, b = one.to_dict(), two.to_dict()
    assert b.pop("counts") != a.pop("counts")
    assert a == b
    assert a["masks"] == [list(Z)]
    hidden = (one.edges[1:] > Z[0]) & (one.edges[:-1] < Z[1])
    assert one.n_events == one.counts[~hidden].sum() < len(mass)
    if one.toy_p is not None:
        assert one.toy_p == pytest.approx(one.fit.p, abs=0.1)


def test_a_masked_fit_is_one_of_the_other_bins():
    mass = events(4000, 900, 60, 3)
    masked = fit_resonance(mass, SIGNAL, masks=[Z], limit=False, **PLAIN)
    hidden = (masked.edges[1:] > Z[0]) & (masked.edges[:-1] < Z[1])
    model = BinnedModel.spectrum(masked.edges, "exp:2", SIGNAL, mask=hidden)
    fit = model.fit(masked.counts)
    assert masked.fit.mu == pytest.approx(float(fit.mu[0]), rel=1e-9)
    assert masked.fit.mu_error == pytest.approx(float(fit.mu_error[0]), rel=1e-9)
    expected = fit.expected[0, ~hidden]
    assert masked.gof_p == pytest.approx(deviance_p_value(float(fit.deviance[0]), expected, 4), rel=1e-6)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([(120.0, 127.0)], "the mask 120-127 GeV reaches into the signal"),
        ([Z, (134.0, 140.0)], "the mask 134-140 GeV reaches into the signal"),
        ([(40.0, 125.0), (135.0, 300.0)], "outside of the masks, at least 20 are needed"),
    ],
)
def test_masks_that_leave_nothing_are_explained(masks, message):
    with pytest.raises(InputError, match=message):
        fit_resonance(events(200, 50, 5, 4), SIGNAL, masks=masks, **PLAIN)


def test_a_scan_tests_no_mass_in_a_mask():
    mass = events(5000, 1500, 0, 5)
    options = {"toys": 20, "mass_range": RANGE, "background": ("exp:2",), "bins": 70}
    found = scan_masses(mass, (70.0, 180.0), 0.03, masks=[Z], **options)
    tested = found.scan.mass
    assert not ((tested * (1 - 1.645 * 0.03) < Z[1]) & (tested * (1 + 1.645 * 0.03) > Z[0])).any()
    assert tested.min() < Z[0]
    assert found.scan.z.max() < 4
    assert scan_masses(mass, (70.0, 180.0), 0.03, **options).scan.z.max() > 10
    with pytest.raises(InputError, match="the masks leave no mass between 85 and 95 GeV"):
        scan_masses(mass, (85.0, 95.0), 0.03, masks=[Z], **options)


def test_a_floating_peak_does_not_float_into_a_mask():
    mass = events(8000, 3000, 400, 6)
    options = {"floats": ("mass",), "masks": [(80.0, 124.0)], **PLAIN}
    found = fit_resonance(mass, gaussian(131.5, 2.6), **options).fit.floats["mass"]
    assert abs(found.value - 130.0) < 4 * found.error
    assert found.error < 0.5
    with pytest.raises(FitError, match="without those of the masks"):
        fit_resonance(mass, gaussian(136.0, 2.6), **options | {"masks": [(80.0, 131.0)]})


def test_command_line_masks_and_draws(tmp_path, capfd):
    table = tmp_path / "z.parquet"
    pq.write_table(pa.table({"m": events(4000, 900, 80, 7) / 1000}), table)
    figure = tmp_path / "fit.png"
    base = [
        "fit",
        str(table),
        "--mass",
        "m",
        "--unit",
        "TeV",
        "--range",
        "0.06:0.2",
        "--background",
        "exp:2",
        "--bins",
        "40",
    ]
    signal = ["--signal", "gauss:130:0.02", "--mask", "0.08:0.102,0.19:0.195", "--no-limit"]
    assert run([*base, *signal, "--figure", str(figure)]) == 0
    assert "masked: 80-102 GeV, 190-195 GeV" in capfd.readouterr().out
    assert figure.read_bytes()[:4] == b"\x89PNG"
    assert run([*base, *signal, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["masks"] == [[80.0, 102.0], [190.0, 195.0]]
    assert run([*base, "--signal", "gauss:130:0.02", "--mask", "0.13"]) == 2
    assert "mask '0.13' is not a mass interval" in capfd.readouterr().err
    assert run([*base, "--scan", "110:150", "--figure", str(figure)]) == 2
    assert "does not go with --scan" in capfd.readouterr().err
