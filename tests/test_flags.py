"""The flags of a command are the fields of its configurations: all of them, with their texts, defaults and messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from serendip.cli.flags import load_model
from serendip.cli.main import app, run
from serendip.errors import InputError

COMMANDS = {
    "search": ["search.config:SearchConfig"],
    "tune": ["search.config:SearchConfig"],
    "monitor": ["search.monitor.config:MonitorConfig"],
    "compare": ["search.compare.config:CompareConfig"],
    "infer": ["search.infer.config:InferConfig"],
    "validate": ["validate.config:ValidateConfig"],
    "limit": ["search.limit:LimitConfig", "search.limit:LadderConfig"],
    "theories study": ["study.config:StudyConfig"],
}
BASE = ["--mass", "m", "--features", "x,y", "--label", "truth", "--window", "3300:3700"]


def parameters(command: str) -> dict[str, Any]:
    """The parameters of a command by name."""
    run(["--version"])  # registers the commands
    made: Any = typer.main.get_command(app)
    for word in command.split():
        made = made.commands[word]
    return {parameter.name: parameter for parameter in made.get_params(typer.Context(made))}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_is_a_flag_or_is_listed_as_not_one_with_the_reason(command: str) -> None:
    found = parameters(command)
    fields: dict[str, Any] = {}
    for path in COMMANDS[command]:
        model: Any = load_model(f"serendip.{path}")
        assert model.no_flag.keys() <= model.model_fields.keys()
        assert all(model.no_flag.values())
        own = {"file", "set_", "jobs", "out", "unblind"}
        assert not (found.keys() - own) & (model.no_flag.keys() - fields.keys())
        fields |= {
            name: model for name in model.model_fields if name not in model.no_flag and name not in fields
        }
    for name, model in fields.items():
        flag, field = found[name], model.model_fields[name]
        assert len(flag.help) > 5, f"--{name} has no text"
        default = field.get_default(call_default_factory=True)
        if isinstance(default, int | str) and not (isinstance(default, bool) or field.is_required()):
            assert str(default) in flag.help, f"--{name} does not say its default"


def test_texts_and_defaults_are_those_of_the_command() -> None:
    folds = {command: parameters(command)["folds"].help for command in ("compare", "limit", "monitor")}
    assert folds["compare"] == "Number of folds; default: 5."
    assert folds["limit"] == "Number of folds; default: 10."
    assert folds["monitor"].endswith("default: 1.")
    limit, compare = parameters("limit"), parameters("compare")
    assert "bump-hunt is the inclusive reference" in limit["method"].help
    assert limit["width"].help == "Relative width of the windows; default: 0.12."
    assert compare["injections"].help.endswith("; default: 0,75,150,250,500,1000.")
    # in the text itself, and not twice
    assert compare["background"].help.count("default") == 1
    names = list(parameters("search"))
    assert names[:4] == ["file", "out", "mass", "features"]
    assert names.index("tree") < names.index("seed") < names.index("set_") < names.index("unblind")
    assert compare["method"].opts == ["--method", "--methods"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--folds", "1"], "error: --folds 1: Input should be greater than or equal to 2"),
        (["--folds", "many"], "--folds"),
        (["--working-points", "0.01,2"], "error: --working-points 0.01,2: each working point"),
        (["--scan", "4000:3000", "--width", "2"], "--scan: '4000:3000' is not a mass interval"),
        (["--scan", "4000:3000", "--width", "2"], "; --width 2.0: Input should be less than 1"),
        (["--width", "0.1"], "error: search: width requires a scan"),
    ],
)
def test_a_message_names_the_flag(
    flags: list[str], message: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["search", "a.parquet", *BASE, *flags, "--out", str(tmp_path / "run")]) == 2
    assert message in " ".join(capfd.readouterr().err.split())


def test_a_message_names_the_key_of_a_file(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("{file: a.csv, mass: m, features: [x], window: [3300, 3700], folds: 1, toys: 5}")
    assert run(["search", str(file), "--toys", "9", "--out", str(tmp_path / "run")]) == 2
    text = " ".join(capfd.readouterr().err.split())
    assert f"{file.name}: folds: Input should be" in text
    assert "; --toys 9: Input should be" in text


@pytest.mark.parametrize(
    ("command", "flags", "runner", "effect", "expected"),
    [
        ("compare", "--mask 2500:2600", "search.compare.run_compare", "masks", ((2500.0, 2600.0),)),
        ("compare", "--orders 2", "search.compare.run_compare", "positions.shape", (2, 5)),
        ("compare", "--counting template --method feta --simulation s.csv", "search.compare.run_compare", "template_draws", 100_000),
        ("compare", "--correlate x=0.1 --correlate y=-2", "search.compare.run_compare", "correlate", {"x": 0.1, "y": -2.0}),
        ("infer", "--mask 2.5:2.6 --unit TeV --window 3.3:3.7", "search.infer.run_infer", "masks", ((2500.0, 2600.0),)),
        ("infer", "--spurious 5", "search.infer.run_infer", "spurious", 5.0),
        ("infer", "--draws 2000", "search.infer.run_infer", "draws", 2000),
        ("infer", "--grid-points 4 --signal s.csv", "search.infer.run_infer", "grid_points", 4),
        ("validate closure", "--mask 2500:2600 --mask 86:96", "validate.engine.run_validations", "masks", ((2500.0, 2600.0), (86.0, 96.0))),
        ("validate closure", "--orders 2", "validate.engine.run_validations", "positions.shape", (2, 10)),
        ("validate closure", "--scan 2000:4000 --signal-width 0.05", "validate.engine.run_validations", "step", 0.5),
        ("validate closure", "--counting template --method feta --simulation s.csv", "validate.engine.run_validations", "template_draws", 100_000),
        ("tune", "--background dijet:3", "search.tune.tune", "background", "dijet:3"),
        ("tune", "--scan 2000:4000 --signal-width 0.05", "search.tune.tune", "step", 0.5),
    ],
)  # fmt: skip
def test_new_flags_arrive(
    command: str,
    flags: str,
    runner: str,
    effect: str,
    expected: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def stop(config: Any, *_: Any, **__: Any) -> None:
        asked.append(config)
        raise InputError("far enough")

    monkeypatch.setattr(f"serendip.{runner}", stop)
    base = BASE if command != "infer" else [*BASE[:4], *BASE[6:]]
    base = base[:-2] if "--scan" in flags else base
    assert run([*command.split(), "a.csv", *base, *flags.split(), "--out", str(tmp_path / "run")]) == 2
    found = asked[0]
    for name in effect.split("."):
        found = getattr(found, name)
    assert found == expected


def test_options_of_a_study_are_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def stop(config: Any, *_: Any, **__: Any) -> None:
        asked.append(config)
        raise InputError("far enough")

    monkeypatch.setattr("serendip.study.run.run_study", stop)
    for folder in ("SM", "BSM"):
        (tmp_path / folder).mkdir()
    command = ["theories", "study", str(tmp_path), "--out", str(tmp_path / "run")]
    given = "--question models,excess --steps 1,4 --mini 4 --targets 0.1 --no-rotate --outliers met --held-out-points 0"
    assert run([*command, *given.split(), "--set", "boost.rounds=7"]) == 2
    (config,) = asked
    assert config.questions == ("models", "excess")
    assert (config.steps, config.mini, config.targets) == ((1, 4), 4, (0.1,))
    assert (config.rotate, config.harmonised) == (False, True)
    assert (config.outliers, config.held_out_points, config.boost.rounds) == (("met",), 0.0, 7)
    assert run([*command, "--orders", "0"]) == 2
    assert "error: --orders 0: Input should be greater than 0" in capfd.readouterr().err
    names = parameters("theories study")
    assert names["questions"].opts == ["--question", "--questions"]
    assert names["rotate"].secondary_opts == ["--no-rotate"]
    assert names["rotate"].help.endswith("; default: --rotate.")


def test_help_of_a_command_does_not_wait_for_torch() -> None:
    homes = (
        "search.config",
        "search.compare",
        "search.infer",
        "search.limit",
        "search.monitor",
        "validate.config",
        "study.config",
    )
    code = (
        "".join(f"import serendip.{home}\n" for home in homes) + "import sys\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
