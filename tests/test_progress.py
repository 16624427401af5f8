"""Bars in terminals and notebooks, lines in a log elsewhere."""

from __future__ import annotations

import io
import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest

from serendip.cli.progress import TerminalProgress
from serendip.runs.progress import LogProgress, TerminalBars, show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress) -> None:
    progress.start("training", 3)
    for done in ("cwola <1> (already there)", "[1] cathode", "anode"):
        progress.advance(done)
    progress.start("statistics", 1)
    progress.advance("p-values")


def test_on_a_terminal_there_are_bars_and_nothing_goes_to_the_log(monkeypatch, caplog, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with show_progress() as progress:
        assert isinstance(progress, TerminalBars)
        work(progress)
    shown = sys.stderr.getvalue()
    assert "done: [1] cathode" in shown
    assert "3/3" in shown
    assert "statistics" in shown
    assert "p-values" not in shown
    assert not caplog.records
    assert not capsys.readouterr().out


def test_bars_end_with_the_work_that_fails(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    seen = []

    def fail() -> None:
        with show_progress() as progress:
            progress.start("fits", 2)
            seen.append(progress)
            raise ValueError("no fit")

    with pytest.raises(ValueError, match="no fit"):
        fail()
    assert not seen[0]._live.live.is_started


def test_elsewhere_the_log_is_told(caplog, capsys):
    with caplog.at_level(logging.INFO), show_progress() as progress:
        work(progress)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:2] == ["training ...", "  [1/3] cwola <1> (already there), 0 s"]
    # the one that was there already says nothing about the time
    assert lines[2] == "  [2/3] [1] cathode, 0 s (about 0 s left)"
    assert lines[-1] == "statistics ..."
    assert capsys.readouterr() == ("", "")


def test_a_command_writes_the_lines_to_standard_error(caplog, capsys):
    with TerminalProgress() as progress:
        work(progress)
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", "training ...")
    assert not caplog.records


def test_a_notebook_shows_a_bar_below_the_cell(monkeypatch):
    shown = []

    class Shown:
        def update(self, content):
            shown[-1] = content

    def display(content, *, display_id):
        assert display_id
        shown.append(content)
        return Shown()

    notebook, module = ModuleType("IPython"), ModuleType("IPython.display")
    notebook.get_ipython = lambda: SimpleNamespace(kernel=object())
    module.HTML, module.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with show_progress() as progress:
        progress.start("training", 2)
        progress.advance("cwola <1>")
    assert shown == [
        '<progress value="1" max="2"></progress> training, 1 of 2 (about 0 s left)<br><small>cwola &lt;1&gt;</small>'
    ]
    # IPython in a terminal has no kernel
    notebook.get_ipython = SimpleNamespace
    with show_progress() as progress:
        assert isinstance(progress, LogProgress)


def test_who_gives_a_progress_gets_it():
    given = LogProgress()
    with show_progress(given) as progress:
        assert progress is given
