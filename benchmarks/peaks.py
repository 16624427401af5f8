"""Peaks in real spectra, and how often there is one in spectra of background alone.

    python benchmarks/peaks.py rates [SHAPE ...] [--experiments 300]
    python benchmarks/peaks.py window [SHAPE ...|misdescribed] [--experiments 500]
    python benchmarks/peaks.py data FOLDER_OF_CMS_TABLES [FEATURES.h5]

``rates`` searches everywhere (``serendip bump`` without a window), ``window`` counts in a window chosen beforehand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from serendip.errors import SerendipError
from serendip.events.events import Window
from serendip.events.read import read
from serendip.statistics.anywhere import find_peak
from serendip.statistics.bump import bump_hunt

TOYS = 99
PAIR = "sqrt(2*pt1*pt2*(cosh(eta1-eta2)-cos(phi1-phi2)))"


def drawn(density: Callable[[Any], Any], low: float, high: float) -> Callable[[Any, int], Any]:
    grid = np.geomspace(low, high, 8001)
    cumulative = np.concatenate(
        [[0.0], np.cumsum(0.5 * np.diff(grid) * (density(grid)[1:] + density(grid)[:-1]))]
    )
    return lambda rng, n: np.interp(rng.random(rng.poisson(n)) * cumulative[-1], cumulative, grid)


def dijet(m: Any) -> Any:
    x = m / 13000.0
    return (1 - x) ** 10 * x ** -(5 + 0.5 * np.log(x))


def turn_on(place: float, width: float) -> Callable[[Any], Any]:
    return lambda m: dijet(m) * 0.5 * (1 + special.erf((m - place) / width))


# name: (spectrum, events, window, masks)
SHAPES: dict[str, tuple[Callable[[Any, int], Any], int, tuple[float, float], tuple[tuple[float, float], ...]]] = {
    "flat 9-9.7 GeV": (drawn(np.ones_like, 9.0, 9.7), 20_000, (9.3, 9.6), ()),
    "bent by 20 %, 9-9.7 GeV": (drawn(lambda m: 1.0 - 0.2 * ((m - 9.35) / 0.35) ** 2, 9.0, 9.7), 20_000, (9.3, 9.6), ()),
    "flat 9-9.7 GeV, 100 events": (drawn(np.ones_like, 9.0, 9.7), 100, (9.3, 9.6), ()),
    "flat 3.5-3.9 GeV": (drawn(np.ones_like, 3.5, 3.9), 4_000, (3.64, 3.74), ()),
    "rising 60-120 GeV": (drawn(lambda m: m**2, 60.0, 120.0), 10_000, (85.0, 97.0), ()),
    "exponential 110-160 GeV": (drawn(lambda m: np.exp(-m / 25.0), 110.0, 160.0), 500, (123.0, 128.0), ()),
    "dimuon 0.3-10 GeV": (drawn(lambda m: m**-1.5, 0.3, 10.0), 30_000, (2.9, 3.3), ()),
    "dijet 1.5-9 TeV": (drawn(dijet, 1500.0, 9000.0), 30_000, (2500.0, 2750.0), ()),
    "dijet, 300 events": (drawn(dijet, 1500.0, 9000.0), 300, (2000.0, 2200.0), ()),
    "turn-on 2000 +- 150 GeV": (drawn(turn_on(2000.0, 150.0), 1500.0, 9000.0), 30_000, (2500.0, 2750.0), ()),
    "sharp turn-on 2000 +- 50 GeV": (drawn(turn_on(2000.0, 50.0), 1500.0, 9000.0), 30_000, (2500.0, 2750.0), ()),
    "Z masked, 60-400 GeV": (
        drawn(
            lambda m: np.exp(-m / 45.0) / 12.0 + 0.03 * stats.norm.pdf(m, 91.2, 3.0), 60.0, 400.0
        ), 20_000, (110.0, 122.0), ((80.0, 102.0),),
    ),
}  # fmt: skip


def kink(place: float, below: float, above: float) -> Callable[[Any], Any]:
    return lambda m: np.where(m < place, (m / place) ** -below, (m / place) ** -above)


def step(place: float, share: float) -> Callable[[Any], Any]:
    return lambda m: dijet(m) * np.where(m < place, share, 1.0)


def two_humps(m: Any) -> Any:
    return stats.norm.pdf(m, 2000.0, 350.0) + 0.5 * stats.norm.pdf(m, 3400.0, 500.0)


def upsilons(m: Any) -> Any:
    peaks = sum(
        share * stats.norm.pdf(m, place, 0.095)
        for place, share in ((9.46, 0.06), (10.02, 0.03), (10.36, 0.02))
    )
    return np.exp(-m / 6.0) / 1.4 + peaks


# Spectra that no smooth function follows near the window.
MISDESCRIBED: dict[str, tuple[Callable[[Any, int], Any], int, tuple[float, float], tuple[Any, ...]]] = {
    "kink at the lower edge": (drawn(kink(2500.0, 5, 7), 1500.0, 9000.0), 30_000, (2500.0, 2750.0), ()),
    "kink in the window": (drawn(kink(2600.0, 7, 5), 1500.0, 9000.0), 30_000, (2500.0, 2750.0), ()),
    "kink in the window, 300,000": (drawn(kink(2600.0, 5, 7), 1500.0, 9000.0), 300_000, (2500.0, 2750.0), ()),
    "window on a turn-on": (drawn(turn_on(2000.0, 150.0), 1500.0, 9000.0), 30_000, (2150.0, 2400.0), ()),
    "window on the middle of it": (drawn(turn_on(2000.0, 150.0), 1500.0, 9000.0), 30_000, (2000.0, 2200.0), ()),
    "step at 2400 (prescale)": (drawn(step(2400.0, 0.5), 1500.0, 9000.0), 30_000, (2500.0, 2750.0), ()),
    "second hump": (drawn(two_humps, 1000.0, 6000.0), 10_000, (3200.0, 3600.0), ()),
    "valley between humps": (drawn(two_humps, 1000.0, 6000.0), 10_000, (2500.0, 2800.0), ()),
    "Upsilon beside the window": (drawn(upsilons, 7.0, 16.0), 10_000, (10.7, 11.1), ()),
    "Upsilon beside, masked": (drawn(upsilons, 7.0, 16.0), 10_000, (10.7, 11.1), ((9.1, 10.65),)),
    "dijet, 10^6 events": (drawn(dijet, 1500.0, 9000.0), 1_000_000, (2500.0, 2750.0), ()),
}  # fmt: skip


def rate(p: list[float], level: float) -> str:
    k, n = int(np.count_nonzero(np.array(p) <= level)), len(p)
    return f"{k / n:.3f} +- {np.sqrt(max(k, 1) * (n - k)) / n**1.5:.3f}"


def rates(names: list[str], experiments: int) -> None:
    print(
        "| spectrum | events | p <= 0.05 | p <= 0.01 | range cut | with a warning | p <= 0.05 without a warning |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in names:
        draw, n, _, masks = SHAPES[name]
        p, cut, told, silent = [], 0, 0, 0
        for seed in range(experiments):
            rng = np.random.default_rng([seed, 5])
            found = find_peak(draw(rng, n), masks=masks, n_toys=TOYS, rng=rng)
            p.append(found.p_global)
            cut += found.mass_range.below + found.mass_range.above > 0
            warned = bool(found.warnings) or not found.described
            told += warned
            silent += found.p_global <= 0.05 and not warned
        print(
            f"| {name} | {n} | {rate(p, 0.05)} | {rate(p, 0.01)} | {cut / experiments:.2f} | {told / experiments:.3f} | {silent / experiments:.3f} |",
            flush=True,
        )


def window_rates(names: list[str], experiments: int) -> None:
    print(
        "| spectrum | window | p < 0.05 | p < 0.01 | pull mean, rms | with a warning | p < 0.05 without a warning | refused |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        draw, n, (low, high), masks = (SHAPES | MISDESCRIBED)[name]
        p, pulls, warned, silent, refused = [], [], 0, 0, 0
        for seed in range(experiments):
            m = draw(np.random.default_rng([seed, 6]), n)
            try:
                found = bump_hunt(m, Window(low, high), masks=masks)
            except SerendipError:
                refused += 1
                continue
            p.append(found.p_local)
            pulls.append(
                (found.observed - found.expected) / np.sqrt(found.expected + found.expected_error**2)
            )
            warned += bool(found.warnings)
            silent += found.p_local < 0.05 and not found.warnings
        print(
            f"| {name} | {low:g}-{high:g} | {rate(p, 0.05)} | {rate(p, 0.01)} | {np.mean(pulls):+.2f}, {np.std(pulls):.2f} "
            f"| {warned / experiments:.3f} | {silent / experiments:.3f} | {refused / experiments:.3f} |",
            flush=True,
        )


def quadratic_and_gaussian(edges: Any, counts: Any, mass: float, sigma: float) -> float:
    """Significance of a Gaussian on a quadratic, Poisson likelihood in given bins, without anything of this package."""
    centre = 0.5 * (edges[1:] + edges[:-1])
    x = (centre - centre.mean()) / np.ptp(edges) * 2.0
    width = np.diff(edges) / np.diff(edges).mean()

    def deviance(p: Any, peak: bool) -> float:
        mu = width * (p[0] + p[1] * x + p[2] * x**2)
        if peak:
            mu = mu + p[3] * np.diff(special.ndtr((edges - p[4]) / abs(p[5])))
        mu = np.maximum(mu, 1e-3)
        return float(2.0 * np.sum(mu - counts + special.xlogy(counts, counts / mu)))

    def least(start: list[float], peak: bool) -> float:
        best = np.inf
        at = np.array(start)
        for _ in range(6):
            found = optimize.minimize(
                deviance, at, args=(peak,), method="Nelder-Mead",
                options={"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-6, "fatol": 1e-4},
            )  # fmt: skip
            at, best = found.x, min(best, float(found.fun))
        return best

    level = float(np.median(counts / width))
    without = least([level, 0.0, 0.0], peak=False)
    return float(
        np.sqrt(max(without - least([level, 0.0, 0.0, counts.sum() / 3, mass, sigma], peak=True), 0))
    )


def data(folder: Path, features: Path | None) -> None:
    tables = {
        "Upsilon(1S)": ([folder / "peakdata3.csv"], "M", 9.4604),
        "psi(2S)": ([folder / "peakdata6.csv"], "M", 3.6861),
        "Z to mumu": ([folder / "Zmumu_Run2011A.csv"], PAIR, 91.188),
        "Z to ee": ([folder / "Zee_Run2011A.csv"], PAIR, 91.188),
        "four leptons": (sorted(folder.glob("*_201[12].csv")), "M", None),
    }
    print(
        "| data | events | peak (published), GeV | off | signal | Z | Z, quadratic + Gaussian, same bins | global p | left out |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    spectra = {
        name: (np.concatenate([read(file, mass=mass).m for file in files]), known)
        for name, (files, mass, known) in tables.items()
    }
    if features is not None:
        spectra["LHC Olympics"] = (read(features, preset="lhco").m, 3500.0)
        spectra["LHC Olympics, background"] = (read(features, preset="lhco", where="label<0.5").m, None)
    for name, (m, known) in spectra.items():
        found = find_peak(m, n_toys=300, rng=np.random.default_rng(1))
        left = found.mass_range
        other = "-"
        if np.ptp(found.edges) < 0.8 * found.edges[0] * 1.3:
            other = (
                f"{quadratic_and_gaussian(found.edges, found.counts, found.peak_mass, found.peak_sigma):.1f}"
            )
        off = "-" if known is None else f"{100 * (found.peak_mass / known - 1):+.2f} %"
        print(
            f"| {name} | {len(m)} | {found.peak_mass:.5g} ({known or '-'}) | {off} | {found.signal:.0f} +- {found.signal_error:.0f} "
            f"| {found.z_local:.1f} | {other} | {'<= ' if not found.n_reached else ''}{found.p_global:.2g} | {left.below + left.above} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["rates", "window", "data"])
    parser.add_argument("names", nargs="*", help="shapes, or the folder of tables and the file of features")
    parser.add_argument("--experiments", type=int, default=300)
    given = parser.parse_args()
    if given.kind == "data":
        data(Path(given.names[0]), Path(given.names[1]) if len(given.names) > 1 else None)
        return
    names = list(MISDESCRIBED) if given.names == ["misdescribed"] else given.names or list(SHAPES)
    (rates if given.kind == "rates" else window_rates)(names, given.experiments)


if __name__ == "__main__":
    main()
