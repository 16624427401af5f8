"""Whether the score of a mixture of theories helps a search for a resonance that is not in the mixture.

Simulated background is split in three: one part trains the classifier, one part decorrelates its score from the mass, and the rest becomes pseudo-data, together with
signal of a family of theories held out from the training. On the same pseudo-data a weakly supervised
search is run with plain features, with the score as one feature more, and with the score alone; it is compared with a cut on the score itself and the bump hunt without a cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serendip.errors import InputError
from serendip.io.files import make_folder
from serendip.io.json import write_json
from serendip.runs.progress import LogProgress, Progress
from serendip.runs.reuse import check_same, stored_record
from serendip.search.compare import CompareConfig, run_compare
from serendip.simulate.catalogue.points import refuse_other_names
from serendip.study.resonance.answer import INPUTS, ResonantAnswer, resonant_notes, resonant_rows
from serendip.study.resonance.config import ResonantConfig
from serendip.study.resonance.data import TABLE, fold_part, pseudo_data
from serendip.study.resonance.looks import cut_entries, with_added_excess
from serendip.study.resonance.table import FEATURES
from serendip.theories.mixture import MixtureClassifier, train_mixture
from serendip.theories.training_sample import TheorySample
from serendip.version import __version__

__all__ = ["ResonantConfig", "resonant_question"]

_TRAINED: dict[str, tuple[str, ...]] = {
    "features": FEATURES,
    "features+score": (*FEATURES, "mot_score"),
    "features+flat": (*FEATURES, "mot_flat"),
    "score": ("mot_score",),
    "flat": ("mot_flat",),
}
_CUTS = {"cut score": "mot_score", "cut flat": "mot_flat"}
_RECORD, _ANSWER = "study.json", "resonant.json"


def resonant_question(
    background: TheorySample,
    theories: Sequence[TheorySample],
    resonance: TheorySample,
    out: Path,
    config: ResonantConfig | None = None,
    *,
    features: Sequence[str],
    jobs: int | None = None,
    progress: Progress | None = None,
) -> ResonantAnswer:
    """Search for a resonance with and without the score of a mixture of other theories.

    Parameters
    ----------
    background
        Standard Model events of a channel in the flat encoding, with weights, groups and numbers to split them by
        (:func:`~serendip.theories.samples.read_channel_samples`).
    theories
        Theories for the mixture; those of the family of the resonance, and of ``config.without``, are not.
    resonance
        Signal events of the same channel.
    out
        Folder: new, or one of the same call, which is continued.
    config
        Options.
    features
        Names of the columns of ``x``.
    jobs
        Worker processes of the searches.
    progress
        Receives progress messages.

    Returns
    -------
    ResonantAnswer
        Also written to ``OUT/resonant.json``; the pseudo-data and all of the signal are in ``OUT/events.parquet``, and the searches in folders next to it, as ``serendip compare`` writes them.

    Raises
    ------
    InputError
        If samples lack weights or numbers, no theory is left, there are too few events, or the folder holds another study.
    """
    config = config or ResonantConfig()
    progress = progress or LogProgress()
    mixed = _mixed(theories, resonance, config)
    _check(background, resonance)
    _open(out, _digest(background, mixed, resonance, features, config))
    model = _classifier(background, mixed, out, config, features, progress)
    record, window, mass_range = pseudo_data(background, resonance, model, out, config, features, progress)
    in_window = record["background_in_window_weight2"]
    numbers = {round(size * float(np.sqrt(in_window))): size for size in config.injections}
    if max(numbers) > record["signal_in_window"]:
        raise InputError(
            f"{max(numbers)} signal events in the window {window} are requested, but '{resonance.name}' has only "
            f"{record['signal_in_window']} there; simulate more of it, or inject less"
        )
    common: dict[str, Any] = {
        "file": str(out / TABLE), "mass": "mass", "label": "signal", "weight": "weight" if record["overweight"] else None,
        "window": (window.low, window.high), "range": mass_range, "injections": tuple(numbers), "repeats": config.seeds,
        "folds": config.folds, "combination": "sequential", "working_points": config.working_points,
        "background": config.background, "min_background": config.min_background, "seed": config.seed,
    }  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {}
    for inputs, wanted in _TRAINED.items():
        # a constant column is not a feature
        names = tuple(name for name in wanted if name not in record["constant"])
        method = (config.method, "bump-hunt") if inputs == "features" else (config.method,)
        options = {config.method: config.options} if config.options else {}
        search = CompareConfig(**common, features=names, method=method, options=options)
        folder = out / inputs.replace("+", "-")
        entries = run_compare(search, folder, jobs=jobs, progress=progress)["entries"]
        entries = with_added_excess(search, entries, folder)
        found[inputs] = [entry for entry in entries if entry["method"] != "bump-hunt"]
        found["none"] = [entry for entry in entries if entry["method"] == "bump-hunt"] or found.get(
            "none", []
        )
    for inputs, name in _CUTS.items():
        progress.start(f"cuts on {name}", 1)
        found[inputs] = cut_entries(CompareConfig(**common, features=(name,), method=("bump-hunt",)), name)
        progress.advance(INPUTS[inputs])
    scale = record["scale"]
    rows = [
        row
        for number, size in sorted(numbers.items())
        for inputs in INPUTS
        for row in resonant_rows(inputs, size, number, found, scale)
    ]
    answer = ResonantAnswer(
        resonance.name, resonance.family, tuple(sample.name for sample in mixed),
        tuple(sorted({resonance.family, *config.without})), (window.low, window.high), mass_range,
        {key: value for key, value in record.items() if key != "score"}, record["score"], tuple(rows),
        resonant_notes(rows, record["score"]),
    )  # fmt: skip
    write_json(out / _ANSWER, answer.to_dict())
    return answer


def _mixed(
    theories: Sequence[TheorySample], resonance: TheorySample, config: ResonantConfig
) -> list[TheorySample]:
    families = {sample.family for sample in theories} | {resonance.family}
    if unknown := sorted(set(config.without) - families):
        refuse_other_names(unknown)
        raise InputError(
            f"there is no family '{unknown[0]}' to leave out; there are {', '.join(sorted(families))}"
        )
    mixed = [sample for sample in theories if sample.family not in {resonance.family, *config.without}]
    if not mixed:
        raise InputError(
            f"no theory is left to train on: all are of the family '{resonance.family}' or left out"
        )
    return mixed


def _check(background: TheorySample, resonance: TheorySample) -> None:
    for sample in (background, resonance):
        if np.ndim(sample.x) != 2:
            raise InputError(f"'{sample.name}': the flat encoding is needed")
    if background.weight is None or background.group is None or background.fold is None:
        raise InputError(
            "the background needs weights, groups and numbers to split it by, as read_channel_samples gives them"
        )


def _digest(
    background: TheorySample,
    mixed: Sequence[TheorySample],
    resonance: TheorySample,
    features: Sequence[str],
    config: ResonantConfig,
) -> dict[str, Any]:
    """The settings that determine a folder."""

    def content(sample: TheorySample) -> str:
        state = hashlib.blake2b(digest_size=16)
        for values in (sample.x, sample.weight, sample.group, sample.fold):
            if values is not None:
                state.update(np.ascontiguousarray(values).tobytes())
        return state.hexdigest()

    return {
        "schema": 1,
        "version": __version__,
        "background": content(background),
        "theories": {sample.name: content(sample) for sample in mixed},
        "resonance": {resonance.name: content(resonance)},
        "features": list(features),
        "config": config.model_dump(mode="json"),
    }


def _open(out: Path, wanted: dict[str, Any]) -> None:
    found = stored_record(out, _RECORD, "resonant question")
    if found is not None:
        check_same(found, wanted, f"--out {out}: holds a resonant question")
        return
    make_folder(out)
    write_json(out / _RECORD, wanted)


def _classifier(
    background: TheorySample,
    mixed: Sequence[TheorySample],
    out: Path,
    config: ResonantConfig,
    features: Sequence[str],
    progress: Progress,
) -> MixtureClassifier:
    folder = out / "mixture"
    progress.start("training the mixture", 1)
    if not (folder / "mixture.json").exists():
        assert background.weight is not None
        assert background.group is not None
        rows = fold_part(background, config.data_fraction + config.flatten_fraction, 1.0)
        train_mixture(
            background.x[rows],
            mixed,
            config.mixture,
            features=features,
            background_weight=background.weight[rows],
            background_group=background.group[rows],
        ).save(folder)
    progress.advance(f"{len(mixed)} theories")
    return MixtureClassifier.load(folder)
