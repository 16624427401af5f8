"""Names of methods, scores and the rest: ours, those of other packages, and what is said of broken ones."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from example_packages import forget_loaded, lay_out
from samples import write_table

from serendip.cli.main import run
from serendip.errors import InputError
from serendip.events.formats import READERS
from serendip.methods.cwola import Cwola
from serendip.methods.registry import METHODS
from serendip.outliers.registry import SCORES
from serendip.registry import Registry, package_at_fault
from serendip.report.exports.registry import EXPORTS
from serendip.report.registry import PAGES
from serendip.validate.registry import KINDS

GOOD = """
from serendip.methods.base import Method
class Theirs(Method):
    name, title = "theirs", "a method from elsewhere"
    def fit(self, events, window, splits=None): raise RuntimeError("no fit today")
    def score(self, events, split=0): ...
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay out a package with a module of its name, and entry points ``group:name=value``."""
    monkeypatch.syspath_prepend(tmp_path)
    forget_loaded(monkeypatch)

    def installed(package: str, *entries: str, content: str = "") -> None:
        parts = [re.fullmatch(r"(\w+):([\w.]+) = (.*)", entry).groups() for entry in entries]
        lay_out(
            tmp_path, package, "1.2", {f"serendip.{group}": {name: value} for group, name, value in parts}
        )
        (tmp_path / f"{package}.py").write_text(content)
        monkeypatch.delitem(sys.modules, package, raising=False)

    return installed


def test_a_package_adds_a_method_and_cannot_take_the_name_of_ours(install):
    install("good", "methods:theirs = good:Theirs", content=GOOD)
    install("thief", "methods:cwola = good:Theirs")
    assert METHODS["theirs"].title == "a method from elsewhere"
    assert METHODS["cwola"] is Cwola
    assert list(METHODS) == [*METHODS.built_in, "theirs"]
    with pytest.raises(
        InputError, match=r"unknown method 'their'; did you mean 'theirs'. .available: anode, .*theirs\)"
    ):
        METHODS["their"]


@pytest.mark.parametrize(
    ("entry", "content", "message"),
    [
        ("mine = nothing_of_this_name:X", "", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("mine = broken:X", "1 / 0", "ZeroDivisionError: division by zero"),
        ("mine = broken:X", "import sys; sys.exit(3)", "SystemExit: 3"),
        ("mine = broken:Y", "X = 1", "AttributeError: .*'Y'"),
    ],
)
@pytest.mark.parametrize(
    "registry", [METHODS, SCORES, READERS, EXPORTS, KINDS], ids=lambda registry: registry.kind
)
def test_what_cannot_be_loaded_is_named_with_its_package(
    registry: Registry, install, entry, content, message
):
    install("broken", f"{registry.group.removeprefix('serendip.')}:{entry}", content=content)
    assert "mine" in registry
    with pytest.raises(
        InputError, match=f"^{registry.kind} 'mine' of the package broken 1.2 cannot be loaded .{message}"
    ):
        registry["mine"]
    assert registry[next(reversed(registry.built_in))]


@pytest.mark.parametrize(
    "registry", [METHODS, READERS, EXPORTS, KINDS, PAGES], ids=lambda registry: registry.kind
)
def test_ours_are_what_is_asked_of_others(registry):
    for name in registry.built_in:
        assert registry.accepts(registry[name]), name


def test_what_is_something_else_is_refused(install):
    others = [f"{group}:number = odd:Theirs" for group in ("scores", "readers", "exports", "validations")]
    install("odd", "methods:number = math:pi", *others, content=GOOD)
    with pytest.raises(
        InputError, match=r"of the package odd 1.2 cannot be used: math:pi is not a subclass of .*Method"
    ):
        METHODS["number"]
    for registry, wanted in (
        (SCORES, "a subclass of .*OutlierScore"), (READERS, "a subclass of .*Table"), (EXPORTS, "a function"), (KINDS, "a module"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=rf"odd:Theirs is not {wanted}"):
            registry["number"]


def test_one_name_of_two_packages_is_refused(install):
    install("good", "methods:theirs = good:Theirs", content=GOOD)
    install("other", "methods:theirs = good:Theirs")
    with pytest.raises(
        InputError, match=r"'theirs' is provided by the package .* and the package .*; uninstall all but one"
    ):
        METHODS["theirs"]


def test_the_package_whose_code_failed_is_named(install):
    install("good", "methods:theirs = good:Theirs", content=GOOD)
    with pytest.raises(RuntimeError) as caught:
        METHODS["theirs"]().fit(None, None)
    assert package_at_fault(caught.value) == "the package good 1.2, good.py line 5,"
    assert package_at_fault(RuntimeError("ours")) is None


def test_a_package_of_several_modules_is_named_too(install, tmp_path):
    install("many", "methods:theirs = many:Theirs")
    (tmp_path / "many.py").unlink()
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "__init__.py").write_text(GOOD)
    (tmp_path / "many" / "inner.py").write_text(
        "class Inner:\n    def fit(self): raise RuntimeError('deep')\n"
    )
    METHODS["theirs"]
    from many.inner import Inner

    with pytest.raises(RuntimeError) as caught:
        Inner().fit()
    assert package_at_fault(caught.value) == "the package many 1.2, inner.py line 2,"


def test_a_method_that_fails_in_a_worker_is_a_message_and_no_traceback(install, tmp_path, capsys):
    install("good", "methods:theirs = good:Theirs", content=GOOD)
    table = write_table(tmp_path / "events.parquet", 3000)
    code = run(
        ["search", str(table), "--mass", "mjj", "--features", "f1", "--window", "3300:3700", "--method", "theirs",
         "--toys", "100", "--jobs", "2", "--out", str(tmp_path / "run")]
    )  # fmt: skip
    assert code == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "error: the package good 1.2, good.py line 5, failed (RuntimeError: no fit today)" in message
    assert "Traceback" not in message


def test_a_package_redraws_its_page(install, tmp_path, capsys):
    page = (
        "def write(folder):\n    (folder / 'dice.html').write_text('six')\n    return folder / 'dice.html'\n"
    )
    install("dice", "pages:dice.json = dice:write", content=page)
    (tmp_path / "run").mkdir()
    assert run(["report", str(tmp_path / "run")]) == 2
    (tmp_path / "run" / "dice.json").write_text("{}")
    assert run(["report", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.strip() == f"report: {tmp_path / 'run' / 'dice.html'}"
