"""Common context of all questions of a study: design, samples, finished trainings, and the combination of channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from serendip.errors import InputError
from serendip.study.config import StudyConfig
from serendip.study.design import Design
from serendip.study.tasks import Outcome, Scores, Task, load_outcome, load_scores
from serendip.theories.merits import Merits, TotalImprovement, total_improvement

__all__ = ["Channelwise", "Context", "groups_of", "joined", "median_auc", "summary"]

Channelwise = Mapping[str, Mapping[str, Merits]]
"""Figures of merit by channel and theory: one model in all channels."""


@dataclass(frozen=True)
class Context:
    """A study that is under way.

    Attributes
    ----------
    config, out
        Options and folder.
    families
        Family of each theory with enough events in a channel.
    present
        Theories with enough events, by channel.
    design
        The held-out theories.
    events
        Events of each theory that may train, by channel; empty: more than requested.
    """

    config: StudyConfig
    out: Path
    families: Mapping[str, str]
    present: Mapping[str, tuple[str, ...]]
    design: Design
    events: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def training(self, channel: str) -> tuple[str, ...]:
        """Theories of the design that may train in a channel, sorted."""
        allowed = set(self.design.training)
        return tuple(sorted(name for name in self.present[channel] if name in allowed))

    def train_events(self, channel: str, theory: str) -> float:
        """Events of a theory that may train."""
        return self.events.get(channel, {}).get(theory, np.inf)

    def whole(self, channel: str, number: int) -> Task:
        """Task that mixes all training theories of a channel, with the seed of this number.

        The first is tested on all theories, and its scores are stored.
        """
        if number == 0:
            return Task(channel=channel, theories=self.training(channel), seed=self.seed(0), keep=True)
        return self.task(channel, self.training(channel), number)

    def task(self, channel: str, theories: Iterable[str], number: int, events: int | None = None) -> Task:
        """Task that mixes some theories and is tested on those that are held out, which is most of the time that it takes."""
        held_out = {*self.design.held_out_points, *self.design.held_out_families}
        tested = tuple(sorted(held_out & set(self.present[channel])))
        names = tuple(sorted(theories))
        return Task(channel=channel, theories=names, events=events, seed=self.seed(number), tested=tested)

    def mixture(self, channel: str) -> list[Task]:
        """Tasks that mix all training theories of a channel, one for each repeat."""
        return [self.whole(channel, i) for i in range(self.config.repeats)]

    def outlier(self, channel: str, score: str) -> Task:
        """Task of an unsupervised score; its scores are stored."""
        return Task(channel=channel, kind="outlier", score=score, seed=self.seed(0), keep=True)

    def seed(self, number: int) -> int:
        """Seed of the training of this number."""
        return self.config.seed + number

    def rng(self, salt: int) -> np.random.Generator:
        """Random numbers of a question."""
        return np.random.default_rng([self.config.seed, salt])

    def outcome(self, task: Task) -> Outcome:
        """Read a finished training."""
        found = load_outcome(task, self.out)
        if found is None:
            raise InputError(f"{self.out}: the training '{task.title}' is missing; run the study again")
        return found

    def scores(self, task: Task, rule: str = "") -> Scores:
        """Read stored scores; ``rule`` as in :func:`~serendip.study.tasks.load_scores`."""
        return load_scores(task, self.out, rule)

    def merits(self, tasks: Mapping[str, Task]) -> dict[str, Mapping[str, Merits]]:
        """Figures of merit of a model that has one training in each channel."""
        return {channel: self.outcome(task).merits for channel, task in tasks.items()}


def groups_of(design: Design) -> dict[str, tuple[str, ...]]:
    """The two groups of theories that are tested, by name; empty groups are left out."""
    groups = {
        "held_out_points": design.held_out_points,
        "held_out_families": design.held_out_families,
    }
    return {name: theories for name, theories in groups.items() if theories}


def joined(model: Channelwise, theories: Iterable[str], rng: np.random.Generator) -> TotalImprovement | None:
    """Total improvement over the channels for some theories, reliable points only; None if there is no such point."""
    wanted = set(theories)
    results = {
        (theory, channel): merits
        for channel, found in model.items()
        for theory, merits in found.items()
        if theory in wanted
    }
    if not any(point.reliable for merits in results.values() for point in merits.points):
        return None
    return total_improvement(results, rng, reliable=True)


def median_auc(found: Mapping[str, Merits], theories: Iterable[str]) -> float | None:
    """Median AUC of some theories in one channel; None if none is there."""
    values = [found[name].auc for name in theories if name in found]
    return float(np.median(values)) if values else None


def summary(
    name: str, kind: str, model: Channelwise, design: Design, rng: np.random.Generator, **facts: Any
) -> dict[str, Any]:
    """Plain numbers of a model on both groups of theories.

    Returns
    -------
    entry
        ``name``, ``kind``, further facts, and for each group the TI (minimum, median, maximum with errors, and each theory) and the
        median AUC by channel.
    """
    entry: dict[str, Any] = {"name": name, "kind": kind, **facts, "groups": {}}
    for group, theories in groups_of(design).items():
        improvement = joined(model, theories, rng)
        entry["groups"][group] = {
            "ti": None if improvement is None else improvement.to_dict(),
            "auc": {channel: median_auc(found, theories) for channel, found in model.items()},
        }
    return entry


def ti_value(entry: Mapping[str, Any], group: str, which: str = "median") -> float:
    """TI of a summary, -inf where there is none; to order models."""
    found = entry["groups"].get(group, {}).get("ti")
    return -np.inf if found is None else float(found[which])


def steps_of(config: StudyConfig, channel: str, n: int) -> Sequence[int]:
    """Numbers of theories on a curve up to ``n``."""
    return [*(step for step in config.of("steps", channel) if step < n), n]
