"""One training of a study and its results: figures of merit for every theory, and scores where they are needed again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from threadpoolctl import threadpool_limits

from serendip.io.files import reading
from serendip.io.json import load_json, write_json
from serendip.outliers.registry import SCORES
from serendip.study.config import StudyConfig
from serendip.study.thinning import share_out, thin
from serendip.theories.merits import BackgroundScores, Merits
from serendip.theories.mixture import MixtureConfig, train_mixture
from serendip.theories.sample_cache import read_samples
from serendip.theories.samples import ChannelSamples, read_channel_samples
from serendip.theories.training_sample import TheorySample
from serendip.torch_device import limited_threads
from serendip.wording import counted

__all__ = ["Outcome", "Scores", "Task", "load_outcome", "load_scores", "run_task", "sample_file"]

Array = NDArray[np.float64]

_AGAIN = "delete it and run again"
_DENSE = {"width": 256, "layers": 3}
RANK_FRACTION = 0.1
"""Fraction of the background, in addition to the test fraction, held out to convert scores into ranks."""


class Task(BaseModel):
    """One training.

    Attributes
    ----------
    channel
        Where.
    kind
        Trees on a mixture of theories, a set network on one, or an unsupervised score.
    score
        Name of the unsupervised score or of the network; empty for trees.
    theories
        The theories of the mixture; sorted.
    weights
        As in :class:`~serendip.theories.mixture.MixtureConfig`.
    events
        Total number of signal events, distributed evenly; None: from each theory as many as set in the options.
    seed
        Of the training.
    tested
        Theories that are tested; empty: all.
    keep
        Scores are stored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channel: str
    kind: Literal["mixture", "network", "outlier"] = "mixture"
    score: str = ""
    theories: tuple[str, ...] = ()
    weights: Literal["theory", "family"] | dict[str, float] = "theory"
    events: int | None = None
    seed: int = 1
    tested: tuple[str, ...] = ()
    keep: bool = False

    @property
    def key(self) -> str:
        """Name of its files: the same training has the same key, whichever question requests it."""
        if self.kind == "outlier":
            return f"{self.score}-{self.seed}"
        content = json.dumps(
            [self.theories, self.weights, self.events, self.seed, self.tested, self.keep], sort_keys=True
        )
        name = self.score or "mixture"
        return f"{name}-{len(self.theories)}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    @property
    def title(self) -> str:
        """Short, for the progress."""
        what = (
            SCORES[self.score].title
            if self.kind == "outlier"
            else counted(len(self.theories), "theory", "theories")
        )
        what = what if self.events is None else f"{what}, {self.events} events"
        what = f"{self.score}, {what}" if self.kind == "network" else what
        return f"channel {self.channel}: {what}"


@dataclass(frozen=True)
class Outcome:
    """The figures of merit of a training.

    Attributes
    ----------
    task
        The training.
    merits
        Figures of merit of the tested theories in the channel, on test events.
    facts
        Seconds, numbers of events, number of trees, AUC of the held-out part of the training.
    """

    task: Task
    merits: dict[str, Merits]
    facts: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Scores:
    """Stored scores of a training.

    Attributes
    ----------
    test, test_weight, test_group
        Background of the test, shape ``(n,)``.
    rank, rank_weight
        Background for ranks, shape ``(m,)``.
    theories, theory_weights
        Test events of each theory.
    """

    test: Array
    test_weight: Array
    test_group: NDArray[np.int64]
    rank: Array
    rank_weight: Array
    theories: dict[str, Array]
    theory_weights: dict[str, Array]


def sample_file(out: Path, channel: str) -> Path:
    """Where the samples of a channel are cached."""
    return out / "samples" / f"channel_{channel}.parquet"


def run_task(task: Task, out: Path, config: StudyConfig, threads: int = 1) -> str:
    """Train, test on held-out events, and write ``OUT/tasks/CHANNEL/KEY.json`` (and ``.npz``); returns the title.

    Theories that were in the training are tested on their test fraction, all others on all their events.
    """
    with threadpool_limits(threads), limited_threads(threads):
        return _run(
            task,
            out,
            config.model_copy(update={"boost": config.boost.model_copy(update={"threads": threads})}),
        )


def _run(task: Task, out: Path, config: StudyConfig) -> str:
    start = time.perf_counter()
    samples = _samples(sample_file(out, task.channel))
    fold = _fold(samples.background)
    test = fold < config.test_fraction
    rank = ~test & (fold < config.test_fraction + RANK_FRACTION)
    train = ~test & ~rank
    if (task.kind == "network" and task.score != "dense") or (
        task.kind == "outlier" and SCORES[task.score].objects
    ):
        # the lists of objects are read with the same events in the same order
        samples = _objects(task.channel, config)
    train_one = {"mixture": _mixture, "network": _network, "outlier": _outlier}[task.kind]
    score, facts = train_one(task, samples, train, config)
    trained = time.perf_counter() - start
    background = samples.background
    weight = np.asarray(background.weight)
    kept: dict[str, Array] = {}

    def scored(what: str, x: Any) -> Array:
        """Scores of events; by other rules they are stored only."""
        by_rule: dict[str, Array] = score(x)
        kept.update({f"{rule}{what}": values for rule, values in by_rule.items()})
        return by_rule[""]

    reference = BackgroundScores(scored("test", background.x[test]), weight[test], _group(background)[test])
    merits = {}
    for theory in samples.theories:
        if task.tested and theory.name not in task.tested:
            continue
        rows = _fold(theory) < config.test_fraction if theory.name in task.theories else slice(None)
        events = scored(f"theory/{theory.name}", theory.x[rows])
        kept[f"weight/{theory.name}"] = _weight(theory)[rows]
        merits[theory.name] = reference.merits(
            events, _weight(theory)[rows], targets=config.targets
        ).to_dict()
    facts |= {
        "test_background": int(np.count_nonzero(test)),
        "seconds_training": trained,
        "seconds": time.perf_counter() - start,
    }
    base = out / "tasks" / task.channel / task.key
    base.parent.mkdir(parents=True, exist_ok=True)
    if task.keep:
        scored("rank", background.x[rank])
        arrays: dict[str, Any] = {
            name: values.astype(np.float32) if "theory/" in name else values for name, values in kept.items()
        }
        arrays |= {"test_weight": weight[test], "test_group": _group(background)[test]}
        np.savez_compressed(base.with_suffix(".npz"), **arrays, rank_weight=weight[rank])
    write_json(
        base.with_suffix(".json"),
        {"schema": 1, "task": task.model_dump(mode="json"), "facts": facts, "merits": merits},
    )
    return task.title


def load_outcome(task: Task, out: Path) -> Outcome | None:
    """Read a finished training; None if it is not there or was interrupted."""
    path = out / "tasks" / task.channel / f"{task.key}.json"
    if not path.exists() or (task.keep and not path.with_suffix(".npz").exists()):
        return None
    with reading(path, damaged=_AGAIN):
        content = load_json(path)
        merits = {name: Merits.from_dict(entry) for name, entry in content["merits"].items()}
        return Outcome(Task(**content["task"]), merits, content["facts"])


def load_scores(task: Task, out: Path, rule: str = "") -> Scores:
    """Read the stored scores of a finished training; ``rule`` is another one for the members of a deep SVDD ensemble."""
    start = f"{rule}/" if rule else ""
    path = out / "tasks" / task.channel / f"{task.key}.npz"
    with reading(path, damaged=_AGAIN), np.load(path, allow_pickle=False) as file:
        plain: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}

    def by_theory(prefix: str) -> dict[str, Array]:
        return {
            name.removeprefix(prefix): values.astype(float)
            for name, values in plain.items()
            if name.startswith(prefix)
        }

    return Scores(
        plain[f"{start}test"],
        plain["test_weight"],
        plain["test_group"],
        plain[f"{start}rank"],
        plain["rank_weight"],
        by_theory(f"{start}theory/"),
        by_theory("weight/"),
    )


@lru_cache(maxsize=1)
def _samples(path: Path) -> ChannelSamples:
    return read_samples(path)


def _objects(channel: str, config: StudyConfig) -> ChannelSamples:
    return _read_objects(
        channel,
        config.background,
        config.theories,
        config.harmonised,
        config.rotate,
        config.min_events,
        config.seed,
    )


@lru_cache(maxsize=1)
def _read_objects(
    channel: str,
    background: tuple[Path, ...],
    theories: tuple[Path, ...],
    harmonised: bool,
    rotate: bool,
    min_events: int,
    seed: int,
) -> ChannelSamples:
    return read_channel_samples(
        background,
        theories,
        channel,
        harmonised=harmonised,
        rotate=rotate,
        min_events=min_events,
        split_seed=seed,
        encoding="objects",
    )


def _mixture(task: Task, samples: ChannelSamples, train: NDArray[np.bool_], config: StudyConfig) -> Any:
    x, background = _background(task, samples, train, config.background_events)
    chosen = _chosen(task, samples, config)
    sizes = [len(sample.x) for sample in chosen]
    most = config.events_per_theory if task.events is None else share_out(sizes, task.events)
    options = MixtureConfig(events_per_theory=most, weights=task.weights, boost=config.boost, seed=task.seed)
    classifier = train_mixture(x, chosen, options, **background)
    facts = {
        "train_background": len(x),
        "rounds": classifier.rounds,
        "validation_auc": classifier.validation_auc,
        "train_signal": sum(min(size, most) for size in sizes),
        "gains": dict(list(classifier.gains().items())[:10]),
    }
    return _only(classifier.score), facts


def _network(task: Task, samples: ChannelSamples, train: NDArray[np.bool_], config: StudyConfig) -> Any:
    from serendip.theories.sets import SetConfig, train_set_network

    x, background = _background(task, samples, train, config.network_background)
    chosen = _chosen(task, samples, config)
    options = SetConfig(
        kind=task.score,
        **(_DENSE if task.score == "dense" else {}),
        events_per_theory=config.network_events,
        weights=task.weights,
        threads=config.boost.threads,
        seed=task.seed,
    )
    classifier = train_set_network(x, chosen, options, **background)
    facts = {
        "train_background": len(x),
        "epochs": classifier.epochs,
        "validation_auc": classifier.validation_auc,
        "train_signal": sum(min(len(sample.x), config.network_events) for sample in chosen),
    }
    return _only(classifier.score), facts


def _thinned(
    task: Task, samples: ChannelSamples, train: NDArray[np.bool_], n: int
) -> tuple[NDArray[np.int64], Array]:
    """Rows and weights of the background of a training."""
    rows = np.flatnonzero(train)
    kept, weight = thin(_weight(samples.background)[rows], n, np.random.default_rng([task.seed, 0xB6]))
    return rows[kept], weight


def _background(
    task: Task, samples: ChannelSamples, train: NDArray[np.bool_], n: int
) -> tuple[Array, dict[str, Any]]:
    """Background events for the training of a classifier."""
    rows, weight = _thinned(task, samples, train, n)
    return samples.background.x[rows], {
        "features": samples.features,
        "background_weight": weight,
        "background_group": _group(samples.background)[rows],
    }


def _chosen(task: Task, samples: ChannelSamples, config: StudyConfig) -> list[TheorySample]:
    """Training events of the theories of a task."""
    chosen = []
    for theory in samples.theories:
        if theory.name in task.theories:
            part = _fold(theory) >= config.test_fraction
            chosen.append(
                TheorySample(
                    theory.name, theory.family, theory.x[part], _weight(theory)[part], _group(theory)[part]
                )
            )
    return chosen


def _outlier(task: Task, samples: ChannelSamples, train: NDArray[np.bool_], config: StudyConfig) -> Any:
    rows, weight = _thinned(task, samples, train, config.outlier_events)
    order = np.random.default_rng([task.seed, 0x0071]).permutation(len(rows))
    rows, weight = rows[order], weight[order]
    estimator = SCORES[task.score].make(samples.features)
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=task.seed)
    estimator.fit(samples.background.x[rows], sample_weight=weight)
    facts = {"train_background": len(rows)}
    if task.score != "deep-svdd":
        return _only(estimator.score_samples), facts

    def rules(x: Any) -> dict[str, Array]:
        found = estimator.rule_scores(x)
        return {"": found[estimator.combine]} | {f"{rule}/": values for rule, values in found.items()}

    return rules, facts


def _only(score: Callable[[Any], Array]) -> Callable[[Any], dict[str, Array]]:
    return lambda x: {"": score(x)}


def _fold(sample: TheorySample) -> Array:
    return np.asarray(sample.fold, dtype=float)


def _weight(sample: TheorySample) -> Array:
    return np.asarray(sample.weight, dtype=float)


def _group(sample: TheorySample) -> NDArray[np.int64]:
    return np.asarray(sample.group, dtype=np.int64)
