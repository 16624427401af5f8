"""Examples in docstrings are right."""

from __future__ import annotations

import doctest
import os
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import make_columns

import serendip
from serendip.methods.registry import get_method
from serendip.validate.registry import KINDS

SOURCE = Path(serendip.__file__).parent
MODULES = sorted(
    "serendip." + ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, unprinted: None) -> Path:
    """Where the examples run: a table of events, a later period, simulated signal, and a finished search of the first."""
    folder = tmp_path_factory.mktemp("examples")
    for name, seed, n_background, n_signal in (
        ("events", 0, 4000, 60),
        ("more", 1, 4000, 60),
        ("signal", 3, 0, 2000),
    ):
        columns = make_columns(n_background, n_signal, seed)
        table = {"mjj": columns["mjj"], "mj1": columns["f1"], "tau21": columns["f2"]}
        table |= {"truth": columns["truth"], "event": columns["event"] + 100_000 * seed}
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # the same as in the example of run_search, which finds it finished
        serendip.run_search(
            "events.parquet", mass="mjj", features=["mj1", "tau21"], windows=(3300, 3700), methods="bump-hunt", toys=100, unblind=True, out="run",
            jobs=1,
        )  # fmt: skip
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    # workers would cost more than they do
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    names = {"serendip": serendip, "np": np}
    assert not doctest.testmod(import_module(name), extraglobs=names).failed


def test_what_is_public_has_examples() -> None:
    assert len(MODULES) > 20
    # too slow: densities are trained, events are generated
    not_run = (serendip.run_infer, serendip.simulate_dijet)
    made_by_functions = ("Audit", "Look", "Outcome", "Results", "Validation")
    for name in serendip.__all__:
        thing = getattr(serendip, name)
        # packages are programs that have another name, too
        if isinstance(thing, ModuleType) or name == "__version__" or name in made_by_functions:
            continue
        if name.endswith(("Error", "Result", "Search")):
            continue
        examples = doctest.DocTestFinder(recurse=False).find(thing, name)[0].examples
        assert examples, name
        skipped = [bool(example.options.get(doctest.SKIP)) for example in examples]
        assert all(skipped) if thing in not_run else not any(skipped), name


@pytest.mark.parametrize("package", ["statistics", "methods", "outliers", "validate"])
def test_what_a_package_recommends_exists(package: str) -> None:
    module = import_module(f"serendip.{package}")
    assert module.__doc__ is not None
    names = re.findall(r":(?:func|class|mod):`~?([\w.]+)`", module.__doc__)
    assert len(names) >= 3
    for name in names:
        full = name if name.startswith("serendip.") else f"{module.__name__}.{name}"
        home, _, last = full.rpartition(".")
        assert hasattr(import_module(home), last) or import_module(full), full
    recommended = set(re.findall(r"``([a-z][a-z-]+)``", module.__doc__))
    if package == "methods":
        for name in recommended:
            get_method(name)
    if package == "validate":
        assert recommended == set(KINDS)
