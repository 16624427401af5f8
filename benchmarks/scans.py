"""False-positive rates of the inclusive scans, and the look-elsewhere estimate against toys.

    python benchmarks/scans.py FILE --out DIR [--preset lhco] [--where "label<0.5"] [--experiments 600] [--toys 999]
        [--background dijet exppoly] [--events N] [--scan-toys 4000] [--jobs 2]

FILE is a background sample; its masses are fitted once, over ``--range``, and every pseudo-experiment is a Poisson spectrum
of this fit. In each, the global p-value of BumpHunter comes from ``--toys`` toys that repeat the fit, the choice of its order
and the scan. Then one scan of q0 over a ladder of masses has ``--scan-toys`` toys, and the fraction of them with a largest
local significance above 3 is compared with the estimate of Gross and Vitells. Finished parts are skipped.

DIR gets ``scans.json`` and ``scans.md``.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from serendip.events.events import Window
from serendip.events.read import read
from serendip.statistics.binning import make_edges
from serendip.statistics.fit import fit_spectrum
from serendip.statistics.pvalues import binomial_interval
from serendip.statistics.scans import bump_hunter, q0_scan
from serendip.statistics.signals import gaussian

LEVELS = (0.05, 0.003)
BATCH = 20


def rates_of(expected: np.ndarray, edges: np.ndarray, background: str, toys: int, batch: int) -> list[float]:
    rng = np.random.default_rng([batch, 0x5CA2])
    return [
        bump_hunter(rng.poisson(expected), edges, background, n_toys=toys, rng=rng).p_global
        for _ in range(BATCH)
    ]


def bump_rates(expected: np.ndarray, edges: np.ndarray, background: str, arguments: Any) -> list[float]:
    batches = range(arguments.experiments // BATCH)
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(rates_of, expected, edges, background, arguments.toys, b) for b in batches]
        found = []
        for number, job in enumerate(jobs, 1):
            found += job.result()
            print(f"{background}: {number * BATCH} of {arguments.experiments}", flush=True)
    return found


def look_elsewhere(
    expected: np.ndarray, edges: np.ndarray, background: str, arguments: Any
) -> dict[str, float | None]:
    rng = np.random.default_rng(0x6057)
    low, high = edges[0] * 1.1, edges[-1] / 1.15
    masses = np.geomspace(low, high, int(np.log(high / low) / (0.5 * arguments.resolution)) + 1)
    shapes = [gaussian(m, arguments.resolution * m) for m in masses]
    signal = gaussian(masses[len(masses) // 2], arguments.resolution * masses[len(masses) // 2])
    # an Asimov signal of three standard deviations in the middle
    bump, events = signal.fractions(edges), 3.0 * np.sqrt(expected.sum() * 0.02)
    for _ in range(4):
        scan = q0_scan(expected + events * bump, edges, background, shapes, n_toys=1, rng=rng)
        events *= 3.0 / scan.z[scan.best]
    scan = q0_scan(expected + events * bump, edges, background, shapes, n_toys=arguments.scan_toys, rng=rng)
    low_p, high_p = scan.p_interval_68
    return {
        "z": float(scan.z[scan.best]),
        "masses": len(masses),
        "toys": scan.p_global,
        "toys_error": 0.5 * (high_p - low_p),
        "gross_vitells": scan.gross_vitells,
        "fewest_background": scan.fewest_background,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset")
    parser.add_argument("--mass")
    parser.add_argument("--where")
    parser.add_argument("--range", type=float, nargs=2, default=(2600.0, 6500.0))
    parser.add_argument("--window", type=float, nargs=2, default=(3300.0, 3700.0))
    parser.add_argument("--background", nargs="+", default=["dijet", "exppoly"])
    parser.add_argument("--experiments", type=int, default=600)
    parser.add_argument("--toys", type=int, default=999)
    parser.add_argument("--scan-toys", type=int, default=4000)
    parser.add_argument("--resolution", type=float, default=0.04)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "scans.json"
    setup = {key: str(value) for key, value in vars(arguments).items() if key not in ("out", "jobs")}
    found = json.loads(path.read_text()) if path.exists() else {"setup": setup}
    if found["setup"] != setup:
        raise SystemExit(f"{path} was made with other settings; choose another --out")

    events = read(
        arguments.file, mass=arguments.mass, preset=arguments.preset, where=arguments.where, independent=True
    )
    edges = make_edges(tuple(arguments.range), Window(*arguments.window))
    counts = np.histogram(events.m, edges)[0]
    lines = ["| functions | p < 0.05 | p < 0.003 | n |", "|---|---|---|---|"]
    for background in arguments.background:
        expected = fit_spectrum(counts, edges, background).expected
        if background not in found:
            found[background] = {"p": bump_rates(expected, edges, background, arguments)}
            path.write_text(json.dumps(found))
        p = np.array(found[background]["p"])
        cells = []
        for level in LEVELS:
            k = int(np.count_nonzero(p < level))
            low, high = binomial_interval(k, len(p))
            cells.append(f"{k / len(p):.4f} [{low:.4f}, {high:.4f}]")
        lines.append(f"| {background} | {' | '.join(cells)} | {len(p)} |")
        found[background]["ks"] = float(stats.kstest(p, "uniform").pvalue)
    if "look-elsewhere" not in found:
        background = arguments.background[0]
        expected = fit_spectrum(counts, edges, background).expected
        found["look-elsewhere"] = look_elsewhere(expected, edges, background, arguments)
    path.write_text(json.dumps(found))
    lee = found["look-elsewhere"]
    estimate = f"does not hold ({lee['fewest_background']:.2g} background events under a signal)"
    if lee["gross_vitells"] is not None:
        estimate = f"{lee['gross_vitells']:.4f}, ratio {lee['gross_vitells'] / lee['toys']:.2f}"
    text = (
        f"Local Z of {lee['z']:.2f} among {lee['masses']:g} masses: toys {lee['toys']:.4f} ± {lee['toys_error']:.4f}, "
        f"Gross-Vitells {estimate}."
    )
    lines += ["", text]
    (arguments.out / "scans.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
