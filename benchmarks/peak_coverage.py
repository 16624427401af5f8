"""Pulls and coverage of yield, mass and width of a floating peak: `serendip fit --float mass,width`.

    python benchmarks/peak_coverage.py [--toys 500]

Normal peaks on exponentials with the numbers of the psi(2S) and the Upsilon(1S) in dimuon tables. Every toy is fitted with the
envelope over the functions of `auto` that cannot bend within the peak. Pulls are by the quoted errors (of the
yield with the spread over functions); intervals are those of the likelihood, envelope included. Prints the table of docs/fits-and-limits.md.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from serendip.statistics.floating import smooth
from serendip.statistics.model import BinnedModel
from serendip.statistics.signal_fit import spread_over_functions
from serendip.statistics.signals import gaussian

LEVELS = (0.6827, 0.95)
# range in GeV, slope of the background in 1/GeV, its events, mass and width of the peak in GeV, its events
CASES = {
    "psi(2S)-like": ((3.5, 3.9), -0.7, 2900, 3.683, 0.029, 1200),
    "Upsilon(1S)-like": ((9.0, 9.7), 0.8, 12300, 9.450, 0.078, 7200),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toys", type=int, default=500)
    options = parser.parse_args()
    print(
        "| peak | parameter | mean pull | width of pulls | 68 % interval covers | 95 % interval covers |\n|---|---|---|---|---|---|"
    )
    for name, ((low, high), slope, events, mass, width, signal) in CASES.items():
        edges = np.geomspace(low, high, round(np.log(high / low) / (width / mass / 3.0)) + 1)
        shape = gaussian(mass, width)
        part = np.diff(np.exp(slope * edges))
        mean = events * part / part.sum() + signal * shape.fractions(edges)
        toys = np.random.default_rng(11).poisson(mean, (options.toys, len(mean))).astype(float)
        floating = BinnedModel.spectrum(edges, "auto", shape, floats=("mass", "width"), choice="envelope")
        model = floating.restricted(smooth(floating))
        best = model.fit(toys)
        truth = {"yield": signal, "mass": mass, "width": width}
        error = np.hypot(best.mu_error, spread_over_functions(model, toys))
        errors = np.column_stack([error, best.float_errors])
        values = np.column_stack([best.mu, best.floats])
        fixed = [
            model.fit(toys, signal),
            model.moved(mass=mass, floats=("width",)).fit(toys),
            model.moved(width=width, floats=("mass",)).fit(toys),
        ]
        for j, (what, true) in enumerate(truth.items()):
            pull = (values[:, j] - true) / errors[:, j]
            ratio = fixed[j].deviance - best.deviance
            covers = " | ".join(f"{np.mean(ratio <= q):.3f}" for q in stats.chi2.ppf(LEVELS, 1))
            print(f"| {name} | {what} | {pull.mean():+.3f} | {pull.std():.3f} | {covers} |", flush=True)


if __name__ == "__main__":
    main()
