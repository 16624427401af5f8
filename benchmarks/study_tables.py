"""The long studies: their commands, and the rows that their results give in the table of the documentation."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serendip.validate.base import look_name

__all__ = ["STUDIES", "Paths", "Study", "table"]

WINDOW = "3300:3700"
FAST_CATHODE = ("density=flow-matching", "steps=500", "batch_size=256", "members=2", "oversample=2")
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Paths:
    """What the commands read and write, as they are printed or run."""

    data: str
    pythia: str
    out: str
    jobs: str

    def script(self, name: str) -> str:
        """A script of this folder."""
        return (
            f"benchmarks/{name}.py"
            if self.data == "FEATURES.h5"
            else str(Path(__file__).parent / f"{name}.py")
        )


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes
    ----------
    test
        Its number in the list of validation tests, or what it is for.
    question
        What it asks.
    commands
        Made from the paths; the first word is ``serendip`` or ``python``.
    rows
        What was measured, how much and what was wanted, from the folder of results.
    """

    test: str
    question: str
    commands: Callable[[Paths], list[list[str]]]
    rows: Callable[[Path], Iterator[Row]]


def _validate(
    kind: str, name: str, *more: str, data: str | None = None
) -> Callable[[Paths], list[list[str]]]:
    def commands(p: Paths) -> list[list[str]]:
        source = ["--preset", "lhco"] if data is None else ["--mass", "mjj", "--features", _FEATURES]
        file = p.data if data is None else f"{p.out}/data/{data}"
        command = ["serendip", "validate", kind, file, *source, *more]
        return [[*command, "--jobs", p.jobs, "--out", f"{p.out}/{name}"]]

    return commands


_FEATURES = "mj1,delta_mj,tau21_j1,tau21_j2"
_BACKGROUND = ("--where", "label<0.5", "--window", WINDOW)


def _set(prefix: str, *assignments: str) -> list[str]:
    return [part for text in assignments for part in ("--set", f"{prefix}.{text}")]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _number(value: float | None, error: float | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if error is None else f"{value:.{digits}f} ± {error:.{digits}f}"


def _scans(folder: Path) -> Iterator[Row]:
    from serendip.statistics.pvalues import binomial_interval

    found = _read(folder / "scans.json")
    for name, content in found.items():
        if not isinstance(content, dict) or "p" not in content:
            continue
        n = len(content["p"])
        for level, wanted in ((0.05, "0.03 to 0.07"), (0.003, "0.003")):
            k = sum(p < level for p in content["p"])
            low, high = binomial_interval(k, n)
            text = f"{k / n:.4f} [{low:.4f}, {high:.4f}]"
            yield (
                f"BumpHunter, `{name}` refitted in every toy, {n} spectra: global p < {level:g}",
                text,
                wanted,
            )
    lee = found["look-elsewhere"]
    toys = f"{lee['toys']:.4f} ± {lee['toys_error']:.4f}"
    text = f"does not hold / {toys} ({lee.get('fewest_background', 0):.2g} background events under a signal)"
    if lee["gross_vitells"] is not None:
        text = f"{lee['gross_vitells']:.4f} / {toys}: {lee['gross_vitells'] / lee['toys']:.2f}"
    yield (
        f"global p at local Z = {lee['z']:.1f}, Gross–Vitells / toys",
        text,
        "within a factor 1.5 where it holds",
    )


def _null(folder: Path) -> Iterator[Row]:
    (window,) = _read(folder / "validation" / "null.json")["facts"]["windows"]
    for look in window["looks"]:
        name = f"{look['method']}, `{look['combination']}`, {look_name(look['working_point'])}, {look['n']} experiments"
        if look["combination"] == "kfold-summed":
            name = name.replace("`kfold-summed`", "`kfold-summed` calibrated")
        rates = {rate["level"]: rate for rate in look["rates"]}
        text = ", ".join(_number(rates[level]["rate"], rates[level]["error"]) for level in ("5 %", "0.3 %"))
        control = look["combination"] == "same-data"
        wanted = {"same-data": "far above", "kfold-bonferroni": "at most 0.05, 0.003"}
        yield f"{name}: p < 0.05, p < 0.003", text, wanted.get(look["combination"], "0.03 to 0.07, 0.003")
        if not control:
            count = look["count"]
            text = f"{_number(count['variance_ratio'], count['variance_ratio_error'], 2)}"
            yield f"{name}: variance of the count over Poisson with its error", text, "1"


def _coverage(folder: Path) -> Iterator[Row]:
    for check in _read(folder / "validation" / "coverage.json")["checks"]:
        wanted = check["limit"].split(" - ")[0].split(" + ")[0]
        yield check["name"], _number(check["value"], check["error"]), wanted
    bias = [c for c in _read(folder / "validation" / "bias.json")["checks"] if "truth" in c["name"]]
    worst = max(bias, key=lambda check: abs(check["value"]))
    text = _number(worst["value"], worst["error"], 2)
    yield f"largest mean pull of {len(bias)} (truth, signal, fit or count)", text, "within ± 0.2"


def _injection(folder: Path) -> Iterator[Row]:
    from statistics import median

    for ladder in _read(folder / "validation" / "injection.json")["facts"]["ladders"]:
        steps = ladder["steps"]
        for injected in dict.fromkeys(step["injected"] for step in steps):
            same = [step for step in steps if step["injected"] == injected]
            z, count = (median(step[key] for step in same) for key in ("z", "z_inclusive"))
            where = f"{ladder['method']}, {look_name(ladder['working_point'])}, {injected} signal events"
            yield (
                f"{where}: median Z / that of all events",
                f"{z:.1f} / {count:.1f}",
                "rises with the signal",
            )
        line = ladder["line"]
        if line is not None:
            text = _number(line["slope"], line["slope_error"], 2)
            yield f"{ladder['method']}, {look_name(ladder['working_point'])}: slope of μ̂ against μ", text, "1"


def _checks(*kinds: str) -> Callable[[Path], Iterator[Row]]:
    def rows(folder: Path) -> Iterator[Row]:
        for kind in kinds:
            for check in _read(folder / "validation" / f"{kind}.json")["checks"]:
                if check["value"] is not None:
                    verdict = {True: "", False: " **fails**", None: " (undecided)"}[check["passed"]]
                    yield (
                        f"{kind}: {check['name']}",
                        _number(check["value"], check["error"]) + verdict,
                        check["limit"],
                    )

    return rows


def _power(folder: Path) -> Iterator[Row]:
    names = {
        "sequential": "sequential",
        "kfold-bonferroni": "Bonferroni",
        "calibrated": "calibrated",
        "half-split": "half-split",
    }
    for row in _read(folder / "power.json")["rows"]:
        text = ", ".join(
            f"{_number(row['z'][key]['median'], row['z'][key]['median_error'], 1)} ({name})"
            for key, name in names.items()
        )
        yield f"median Z, {row['injection']} signal events (S/√B = {row['s_over_sqrt_b']:.1f})", text, ""


def _gbi(folder: Path) -> Iterator[Row]:
    lines = (folder / "gbi.md").read_text(encoding="utf-8").splitlines()
    head = [cell.strip() for cell in lines[0].strip("|").split("|")]
    for line in lines[2:]:
        cell = dict(zip(head, (c.strip() for c in line.strip("|").split("|")), strict=True))
        signal = (
            "simulated signal" if cell["signal"] == "simulation" else f"learnt signal, `{cell['signal']}`"
        )
        text = f"{cell['measured S [min, max]']} ± {cell['total error']}, limit {cell['95 % limit']}"
        yield (
            f"{signal}, S/√B = {cell['S/√B']}: measured S [lowest, highest] ± error, 95 % limit",
            text,
            cell["true S"],
        )


def _limit(folder: Path) -> Iterator[Row]:
    for limit in _read(folder / "limits.json")["limits"]:
        largest = limit["rungs"][-1]["injected"]
        values = [
            f"> {largest:.0f}" if value is None else f"{'< ' if bound else ''}{value:.0f}"
            for value, bound in zip([limit["observed"], *limit["expected"]], limit["bounds"], strict=True)
        ]
        text = f"{values[3]} [{values[2]}, {values[4]}], {values[0]}"
        gain = f", gain {limit['gain']:.1f}" if limit.get("gain") else ""
        name = f"{limit['method']}, {look_name(limit['working_point'])}: 95 % limit in signal events of the window, expected [68 %], observed"
        yield name, text + gain, ""


def _limit_commands(p: Paths) -> list[list[str]]:
    return [
        ["serendip", "limit", p.data, "--preset", "lhco", "--where", "label<0.5", "--inject", p.data, "--inject-where", "label>0.5",
         "--masses", "3500", "--width", "0.115", "--methods", "cwola,bump-hunt", "--combination", "sequential", "--jobs", p.jobs, "--out", f"{p.out}/limit"],
    ]  # fmt: skip


def _script(script: str, file: str, name: str, *more: str) -> Callable[[Paths], list[list[str]]]:
    def commands(p: Paths) -> list[list[str]]:
        source = p.pythia if file == "pythia" else p.data
        # gbi trains in one process
        jobs = [] if script == "gbi" else ["--jobs", p.jobs]
        return [["python", p.script(script), source, *more, *jobs, "--out", f"{p.out}/{name}"]]

    return commands


_NULL = ("events=26400", "same_data=20")
_GBI = (
    "--preset", "lhco", "--strengths", "0", "1", "2", "4", "--repeats", "2", "--source", "simulation", "kfold",
    "--scan-points", "0", "--set", "ranode.members=3",
)  # fmt: skip

STUDIES: dict[str, Study] = {
    "scans": Study(
        "S1, S2", "Is the global p of an inclusive scan what it says?",
        _script("scans", "data", "scans", "--preset", "lhco", "--where", "label<0.5"), _scans,
    ),
    "null-cwola": Study(
        "S3", "Does the whole chain of CWoLa claim excesses in background as often as it says?",
        _validate(
            "null", "null-cwola", *_BACKGROUND, "--method", "cwola", "--folds", "5", *_set("cwola", "members=2"),
            *_set("null", *_NULL, "experiments=600", "combinations=weighted,sequential,kfold-bonferroni,kfold-summed"),
        ), _null,
    ),
    "null-cathode": Study(
        "S3", "And that of CATHODE?",
        _validate(
            "null", "null-cathode", *_BACKGROUND, "--method", "cathode", "--folds", "5", *_set("cathode", *FAST_CATHODE),
            *_set("null", *_NULL, "experiments=200", "combinations=weighted,sequential,kfold-summed"),
        ), _null,
    ),
    "coverage": Study(
        "S4, S6", "Do intervals and limits cover, and is a wrong function no signal?",
        _validate("bias,coverage", "coverage", *_BACKGROUND, "--set", "bias.toys=1000"), _coverage,
    ),
    "injection": Study(
        "S5", "Is a signal found with the size it has?",
        _validate(
            "injection", "injection", "--window", WINDOW, "--method", "cwola,idealised",
            *_set("injection", "injections=150,250,400", "repeats=3"),
        ), _injection,
    ),
    "sculpting": Study(
        "S7", "Does a cut shape the spectrum of background?",
        _validate("closure,sculpting", "sculpting", *_BACKGROUND, "--method", "cwola,cathode", "--folds", "5"),
        _checks("closure", "sculpting"),
    ),
    "control": Study(
        "S8", "Is nothing found beside the signal, and a known peak found again?",
        _validate(
            "control", "control", "--window", "4300:4800", "--method", "cwola", "--set", "control.peak=3300:3700",
            data="peak.parquet",
        ), _checks("control"),
    ),
    "power": Study(
        "power", "Which combination of folds sees most?",
        _script("power", "data", "power", "--null", "200", "--repeats", "15"), _power,
    ),
    "limit": Study("limit", "How much better is a limit than the inclusive one?", _limit_commands, _limit),
    "gbi-lhco": Study(
        "GBI", "Is the measured signal the true one?",
        _script("gbi", "data", "gbi-lhco", *_GBI), _gbi,
    ),
    "gbi-pythia": Study(
        "GBI", "And on events of another generator?",
        _script("gbi", "pythia", "gbi-pythia", *_GBI), _gbi,
    ),
}  # fmt: skip


def table(paths: Paths) -> str:
    """The Markdown table of every study that is finished below ``paths.out``, each with its commands."""
    shown = Paths("FEATURES.h5", "PYTHIA", "OUT", "2")
    blocks = []
    for name, study in STUDIES.items():
        try:
            rows = list(study.rows(Path(paths.out) / name))
        except FileNotFoundError:
            continue
        lines = [f"**{study.test}: {study.question}**", ""]
        commands = [shlex.join(command).replace(" --jobs 2", "") for command in study.commands(shown)]
        lines += ["```", *commands, "```", "", "| what | measured | wanted |", "|---|---|---|"]
        lines += [f"| {what} | {measured} | {wanted} |" for what, measured, wanted in rows]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
