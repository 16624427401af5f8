"""Run chunks of several samples in one pool of processes until each sample has enough selected events.

Which chunks belong to a sample is decided by their numbers alone: the shortest row 0, 1, 2, ... that holds enough. More may have been
made at the end, because several run at a time; they are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

from serendip.simulate.processes import Sample
from serendip.simulate.workers import worker_pool

__all__ = ["Counted", "run_chunks"]


@dataclass(frozen=True)
class Counted:
    """Numbers of generated and selected events of a chunk, and of those that Pythia tried to generate."""

    generated: int
    selected: int
    tried: int


@dataclass
class _State:
    sample: Sample
    done: dict[int, Counted]
    running: set[int] = field(default_factory=set)
    written: bool = False

    def row(self, wanted: int, max_generated: int) -> tuple[int, int, int, bool]:
        """Chunks, selected and generated events of the row from 0, and whether it is long enough."""
        chunks = selected = generated = tried = 0
        while chunks in self.done:
            selected += self.done[chunks].selected
            generated += self.done[chunks].generated
            tried += self.done[chunks].tried
            chunks += 1
            if selected >= wanted or tried >= max_generated or generated == 0:
                return chunks, selected, generated, True
        return chunks, selected, generated, False

    def next_index(self, wanted: int, max_generated: int, first: Callable[[int], int]) -> int | None:
        """Chunk to start now, or None if those made and running are expected to be enough or reach the cap."""
        if self.written or self.row(wanted, max_generated)[3]:
            return None
        index = 0
        while index in self.done or index in self.running:
            index += 1
        if first(index) >= max_generated:
            return None
        if not self.done:
            # one chunk determines the acceptance
            return None if self.running else index
        made = sum(counted.tried for counted in self.done.values())
        rate = sum(counted.selected for counted in self.done.values()) / len(self.done)
        size = made / len(self.done)
        chunks = len(self.done) + len(self.running)
        enough = rate * chunks >= wanted or size * chunks >= max_generated
        # the row may still lack a chunk in the middle, or fall short of the expectation
        return None if enough and self.running else index


def run_chunks(
    samples: Sequence[Sample],
    make: Callable[[Sample, int], Any],
    work: Callable[[Any], Counted],
    done: dict[str, dict[int, Counted]],
    finish: Callable[[Sample, int], None],
    *,
    wanted: int,
    max_generated: int,
    first: Callable[[int], int],
    jobs: int,
    progress: Callable[[str, int, int, int], None],
) -> None:
    """Make chunks until every sample has enough.

    Parameters
    ----------
    samples
        In this order.
    make, work
        ``work(make(sample, index))`` makes a chunk and saves it, in another process if ``jobs > 1``.
    done
        Finished chunks of each sample.
    finish
        Called once for each sample with the number of chunks that belong to it.
    wanted, max_generated
        A sample ends with this many selected, or after this many generated events.
    first
        Number of the first event of a chunk.
    jobs
        Number of processes.
    progress
        Called with the name of a sample and its selected, wanted and generated events.

    Raises
    ------
    SerendipError
        If a worker process died.
    """
    states = [_State(sample, done[sample.name]) for sample in samples]

    def settle() -> None:
        for state in states:
            chunks, selected, generated, enough = state.row(wanted, max_generated)
            if enough and not state.written:
                finish(state.sample, chunks)
                state.written = True
                progress(state.sample.name, min(selected, wanted), wanted, generated)

    def start() -> tuple[_State, int] | None:
        for state in states:
            index = state.next_index(wanted, max_generated, first)
            if index is not None:
                return state, index
        return None

    def store(state: _State, index: int, counted: Counted) -> None:
        state.done[index] = counted
        _, selected, generated, _ = state.row(wanted, max_generated)
        progress(state.sample.name, min(selected, wanted), wanted, generated)

    settle()
    if jobs == 1:
        while (next_one := start()) is not None:
            state, index = next_one
            store(state, index, work(make(state.sample, index)))
            settle()
        return
    running: dict[Future[Counted], tuple[_State, int]] = {}
    with worker_pool(jobs) as pool:
        while True:
            while len(running) < jobs and (next_one := start()) is not None:
                state, index = next_one
                state.running.add(index)
                running[pool.submit(work, make(state.sample, index))] = (state, index)
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                state, index = running.pop(future)
                state.running.discard(index)
                store(state, index, future.result())
            settle()
