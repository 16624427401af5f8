from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from serendip import Events, Window, concatenate
from serendip.errors import InputError


def make(n=10, **options):
    columns = {
        "m": np.linspace(1000, 2000, n),
        "x": np.arange(n) ** 2,
        "z": np.linspace(-1, 1, n, dtype=np.float32),
        "w": np.linspace(0.5, 1.5, n),
        "y": np.arange(n) % 3 == 0,
        "key": np.arange(n) + 100,
    }
    roles = {"mass": "m", "features": ["z", "x"], "weight": "w", "label": "y", "id": "key"}
    return Events(columns=columns, **{**roles, **options})


def test_roles_give_arrays_of_the_right_type():
    events = make()
    assert len(events) == 10
    assert (events.m.dtype, events.x.dtype, events.weights.dtype) == (np.float64, np.float32, np.float64)
    np.testing.assert_array_equal(events.x, np.stack([events["z"], events["x"]], axis=1).astype(np.float32))
    np.testing.assert_array_equal(events.labels, np.arange(10) % 3 == 0)
    np.testing.assert_array_equal(events.ids, np.arange(10) + 100)


def test_defaults_without_optional_roles():
    events = make(weight=None, label=None, id=None)
    np.testing.assert_array_equal(events.weights, np.ones(10))
    np.testing.assert_array_equal(events.ids, np.arange(10))
    with pytest.raises(InputError, match="no truth label"):
        events.labels


def test_events_cannot_be_changed():
    values = np.ones(3)
    events = Events(columns={"m": values}, mass="m")
    with pytest.raises(ValueError, match="read-only"):
        events["m"][0] = 7
    with pytest.raises(TypeError):
        events.columns["m"] = values
    with pytest.raises(TypeError):
        events.provenance["file"] = "x"
    with pytest.raises(dataclasses.FrozenInstanceError):
        events.mass = "x"
    values[0] = 2  # the caller's own array stays writeable


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mass": "q"}, "mass column 'q' is not in the table"),
        ({"features": ["q"]}, "feature column 'q'"),
        ({"weight": "q"}, "weight column 'q'"),
        ({"features": ["x", "m"]}, "'m' is the mass and cannot also be a feature"),
        ({"features": ["y"]}, "'y' is the label and cannot also be a feature"),
        ({"features": ["key"]}, "'key' is the id and cannot also be a feature"),
        ({"features": ["w"]}, "'w' is the weight and cannot also be a feature"),
    ],
)
def test_wrong_roles(options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


def test_columns_of_different_length():
    with pytest.raises(InputError, match=r"differ in length .*m: 2, x: 3"):
        Events(columns={"m": np.ones(2), "x": np.ones(3)}, mass="m")


def test_select_by_mask_and_by_rows():
    events = make()
    mask = events.m > 1500
    chosen = events.select(mask)
    np.testing.assert_array_equal(chosen.ids, events.ids[mask])
    np.testing.assert_array_equal(chosen.x, events.x[mask])
    np.testing.assert_array_equal(events.select([3, 1, 3]).ids, [103, 101, 103])
    assert chosen.features == events.features


def test_without_label():
    events = make().without_label()
    assert events.label is None
    assert "y" not in events.columns
    assert events.without_label() is events
    np.testing.assert_array_equal(events.x, make().x)


def test_concatenate():
    a, b = make(4), make(3)
    both = concatenate([a, b])
    np.testing.assert_array_equal(both.m, np.r_[a.m, b.m])
    np.testing.assert_array_equal(both.labels, np.r_[a.labels, b.labels])
    extra = Events(
        columns={**b.columns, "more": np.ones(3)},
        mass="m",
        features=b.features,
        weight="w",
        label="y",
        id="key",
    )
    assert set(concatenate([a, extra]).columns) == set(a.columns)
    with pytest.raises(InputError, match="different roles"):
        concatenate([a, make(weight=None)])
    with pytest.raises(InputError, match="nothing"):
        concatenate([])


def test_digest_sees_every_change():
    events = make()
    assert events.digest() == make().digest()
    changed = {**events.columns, "x": events["x"] + (np.arange(10) == 9)}
    retyped = {**events.columns, "x": events["x"].astype(np.int32)}
    others = [
        make(weight=None),
        make(features=["x", "z"]),
        events.select(np.arange(10)[::-1]),
        dataclasses.replace(events, columns=changed),
        dataclasses.replace(events, columns=retyped),
    ]
    assert len({events.digest(), *(other.digest() for other in others)}) == 6


def test_window():
    window = Window(3300, 3700)
    assert window.contains(np.array([3299.9, 3300, 3699.9, 3700, np.nan])).tolist() == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert (window.centre, window.width, str(window)) == (3500, 400, "3300-3700 GeV")
    for low, high in ((2, 1), (1, 1), (0, 1), (-1, 1), (1, np.inf), (np.nan, 1)):
        with pytest.raises(InputError, match="not a mass interval"):
            Window(low, high)
