"""Events that depend on each other: how often independent ones raise an alarm, which copies are found, and what groups repair.

python benchmarks/dependence.py alarms [N]             false alarms in N tables of independent events of each kind
python benchmarks/dependence.py power [N]              share of N tables with copies in which they are found
python benchmarks/dependence.py leak CASE [N] [alone]  N searches of background with copies, with the group named (or not)

A leak shows in the mean: a model that was trained on the copy of a test event counts more in the window than it expects.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from serendip.events.copies import find_dependence
from serendip.events.events import Events, Window

CASES = {"doubled": (2, 1.0, 0.0), "fifth": (2, 0.2, 0.0), "near": (4, 1.0, 0.02)}
WINDOW = Window(2500, 2800)


def spectrum(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Masses that fall as m^-6 from 1.5 to 9 TeV."""
    return 1500 * (1 - rng.random(n) * (1 - 6**-5.0)) ** -0.2


def used_again(n: int, times: int, fraction: float, noise: float, rng: np.random.Generator) -> Events:
    """About n events, a fraction of the originals several times; masses and features of the copies are smeared by ``noise``."""
    originals = rng.poisson(n / (1 + fraction * (times - 1)))
    row = rng.permutation(
        np.repeat(np.arange(originals), np.where(rng.random(originals) < fraction, times, 1))
    )
    mass, x = spectrum(originals, rng)[row], rng.normal(size=(4, originals))[:, row]
    columns = {"m": mass * (1 + noise * rng.normal(size=len(row))), "original": row}
    columns |= {f"f{i}": values + 3 * noise * rng.normal(size=len(row)) for i, values in enumerate(x)}
    return Events(columns, mass="m", features=tuple(f"f{i}" for i in range(4)), group="original")


def independent(n: int, rng: np.random.Generator) -> dict[str, list[NDArray[np.float64]]]:
    """Tables of independent events, the mass first, with features as analyses have them."""
    m, x = spectrum(n, rng), rng.normal(size=(5, n))
    i, k = rng.poisson(30, n), rng.poisson(30, n)
    signal = np.arange(n) < n // 50
    return {
        "normal": [m, *x[:4]],
        "one feature": [m, x[0]],
        "functions of each other": [m, x[0], x[1], x[0] + x[1], x[0] * x[1]],
        "spiked": [m, np.where(x[3] > 0.5, 0, x[0]), np.where(x[4] > 0.5, -1, x[1]), x[2]],
        "Cauchy": [m, rng.standard_cauchy(n), rng.standard_cauchy(n) * x[0]],
        "narrow signal": [np.where(signal, 3500 + x[0], m), *np.where(signal, 0.01 * x[1:4], x[1:4])],
        "scale of its own": [m, *(x * np.exp(x[0]))],
        "whole numbers": [np.round(m), np.round(3 * x[0]), i % 8.0],
        "rounded": [np.round(m, 1), np.round(100 * np.exp(x[0])), np.round(x[1], 1)],
        "half precision": [m.astype(np.float32), x[0].astype(np.float16), i % 5.0],
        "functions of whole numbers": [np.round(m, -1), np.hypot(i, k) / 10, np.arctan2(i, k), x[0]],
        "capped": [np.minimum(m, 2500), np.where(x[3] > 0, 0, x[0]), x[1]],
        "mass alone, rounded": [np.round(m, 2)],
        "mass alone, single precision": [m.astype(np.float32)],
        "mass alone, whole": [np.round(m)],
        "mass points": [rng.choice([500.0, 750.0, 1000.0], n), *x[:2]],
    }


def alarms(n_tables: int) -> None:
    """Print how often each kind of independent events raised an alarm, for 30 to 30,000 events."""
    rng, found = np.random.default_rng(1), Counter[str]()
    for _ in range(n_tables):
        for kind, columns in independent(int(10 ** rng.uniform(1.5, 4.5)), rng).items():
            found[kind] += bool(find_dependence(columns, seed=int(rng.integers(1 << 30))))
    kinds = list(independent(100, rng))
    for kind in kinds:
        print(f"| {kind} | {found[kind]} of {n_tables} |")
    print(f"| all | {found.total()} of {n_tables * len(kinds)} |")


def power(n_tables: int) -> None:
    """Print the share of tables in which copies are found."""
    rng = np.random.default_rng(2)
    for times, fraction, noise in (
        (2, 1.0, 0.0), (2, 0.2, 0.0), (2, 0.005, 0.0), (2, 1.0, 0.02), (2, 0.2, 0.02), (2, 0.02, 1e-4), (4, 1.0, 0.02),
        (4, 1.0, 0.05), (10, 0.05, 0.01), (100, 1.0, 0.01),
    ):  # fmt: skip
        shares = []
        for n in (1000, 20_000):
            hits, alone = 0, 0
            for _ in range(n_tables):
                events = used_again(n, times, fraction, noise, rng)
                hits += bool(find_dependence([events.m, *events.x.T.astype(float)]))
                alone += bool(find_dependence([events.m]))
            shares += [f"{hits / n_tables:.2f}", f"{alone / n_tables:.2f}"]
        print(f"| {times} | {fraction:g} | {noise:g} | {' | '.join(shares)} |", flush=True)


def leak(case: str, n_experiments: int, *, grouped: bool) -> None:
    """Print rates of small p-values, and the mean excess of the count over what is expected."""
    from dataclasses import replace

    from serendip.search.config import SearchConfig
    from serendip.search.null_experiment import cross_trained

    rng, looks = np.random.default_rng(5), []
    for i in range(n_experiments):
        events = used_again(20_000, *CASES[case], rng)
        if not grouped:
            events = replace(events, group=None)
        config = SearchConfig(
            file="-", mass="m", features=events.features, window=(WINDOW.low, WINDOW.high), method=("cwola",),
            options={"cwola": {"members": 1}}, folds=5, seed=i, working_points=(1e-2,),
        )  # fmt: skip
        (look,) = cross_trained(config, events, None, {})
        looks.append((look.p_local, look.observed, look.expected))
        if i % 20 == 19 or i + 1 == n_experiments:
            p, observed, expected = np.array(looks).T
            excess = (observed - expected) / expected.mean()
            rates = [
                f"{np.mean(p < alpha):.3f} ± {np.std(p < alpha) / np.sqrt(len(p)):.3f}"
                for alpha in (0.05, 0.01)
            ]
            print(
                f"| {case}{'' if grouped else ', no group'} | {len(p)} | {' | '.join(rates)} | "
                f"{excess.mean():+.3f} ± {excess.std() / np.sqrt(len(p)):.3f} |",
                flush=True,
            )


def main() -> None:
    """Run what the command line asks for."""
    what, *rest = sys.argv[1:] or ["alarms"]
    if what == "leak":
        leak(rest[0], int(rest[1]) if len(rest) > 1 else 300, grouped="alone" not in rest)
    else:
        {"alarms": alarms, "power": power}[what](int(rest[0]) if rest else 100)


if __name__ == "__main__":
    main()
