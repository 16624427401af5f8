"""The held-out theories of a study: whole families, and single points of the other families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serendip.errors import InputError
from serendip.study.config import StudyConfig
from serendip.wording import counted

__all__ = ["Design", "fold_of", "make_design", "random_orders"]


@dataclass(frozen=True)
class Design:
    """Names of theories, sorted.

    Attributes
    ----------
    training
        May be in a mixture.
    held_out_points
        Have siblings (points of the same family) in training.
    held_out_families
        Have none.
    """

    training: tuple[str, ...]
    held_out_points: tuple[str, ...]
    held_out_families: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists of names."""
        return {name: list(names) for name, names in asdict(self).items()}


def make_design(families: Mapping[str, str], config: StudyConfig) -> Design:
    """Draw the held-out theories, or use those named in the options.

    Parameters
    ----------
    families
        Family of each theory that has enough events in at least one channel.
    config
        Options.

    Raises
    ------
    InputError
        If nothing would be left to train on or to test, or a name is not known.
    """
    rng = np.random.default_rng([config.seed, 0xDE51])
    names = sorted(families)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(families[name], []).append(name)
    if config.tested:
        return _named(config.tested, families, groups)
    order = [sorted(groups)[i] for i in rng.permutation(len(groups))]
    n_families = round(config.held_out_families * len(groups))
    if config.held_out_families and not n_families:
        raise InputError(
            f"held_out_families = {config.held_out_families:g} of {counted(len(groups), 'family', 'families')} is none to test; give more "
            "families, a larger part, or 0 to test points alone"
        )
    # a theory with its own training cannot be held out
    alone = (
        {name for theories in config.single.values() for name in theories}
        if isinstance(config.single, dict)
        else set()
    )
    families_out = [family for family in order if alone.isdisjoint(groups[family])][:n_families]
    outside = [name for family in families_out for name in groups[family]]
    # one point of each family at most, so that the point always has siblings in training
    free = {
        family: [name for name in groups[family] if name not in alone]
        for family in order
        if family not in families_out
    }
    candidates = [
        points[rng.integers(len(points))]
        for family, points in free.items()
        if points and len(groups[family]) > 1
    ]
    n_points = min(round(config.held_out_points * len(names)), len(candidates))
    chosen = [candidates[i] for i in rng.permutation(len(candidates))[:n_points]]
    training = sorted(set(names) - set(outside) - set(chosen))
    if not training or not (outside or chosen):
        raise InputError(
            f"{len(names)} theories in {len(groups)} families leave {len(training)} to train on and {len(outside) + len(chosen)} to "
            "test; give more theories, or other held_out_families and held_out_points"
        )
    return Design(tuple(training), tuple(sorted(chosen)), tuple(sorted(outside)))


def _named(tested: Sequence[str], families: Mapping[str, str], groups: Mapping[str, Sequence[str]]) -> Design:
    """Hold out the theories named in the options."""
    if unknown := [name for name in tested if name not in families and name not in groups]:
        raise InputError(
            f"tested: no theory and no family called {', '.join(unknown)} has enough events in a channel; there are "
            f"{', '.join(sorted(groups))}"
        )
    outside = {name for name in families if name in tested or families[name] in tested}
    training = sorted(set(families) - outside)
    if not training:
        raise InputError("tested: all theories are named, none is left to train on")
    known = {families[name] for name in training}
    points = sorted(name for name in outside if families[name] in known)
    return Design(tuple(training), tuple(points), tuple(sorted(outside - set(points))))


def random_orders(
    names: Sequence[str], families: Mapping[str, str], n_orders: int, rng: np.random.Generator
) -> tuple[list[list[str]], list[list[str]]]:
    """Draw orders in which theories are added, and orders in which whole families are.

    Returns
    -------
    by_theory, by_family
        Each a list of ``n_orders`` orders of all names; in the second, the points of a family stand together.
    """
    by_theory = [[names[i] for i in rng.permutation(len(names))] for _ in range(n_orders)]
    kinds = sorted({families[name] for name in names})
    by_family = []
    for _ in range(n_orders):
        place = {kinds[i]: place for place, i in enumerate(rng.permutation(len(kinds)))}
        by_family.append(sorted(names, key=lambda name, place=place: (place[families[name]], name)))  # type: ignore[misc]
    return by_theory, by_family


def fold_of(
    families: Mapping[str, str], n_folds: int, rng: np.random.Generator, *, whole_families: bool
) -> dict[str, int]:
    """Number of the fold in which each theory is left out.

    Parameters
    ----------
    families
        Family of each theory.
    n_folds
        Number of folds.
    rng
        Draws them.
    whole_families
        The points of a family are left out together. Without, they are spread over as many folds as possible.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(families):
        groups.setdefault(families[name], []).append(name)
    order = [sorted(groups)[i] for i in rng.permutation(len(groups))]
    found: dict[str, int] = {}
    if whole_families:
        sizes = np.zeros(n_folds, dtype=int)
        for family in order:
            fold = int(np.argmin(sizes))
            sizes[fold] += len(groups[family])
            found |= dict.fromkeys(groups[family], fold)
        return found
    next_fold = 0
    for family in order:
        for i in rng.permutation(len(groups[family])):
            found[groups[family][i]] = next_fold % n_folds
            next_fold += 1
    return found
