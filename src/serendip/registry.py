"""Things by name: those of the package, and those that other packages install.

There is a :class:`Registry` for each kind of thing that a stranger may add, and an entry-point group of the same name:
``serendip.methods``, ``serendip.scores``, ``serendip.readers``, ``serendip.exports`` and ``serendip.validations``. The room that knows what
such a thing is holds the registry.
"""

from __future__ import annotations

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

_GROUPS = [f"serendip.{kind}s" for kind in ("method", "score", "reader", "export", "validation")]


class Registry(Generic[T]):
    """All things of one kind by name; loaded when they are asked for.

    Parameters
    ----------
    kind
        What one of them is called, e.g. ``"method"``; the entry-point group is ``serendip.methods`` then.
    built_in
        Those of this package: the thing itself, or where it is (``"module:attribute"`` or ``"module"``). Their names cannot be taken by
        others.
    expected
        What others must give, in words.
    accepts
        Whether something is that.

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
        """Return a thing by its name.

        Raises
        ------
        InputError
            If there is none of this name, two packages bring one, or what a package brings cannot be used.
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
            raise InputError(f"{self.kind} '{name}' comes from {packages}; uninstall all but one of them")
        self._loaded[name] = self._load(entries[0])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        """Give all names: first those of this package, then the others in alphabetical order."""
        yield from self.built_in
        yield from self.others()

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or any(entry.name == name for entry in self._installed())

    def others(self) -> list[str]:
        """Names that other packages bring, in alphabetical order; nothing is loaded."""
        return sorted({entry.name for entry in self._installed()})

    def _installed(self) -> list[EntryPoint]:
        return [entry for entry in entry_points(group=self.group) if entry.name not in self.built_in]

    def _load(self, entry: EntryPoint) -> T:
        what = f"{self.kind} '{entry.name}' of {_package(entry)}"
        try:
            found = entry.load()
        # whatever a stranger's module does when it is imported must not end the program
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{what} cannot be loaded ({reason}); update or uninstall it") from error
        if not self.accepts(found):
            raise InputError(f"{what} cannot be used: {entry.value} is not {self.expected}")
        return cast("T", found)


def package_at_fault(error: BaseException) -> str | None:
    """Name the third-party package whose code an exception passed through, in this process or in a worker; None if there is none."""
    text = "".join(traceback.format_exception(error))
    for entry in (entry for group in _GROUPS for entry in entry_points(group=group)):
        module = sys.modules.get(entry.module.partition(".")[0])
        file = getattr(module, "__file__", None)
        if file is None or module is sys.modules["serendip"]:
            continue
        home = str(Path(file).parent) + "/" if Path(file).name == "__init__.py" else f'{file}"'
        if f'File "{home}' in text:
            return _package(entry)
    return None


def _package(entry: EntryPoint) -> str:
    if entry.dist is None:
        return f"the module {entry.module}"
    return f"the package {entry.dist.name} {entry.dist.version}"
