"""Do tests notice when the numerical packages are changed? A sample of mutants, each with the tests of its statement.

    pip install cosmic-ray==8.7.0 pytest-cov
    COVERAGE_FILE=DIR/map python -m pytest --cov=serendip --cov-context=test --cov-report= --junitxml=DIR/times.xml
    python benchmarks/mutations.py --map DIR/map --times DIR/times.xml --out DIR [--per-package 40] [--seed 1]
        [--packages study theories statistics search methods validate] [--again [--also tests/test_x.py::test_y ...]]

Mutants are those of Cosmic Ray. A file is drawn by its number of lines, then a line, a place in it and an operator: else
most mutants would be other signs of the same sums. Left out are annotations, ``__all__``, calls of the log, bits in place
of arithmetic (a TypeError for floats), and what is no Python. A mutant meets the tests that ran its statement, those in the
file named like the module first, then the cheapest, up to ``--seconds`` of recorded time. Sources are mutated in a copy.

DIR gets ``mutants.jsonl``; finished mutants are skipped. ``--again`` repeats the survivors, with the tests of ``--also`` if
they are newer than the map. A mutant that runs three times as long as allowed counts as killed.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import coverage
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("study", "theories", "statistics", "search", "methods", "validate")
# 2 and 4: a test file cannot be imported
OUTCOMES = {0: "survived", 1: "killed", 2: "killed", 4: "killed", 5: "untested"}
LOST = ("survived", "untested")

Mutant = dict[str, Any]


def left_out(tree: ast.AST) -> Iterator[Any]:
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(annotation=part) | ast.arg(annotation=ast.expr() as part):
                yield part
            case ast.FunctionDef(returns=ast.expr() as part):
                yield part
            case ast.Assign(targets=[ast.Name("__all__")]) | ast.Call(ast.Attribute(ast.Name("log"))):
                yield node


def operators() -> Iterator[tuple[str, Any]]:
    for name in sorted(plugins.operator_names()):
        signs = name.partition("ReplaceBinaryOperator_")[2].split("_")
        bits = {sign.startswith(("Bit", "RShift", "LShift")) for sign in signs}
        operator = plugins.get_operator(name)
        if len(bits) == 1 and not operator.arguments():
            yield name, operator()


def mutants_of(file: Path) -> tuple[dict[int, dict[int, list[Mutant]]], int]:
    """Mutants by line and column, and how many were left out."""
    source = file.read_text()
    spans = [
        ((p.lineno, p.col_offset), (p.end_lineno, p.end_col_offset)) for p in left_out(ast.parse(source))
    ]
    found: dict[int, dict[int, list[Mutant]]] = defaultdict(lambda: defaultdict(list))
    nodes, dropped = list(ast_nodes(get_ast(source))), 0
    for name, operator in operators():
        places = (start for node in nodes for start, *_ in operator.mutation_positions(node))
        for i, (line, column) in enumerate(places):
            skipped = any(first <= (line, column) < last for first, last in spans)
            dropped += skipped
            if not skipped:
                found[line][column].append({"operator": name, "occurrence": i, "line": line})
    return found, dropped


def mutated(source: str, mutant: Mutant) -> str | None:
    """The changed source; None if Python cannot read it: the star of ``f(a, *, b)`` is no product."""
    changed = mutate_code(source, plugins.get_operator(mutant["operator"])(), mutant["occurrence"])
    try:
        ast.parse(changed)
    except SyntaxError:
        return None
    return str(changed)


def draw(package: str, n: int, seed: int) -> list[Mutant]:
    rng = random.Random(f"{seed} {package}")
    files = sorted((REPOSITORY / "src/serendip" / package).rglob("*.py"))
    sizes = [len(file.read_text().splitlines()) for file in files]
    known = {file: mutants_of(file) for file in files}
    drawn: dict[tuple[str, str, int], Mutant] = {}
    while len(drawn) < n:
        (file,) = rng.choices(files, sizes)
        if lines := known[file][0]:
            places = lines[rng.choice(sorted(lines))]
            mutant = rng.choice(places[rng.choice(sorted(places))])
            if mutated(file.read_text(), mutant):
                mutant = {"file": str(file.relative_to(REPOSITORY)), **mutant}
                drawn.setdefault(key(mutant), mutant)
    total = sum(len(m) for lines, _ in known.values() for places in lines.values() for m in places.values())
    print(f"{package}: {n} of {total} mutants; {sum(out for _, out in known.values())} left out", flush=True)
    return list(drawn.values())


def key(mutant: Mutant) -> tuple[str, str, int]:
    return mutant["file"], mutant["operator"], mutant["occurrence"]


class Map:
    """Which tests run a statement, and how long they take."""

    def __init__(self, maps: list[Path], times: list[Path]) -> None:
        self.seconds: dict[str, float] = {}
        for case in (case for path in times for case in ET.parse(path).getroot().iter("testcase")):
            if case.find("failure") is None and case.find("error") is None:
                file = case.attrib["classname"].replace(".", "/") + ".py"
                self.seconds[f"{file}::{case.attrib['name']}"] = float(case.attrib["time"])
        self.lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for path in maps:
            data = coverage.CoverageData(str(path))
            data.read()
            for file in data.measured_files():
                for line, contexts in data.contexts_by_lineno(file).items():
                    self.lines[file[file.index("src/serendip/") :]][line].update(filter(None, contexts))

    def tests(self, file: str, line: int, seconds: float) -> list[str]:
        """Tests of the smallest statement around a line that any test runs, as far as the time goes."""
        nodes = [n for n in ast.walk(ast.parse((REPOSITORY / file).read_text())) if isinstance(n, ast.stmt)]
        ranges = [range(n.lineno, (n.end_lineno or 0) + 1) for n in nodes]
        around = [range(line, line + 1), *sorted((r for r in ranges if line in r), key=len), range(10_000)]
        known = (set().union(*(self.lines[file].get(i, ()) for i in r)) for r in around)
        contexts = {tuple(context.rsplit("|", 1)) for context in next(filter(None, known), ())}
        # where a fixture ran the statement, all tests of the file may use it
        fixtures = {test.split("::")[0] for test, phase in contexts if phase == "setup"}
        found = [t for t in self.seconds if (t, "run") in contexts or t.split("::")[0] in fixtures]
        own, chosen = f"tests/test_{Path(file).stem}", defaultdict(list)
        for test in sorted(found, key=lambda t: (not t.startswith(own), self.seconds[t], t)):
            seconds -= self.seconds[test]
            if seconds < 0 and chosen:
                break
            chosen[test.split("::")[0]].append(test)
        return [test for tests in chosen.values() for test in tests]


def outcome(tests: list[str], source: Path, seconds: int) -> str:
    """What pytest makes of the tests with the mutated sources."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    changes = {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=os.environ | changes, capture_output=True, timeout=5 * seconds, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "timeout"
    return OUTCOMES.get(done.returncode, f"error {done.returncode}")


def table(results: list[Mutant]) -> None:
    print("| package | mutants | killed | survivors at first | now | score |\n|---|---|---|---|---|---|")
    for package in [*PACKAGES, ""]:
        found = [r for r in results if r["file"].startswith(f"src/serendip/{package}")]
        first, now = (sum(r[k] in LOST for r in found) for k in ("first", "outcome"))
        if n := len(found):
            print(f"| {package or 'all'} | {n} | {n - now} | {first} | {now} | {1 - now / n:.0%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("--map", "--times"):
        parser.add_argument(name, nargs="+", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    for name, default in (("--packages", PACKAGES), ("--also", [])):
        parser.add_argument(name, nargs="+", default=default)
    for name, default in (("--per-package", 40), ("--seed", 1), ("--seconds", 40)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    source, record = out / "src", out / "mutants.jsonl"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(REPOSITORY / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    known = Map(arguments.map, arguments.times)
    results = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    done = {key(r) for r in results}
    if arguments.again:
        todo = [r for r in results if r["outcome"] in LOST]
    else:
        drawn = [m for p in arguments.packages for m in draw(p, arguments.per_package, arguments.seed)]
        todo = [m for m in drawn if key(m) not in done]
        results += todo
    for mutant in todo:
        path, original = out / mutant["file"], (REPOSITORY / mutant["file"]).read_text()
        tests = arguments.also or known.tests(mutant["file"], mutant["line"], arguments.seconds)
        changed = mutated(original, mutant) or ""
        path.write_text(changed)
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
        mutant["outcome"] = outcome(tests, source, 3 * arguments.seconds) if tests else "untested"
        if not arguments.also:
            mutant["first"] = mutant["outcome"]
        mutant["diff"] = [d for d in difflib.ndiff(original.split("\n"), changed.split("\n")) if d[0] in "+-"]
        path.write_text(original)
        record.write_text("".join(json.dumps(r) + "\n" for r in results if "outcome" in r))
        print(mutant["outcome"], mutant["file"], *mutant["diff"], sep="\n  ", flush=True)
    table([r for r in results if "outcome" in r])


if __name__ == "__main__":
    main()
