"""The public checks of contracts: what keeps a contract passes, and each broken promise is named."""

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
from serendip.methods.base import Method, MethodConfig, as_splits, require_events
from serendip.methods.registry import get_method
from serendip.outliers import GaussianMixtureScore, IsolationForestScore, KernelDensity, Met
from serendip.outliers.base import OutlierScore
from serendip.report.exports.registry import EXPORTS
from serendip.testing import check_export, check_method, check_reader, check_score, check_validation
from serendip.validate.base import Check, answers
from serendip.validate.config import KindOptions
from serendip.validate.registry import KINDS

# methods -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [("bump-hunt", {}), ("cwola", {"members": 1}), ("isolation-forest", {"trees": 10}), ("gaussian-mixture", {"components": 2}), ("idealised", {"members": 1})],
)  # fmt: skip
def test_our_methods_keep_the_contract(name, options):
    check_method(get_method(name), options)


class Mean(Method):
    """Distance to the weighted mean of the events in the window, of each split."""

    name, title = "mean", "distance to a mean"

    def fit(self, events, window, splits=None):
        self._means = []
        for mask in as_splits(splits, len(events)):
            require_events(mask & window.contains(events.m), 10, "signal region", window)
            self._means.append(self.mean(events, mask & window.contains(events.m)))
        return self

    def mean(self, events, rows):
        return np.average(events.x[rows], axis=0, weights=events.weights[rows])

    def score(self, events, split=0):
        return -np.abs(events.x - self._means[split]).sum(axis=1)

    def save_model(self, folder, split):
        (folder / "mean.json").write_text(json.dumps(self._means[split].tolist()))

    def load_model(self, folder):
        self._means = [np.array(json.loads((folder / "mean.json").read_text()))]


def test_a_small_method_keeps_the_contract():
    check_method(Mean)


class Nameless(Mean):
    title = ""


class Lax(Mean):
    Config = type("LaxConfig", (MethodConfig,), {"model_config": {"extra": "ignore"}})


class OneScore(Mean):
    def score(self, events, split=0):
        return np.float64(0.0)


class Infinite(Mean):
    def score(self, events, split=0):
        return np.where(events["f1"] > 0, np.inf, super().score(events, split))


class Neighbours(Mean):
    def score(self, events, split=0):
        return super().score(events, split) - events["f1"].mean()


class Chance(Mean):
    def mean(self, events, rows):
        return super().mean(events, rows) + np.random.default_rng().normal()


class Peeks(Mean):
    def fit(self, events, window, splits=None):
        super().fit(events, window, splits)
        self._means = [np.mean(self._means, axis=0)] * 2
        return self


class Weightless(Mean):
    def mean(self, events, rows):
        return events.x[rows & (events.weights > 0)].mean(axis=0)


class ZeroCounts(Mean):
    def mean(self, events, rows):
        return super().mean(events, rows) / events.x.std(axis=0)


class Careless(Mean):
    def fit(self, events, window, splits=None):
        masks = as_splits(splits, len(events))
        self._means = [self.mean(events, mask & window.contains(events.m)) for mask in masks]
        return self


class Forgets(Mean):
    def save_model(self, folder, split):
        (folder / "mean.json").write_text("[0, 0, 0]")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Nameless, "needs a title"),
        (Lax, "accepts an unknown option"),
        (OneScore, "score gave the shape"),
        (Infinite, "not finite"),
        (Neighbours, "depends on the events that are scored with it"),
        (Chance, "the same seed gave other scores"),
        (Peeks, "outside its row of the splits"),
        (Weightless, "weights change nothing"),
        (ZeroCounts, "outside its row of the splits"),
        (Careless, "a sample of two events must be refused with an InputError"),
        (Forgets, "a saved model gives other scores"),
    ],
)
def test_a_broken_promise_of_a_method_is_named(method, message):
    with pytest.raises(AssertionError, match=message):
        check_method(method)


# scores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "score",
    [Met(), IsolationForestScore(20), GaussianMixtureScore(1), KernelDensity(3)],
    ids=lambda s: s.kind,
)
def test_our_scores_keep_the_contract(score):
    check_score(score)


class Distance(OutlierScore):
    """Distance to the mean."""

    kind = "distance"

    def _fit(self, x, weights):
        self._mean = np.average(x, axis=0, weights=weights)

    def _score(self, x):
        return np.abs(x - self._mean).sum(axis=1)

    def _state(self):
        return {}, {"mean": self._mean}

    def _restore(self, facts, arrays):
        self._mean = arrays["mean"]


def test_a_small_score_keeps_the_contract():
    assert Distance.title == "distance"
    check_score(Distance(), ("a", "b"))


class UpsideDown(Distance):
    def _score(self, x):
        return -super()._score(x)


class Crowd(Distance):
    def _score(self, x):
        return super()._score(x) - x.mean()


class Dice(Distance):
    def _fit(self, x, weights):
        self._mean = x.mean(axis=0) + np.random.default_rng().normal()


class Amnesia(Distance):
    def _restore(self, facts, arrays):
        self._mean = 0.0


class Undefined(Distance):
    def _score(self, x):
        return np.full(len(x), np.nan)


class Short(Distance):
    def _score(self, x):
        return super()._score(x)[1:]


class Trusting(Distance):
    def score_samples(self, X):
        return self._score(np.asarray(X))


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (UpsideDown, "higher must be more anomalous"),
        (Crowd, "depends on the events that are scored with it"),
        (Dice, "the same random_state gave other scores"),
        (Amnesia, "a saved score gives other numbers"),
        (Undefined, "not finite"),
        (Short, "59 scores for 60 events"),
        (Trusting, "NaN must be refused with an InputError; it was accepted"),
    ],
)
def test_a_broken_promise_of_a_score_is_named(score, message):
    with pytest.raises(AssertionError, match=message):
        check_score(score())


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
