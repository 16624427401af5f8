"""Shared by the checks: a sample with a signal, and the error for a broken promise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip.errors import InputError
from serendip.events.events import Events, Window

__all__ = ["FEATURES", "WINDOW", "make_events", "need", "refusal", "write_events"]

FEATURES = ("f1", "f2", "f3")
WINDOW = Window(3300.0, 3700.0)
"""Contains the signal of :func:`make_events`."""


def make_events(
    n: int = 4000, n_signal: int = 100, seed: int = 1, weight: NDArray[Any] | None = None
) -> Events:
    """Generate a falling mass spectrum in GeV with three Gaussian features, and a signal at 3500 GeV in a corner of feature space.

    Parameters
    ----------
    n, n_signal
        Number of background and signal events.
    seed
        Of the random numbers.
    weight
        Event weights, shape ``(n + n_signal,)``.
    """
    rng = np.random.default_rng(seed)
    mass = 2000.0 * (1 - rng.random(n) * (1 - 3.5**-5)) ** -0.2
    x = np.concatenate([rng.normal(size=(n, 3)), rng.normal([2.2, -2.0, 2.0], 0.25, (n_signal, 3))])
    order = rng.permutation(n + n_signal)
    columns: dict[str, NDArray[Any]] = {"mjj": np.concatenate([mass, rng.normal(3500, 60, n_signal)])[order]}
    columns |= {name: x[order, i] for i, name in enumerate(FEATURES)}
    columns["truth"] = np.repeat([0, 1], [n, n_signal])[order]
    if weight is not None:
        columns["w"] = weight
    return Events(
        columns, mass="mjj", features=FEATURES, label="truth", weight=None if weight is None else "w"
    )


def write_events(folder: Path) -> Path:
    """Write a sample without signal to a Parquet file; returns its path."""
    from serendip.events.write import write

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "events.parquet"
    write(make_events(6000, 0).without_label(), path)
    return path


def need(promise: bool | np.bool_, sentence: str) -> None:
    """Check a promise.

    Raises
    ------
    AssertionError
        With the sentence, if the promise is broken.
    """
    if not promise:
        raise AssertionError(sentence)


@contextmanager
def refusal(what: str, *, needed: bool = True) -> Iterator[None]:
    """Check that the code within refuses its input with an :class:`~serendip.errors.InputError`.

    Parameters
    ----------
    what
        The input, for the message.
    needed
        If False, accepting it is fine as well.

    Raises
    ------
    AssertionError
        If another exception is raised, or none although one is needed.
    """
    try:
        yield
    except InputError:
        return
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(
            f"{what} must be refused with an InputError, not with {type(error).__name__}: {error}"
        ) from error
    need(not needed, f"{what} must be refused with an InputError; it was accepted")
