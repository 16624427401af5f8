"""Worker processes that end together with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from serendip.errors import SerendipError

__all__ = ["end_with_parent", "start_worker", "worker_pool"]


def end_with_parent(parent: int) -> None:
    """End this process when its parent, of this number, is gone: a parent that was killed cannot stop its workers."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def start_worker(parent: int) -> None:
    """Initialise a worker that Ctrl-C ends at once, without a traceback and without finishing its work."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent(parent)


@contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of workers; pending work is dropped when the block ends.

    Raises
    ------
    SerendipError
        If a worker process died.
    """
    # spawn: Pythia and FastJet keep state in C++ that a forked child would share
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=start_worker, initargs=(os.getpid(),))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise SerendipError(
            "a worker process died, perhaps for lack of memory; repeat the same command to continue"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
