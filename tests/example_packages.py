"""Packages as an installer leaves them in site-packages, without an installer."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PROJECTS = {
    path.parent.name: tomllib.loads(path.read_text())["project"] for path in EXAMPLES.glob("*/pyproject.toml")
}


def lay_out(site: Path, name: str, version: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Write the entry points of a package, ``{group: {name: value}}``, beside its modules."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{entry} = {value}\n" for entry, value in entries.items())
        for group, entries in entry_points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))


def lay_out_examples(site: Path) -> None:
    for name, project in PROJECTS.items():
        lay_out(site, project["name"], project["version"], project["entry-points"])
        for module in (EXAMPLES / name).glob("*.py"):
            (site / module.name).write_bytes(module.read_bytes())


def forget_loaded(monkeypatch) -> None:
    """Registries keep what they have loaded; a test looks for itself."""
    from serendip.events.formats import READERS
    from serendip.methods.registry import METHODS
    from serendip.outliers.registry import SCORES
    from serendip.report.exports.registry import EXPORTS
    from serendip.report.registry import PAGES
    from serendip.validate.registry import KINDS

    for registry in (METHODS, SCORES, READERS, EXPORTS, KINDS, PAGES):
        monkeypatch.setattr(registry, "_loaded", {})
