"""Building blocks of all pages: interactive plots, their printed versions, a template, one self-contained file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs
from pydantic import BaseModel

from serendip.errors import InputError
from serendip.io.files import atomic_write
from serendip.report import figures, plots, words
from serendip.report.notation import subscripts

__all__ = ["Group", "Page", "Panel", "write_page"]

T = TypeVar("T")


@dataclass(frozen=True)
class Panel:
    """One interactive plot: where it goes, what to look for, and the files of its printed version."""

    id: str
    title: str
    caption: str
    files: tuple[str, ...] = ()


Group = tuple[str, list[Panel], tuple[str, ...]]  # title, one panel per feature, files


@dataclass(frozen=True)
class Page:
    """Collects the plots of a page and writes the printed figures next to it.

    Attributes
    ----------
    path
        Folder of the page.
    figures
        Folder of the printed figures in it.
    specs
        Interactive plots by the id of their place.
    drawn
        Names of the figures that were written.
    """

    path: Path
    figures: str = "figures"
    specs: dict[str, plots.Spec] = field(default_factory=dict)
    drawn: set[str] = field(default_factory=set)

    def panel(self, spec: plots.Spec, title: str, caption: str, files: tuple[str, ...] = ()) -> Panel:
        """Add an interactive plot to the page."""
        name = f"plot-{len(self.specs) + 1}"
        self.specs[name] = spec
        return Panel(name, title, caption, files)

    def static(
        self, name: str, numbers: BaseModel | Sequence[BaseModel], draw: Callable[[], Figure]
    ) -> tuple[str, ...]:
        """Write a printed figure and its numbers; returns the files, relative to the folder of the page."""
        figures.save(draw(), numbers, self.path / self.figures / name)
        self.drawn.add(name)
        return tuple(f"{self.figures}/{name}.{suffix}" for suffix in ("pdf", "png", "json"))

    @contextmanager
    def writing(self, what: str = "report") -> Iterator[None]:
        """Make the folder of the figures; InputError if a file cannot be written."""
        try:
            (self.path / self.figures).mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise InputError(
                f"{self.path}: the {what} cannot be written ({error.strerror or error})"
            ) from None

    def clear(self, starts: tuple[str, ...]) -> None:
        """Remove figures whose names start so and that this page no longer has."""
        for path in (self.path / self.figures).iterdir():
            if path.stem not in self.drawn and path.stem.startswith(starts):
                path.unlink()

    def render(self, template: str, *, helpers: dict[str, Any] | None = None, **content: Any) -> str:
        """Fill a template with the plots and more content.

        Parameters
        ----------
        template
            File in ``serendip/report/templates``.
        helpers
            Functions and modules that the template calls; ``w`` is :mod:`serendip.report.words`.
        content
            Content of the page.
        """
        environment = Environment(
            loader=PackageLoader("serendip.report"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["maths"] = lambda text: Markup(subscripts(str(escape(text))))
        environment.globals.update(w=words, **(helpers or {}))
        return environment.get_template(template).render(
            specs=self.specs, plotlyjs=Markup(get_plotlyjs()), **content
        )

    def write(self, name: str, text: str) -> Path:
        """Write a file of the page; returns its path."""
        with atomic_write(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return self.path / name


def write_page(
    folder: Path | str,
    name: str,
    read: Callable[[Path], T],
    render: Callable[[Page, T], str],
) -> Path:
    """Write a page of the folder content returned by ``read``, with its figures; returns the path of the page.

    Raises
    ------
    InputError
        If the input is missing or damaged, or the folder cannot be written.
    """
    page = Page(Path(folder))
    found = read(page.path)
    with page.writing():
        return page.write(name, render(page, found))
