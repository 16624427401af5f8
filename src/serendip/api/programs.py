"""Programs as functions: any table of events in, a folder of results out. Keywords are the settings of the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serendip.api.run import Run
from serendip.api.settings import keep_events, program_settings
from serendip.events.events import Events
from serendip.runs.progress import Progress, show_progress
from serendip.search.config import parse_config, parse_settings

if TYPE_CHECKING:
    from concurrent.futures import Executor


__all__ = ["Outcome", "run_compare", "run_infer", "run_limit", "run_monitor", "run_search", "run_validate"]


@dataclass(frozen=True)
class Outcome:
    """Result of a program.

    Attributes
    ----------
    path
        Output folder; the same call continues there, or returns at once if everything is finished.
    page
        The report, a self-contained HTML file; for limits, the figure.
    results
        Content of the JSON file; for a validation, a list of :class:`~serendip.Validation`.
    """

    path: Path
    page: Path
    results: Any

    def _repr_html_(self) -> str:
        return f'<a href="{escape(str(self.page))}">{escape(str(self.page))}</a>'


def run_search(
    source: Any,
    *,
    out: Path | str,
    unblind: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Search a table of events for a resonance; the same as ``serendip search``.

    Parameters
    ----------
    source
        A file, a list of files, a folder or a pattern; a table in memory (pandas, polars, Arrow, awkward, a dictionary of arrays), which is
        kept in the folder; :class:`~serendip.Events`; or a YAML file with settings.
    out
        Run directory: new, or one to continue.
    unblind
        Show and store the observed counts in the windows. This is recorded and cannot be undone.
    jobs
        Worker processes; default: one for each core.
    executor
        Runs the trainings, instead of local processes.
    progress
        Receives stages and finished steps; default: bars in a terminal or a notebook, else the log (``logging``, level INFO).
    **settings
        Keys of :class:`~serendip.search.config.SearchConfig`: ``mass``, ``features``, ``options``, ``folds``, ... They take precedence over those
        of a YAML file. ``methods`` is the list of methods (``method`` in YAML). ``windows`` is one window (LO, HI), or with ``width`` or
        ``signal_width`` the range of a scan (``window`` and ``scan`` in YAML).

    Returns
    -------
    Run
        With ``report.html`` written.

    Raises
    ------
    InputError
        If the input, a setting or the folder cannot be used; nothing is trained in that case.

    Examples
    --------
    >>> run = serendip.search(
    ...     "events.parquet",
    ...     mass="mjj",
    ...     features=["mj1", "tau21"],
    ...     windows=(3300, 3700),
    ...     methods=["bump-hunt"],
    ...     toys=100,
    ...     unblind=True,
    ...     out="run",
    ... )
    >>> look = run.looks[0]
    >>> look.method, look.window, look.observed, f"{look.z_local:.1f}"
    ('bump-hunt', (3300.0, 3700.0), 189.0, '3.4')
    """
    from serendip.report import write_report
    from serendip.search.engine import run_search as search

    config = parse_config(program_settings(source, out, settings), "run_search")
    keep_events(source, Path(out))
    with show_progress(progress) as shown:
        result = search(config, out, unblind=unblind, jobs=jobs, executor=executor, progress=shown)
    write_report(result.path)
    return Run(result.path)


def run_compare(
    source: Any,
    *,
    out: Path | str,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Outcome:
    """Compare methods on labelled events with increasing injected signal; the same as ``serendip compare``.

    Parameters
    ----------
    source, out, jobs, executor, progress
        As for :func:`run_search`.
    **settings
        Keys of :class:`~serendip.search.compare.config.CompareConfig`, ``label`` among them; ``windows`` and ``methods`` as for
        :func:`run_search`, default: all methods that can run.

    Raises
    ------
    InputError
        If the input, a setting or the folder cannot be used.

    Examples
    --------
    >>> found = serendip.compare(
    ...     "events.parquet",
    ...     mass="mjj",
    ...     features=["mj1", "tau21"],
    ...     label="truth",
    ...     windows=(3300, 3700),
    ...     methods=["bump-hunt"],
    ...     injections=[0, 50],
    ...     repeats=1,
    ...     out="comparison",
    ... )
    >>> [(entry["method"], entry["injection"]) for entry in found.results["entries"]]
    [('bump-hunt', 0), ('bump-hunt', 50)]
    """
    from serendip.report.compare.page import write_comparison
    from serendip.search.compare import run_compare as compare
    from serendip.search.compare.config import parse_comparison

    config, left_out, strict = parse_comparison(program_settings(source, out, settings), "run_compare")
    keep_events(source, Path(out))
    with show_progress(progress) as shown:
        results = compare(
            config, out, left_out=left_out, strict=strict, jobs=jobs, executor=executor, progress=shown
        )
    return Outcome(Path(out), write_comparison(out), results)


def run_infer(
    source: Any,
    *,
    out: Path | str,
    unblind: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Outcome:
    """Measure the strength of a signal in one window with learned densities; the same as ``serendip infer``.

    Parameters
    ----------
    source, out, unblind, progress
        As for :func:`run_search`.
    threads
        Of each training; default: one for each core.
    **settings
        Keys of :class:`~serendip.search.infer.config.InferConfig`; ``windows``: one window (LO, HI).

    Raises
    ------
    InputError
        If the input, a setting or the folder cannot be used.

    Examples
    --------
    >>> found = serendip.infer("events.parquet", mass="mjj", features=["mj1", "tau21"], windows=(3300, 3700),
    ...                            unblind=True, out="mu")  # doctest: +SKIP
    >>> found.results["total"]["fit"]["count"]  # doctest: +SKIP
    """
    from serendip.report.infer.page import write_infer_report
    from serendip.search.infer import InferConfig
    from serendip.search.infer import run_infer as infer

    config = parse_settings(InferConfig, program_settings(source, out, settings), "run_infer")
    keep_events(source, Path(out))
    with show_progress(progress) as shown:
        result = infer(config, out, unblind=unblind, threads=threads, progress=shown)
    return Outcome(result.path, write_infer_report(result.path), result.results)


def run_limit(
    source: Any,
    *,
    inject: Path | str,
    masses: Sequence[float] | float,
    out: Path | str,
    level: float = 0.95,
    luminosity: float | None = None,
    acceptance: float = 1.0,
    jobs: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Outcome:
    """Set upper limits on a signal with searches that are trained on data containing it; the same as ``serendip limit --inject``.

    Parameters
    ----------
    source, out, jobs, progress
        As for :func:`run_search`.
    inject
        File with simulated signal.
    masses
        Signal masses in GeV, each the centre of a window.
    level
        Confidence level.
    luminosity
        In 1/fb; limits are then quoted in fb as well.
    acceptance
        Fraction of the produced signal events that lie in the window before any cut.
    **settings
        Keys of :class:`~serendip.search.limit.LimitConfig` and of the searches that are trained, ``methods`` among them.

    Raises
    ------
    InputError
        If the input, a setting or the folder cannot be used.

    Examples
    --------
    >>> found = serendip.limit(
    ...     "events.parquet",
    ...     inject="signal.parquet",
    ...     masses=[3500],
    ...     mass="mjj",
    ...     features=["mj1", "tau21"],
    ...     methods=["bump-hunt"],
    ...     injections=[50, 100],
    ...     repeats=1,
    ...     out="limits",
    ... )
    >>> [f"{limit['observed']:.0f} events" for limit in found.results["limits"]]
    ['75 events']
    """
    from serendip.report.compare.page import write_comparison
    from serendip.report.limits import check_claim, write_limits
    from serendip.search.limit import LimitConfig, limit_settings, make_ladders

    check_claim(level, luminosity, acceptance)
    given = program_settings(source, out, settings) | {"inject": os.fspath(inject), "masses": masses}
    if isinstance(source, Events):
        # the label marks the injected signal, and events are renumbered with it
        given = {
            name: value for name, value in given.items() if name in settings or name not in ("label", "id")
        }
    config = parse_settings(LimitConfig, limit_settings(given), "run_limit")
    keep_events(source, Path(out))
    with show_progress(progress) as shown:
        ladders = make_ladders(config, Path(out), jobs=jobs, progress=shown, page=write_comparison)
    results = write_limits(ladders, Path(out), level=level, luminosity=luminosity, acceptance=acceptance)
    return Outcome(Path(out), Path(out) / "figures" / "limits.png", results)


def run_monitor(
    source: Any,
    *,
    out: Path | str,
    append: Sequence[str | os.PathLike[str]] = (),
    unblind: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Outcome:
    """Search after every data-taking period, with p-values that are valid at any time of looking; as ``serendip monitor``.

    Parameters
    ----------
    source
        The first period; as for :func:`run_search`.
    append
        Files of new periods, in chronological order.
    out, unblind, jobs, executor, progress
        As for :func:`run_search`.
    **settings
        Keys of :class:`~serendip.search.monitor.config.MonitorConfig`; ``windows`` and ``methods`` as for :func:`run_search`.

    Raises
    ------
    InputError
        If the input, a setting or the folder cannot be used.

    Examples
    --------
    >>> found = serendip.monitor(
    ...     "events.parquet",
    ...     append=["more.parquet"],
    ...     mass="mjj",
    ...     features=["mj1", "tau21"],
    ...     windows=(3300, 3700),
    ...     options={"cwola": {"members": 1}},
    ...     unblind=True,
    ...     out="watch",
    ... )
    >>> 0 < found.results["global"][-1]["p"] <= 1
    True
    """
    from serendip.report.monitor import write_monitor_page
    from serendip.search.monitor import MonitorConfig
    from serendip.search.monitor import run_monitor as monitor

    config = parse_settings(MonitorConfig, program_settings(source, out, settings), "run_monitor")
    keep_events(source, Path(out))
    files = [os.fspath(file) for file in append]
    with show_progress(progress) as shown:
        result = monitor(
            config, out, append=files, unblind=unblind, jobs=jobs, executor=executor, progress=shown, page=write_monitor_page
        )  # fmt: skip
    return Outcome(result.path, result.path / "monitor.html", result.results)


def run_validate(
    source: Any,
    kinds: str | Sequence[str],
    *,
    out: Path | str,
    jobs: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Outcome:
    """Test a search on its own data, without its signal region; the same as ``serendip validate``.

    Parameters
    ----------
    source, out, jobs, progress
        As for :func:`run_search`.
    kinds
        Names of validations (:data:`serendip.validate.registry.KINDS`).
    **settings
        Those of the search, and ``validate={KIND: {OPTION: VALUE}}``.

    Raises
    ------
    InputError
        If the input, a setting or the folder cannot be used.

    Examples
    --------
    >>> found = serendip.validate(
    ...     "events.parquet",
    ...     ["closure"],
    ...     mass="mjj",
    ...     features=["mj1", "tau21"],
    ...     windows=(3300, 3700),
    ...     methods=["bump-hunt"],
    ...     out="validation",
    ... )
    >>> [check.name for validation in found.results for check in validation.failed]
    []
    """
    from serendip.report.validation.page import write_validation_page
    from serendip.validate.config import parse_validation
    from serendip.validate.engine import run_validations
    from serendip.validate.registry import kind_names

    names = kind_names(kinds if isinstance(kinds, str) else ",".join(kinds))
    config, options = parse_validation(program_settings(source, out, settings), names, "run_validate")
    keep_events(source, Path(out))
    with show_progress(progress) as shown:
        found = run_validations(config, options, out, jobs=jobs, progress=shown)
    return Outcome(Path(out), write_validation_page(out), found)
