"""Where trainings run: in this process, in local worker processes, or on any ``concurrent.futures.Executor``."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import get_context
from typing import Any, TypeVar

import psutil

from serendip.errors import SerendipError
from serendip.simulate.workers import end_with_parent

__all__ = ["as_finished", "available_cores", "executor_or_local", "local_executor"]

Job = TypeVar("Job")
Result = TypeVar("Result")

# raised by Dask for a dead worker; cannot be imported where Dask is not installed
_DEAD_WORKER = ("KilledWorker",)


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


def executor_or_local(
    executor: Executor | None, jobs: int | None, most: int
) -> AbstractContextManager[Executor | None]:
    """Give ``executor``, or if it is None one on this machine with ``jobs`` workers (default: one for each core), but at most ``most``."""
    return local_executor(min(jobs or available_cores(), most)) if executor is None else nullcontext(executor)


def as_finished(
    executor: Executor | None, fn: Callable[..., Result], jobs: Sequence[Job], *args: Any
) -> Iterator[tuple[Job, Result]]:
    """Call ``fn(job, *args)`` for every job; yield each job with its result as soon as it is finished.

    Parameters
    ----------
    executor
        Runs the calls; None: one after the other in this process.

    Raises
    ------
    SerendipError
        If a worker process died.
    """
    if executor is None:
        for job in jobs:
            yield job, fn(job, *args)
        return
    # Executors of Dask answer a call from the result of an equal one, also of an earlier run: no two calls are equal
    try:
        futures = {executor.submit(_call, uuid.uuid4().hex, fn, job, *args): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except Exception as error:
        if isinstance(error, BrokenExecutor) or type(error).__name__ in _DEAD_WORKER:
            raise SerendipError(
                "a worker process died, perhaps for lack of memory (fewer processes at a time need less); repeat the same "
                f"command to continue with the unfinished trainings [{type(error).__name__}: {error}]"
            ) from error
        raise


def _call(token: str, fn: Callable[..., Result], *args: Any) -> Result:
    """Call ``fn``; the token makes the call differ from all others."""
    return fn(*args)
