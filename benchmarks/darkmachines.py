"""Speed and memory of the Dark Machines files: ``python benchmarks/darkmachines.py [LINES] [FILE ...]``.

Lines of the given files (default: made-up events with six jets) are repeated until there are LINES of them. Every step runs
in a process of its own with one thread; lines per second of CPU time, best of two, and the peak of the
memory above that of the imports.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serendip.events.darkmachines import read_chunks, read_events
from serendip.events.darkmachines_write import write_events
from serendip.events.objects import ObjectEvents
from serendip.events.objects_parquet import read_parquet, write_parquet


def made_up(n: int) -> ObjectEvents:
    rng = np.random.default_rng(1)
    pt, eta = 20 + rng.exponential(100, 6 * n), rng.normal(0, 1.2, 6 * n)
    angle = rng.uniform(-np.pi, np.pi, 7 * n)
    return ObjectEvents(
        event_id=rng.integers(1, 10**8, n).astype(str),
        process=rng.choice(["njets", "ttbar", "w_jets"], n),
        weight=np.ones(n),
        met=200 + rng.exponential(100, n),
        met_phi=angle[:n],
        offsets=np.arange(0, 6 * n + 1, 6),
        kind=rng.integers(0, 2, 6 * n),
        energy=pt * np.cosh(eta),
        pt=pt,
        eta=eta,
        phi=angle[n:],
    )


def make_file(path: Path, lines: int, given: list[str]) -> None:
    if given:
        text = b"".join(Path(name).read_bytes() for name in given)
    else:
        write_events(made_up(20_000), path)
        text = path.read_bytes()
    n = text.count(b"\n")
    with path.open("wb") as file:
        file.writelines([text] * (lines // n))
        file.writelines(text.splitlines(keepends=True)[: lines % n])


def parts(folder: Path, count: list[int], name: str = "events.csv") -> Iterator[ObjectEvents]:
    for events, report in read_chunks(folder / name, strict=False):
        count[0] += report.lines
        yield events


def read_all(folder: Path, count: list[int]) -> None:
    count[0] = read_events(folder / "events.csv")[1].lines


def read_parts(folder: Path, count: list[int]) -> None:
    for _ in parts(folder, count):
        pass


def skip_bad(folder: Path, count: list[int]) -> None:
    for _ in parts(folder, count, "damaged.csv"):
        pass


def to_parquet(folder: Path, count: list[int]) -> None:
    write_parquet(parts(folder, count), folder / "events.parquet")


def from_parquet(folder: Path, count: list[int]) -> None:
    count[0] = len(read_parquet(folder / "events.parquet"))


def rewrite(folder: Path, count: list[int]) -> None:
    write_events(parts(folder, count), folder / "again.csv")


REPEATS = 2
STEPS: dict[str, Callable[[Path, list[int]], None]] = {
    "read_events": read_all,
    "read_chunks, 100,000 lines each": read_parts,
    "the same, one bad line in 1,000 skipped": skip_bad,
    "read_chunks to write_parquet": to_parquet,
    "read_parquet": from_parquet,
    "read_chunks to write_events": rewrite,
}


def peak() -> float:
    """Peak memory of this process in MB; unlike ``ru_maxrss`` without that of the parent."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) / 1024 if found else float("nan")


def measure(step: str, folder: Path, pipe: Connection) -> None:
    logging.disable()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    # loads what is loaded at the first use
    pc.cast(pa.array(["1"]), pa.float64())
    pq.write_table(pa.table({"x": [1.0]}), folder / "small.parquet")
    before, best, count = peak(), float("inf"), [0]
    for _ in range(REPEATS):
        count[0] = 0
        start = time.process_time()
        STEPS[step](folder, count)
        best = min(best, time.process_time() - start)
    pipe.send((count[0] / best, peak() - before))


def main() -> None:
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_file(folder / "events.csv", lines, sys.argv[2:])
        size = 0
        with (folder / "events.csv").open("rb") as text, (folder / "damaged.csv").open("wb") as damaged:
            for i, line in zip(itertools.count(), text):
                size += len(line)
                damaged.write(line if i % 1000 else line.replace(b",", b",x", 1))
        print(f"{lines} lines, {size / lines:.0f} bytes each\n")
        print("| step | lines/s (CPU) | peak memory (MB) |\n|---|---|---|")
        for step in STEPS:
            here, there = spawn.Pipe(duplex=False)
            process = spawn.Process(target=measure, args=(step, folder, there))
            process.start()
            speed, memory = here.recv()
            process.join()
            print(f"| {step} | {speed:,.0f} | {memory:.0f} |", flush=True)
        print(f"\nParquet: {(folder / 'events.parquet').stat().st_size / lines:.0f} bytes per event")


if __name__ == "__main__":
    main()
