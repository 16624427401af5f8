"""No module uses what is private to another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import serendip

SOURCE = Path(serendip.__file__).parent
# what other packages and the standard library offer in no other way
FOREIGN = {
    "_baseline_prediction", "_check_sample_weight", "_eval", "_exit", "_foreach_lerp_", "_predictors", "_result_queue",
    "_swig", "_writer",
}  # fmt: skip


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in FOREIGN


def uses(source: str) -> Iterator[str]:
    """Uses of privates of others: imports, attributes of what is imported, and attributes that this module gives nothing.

    A class may use what it inherits (``self._x``, ``cls._x``, ``super()._x``).
    """
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    own, imported = set(), set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.attr if isinstance(node, ast.Attribute) else node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imported |= {(name.asname or name.name).split(".")[0] for name in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                if private(name.name):
                    yield f"line {node.lineno}: {name.name} from {node.module}"
        elif isinstance(node, ast.Attribute) and private(node.attr):
            of = ast.unparse(node.value)
            inherited = of in ("self", "cls", "super()")
            if of.split(".")[0] in imported or not (inherited or node.attr in own):
                yield f"line {node.lineno}: {of}.{node.attr}"


def test_no_module_uses_a_private_of_another() -> None:
    files = [*SOURCE.rglob("*.py"), *(SOURCE.parents[1] / "examples").rglob("*.py")]
    found = [f"{file}, {use}" for file in files for use in uses(file.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_every_way_to_a_private_is_noticed() -> None:
    for source in (
        "from serendip.density.logit import _EDGE",
        "from serendip.search import config\nconfig._GEV",
        "import serendip.search.config\nserendip.search.config._GEV",
        "from serendip.search.config import SearchConfig\ndef _consistent(): ...\nSearchConfig._consistent",
        "def f(density):\n    return density._members(0)",
    ):
        assert len(list(uses(source))) == 1, source
    for source in (
        "class A:\n    def f(self):\n        return self._inherited + super()._f()",
        "class A:\n    def f(self):\n        self._x = 1\ndef g(a: A):\n    return a._x",
        "import os\nos._exit(0)",
        "from serendip.version import __version__",
    ):
        assert not list(uses(source)), source
