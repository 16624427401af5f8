"""Where trainings run: in this process, in local worker processes, or on any ``concurrent.futures.Executor``."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

import psutil

from serendip.simulate.workers import end_with_parent

__all__ = ["as_finished", "available_cores", "local_executor"]

Job = TypeVar("Job")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use (batch systems give fewer than the machine has)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _start_worker(parent: int) -> None:
    # Ctrl-C goes to the whole process group; the parent decides what happens to its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)


@contextmanager
def local_executor(workers: int) -> Iterator[Executor | None]:
    """Give an executor on this machine, None for one worker; its processes end at once on an exception or Ctrl-C."""
    if workers <= 1:
        yield None
        return
    executor = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(os.getpid(),)
    )
    try:
        yield executor
    except BaseException:
        results = executor._result_queue
        executor.shutdown(wait=False, cancel_futures=True)
        for child in psutil.Process().children():
            child.terminate()
        # A worker that ends while it sends leaves half a message in the pipe. As long as this process could write
        # there too, the pool waits for the other half, and Python waits for the pool before it exits.
        results._writer.close()  # type: ignore[attr-defined]
        raise
    executor.shutdown()


def as_finished(
    executor: Executor | None, fn: Callable[..., Result], jobs: Sequence[Job], *args: Any
) -> Iterator[tuple[Job, Result]]:
    """Call ``fn(job, *args)`` for every job; give each job with its result as soon as it is there.

    Parameters
    ----------
    executor
        Runs the calls; None: one after the other in this process.
    """
    if executor is None:
        for job in jobs:
            yield job, fn(job, *args)
        return
    futures = {executor.submit(fn, job, *args): job for job in jobs}
    for future in as_completed(futures):
        yield futures[future], future.result()
