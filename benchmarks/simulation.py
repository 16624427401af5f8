"""How fast the simulation is and where the time goes: ``python benchmarks/simulation.py``."""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from serendip.features.jets import leading_jets
from serendip.simulate.detector import detect
from serendip.simulate.pythia import decay_settings, generate, make_pythia, pythia_version, qcd_settings

BATCH = 250
SAMPLES = {
    "QCD": (qcd_settings(1050.0), False),
    "QCD, MPI": (qcd_settings(1050.0), True),
    "W' -> XY, 2 prongs": (decay_settings((3500.0, 500.0, 100.0), 2), False),
    "W' -> XY, 3 prongs": (decay_settings((3500.0, 500.0, 100.0), 3), False),
}


def measure(
    lines: tuple[str, ...], mpi: bool, events: int, seed: int
) -> tuple[float, float, dict[str, float]]:
    """CPU seconds for starting, efficiency, and CPU seconds of each step for one selected event."""
    clock = time.process_time
    started = clock()
    pythia = make_pythia(lines, seed, mpi=mpi)
    start = clock() - started
    rng = np.random.default_rng(seed)
    spent = {"Pythia": 0.0, "detector": 0.0, "jets": 0.0}
    selected = generated = 0
    while generated < events:
        size = min(BATCH, events - generated)
        t = [clock()]
        particles = generate(pythia, size)
        t.append(clock())
        measured = detect(particles, rng)
        t.append(clock())
        jets = leading_jets(*measured.p4, measured.counts, tau_min_pt=1200.0)
        t.append(clock())
        for name, seconds in zip(spent, np.diff(t), strict=True):
            spent[name] += seconds
        selected += int(np.sum((jets.pt[:, 0] > 1200.0) & (np.abs(jets.eta[:, 0]) < 2.5)))
        generated += size
    return start, selected / generated, {name: seconds / max(selected, 1) for name, seconds in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2000, help="generated events of each repetition")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.events < 250:
        arguments.repeat = 1
    print(
        f"Pythia {pythia_version()}, CPU time of one core, "
        f"medians of {arguments.repeat} x {arguments.events} events"
    )
    print("| sample | selected / generated | events/s/core | Pythia ms | detector ms | jets ms | start s |")
    print("|---|---|---|---|---|---|---|")
    for name, (lines, mpi) in SAMPLES.items():
        runs = [measure(lines, mpi, arguments.events, seed) for seed in range(1, arguments.repeat + 1)]
        start, efficiency = (statistics.median(run[i] for run in runs) for i in (0, 1))
        ms = {key: 1e3 * statistics.median(run[2][key] for run in runs) for key in runs[0][2]}
        rate = statistics.median(1 / sum(run[2].values()) for run in runs)
        print(
            f"| {name} | {efficiency:.2f} | {rate:.0f} | {ms['Pythia']:.2f} | {ms['detector']:.2f} | "
            f"{ms['jets']:.2f} | {start:.2f} |"
        )


if __name__ == "__main__":
    main()
