"""Registries of what serendip and other packages provide by name.

There is one :class:`Registry` for each kind of extension, and an entry-point group to go with it: ``serendip.methods``, ``serendip.scores``,
``serendip.readers``, ``serendip.exports``, ``serendip.validations`` and ``serendip.pages``. Each registry lives in the package that defines the contract of its kind.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from serendip.errors import InputError

__all__ = ["Registry", "package_at_fault"]

T = TypeVar("T")

_GROUPS = [f"serendip.{kind}s" for kind in ("method", "score", "reader", "export", "validation", "page")]


class Registry(Generic[T]):
    """Everything of one kind by name, built in or from other packages; loaded on first use.

    Parameters
    ----------
    kind
        Singular noun for messages, e.g. ``"method"``; the entry-point group is then ``serendip.methods``.
    built_in
        What serendip itself provides: the object, or where to import it from (``"module:attribute"`` or ``"module"``). Other packages
        cannot override these names.
    expected
        What an entry point must refer to, in words.
    accepts
        Tells whether an object is what is expected.

    Examples
    --------
    >>> numbers = Registry("number", {"pi": "math:pi"}, "a float", lambda found: isinstance(found, float))
    >>> numbers["pi"]
    3.141592653589793
    >>> "pie" in numbers
    False
    """

    def __init__(
        self, kind: str, built_in: Mapping[str, str | T], expected: str, accepts: Callable[[Any], bool]
    ) -> None:
        self.kind = kind
        self.group = f"serendip.{kind}s"
        self.built_in = dict(built_in)
        self.expected, self.accepts = expected, accepts
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """Load an entry.

        Raises
        ------
        InputError
            If the name is unknown, two packages provide it, or what a package provides cannot be used.
        """
        if name in self.built_in:
            found = self.built_in[name]
            return cast("T", EntryPoint(name, found, self.group).load()) if isinstance(found, str) else found
        if name in self._loaded:
            return self._loaded[name]
        entries = [entry for entry in self._installed() if entry.name == name]
        if not entries:
            near = get_close_matches(name, list(self), n=3)
            hint = f"; did you mean {' or '.join(repr(other) for other in near)}?" if near else ""
            raise InputError(f"unknown {self.kind} '{name}'{hint} (available: {', '.join(self)})")
        if len(entries) > 1:
            packages = " and ".join(map(_package, entries))
            raise InputError(f"{self.kind} '{name}' is provided by {packages}; uninstall all but one of them")
        self._loaded[name] = self._load(entries[0])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names: first the built-in ones, then those of other packages in alphabetical order."""
        yield from self.built_in
        yield from self.others()

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or any(entry.name == name for entry in self._installed())

    def others(self) -> list[str]:
        """Names provided by other packages, in alphabetical order; nothing is loaded."""
        return sorted({entry.name for entry in self._installed()})

    def _installed(self) -> list[EntryPoint]:
        return [entry for entry in entry_points(group=self.group) if entry.name not in self.built_in]

    def _load(self, entry: EntryPoint) -> T:
        what = f"{self.kind} '{entry.name}' of {_package(entry)}"
        try:
            found = entry.load()
        # whatever goes wrong while a third-party module is imported must not end the program
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{what} cannot be loaded ({reason}); update or uninstall it") from error
        if not self.accepts(found):
            raise InputError(f"{what} cannot be used: {entry.value} is not {self.expected}")
        return cast("T", found)


def package_at_fault(error: BaseException) -> str | None:
    """Name the extension package whose code is in the traceback of an exception, raised here or in a worker, with file and line; else None."""
    text = "".join(traceback.format_exception(error))
    for entry in (entry for group in _GROUPS for entry in entry_points(group=group)):
        module = sys.modules.get(entry.module.partition(".")[0])
        file = getattr(module, "__file__", None)
        if file is None or module is sys.modules["serendip"]:
            continue
        home = f"{Path(file).parent}/" if Path(file).name == "__init__.py" else file
        places = re.findall(rf'File "({re.escape(home)}[^"]*)", line (\d+)', text)
        if places:
            path, line = places[-1]
            return f"{_package(entry)}, {Path(path).name} line {line},"
    return None


def _package(entry: EntryPoint) -> str:
    if entry.dist is None:
        return f"the module {entry.module}"
    return f"the package {entry.dist.name} {entry.dist.version}"
