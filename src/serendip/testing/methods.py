"""Contract check of search methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from serendip.errors import InputError
from serendip.events.events import Events
from serendip.methods.base import Method
from serendip.testing.base import FEATURES, WINDOW, make_events, need, refusal

__all__ = ["check_method"]


def check_method(method: type[Method], options: Mapping[str, Any] | None = None) -> None:
    """Check that a method keeps the contract of :class:`~serendip.methods.base.Method`.

    It is trained about six times on 4,000 events with three features; give options that make it fast.

    Parameters
    ----------
    method
        The class.
    options
        Of its ``Config``; default: none.

    Raises
    ------
    AssertionError
        Naming the promise that is broken:

        * the class has ``name``, ``title`` and a ``Config`` that refuses unknown options;
        * scores are finite, one per event, and independent of the other events scored and of their order;
        * model ``k`` depends neither on the events outside row ``k`` of the splits nor on events of weight zero;
        * event weights are used or refused;
        * the same seed gives the same scores;
        * a sample that is too small to train on is refused with an :class:`~serendip.errors.InputError`;
        * a saved model scores as the one that was saved, if the method can be saved.
    """
    need(isinstance(getattr(method, "name", None), str), "the class needs a name")
    need(bool(getattr(method, "title", "")), "the class needs a title")
    try:
        method.Config.model_validate({"no_such_option": 1})
    except ValidationError:
        pass
    else:
        need(False, "Config accepts an unknown option; derive it from MethodConfig")
    config = method.Config(**(options or {}))

    def fitted(events: Events, splits: NDArray[np.bool_]) -> Method:
        simulation = make_events(n_signal=0, seed=2) if method.uses_simulation(config) else None
        labelled = events if method.uses_labels else events.without_label()
        return method(config, seed=3, simulation=simulation).fit(labelled, WINDOW, splits)

    events = make_events()
    n = len(events)
    splits = np.arange(n) % 2 == np.arange(2)[:, None]
    first = fitted(events, splits)
    scores = np.asarray(first.score(events, 0))
    need(scores.shape == (n,), f"score gave the shape {scores.shape} for {n} events")
    need(np.isfinite(scores).all(), "score gave numbers that are not finite")
    spread = float(np.std(scores))

    def same(found: Any, wanted: Any) -> bool:
        return np.allclose(found, wanted, rtol=1e-4, atol=1e-4 * spread)

    rows = np.random.default_rng(4).permutation(n)[:500]
    need(
        same(first.score(events.select(rows), 0), scores[rows]),
        "the score of an event depends on the events that are scored with it",
    )
    need(same(fitted(events, splits).score(events, 0), scores), "the same seed gave other scores")
    need(
        same(fitted(_moved(events, ~splits[0]), splits).score(events, 0), scores),
        "model 0 depends on events outside its row of the splits",
    )
    if method.trains:
        _check_weights(fitted, splits, same)
        few = np.zeros((1, n), dtype=bool)
        few[0, [0, np.flatnonzero(WINDOW.contains(events.m))[0]]] = True
        with refusal("a sample of two events"):
            fitted(events, few)
    if method.save_model is not Method.save_model:
        with TemporaryDirectory() as folder:
            first.save(Path(folder) / "model", 1, features=FEATURES, mass="mjj", window=WINDOW)
            again = method.load(Path(folder) / "model")
        need(same(again.score(events, 0), first.score(events, 1)), "a saved model gives other scores")


def _check_weights(fitted: Any, splits: NDArray[np.bool_], same: Any) -> None:
    n = splits.shape[1]
    weight = np.where(np.arange(n) % 7 < 2, 0.0, 1.0)
    light = make_events(weight=weight)
    try:
        scores = fitted(light, splits).score(light, 0)
    except InputError:
        return
    need(
        same(fitted(_moved(light, weight == 0), splits).score(light, 0), scores),
        "events of weight zero change the scores",
    )
    corner = make_events()["f1"] > 0
    heavy = make_events(weight=np.where(corner, 5.0, 1.0))
    plain = make_events(weight=np.ones(n))
    need(
        not np.array_equal(fitted(heavy, splits).score(light, 0), fitted(plain, splits).score(light, 0)),
        "weights change nothing; use them or refuse them with an InputError",
    )


def _moved(events: Events, rows: NDArray[np.bool_]) -> Events:
    """Other features for some of the events."""
    columns = dict(events.columns)
    for name in events.features:
        columns[name] = np.where(rows, -3.0 * columns[name] + 1.0, columns[name])
    return Events(
        columns, mass=events.mass, features=events.features, weight=events.weight, label=events.label
    )
