"""Is the evidence of a monitor valid at any time, and what does it lose against one look at the end? Toys without any training.

    python benchmarks/monitor.py null [CASE ...] [--streams 500] [--periods 101] [--events 1000] [--seed 1]
    python benchmarks/monitor.py signal [--streams 40] [--signal 125] ...
    python benchmarks/monitor.py chain --file FEATURES.h5 --out FOLDER [--signal 250] [--repeats 1]

``null``: streams of background alone with scores of several kinds, looked at after every
period: how often p ever falls below 0.05, 0.01 and 0.001. ``signal``: signal events whose scores get better with the training, seen by the
monitor and by the weighted search of all events at once. ``chain``: the same with CWoLa on LHC Olympics features (preset ``lhco``) with that many
signal events in the window, in ten periods, against the weighted search with ten folds in one order.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from lhco import FEATURES, inject
from weighted_search import CASES, RANGE, WINDOW, Score, falling

from serendip.search.config import parse_config, parse_settings
from serendip.search.engine import run_search
from serendip.search.monitor import MonitorConfig, run_monitor
from serendip.statistics.eprocess import HORIZONS, anytime_log_p, average_log_e, densities, period_evidence
from serendip.statistics.fit import fit_spectrum
from serendip.statistics.looks import analyse_look, fit_inclusive, make_edges
from serendip.statistics.pvalues import binomial_interval, z_value
from serendip.statistics.ranks import leave_one_out_rank
from serendip.statistics.weighting import ratio_weights, signal_scale

LEVELS = (0.05, 0.01, 0.001)
FOLDS = 10
EDGES = make_edges(RANGE, WINDOW)
MASK = (EDGES[:-1] >= WINDOW.low) & (EDGES[1:] <= WINDOW.high)


def exponential(rng: np.random.Generator, m: Any, position: Any) -> Any:
    return rng.exponential(size=len(m))


class Stream:
    """Periods of data taking, the first of which is not tested."""

    def __init__(
        self, rng: np.random.Generator, score: Score, given: argparse.Namespace, signal: float
    ) -> None:
        self.rng, self.score, self.given, self.signal = rng, score, given, signal
        self.side = 0.0
        self.first = 0.0
        self.lack: Any = None
        self.log_e = np.zeros(len(HORIZONS))
        self.seen: list[tuple[Any, Any, Any]] = []

    def period(self, t: int, *, keep: bool) -> float:
        """Logarithm of the evidence after one more period."""
        n_periods = self.given.periods
        m = falling(self.rng, self.rng.poisson(self.given.events))
        extra = self.rng.normal(3500.0, 60.0, self.rng.poisson(self.signal / n_periods))
        m = np.concatenate([m, extra])
        score = self.score(self.rng, m, np.full(len(m), max(t, 1)))
        score[len(m) - len(extra) :] += 6.0 * (t / n_periods) ** 0.5
        if keep:
            self.seen.append((m, np.full(len(m), t * FOLDS // n_periods), score))
        beside = ~WINDOW.contains(m)
        n_side = float(beside.sum())
        if t:
            # one function without the tests of its closure, which take most of the time
            inclusive = fit_spectrum(np.histogram(m, EDGES)[0], EDGES, self.given.function, mask=MASK)
            ratio = inclusive.expected[inclusive.mask].sum() / n_side
            ones = np.ones(len(m))
            ties = self.rng.integers(0, 2**63, len(m)).astype(np.uint64)
            rank = leave_one_out_rank(score, np.zeros(len(m), dtype=int), beside, ones, ties)
            rho = densities(rank, self.side, self.first, n_side, ratio)
            found = period_evidence(m, ones, None, rho, WINDOW, inclusive, self.lack)
            self.lack = found.lack if self.lack is None else self.lack + found.lack
            self.log_e += found.log_e
        else:
            self.first = n_side
        self.side += n_side
        return float(average_log_e(self.log_e))

    def run(self, *, keep: bool = False) -> Any:
        """Logarithms of the evidence after each tested period."""
        return np.array([self.period(t, keep=keep) for t in range(self.given.periods)])[1:]

    def at_once(self) -> float:
        """Significance of the weighted search of all events."""
        m, fold, score = (np.concatenate(column) for column in zip(*self.seen, strict=True))
        ones, side = np.ones(len(m)), ~WINDOW.contains(m)
        inclusive = fit_inclusive(m, WINDOW, EDGES, self.given.function)
        ties = self.rng.integers(0, 2**63, len(m)).astype(np.uint64)
        rank = leave_one_out_rank(np.where(fold > 0, score, np.nan), fold, side, ones, ties)
        scale = signal_scale(inclusive.expected[inclusive.mask].sum(), FOLDS, side.sum() / FOLDS)
        ranked = ratio_weights(rank, fold, FOLDS, scale)
        look = analyse_look(
            m, fold, ranked > 0, WINDOW, EDGES, inclusive, combination="weighted", n_folds=FOLDS, ranked=ranked
        )  # fmt: skip
        assert look.log_p_local is not None
        return float(z_value(log_p=look.log_p_local))


def null(names: list[str], given: argparse.Namespace) -> None:
    print(
        f"| score | streams | looks | median W at the end | {' | '.join(f'ever p < {level:g}' for level in LEVELS)} | ms for a look |"
    )
    print("|---" * (5 + len(LEVELS)) + "|")
    for name in names:
        score, _ = CASES[name]
        rng = np.random.default_rng([given.seed, list(CASES).index(name)])
        started = time.perf_counter()
        log_w = np.array([Stream(rng, score, given, 0.0).run() for _ in range(given.streams)])
        p = np.exp(anytime_log_p(log_w)[:, -1])
        rates = []
        for level in LEVELS:
            k = int((p <= level).sum())
            low, high = binomial_interval(k, len(p))
            rates.append(f"{k / len(p):.4f} [{low:.4f}, {high:.4f}]")
        spent = 1000 * (time.perf_counter() - started) / log_w.size
        median = np.exp(np.median(log_w[:, -1]))
        print(
            f"| {name} | {len(p)} | {log_w.shape[1]} | {median:.3g} | {' | '.join(rates)} | {spent:.1f} |",
            flush=True,
        )


def signal(given: argparse.Namespace) -> None:
    print(
        "| signal events | streams | Z at once | Z of the monitor at the end | Z of the monitor, any time | loss |"
    )
    print("|---" * 6 + "|")
    for number in given.signal:
        rng = np.random.default_rng([given.seed, int(number)])
        found = []
        for _ in range(given.streams):
            stream = Stream(rng, exponential, given, number)
            log_w = stream.run(keep=True)
            end, best = (float(z_value(log_p=min(-value, 0.0))) for value in (log_w[-1], log_w.max()))
            found.append((stream.at_once(), end, best))
        once, end, best = np.median(found, axis=0)
        loss = np.median([a - c for a, _, c in found])
        print(
            f"| {number:g} | {given.streams} | {once:.2f} | {end:.2f} | {best:.2f} | {loss:.2f} |", flush=True
        )


def chain(given: argparse.Namespace) -> None:
    print("| signal events | injection | Z at once | Z of the monitor after each period |")
    print("|---" * 4 + "|")
    given.out.mkdir(parents=True, exist_ok=True)
    settings = {"mass": "mjj", "features": list(FEATURES), "id": "event", "window": [WINDOW.low, WINDOW.high]}
    for number in given.signal:
        for repeat in range(given.repeats):
            name = given.out / f"{number:g}-{repeat}"
            table = inject(given.file, name.with_suffix(".parquet"), round(number), repeat)
            content = pq.read_table(table)
            part = np.random.default_rng([given.seed, repeat]).integers(0, FOLDS, len(content))
            files = [str(name) + f"-period{t}.parquet" for t in range(FOLDS)]
            for t, file in enumerate(files):
                pq.write_table(content.filter(part == t), file)
            watched = parse_settings(MonitorConfig, {"file": files[0], **settings}, "monitor")
            found = run_monitor(
                watched,
                f"{name}-monitor",
                append=() if Path(f"{name}-monitor").exists() else files[1:],
                unblind=True,
            )
            once = parse_config(
                {"file": str(table), "combination": "weighted", "orders": 1, "folds": FOLDS, **settings}
            )
            (look,) = (
                look
                for look in run_search(once, f"{name}-search", unblind=True).results["looks"]
                if not look["cross_check"]
            )
            z = ", ".join("0" if e["z"] is None else f"{e['z']:.1f}" for e in found.results["global"])
            print(f"| {number:g} | {repeat} | {look['z_local']:.2f} | {z} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=["null", "signal", "chain"])
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--periods", type=int, default=101)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--function", default="exppoly:2")
    parser.add_argument("--signal", type=float, nargs="+", default=[125.0])
    parser.add_argument("--file", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=1)
    given = parser.parse_args()
    if given.kind == "null":
        null(given.cases or ["independent", "follows the mass", "rises with the mass"], given)
    elif given.kind == "signal":
        signal(given)
    elif given.file is None or given.out is None:
        parser.error("chain needs --file and --out")
    else:
        chain(given)


if __name__ == "__main__":
    main()
