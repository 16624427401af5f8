"""Where trainings run: in this process, in local worker processes, or on any ``concurrent.futures.Executor``."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import psutil

__all__ = ["InlineExecutor", "available_cores", "local_executor"]


def available_cores() -> int:
    """Cores that this process may use (batch systems give fewer than the machine has)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class InlineExecutor(Executor):
    """Runs each submission at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run now; the future is finished when it is returned."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - a future carries whatever was raised
            future.set_exception(error)
        return future


def _start_worker(parent: int) -> None:
    # Ctrl-C goes to the whole process group; the parent decides what happens to its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        # A parent that was killed cannot stop its workers, which would wait for work forever.
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextmanager
def local_executor(workers: int) -> Iterator[Executor]:
    """Give an executor on this machine; its processes are stopped at once on an exception or Ctrl-C."""
    if workers <= 1:
        yield InlineExecutor()
        return
    executor = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(os.getpid(),)
    )
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for child in psutil.Process().children():
            child.terminate()
        raise
    executor.shutdown()
