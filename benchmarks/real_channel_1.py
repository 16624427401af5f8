"""Classifiers trained on generated samples, tested on the public ones of channel 1.

    python benchmarks/real_channel_1.py SM_FOLDER BSM_FOLDER REAL_FOLDER PUBLISHED_FOLDER [--events-per-theory 2000] [--json FILE]

SM_FOLDER and BSM_FOLDER are of ``serendip theories simulate`` (the Parquet files that are there are used), REAL_FOLDER holds public files of
channel 1, PUBLISHED_FOLDER the tables of the challenge. All events are harmonised. Printed are how alike generated and public
background are, and for each signal and classifier AUC and signal efficiency at eps_B = 1e-2, beside those of the published models,
which were measured with the events as published and another part of the background.

Events are turned so that MET points along phi = 0, except where it is said. Few generated multijet events reach channel 1, with large weights. Where no weights are named the background of the training is
not weighted: all events count the same, whatever their process.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serendip import outliers
from serendip.classify.build import build_classifier
from serendip.theories.merits import Merits, ResultTable, clean, merits, read_results, result_files
from serendip.theories.merits.samples import effective_number
from serendip.theories.mixture import BoostConfig, MixtureConfig, TheorySample, train_mixture
from serendip.theories.samples import ChannelSamples, read_channel_samples, sample_name
from serendip.theories.training import select_events
from serendip.validate.importance import permutation_importance
from serendip.validate.twosample import bootstrap_error, cross_validate, null_error

TESTED = (
    "glgl",
    "sqsq",
    "stop",
    "dark matter, vector mediator",
    "dark matter, scalar mediator",
)
"""Families of the public signals: gluino, squark and stop pairs, and dark matter with a jet."""
RELATED = (
    "glsq", "stopjets", "sbottom", "gmsb_glgl", "gmsb_neutneut", "gllp", "gllpp", "RPV gluino, lambda''", "stlp", "stlpp",
    "RPV stop, lambda", "RPV squark, lambda'", "large extra dimensions, monojet", "dark matter, mono-Higgs",
)  # fmt: skip
"""Families with nearly the same particles in the detector."""
SINGLE = (
    "glgl1600_neutralino800",
    "sqsq_sq1400_neut200",
    "stop800_t_neutralino200",
    "monojet_Zp2000_DM50",
    "lqlq1000_ttau",
    "tprime900_bW",
)
PUBLISHED = (
    "SimpleAE", "DeepSVDD_C3_d13", "Flow-Efficient_Likelihood", "Flow-Efficient-No-E_Likelihood", "Combined-AND-DeepSVDD-Flow",
    "Combined-AVG-DeepSVDD-Flow", "Combined-OR-DeepSVDD-Flow",
)  # fmt: skip
SAME = {
    "glgl1400_neutralino1100": "glgl1400_neutralino1100",
    "sqsq_sq1800_neut800": "sqsq_sq1800_neut800",
    "monojet_Zp2000.0_DM_50.0": "monojet_Zp2000_DM50",
}
"""Public signals and the generated points with the same masses."""
SEED = 1


@dataclass(frozen=True)
class Data:
    """Generated and public samples of channel 1."""

    generated: ChannelSamples
    background: TheorySample
    signals: tuple[TheorySample, ...]
    process: NDArray[Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Columns."""
        return self.generated.features


def read(sm: Path, bsm: Path, real: Path, rotate: bool = False) -> Data:
    standard, theories = (sorted(folder.glob("*.parquet")) for folder in (sm, bsm))
    generated = read_channel_samples(standard, theories, "1", rotate=rotate)
    files = sorted(real.glob("*.csv"))
    public = read_channel_samples(
        [path for path in files if path.stem.startswith("background")],
        [path for path in files if not path.stem.startswith("background")],
        "1",
        rotate=rotate,
    )
    return Data(generated, public.background, public.theories, public.process)


def single_top(process: NDArray[Any]) -> NDArray[Any]:
    """Processes with one name for both charges."""
    out = np.where(
        np.isin(process, ["singletopbar", "singletop", "single_top", "single_topbar"]), "singletop", process
    )
    return np.asarray(out)


def as_public_mix(data: Data) -> NDArray[np.float64]:
    """Weights of the generated background with the public fractions of processes that have 10 public events; the rest as it is."""
    public, mine = single_top(data.process), single_top(data.generated.process)
    weight = np.array(data.generated.background.weight)
    names, counts = np.unique(public, return_counts=True)
    named = {
        str(n): c / len(public) for n, c in zip(names, counts, strict=True) if c >= 10 and np.any(mine == n)
    }
    rest = ~np.isin(mine, list(named))
    for name, fraction in named.items():
        weight[mine == name] *= fraction / weight[mine == name].sum()
    if rest.any():
        weight[rest] *= (1 - sum(named.values())) / weight[rest].sum()
    return weight


def one_of_each(sample: TheorySample, rng: np.random.Generator) -> TheorySample:
    """One measurement of each generated event, drawn at random, with the weight of all; they follow each other in the files."""
    group = np.asarray(sample.group)
    first = np.append(0, np.flatnonzero(group[1:] != group[:-1]) + 1)
    rows = first + rng.integers(0, np.diff(np.append(first, len(group))))
    return replace(select_events(sample, rows), weight=np.add.reduceat(np.asarray(sample.weight), first))


def compare(
    title: str, names: Sequence[str], generated: TheorySample, real: NDArray[Any], shown: int = 8
) -> None:
    """Generated against public events: AUC of a classifier (5 folds), and the features that tell them apart."""
    rng = np.random.default_rng(SEED)
    generated = one_of_each(generated, rng)
    rows, real_rows = (np.sort(rng.permutation(n)[:20_000]) for n in (len(generated.x), len(real)))
    x = np.concatenate([real[real_rows], generated.x[rows]]).astype(np.float32)
    y = np.repeat([True, False], [len(real_rows), len(rows)])
    w = np.concatenate([np.ones(len(real_rows)), np.asarray(generated.weight)[rows]])
    print(
        f"\n{title}: {len(rows)} generated events (as good as {effective_number(w[~y]):.0f} of equal weight), {len(real_rows)} public"
    )
    if effective_number(w[~y]) >= 50:
        sample = cross_validate(x, y, w, build_classifier("trees", members=1, seed=SEED), 5, rng)
        error = max(bootstrap_error(sample, 200, rng), null_error(y, sample.weights))
        print(
            f"  AUC of a classifier between them {sample.auc:.3f} +- {error:.3f}; lost if a feature is drawn anew:"
        )
        ranking = permutation_importance(sample, tuple(names), 2, rng)
        best = list(zip(ranking.features, ranking.values, ranking.errors, strict=True))[:shown]
        print("  " + ", ".join(f"{n} {v:.3f} +- {e:.3f}" for n, v, e in best))
    else:
        print("  too few for a classifier")
    single = []
    for i, name in enumerate(names):
        if np.ptp(x[:, i]) > 0:
            one = merits(x[~y, i], x[y, i], background_weights=w[~y], targets=(0.1,))
            single.append((abs(one.auc - 0.5) / one.auc_error, name, one, i))
    single.sort(key=lambda entry: -entry[0])
    for pull, name, one, i in single[:shown]:
        means = [np.average(x[part, i], weights=w[part]) for part in (~y, y)]
        print(
            f"  {name:12} AUC {one.auc:.3f} +- {one.auc_error:.3f} ({pull:.1f} sigma), mean {means[0]:.4g} generated, {means[1]:.4g} public"
        )


def published_rows(
    folder: Path, signals: Sequence[str]
) -> tuple[int, dict[str, dict[str, tuple[float, float]]]]:
    """AUC and eps_S(1e-2) of the models named above, of the median model and of the best one, by model and signal."""
    table: ResultTable = clean(read_results(result_files(folder)[0]))
    table = table.select(table.channel == "1")
    column = table.targets.index(1e-2)
    out: dict[str, dict[str, tuple[float, float]]] = {}
    for signal in signals:
        rows = table.select(table.signal == signal)
        for name in PUBLISHED:
            (row,) = np.flatnonzero(rows.model == name)
            out.setdefault(name, {})[signal] = (float(rows.auc[row]), float(rows.eps_s[row, column]))
        svdd = np.char.startswith(rows.model, "DeepSVDD")
        for name, part, combine in (
            ("Deep SVDD, median model", svdd, np.nanmedian),
            ("all models, median", np.ones(len(rows), dtype=bool), np.nanmedian),
            ("all models, best for this signal", np.ones(len(rows), dtype=bool), np.nanmax),
        ):
            out.setdefault(name, {})[signal] = (
                float(combine(rows.auc[part])),
                float(combine(rows.eps_s[part, column])),
            )
    return len(table.models), out


class Bench:
    """Classifiers and their figures of merit on the public samples."""

    def __init__(self, data: Data, events_per_theory: int) -> None:
        self.data, self.events_per_theory = data, events_per_theory
        self.signals = [sample_name(sample.name)[0] for sample in data.signals]
        self.found: dict[str, dict[str, Merits]] = {}

    def add(self, name: str, reference: NDArray[Any], scores: Sequence[NDArray[Any]]) -> None:
        """Scores of the public background and of each signal."""
        self.found[name] = {
            signal: merits(reference, score, targets=(1e-2,))
            for signal, score in zip(self.signals, scores, strict=True)
        }

    def mixture(
        self,
        name: str,
        theories: Sequence[TheorySample],
        weight: NDArray[np.float64],
        data: Data | None = None,
        leave: Sequence[str] = (),
    ) -> None:
        """Train on generated samples with the given weights of the background, without some features."""
        data = self.data if data is None else data
        if not theories:
            return
        keep = [i for i, feature in enumerate(data.names) if feature not in leave]
        standard = data.generated.background
        start = time.process_time()
        trained = train_mixture(
            standard.x[:, keep],
            [replace(theory, x=theory.x[:, keep]) for theory in theories],
            MixtureConfig(events_per_theory=self.events_per_theory, boost=BoostConfig(threads=1), seed=SEED),
            features=[data.names[i] for i in keep],
            background_weight=weight,
            background_group=standard.group,
        )
        self.add(
            name,
            trained.score(data.background.x[:, keep]),
            [trained.score(signal.x[:, keep]) for signal in data.signals],
        )
        print(
            f"{name}: {len(theories)} theories, {trained.rounds} trees, {time.process_time() - start:.0f} s, AUC held out "
            f"{trained.validation_auc:.4f}",
            flush=True,
        )


def table(title: str, rows: dict[str, list[str]], signals: Sequence[str]) -> None:
    print(f"\n{title}\n\n| classifier | " + " | ".join(signals) + " |\n|---|" + "---|" * len(signals))
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(values) + " |")


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("sm", "bsm", "real", "published"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--events-per-theory", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    data = read(given.sm, given.bsm, given.real, rotate=True)
    standard = data.generated.background
    weight = np.asarray(standard.weight)
    rng = np.random.default_rng(SEED)

    print(
        f"{len(standard.x)} generated background events in channel 1, {len(data.background.x)} public ones; {len(data.generated.theories)} theories"
    )
    mine, public = single_top(data.generated.process), single_top(data.process)
    for name in dict.fromkeys([*np.unique(public), *np.unique(mine)]):
        here = mine == name
        number = effective_number(weight[here]) if here.any() else 0.0
        print(
            f"  {name:14} {weight[here].sum() / weight.sum():7.4f} generated ({np.count_nonzero(here)} events of "
            f"{len(np.unique(np.asarray(standard.group)[here]))} generated ones, as good as {number:.0f}), {np.mean(public == name):.4f} public"
        )
    mixed, equal = as_public_mix(data), np.ones(len(weight))
    names = data.names
    for title, here, there, w in (
        ("background, weights as generated", mine != "", public != "", weight),
        ("background, processes as in the public file", mine != "", public != "", mixed),
        ("multijets", mine == "njets", public == "njets", weight),
        ("multijets without their weights", mine == "njets", public == "njets", equal),
        ("all but multijets, processes as in the public file", mine != "njets", public != "njets", mixed),
    ):
        if here.any():
            compare(title, names, select_events(replace(standard, weight=w), here), data.background.x[there])
    theories = data.generated.theories
    for signal in data.signals:
        for theory in theories:
            if theory.name == SAME.get(sample_name(signal.name)[0]):
                compare(f"{theory.name}, generated and public", names, theory, signal.x)
    print()

    bench = Bench(data, given.events_per_theory)
    strangers = [theory for theory in theories if theory.family not in TESTED]
    far = [theory for theory in strangers if theory.family not in RELATED]
    for label, score, w in (
        ("MET", outliers.Met(names), equal), ("HT", outliers.Ht(names), equal),
        ("autoencoder on generated background", outliers.Autoencoder(), equal),
    ):  # fmt: skip
        score.fit(standard.x, sample_weight=w)
        bench.add(
            label,
            score.score_samples(data.background.x),
            [score.score_samples(signal.x) for signal in data.signals],
        )
    bench.mixture("MoT, all theories", theories, equal)
    bench.mixture("MoT, weights as generated", theories, weight)
    bench.mixture("MoT, weights with processes as in the public file", theories, mixed)
    bench.mixture("MoT without the families of the signals", strangers, equal)
    bench.mixture("MoT without these and their relatives", far, equal)
    bench.mixture("mini-MoT of 10 of all", [theories[i] for i in rng.permutation(len(theories))[:10]], equal)
    bench.mixture(
        "mini-MoT of 10 without the families",
        [strangers[i] for i in rng.permutation(len(strangers))[:10]],
        equal,
    )
    for theory in theories:
        if theory.name in SINGLE:
            bench.mixture(f"SSA {theory.name}", [theory], equal)
    flat = read(given.sm, given.bsm, given.real, rotate=False)
    bench.mixture("MoT, events not turned", flat.generated.theories, equal, flat)
    soft = [n for n in names if n[:2] in ("j5", "j6", "j7", "n_", "b1", "b2", "b3", "b4")]
    bench.mixture(
        "MoT without numbers of objects, b-jets and jets beyond the fourth", theories, equal, leave=soft
    )
    bench.mixture(
        "MoT, MET, numbers of objects and pT only",
        theories,
        equal,
        leave=[n for n in names if n.endswith(("_energy", "_eta", "_phi"))],
    )

    n_models, others = published_rows(given.published, bench.signals)
    auc = {
        name: [f"{one[s].auc:.3f} ± {one[s].auc_error:.3f}" for s in bench.signals]
        for name, one in bench.found.items()
    }
    eps = {
        name: [f"{one[s].points[0].eps_s:.3f} ± {one[s].points[0].eps_s_error:.3f}" for s in bench.signals]
        for name, one in bench.found.items()
    }
    auc |= {f"published: {name}": [f"{row[s][0]:.3f}" for s in bench.signals] for name, row in others.items()}
    eps |= {f"published: {name}": [f"{row[s][1]:.3f}" for s in bench.signals] for name, row in others.items()}
    print(
        f"\n{n_models} published models; eps_S errors are those of the signal events, eps_B = 1e-2 of 1000 events has 32 %"
    )
    table("AUC", auc, bench.signals)
    table("eps_S at eps_B = 1e-2", eps, bench.signals)
    if given.json is not None:
        content = {name: {s: one.to_dict() for s, one in row.items()} for name, row in bench.found.items()}
        given.json.write_text(
            json.dumps({"measured": content, "published": others}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
