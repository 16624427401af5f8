"""The public checks of readers, exports and validations: what keeps a contract passes, and each broken promise is named."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from serendip.errors import InputError
from serendip.events.formats.table import Table
from serendip.report.exports.registry import EXPORTS
from serendip.testing import check_export, check_reader, check_validation
from serendip.validate.base import Check, answers
from serendip.validate.config import KindOptions
from serendip.validate.registry import KINDS

# readers -------------------------------------------------------------------------------------------------------------


def save_pickle(table, path: Path) -> None:
    pd.DataFrame(table).to_pickle(path)


class Pickles(Table):
    """Frames of pandas, as they are."""

    format = "pickle"

    def __init__(self, path, tree=None):
        super().__init__(path, tree)
        try:
            self._frame = self.prepared(pd.read_pickle(path))
        except Exception as error:  # noqa: BLE001 - anything may be in such a file
            self.fail(error)
        self.n_rows = len(self._frame)
        self.types = {name: str(kind) for name, kind in self._frame.dtypes.items()}

    def prepared(self, frame):
        return frame

    def fail(self, error):
        raise InputError(f"{self.name}: is damaged ({error})")

    def load(self, names, start=0, stop=None):
        self.require(names)
        return {name: self._frame[name].to_numpy()[start:stop] for name in names}


def test_a_small_reader_keeps_the_contract():
    check_reader(Pickles, save_pickle, ".pkl")


class Unnamed(Pickles):
    format = ""


class Doubles(Pickles):
    def prepared(self, frame):
        return frame.astype(float)


class Rounds(Pickles):
    def prepared(self, frame):
        return frame.assign(event=frame["event"].astype(float).astype(np.int64))


class Loses(Pickles):
    def prepared(self, frame):
        return frame.dropna()


class AllRows(Pickles):
    def load(self, names, start=0, stop=None):
        return super().load(names)


class Sorts(Pickles):
    def load(self, names, start=0, stop=None):
        found = super().load(names, start, stop)
        return {name: found[name] for name in self.types if name in found}


class KeyErrors(Pickles):
    def require(self, names):
        pass


class Crashes(Pickles):
    def fail(self, error):
        raise error


class AtLeastOne(Pickles):
    def prepared(self, frame):
        return frame if len(frame) else pd.DataFrame({"mjj": [0.0]})


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (Unnamed, "needs a format"),
        (Doubles, "the type of 'n' is float64, not int64"),
        (Rounds, "the values of 'event' are not those that were written"),
        (Loses, "n_rows is 108 for 120 rows"),
        (AllRows, r"load\(..., 30, 77\) gives other rows"),
        (Sorts, "in another order"),
        (KeyErrors, "a column that is not there must be refused with an InputError, not with KeyError"),
        (Crashes, "half a file must be refused with an InputError, not with"),
        (AtLeastOne, "n_rows is 1 for a table without rows"),
    ],
)
def test_a_broken_promise_of_a_reader_is_named(reader, message):
    with pytest.raises(AssertionError, match=message):
        check_reader(reader, save_pickle, ".pkl")


# exports -------------------------------------------------------------------------------------------------------------


def test_our_exports_keep_the_contract():
    check_export(EXPORTS["hepdata"])


def copy(run: Path, out: Path, *, upper: bool = False) -> list[Path]:
    """Copy the results."""
    if not (run / "results.json").exists() or out.exists():
        raise InputError("no")
    text = (run / "results.json").read_text()
    out.write_text(text.upper() if upper else text)
    return [out]


def untold(run: Path, out: Path) -> list[Path]:
    return copy(run, out)


def vague(run: Path, out: Path, *, upper=False) -> list[Path]:
    """Copy the results."""
    return copy(run, out, upper=upper)


def silent(run: Path, out: Path) -> None:
    """Copy the results."""
    copy(run, out)


def lazy(run: Path, out: Path) -> list[Path]:
    """Write nothing."""
    return [out]


def careless(run: Path, out: Path) -> list[Path]:
    """Copy the results and leave a note."""
    (run / "note.txt").write_text("was here")
    return copy(run, out)


def overwrites(run: Path, out: Path) -> list[Path]:
    """Copy the results over what is there."""
    out.unlink(missing_ok=True)
    return copy(run, out)


def trusting(run: Path, out: Path) -> list[Path]:
    """Copy the results, if there are any."""
    if run.exists():
        return copy(run, out)
    return []


def unblinded_only(run: Path, out: Path) -> list[Path]:
    """Copy the number of events in the window."""
    found = json.loads((run / "results.json").read_text())["looks"][0]["observed"]
    return copy(run, out) if found > 0 else []


@pytest.mark.parametrize(
    ("export", "message"),
    [
        (lambda out, run: [], r"a function \(run, out, \*, options\)"),
        (untold, "needs a docstring"),
        (vague, "'upper' needs an annotation and a default"),
        (silent, "must say what it wrote"),
        (lazy, "nothing was written"),
        (careless, "changed the run"),
        (overwrites, "a target that exists already must be refused"),
        (trusting, "a folder without a run must be refused"),
        (unblinded_only, "while it is blinded must be refused with an InputError, not with TypeError"),
    ],
)
def test_a_broken_promise_of_an_export_is_named(export, message, finished_searches):
    with pytest.raises(AssertionError, match=message):
        check_export(export)


@pytest.fixture
def finished_searches(tmp_path_factory, monkeypatch):
    """The two searches of the check, once for all tests."""
    from serendip.testing import exports

    original = exports.finished_search

    def kept(root: Path, *, blinded: bool) -> Path:
        folder = tmp_path_factory.getbasetemp() / "kept"
        if not (folder / f"run-{blinded}" / "results.json").exists():
            original(folder, blinded=blinded)
        (folder / f"run-{blinded}" / "note.txt").unlink(missing_ok=True)
        return folder / f"run-{blinded}"

    monkeypatch.setattr(exports, "finished_search", kept)


def test_an_export_with_options_keeps_the_contract(finished_searches):
    check_export(copy, upper=True)


# validations ---------------------------------------------------------------------------------------------------------


def test_our_validations_keep_the_contract():
    check_validation(KINDS["control"], {"windows": "2500:2700"})


def kind(answer, *, question: str = "Is it so?", options: type[BaseModel] = KindOptions) -> ModuleType:
    module = ModuleType("mine")
    module.QUESTION, module.Options, module.run = question, options, answers("mine")(answer)
    return module


def passed(value: float = 0.5, **changes) -> Check:
    given = {"name": "a", "passed": True, "value": value, "error": None, "limit": "at most 1", "meaning": "b"}
    return Check(**(given | changes))


class Loose(BaseModel):
    pass


def test_a_small_validation_keeps_the_contract():
    check_validation(kind(lambda config, options, work: ([passed()], {}, [])))


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (json, "a module with QUESTION, Options"),
        (kind(lambda *_: ([passed()], {}, []), question="It is so."), "question mark"),
        (kind(lambda *_: ([passed()], {}, []), options=Loose), "accept an unknown option"),
        (kind(lambda *_: ([], {}, [])), "there is no check"),
        (kind(lambda *_: ([passed(passed="yes")], {}, [])), "passed is 'yes'"),
        (kind(lambda *_: ([passed(meaning="")], {}, [])), "name, limit and meaning"),
        (kind(lambda *_: ([passed(np.float32(1))], {}, [])), "value and error are floats or None"),
        (kind(lambda *_: ([passed()], {"x": np.arange(2)}, [])), "facts cannot be written as JSON"),
        (kind(lambda *_: ([passed(np.random.default_rng().random())], {}, [])), "gave other values"),
    ],
)
def test_a_broken_promise_of_a_validation_is_named(validation, message):
    with pytest.raises(AssertionError, match=message):
        check_validation(validation)
