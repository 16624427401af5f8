"""Bias and error of the AUC of DREAM for differences that are known.

    python benchmarks/dream.py [--events 5000] [--repeats 20] [--classifier stacked] [--truth shift=0.2] ...

Two samples of five normal features, all pairs correlated by 0.5, that differ in one way: `shift=D` moves the mean of the first
feature until the best AUC is that of a distance of D standard deviations, Phi(D / sqrt 2); `auc=A` until it is A; `width=S`
widens the first feature; `correlation=R` gives two more of it; `corner=F` takes the fraction F from where two features are high;
`waves=A` multiplies the density by 1 + A sin(3 x1) sign(x2). Prints a row for each truth: bias of the cross-validated AUC and
of the extrapolated one against the ratio of densities on the same events, the mean error that is quoted, how often it holds the
truth (from 20 repeats on), and the CPU time of both.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable

import numpy as np
from scipy import stats

from serendip.classify.build import build_classifier
from serendip.classify.stacked import StackedClassifier
from serendip.validate.learning_curve import extrapolate
from serendip.validate.twosample import FoldedAuc, cross_validate

D = 5
COVARIANCE = np.full((D, D), 0.5) + 0.5 * np.eye(D)
DEFAULT = ("shift=0.2", "shift=0.5", "width=1.2", "correlation=0.15", "corner=0.8", "waves=0.3")
ENOUGH = 20
Ratio = Callable[[np.ndarray], np.ndarray]
Draw = Callable[[int, np.random.Generator], np.ndarray]


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> tuple[Draw, Ratio]:
    one, zero = (
        stats.multivariate_normal(mean, covariance),
        stats.multivariate_normal(np.zeros(D), COVARIANCE),
    )
    return lambda n, rng: one.rvs(n, random_state=rng), lambda x: one.logpdf(x) - zero.logpdf(x)


def thinned(factor: Ratio, largest: float) -> tuple[Draw, Ratio]:
    """Normal events kept in proportion to ``factor``."""

    def draw(n: int, rng: np.random.Generator) -> np.ndarray:
        x = rng.multivariate_normal(np.zeros(D), COVARIANCE, 4 * n)
        return x[rng.random(4 * n) * largest < factor(x)][:n]

    return draw, lambda x: np.log(factor(x))


def truth(text: str) -> tuple[Draw, Ratio]:
    """How to draw the first sample, and the logarithm of the ratio of densities up to a constant."""
    kind, value = text.split("=")
    size = float(value)
    first = np.eye(D)[0]
    if kind in ("shift", "auc"):
        distance = size if kind == "shift" else np.sqrt(2) * stats.norm.ppf(size)
        return gaussian(first * distance / np.sqrt(np.linalg.inv(COVARIANCE)[0, 0]), COVARIANCE)
    if kind == "width":
        scale = np.diag(1 + (size - 1) * first)
        return gaussian(np.zeros(D), scale @ COVARIANCE @ scale)
    if kind == "correlation":
        more = np.zeros((D, D))
        more[0, 1] = more[1, 0] = size
        return gaussian(np.zeros(D), COVARIANCE + more)
    if kind == "corner":
        return thinned(lambda x: np.where((x[:, 0] > 0.67) & (x[:, 1] > 0.67), 1 - size, 1.0), 1.0)
    if kind == "waves":
        return thinned(lambda x: 1 + size * np.sin(3 * x[:, 0]) * np.sign(x[:, 1]), 1 + size)
    raise SystemExit(f"'{text}': shift, auc, width, correlation, corner or waves = a number is expected")


def events(draw: Draw, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    second = rng.multivariate_normal(np.zeros(D), COVARIANCE, n)
    return np.concatenate([draw(n, rng), second]), np.repeat([True, False], n)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=5000, help="of each sample")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--bootstraps", type=int, default=50)
    parser.add_argument("--classifier", choices=("stacked", "trees"), default="stacked")
    parser.add_argument("--truth", action="append", help=f"default: {' '.join(DEFAULT)}")
    options = parser.parse_args()
    n = options.events
    print(
        "| truth | events | AUC | first measured | bias, cross-validated | bias, extrapolated | error | 68 % / 95 % | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for text in options.truth or DEFAULT:
        draw, ratio = truth(text)
        x, y = events(draw, 1_000_000, np.random.default_rng(0))
        true = FoldedAuc(y, ratio(x), np.zeros(len(y), dtype=np.int64))(np.ones(len(y)))
        rows = []
        started = time.process_time()
        for seed in range(options.repeats):
            rng = np.random.default_rng([seed, zlib.crc32(text.encode())])
            x, y = events(draw, n, rng)
            estimator = (
                StackedClassifier(random_state=seed)
                if options.classifier == "stacked"
                else build_classifier("trees", members=2, seed=seed)
            )
            sample = cross_validate(x.astype(np.float32), y, np.ones(2 * n), estimator, 5, rng)
            curve = extrapolate(sample, estimator, options.bootstraps, rng)
            best = FoldedAuc(y, ratio(x), sample.fold)(np.ones(2 * n))
            rows.append((curve.auc - best, curve.limit - best, curve.error, curve.limit))
        seconds = (time.process_time() - started) / options.repeats
        auc, limit, error, value = np.array(rows).T
        biases = " | ".join(
            f"{b.mean():+.4f} ± {b.std(ddof=1) / np.sqrt(len(b)):.4f}" if len(b) > 1 else f"{b[0]:+.4f}"
            for b in (auc, limit)
        )
        inside = " / ".join(f"{np.mean(np.abs(value - true) < k * error):.2f}" for k in (1, 2))
        if options.repeats < ENOUGH:
            inside = "–"
        print(
            f"| {text} | {n} | {true:.4f} | {value[0]:.4f} ± {error[0]:.4f} | {biases} | {error.mean():.4f} | {inside} | {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
