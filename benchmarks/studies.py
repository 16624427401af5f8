"""The long studies S1 to S8 and those that the documentation quotes, and their table.

    python benchmarks/studies.py [--data FEATURES.h5] [--pythia EVENTS.parquet] [--out validation-run] [--only NAME ...]
        [--list] [--table docs/validation.md] [--jobs 2]

Every study is a few commands of ``serendip`` or of this folder, run one after the other; each keeps what is finished, so
that the same call continues after an interruption, and hours later adds what is new. ``--table FILE`` writes the table of all
finished studies between the markers in FILE and runs nothing.

FEATURES.h5 has the layout of the LHC Olympics features (preset ``lhco``), with labels. Without it, 30,000 background and 3,000
signal events are simulated first (Pythia 8). EVENTS.parquet, a second such sample, is only needed by ``gbi-pythia``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from study_tables import STUDIES, Paths, table

from serendip.events.events import Window
from serendip.events.read import read
from serendip.io.files import atomic_write
from serendip.search.injection import inject

BEGIN = "<!-- generated table of the long studies: begin -->"
END = "<!-- generated table of the long studies: end -->"
PEAK = Window(3300.0, 3700.0)
PEAK_EVENTS = 400


def simulated(out: Path, jobs: int) -> Path:
    path = out / "data" / "dijet.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = ["simulate", "dijet", "--background", "30000", "--signal", "3000", "--jobs", str(jobs)]
        subprocess.run([sys.executable, "-m", "serendip", *command, "--out", str(path)], check=True)
    return path


def with_peak(data: Path, out: Path) -> Path:
    """All background and a few signal events, for the study that rediscovers a peak."""
    path = out / "data" / "peak.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    events = read(data, mass=None, preset="lhco")
    events = events.select(inject(events, PEAK, PEAK_EVENTS, 0, 1))
    columns = {name: events[name] for name in events.features} | {"mjj": events.m, "label": events.labels}
    with atomic_write(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
    return path


def run(name: str, command: list[str], log: Path) -> bool:
    print(f"{name}: {shlex.join(command)}", flush=True)
    started = time.perf_counter()
    program = [sys.executable, "-m", "serendip"] if command[0] == "serendip" else [sys.executable]
    with log.open("a") as stream:
        done = subprocess.run([*program, *command[1:]], stdout=stream, stderr=subprocess.STDOUT, check=False)
    code = done.returncode
    # of a validation, 1 is a check that failed, which the table shows
    allowed = (0, 1) if command[:2] == ["serendip", "validate"] else (0,)
    if code not in allowed:
        print(f"{name}: stopped with exit code {code}; see {log}", flush=True)
    else:
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    return code in allowed


def write_table(path: Path, paths: Paths) -> None:
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    path.write_text(f"{head}{BEGIN}\n{table(paths)}\n{END}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pythia", type=Path)
    parser.add_argument("--out", type=Path, default=Path("validation-run"))
    parser.add_argument("--only", nargs="+", choices=list(STUDIES), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print names and commands, run nothing")
    parser.add_argument("--table", type=Path, help="write the table into this file, run nothing")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if arguments.list:
        shown = Paths("FEATURES.h5", "PYTHIA", "OUT", str(arguments.jobs))
        for name, study in STUDIES.items():
            print(f"{name} ({study.test}): {study.question}")
            for command in study.commands(shown):
                print("   ", shlex.join(command))
        return
    if arguments.table:
        write_table(arguments.table, Paths("FEATURES.h5", "PYTHIA", str(arguments.out), "2"))
        return
    for path in filter(None, (arguments.data, arguments.pythia)):
        if not path.exists():
            raise SystemExit(f"{path}: no such file")
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = arguments.data or simulated(arguments.out, arguments.jobs)
    with_peak(data, arguments.out)
    paths = Paths(str(data), str(arguments.pythia or ""), str(arguments.out), str(arguments.jobs))
    failed = []
    for name in arguments.only or STUDIES:
        if "pythia" in name and not arguments.pythia:
            print(f"{name}: left out, it needs --pythia EVENTS.parquet", flush=True)
            continue
        log = arguments.out / f"{name}.log"
        if not all(run(name, command, log) for command in STUDIES[name].commands(paths)):
            failed.append(name)
            continue
        try:
            list(STUDIES[name].rows(arguments.out / name))
        except FileNotFoundError as error:
            print(f"{name}: no result ({error.filename}); see {log}", flush=True)
            failed.append(name)
    print(table(paths))
    if failed:
        raise SystemExit(f"not finished: {', '.join(failed)}")


if __name__ == "__main__":
    main()
