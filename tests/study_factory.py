"""Made-up studies of theories: trainings with plausible numbers, and answers by the questions themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from serendip.io.json import write_json
from serendip.outliers.combine import SVDD_RULES
from serendip.study.config import StudyConfig
from serendip.study.context import Context
from serendip.study.design import make_design
from serendip.study.questions import load_question
from serendip.study.resonance.answer import ResonantAnswer, ResonantRow
from serendip.study.tasks import Task
from serendip.theories.merits import Merits, WorkingPoint

ANSWERED = ("models", "saturation", "families", "weights", "combination", "excess")
HARD_NAME = 'gluino <b>"1"</b> & $x$'  # a name that HTML, plotly or mathtext could trip over


class Silent:
    """Nobody to be told."""

    def start(self, stage: str, total: int) -> None:
        pass

    def advance(self, done: str) -> None:
        pass


def made_up_merits(
    strength: float, targets: tuple[float, ...], background: float, rng: np.random.Generator
) -> Merits:
    """Merits of a signal ``strength`` standard deviations above a normal background."""
    points = []
    for target in targets:
        eps = float(np.clip(ndtr(strength - ndtri(1 - target)) * (1 + 0.02 * rng.standard_normal()), 0, 1))
        error, behind = 0.5 * np.sqrt(eps * (1 - eps) / 2000 + 1e-7), background * target
        si = eps / np.sqrt(target)
        points.append(
            WorkingPoint(
                target=target, threshold=0.5, kept_at_threshold=0.0, eps_s=eps, eps_s_low=max(eps - error, 0.0),
                eps_s_high=min(eps + error, 1.0), eps_b=target, eps_b_low=0.9 * target, eps_b_high=1.1 * target, si=si,
                si_error=float(np.hypot(error / np.sqrt(target), 0.5 * si / np.sqrt(behind))),
                si_error_background=0.5 * si / np.sqrt(behind), background=behind, tied=False,
                reliable=behind >= 10, reason="" if behind >= 10 else "too few",
            )
        )  # fmt: skip
    auc = float(ndtr(strength / np.sqrt(2)))
    return Merits(2000, int(background), auc, 0.004, "strict", tuple(points))


def _strength(
    task: Task, theory: str, context: Context, hard: dict[str, float], rng: np.random.Generator
) -> float:
    """Mixtures know siblings best; each theory of another family helps a little; unsupervised scores are weaker."""
    if task.kind == "outlier":
        number = list(context.config.outliers).index(task.score)
        return hard[theory] * (0.35 + 0.4 * ((number * 7) % 5) / 5) + 0.1 * rng.standard_normal()
    family = context.families[theory]
    siblings = sum(context.families[name] == family for name in task.theories)
    help_ = 1 - np.exp(-len(task.theories) / 6)
    own = 0.15 if theory in task.theories else 0.0
    return (
        hard[theory] * (0.45 + 0.35 * help_ + 0.2 * min(siblings, 2) / 2 + own) + 0.08 * rng.standard_normal()
    )


def write_study(
    out: Path,
    *,
    questions: tuple[str, ...] = ANSWERED,
    channels: tuple[str, ...] = ("1", "3"),
    n_families: int = 6,
    points: int = 3,
    effective: float = 30_000.0,
    seed: int = 1,
    names: dict[int, str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write the folder of a finished study and return its results.

    The trainings are made up; what is in ``results.json`` comes from the questions, so that it has their form. ``names`` replaces the
    names of theories by number.
    """
    rng = np.random.default_rng(seed)
    config = StudyConfig(
        **{
            "background": (Path("SM"),), "theories": (Path("BSM"),), "channels": channels, "questions": questions,
            "repeats": 2, "orders": 2, "single": 3, "steps": (1, 3, 10), "mini": 6, "folds": 2, "seed": seed,
            "outliers": ("met", "kde", "flow", "deep-svdd"), "held_out_families": 0.3, "experiments": 4,
        }
        | options
    )  # fmt: skip
    families = {
        (names or {}).get(
            number, f"{'long_' if number % 4 == 0 else ''}theory{number}_m{500 + 100 * number}"
        ): f"family {number // points}"
        for number in range(n_families * points)
    }
    hard = {name: float(rng.uniform(1.2, 4.5)) for name in families}
    channel_of = {channel: [name for name in families if rng.random() < 0.8] for channel in channels}
    behind = {channel: effective * 10 ** (-1.2 * i) for i, channel in enumerate(channels)}
    known = {name: family for name, family in families.items() if any(name in c for c in channel_of.values())}
    present = {channel: tuple(chosen) for channel, chosen in channel_of.items()}
    events = {channel: dict.fromkeys(chosen, 25_000) for channel, chosen in present.items()}
    context = Context(config, out, known, present, make_design(known, config), events)
    answers = {}
    for name in questions:
        question = load_question(name)
        for tasks in question.stages(context):
            for task in tasks:
                _write_task(task, context, hard, behind[task.channel], rng)
        answers[name] = question.answer(context, Silent())
    results = {
        "schema": 1,
        "serendip": "0.0.1",
        "config": config.model_dump(mode="json"),
        "design": context.design.to_dict(),
        "families": known,
        "channels": {
            channel: {
                "theories": [[name, families[name]] for name in chosen],
                "events": dict.fromkeys(chosen, 40_000),
                "training": events[channel],
                "background": 120_000,
                "background_effective": behind[channel] / config.test_fraction,
                "left_out": {"too_rare_1": 12, "too_rare_2": 80} if channel == channels[0] else {},
            }
            for channel, chosen in present.items()
        },
        "answers": answers,
        "notes": [],
    }
    write_json(out / "results.json", results)
    return results


def resonant_answer() -> dict[str, Any]:
    """Made-up answer to the question about a resonance."""
    three = (2.1, 1.8, 2.5)
    rows = [
        ResonantRow(
            inputs=inputs, s_over_sqrt_b=size, signal=number, working_point=0.1, sic=three if number else None,
            max_sic=three if number else None, better=(3, 5) if number and inputs != "features" else None,
            ratio=(1.2, 0.9, 1.4) if number and inputs != "features" else None, z_expected=three if number else None,
            z=three, shape_p=(0.4, 0.01, 0.9), distance_correlation=(0.01, 0.005, 0.02), correlation_limit=0.03,
        )
        for inputs in ("features", "features+score", "none")
        for size, number in ((0.0, 0), (2.0, 84))
    ]  # fmt: skip
    return ResonantAnswer(
        resonance="zprime2500_tt", family="Z' to quarks", theories=("a", "b"), left_out=("Z' to quarks",),
        window=(2200.0, 2700.0), range=(1800.0, 5400.0), events={"events": 9000}, score={"auc": 0.9}, rows=tuple(rows),
        notes=("cuts change the mass shape of background (p < 0.01): score",),
    ).to_dict()  # fmt: skip


def _write_task(
    task: Task, context: Context, hard: dict[str, float], background: float, rng: np.random.Generator
) -> None:
    base = context.out / "tasks" / task.channel / task.key
    if base.with_suffix(".json").exists():
        return
    base.parent.mkdir(parents=True, exist_ok=True)
    strength = {name: _strength(task, name, context, hard, rng) for name in context.present[task.channel]}
    merits = {
        name: made_up_merits(value, context.config.targets, background, rng).to_dict()
        for name, value in strength.items()
    }
    if task.keep:
        arrays = {f"theory/{name}": value + rng.standard_normal(400) for name, value in strength.items()}
        arrays |= {"test": rng.standard_normal(4000), "rank": rng.standard_normal(1000)}
        if task.score == "deep-svdd":
            arrays |= {f"{rule}/{name}": x for rule in SVDD_RULES.values() for name, x in arrays.items()}
        arrays |= {f"weight/{name}": np.ones(400) for name in strength}
        np.savez_compressed(
            base.with_suffix(".npz"), **arrays, test_weight=np.ones(4000), test_group=np.arange(4000), rank_weight=np.ones(1000)
        )  # fmt: skip
    write_json(
        base.with_suffix(".json"),
        {"schema": 1, "task": task.model_dump(mode="json"), "facts": {}, "merits": merits},
    )
