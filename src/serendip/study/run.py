"""A study from options to answers; every finished training stays, so that the same command continues."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serendip.errors import InputError
from serendip.io.json import read_json, write_json
from serendip.runs.executor import as_finished, available_cores, local_executor
from serendip.runs.folder import RunDirectory
from serendip.runs.progress import Progress
from serendip.study.config import QUESTIONS, StudyConfig
from serendip.study.context import Context
from serendip.study.design import make_design
from serendip.study.notes import shortfalls
from serendip.study.questions import load_question
from serendip.study.tasks import Task, load_outcome, run_task, sample_file
from serendip.theories.merits.samples import group_squares
from serendip.theories.sample_cache import read_samples, write_samples
from serendip.theories.samples import ChannelSamples, read_channel_samples, sample_files
from serendip.version import __version__
from serendip.wording import noun

__all__ = ["read_results", "run_study"]

_OF_SAMPLES = ("background", "theories", "harmonised", "rotate", "min_events", "seed")


def run_study(
    config: StudyConfig, out: Path, *, progress: Progress, jobs: int | None = None
) -> dict[str, Any]:
    """Answer questions and write ``OUT/results.json``.

    Parameters
    ----------
    config
        Options.
    out
        Folder: new, or one of the same study; finished trainings are not repeated.
    progress
        Receives progress messages.
    jobs
        Cores; default: those that there are. Each trains one thing at a time, and the remaining ones share a training.

    Returns
    -------
    results
        Content of ``results.json``; ``unanswered`` lists the questions that these samples cannot answer, and why, ``notes`` where the study falls short of the request.

    Raises
    ------
    InputError
        If no question can be answered, samples are missing or have changed, or the folder belongs to another study.
    """
    _open(out, config)
    found = _prepare(config, out, progress)
    families: dict[str, str] = {}
    for _, content in found.items():
        families |= dict(content["theories"])
    context = Context(
        config=config,
        out=out,
        families=families,
        present={
            channel: tuple(name for name, _ in content["theories"]) for channel, content in found.items()
        },
        design=make_design(families, config),
        events={channel: content["training"] for channel, content in found.items()},
    )
    for channel in context.present:
        if not context.training(channel):
            raise InputError(
                f"channel {channel}: no theory with at least {config.min_events} events is left to train on; leave the channel out or "
                "give more events"
            )
    workers = jobs or available_cores()
    answers: dict[str, Any] = _answers(out)
    unanswered: dict[str, str] = {}
    for name in config.questions:
        if name in answers:
            progress.start(f"answer: {name}", 1)
            progress.advance(f"{name} (already there)")
            continue
        question = load_question(name)
        try:
            for tasks in question.stages(context):
                _train(tasks, context, workers, progress)
            progress.start(f"answer: {name}", 1)
            answers[name] = question.answer(context, progress)
        except InputError as error:
            # one question that these samples cannot answer does not take the others with it
            if len(config.questions) == 1:
                raise
            unanswered[name] = str(error)
        progress.advance(name)
        _write(out, config, context, found, answers, unanswered)
    if not answers:
        reasons: dict[str, list[str]] = {}
        for question_name, reason in unanswered.items():
            reasons.setdefault(reason, []).append(question_name)
        said = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
        raise InputError(f"no question can be answered. {said}")
    _write(out, config, context, found, answers, unanswered)
    return read_results(out)


def _write(
    out: Path,
    config: StudyConfig,
    context: Context,
    found: dict[str, Any],
    answers: dict[str, Any],
    unanswered: dict[str, str],
) -> None:
    results = {
        "schema": 1,
        "serendip": __version__,
        "config": config.model_dump(mode="json"),
        "design": context.design.to_dict(),
        "families": dict(context.families),
        "channels": found,
        "answers": {key: answers[key] for key in QUESTIONS if key in answers},
        "unanswered": unanswered,
        "notes": shortfalls(context, found, answers),
    }
    write_json(out / "results.json", results)


def read_results(out: Path) -> dict[str, Any]:
    """Content of ``results.json`` of a study.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    path = out / "results.json"
    found = read_json(
        path, missing="expected the folder of 'serendip theories study'", damaged="repeat the study"
    )
    if not isinstance(found.get("answers"), dict):
        raise InputError(f"{path}: contains no study of theories")
    return found


def _answers(out: Path) -> dict[str, Any]:
    """Existing answers of this version."""
    if not (out / "results.json").exists():
        return {}
    found = read_results(out)
    return dict(found["answers"]) if found.get("serendip") == __version__ else {}


def _open(out: Path, config: StudyConfig) -> None:
    """Create the folder, or make sure that it belongs to this study."""
    wanted = config.model_dump(mode="json")
    may_change: Collection[str] = ("questions",)
    # without a training there is nothing yet that other options could contradict, but for the samples
    if not any((out / "tasks").rglob("*.json")):
        may_change = [key for key in wanted if key not in _OF_SAMPLES]
    RunDirectory(out, "study", may_change).open(wanted)


def _prepare(config: StudyConfig, out: Path, progress: Progress) -> dict[str, Any]:
    """Select and encode the samples of each channel once; returns their content."""
    files = {
        str(path): path.stat().st_size
        for group in (config.background, config.theories)
        for path in sample_files(group)
    }
    record = out / "samples" / "files.json"
    if record.exists():
        before = read_json(record, damaged="choose another folder")
        changed = sorted(name for name in before.keys() | files.keys() if before.get(name) != files.get(name))
        if changed:
            raise InputError(
                f"--out {out}: {len(changed)} sample {noun(len(changed), 'file has', 'files have')} changed since the study began ({changed[0]} ...); choose another "
                "folder"
            )
    else:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, files)
    progress.start("samples", len(config.channels))
    found = {}
    for channel in config.channels:
        path = sample_file(out, channel)
        there = path.exists()
        if there:
            samples = read_samples(path)
        else:
            samples = read_channel_samples(
                config.background,
                config.theories,
                channel,
                harmonised=config.harmonised,
                rotate=config.rotate,
                min_events=config.min_events,
                split_seed=config.seed,
            )
            write_samples(samples, path)
        found[channel] = _facts(samples, config.test_fraction)
        progress.advance(f"channel {channel}" + (" (already there)" if there else ""))
    return found


def _facts(samples: ChannelSamples, test_fraction: float) -> dict[str, Any]:
    weight, group = np.asarray(samples.background.weight), np.asarray(samples.background.group)
    return {
        "theories": [[theory.name, theory.family] for theory in samples.theories],
        "events": {theory.name: len(theory.x) for theory in samples.theories},
        "training": {
            theory.name: int(np.count_nonzero(np.asarray(theory.fold) >= test_fraction))
            for theory in samples.theories
        },
        "background": len(samples.background.x),
        "background_effective": float(weight.sum() ** 2 / group_squares(group, weight)[-1]),
        "left_out": dict(samples.left_out),
    }


def _train(tasks: Sequence[Task], context: Context, cores: int, progress: Progress) -> None:
    """Do the remaining trainings; the slow ones first, so that no core waits at the end."""
    unique = {(task.channel, task.key): task for task in tasks}
    todo = [task for task in unique.values() if load_outcome(task, context.out) is None]
    progress.start("trainings", len(unique))
    for _ in range(len(unique) - len(todo)):
        progress.advance("already there")
    todo.sort(key=lambda task: (task.kind == "mixture", task.channel, -len(task.theories)))
    workers = min(cores, max(len(todo), 1))
    threads = max(1, cores // workers)
    with local_executor(workers) as executor:
        for _, title in as_finished(executor, run_task, todo, context.out, context.config, threads):
            progress.advance(title)
