"""Where trainings run: results as they come, and an end whatever the workers are doing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from serendip.errors import SerendipError
from serendip.runs.executor import as_finished, local_executor

# 400 MB take a while to go through a pipe; the interrupt comes when some of them have
INTERRUPTED_WHILE_A_WORKER_SENDS = """
import psutil
from serendip.runs.executor import local_executor

def large():
    return bytes(400_000_000)

if __name__ == "__main__":
    try:
        with local_executor(2) as pool:
            pool.submit(int, 1).result()
            future = pool.submit(large)
            here = psutil.Process()
            before = here.io_counters().read_chars
            while here.io_counters().read_chars < before + 20_000_000:
                pass
            assert not future.done()
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        print("end of the script")
"""


def double(job: int, plus: int) -> int:
    return 2 * job + plus


def test_results_are_the_same_here_and_in_an_executor() -> None:
    expected = [(job, 2 * job + 1) for job in range(5)]
    assert list(as_finished(None, double, range(5), 1)) == expected
    with ThreadPoolExecutor(2) as pool:
        assert sorted(as_finished(pool, double, range(5), 1)) == expected


def test_one_worker_needs_no_process_and_calls_one_after_the_other() -> None:
    called = []
    with local_executor(1) as pool:
        assert pool is None
        for job, _ in as_finished(pool, called.append, range(3)):
            assert called == list(range(job + 1))


class LikeDask(ThreadPoolExecutor):
    """What ``distributed.Client.get_executor()`` does: equal calls run once, and some keywords never reach the function."""

    def __init__(self) -> None:
        super().__init__(1)
        self.known: dict[tuple[Any, ...], Future[Any]] = {}

    def submit(self, fn: Any, /, *args: Any, **keywords: Any) -> Future[Any]:
        key = (fn, *args)
        for swallowed in ("key", "retries", "priority"):
            keywords.pop(swallowed, None)
        if key not in self.known:
            self.known[key] = super().submit(fn, *args, **keywords)
        return self.known[key]


def test_equal_jobs_are_all_run_by_an_executor_that_runs_equal_calls_once() -> None:
    calls = []

    def count(job: int) -> int:
        calls.append(job)
        return len(calls)

    with LikeDask() as pool:
        assert pool.submit(count, 7) is pool.submit(count, 7)
        pool.submit(count, 7).result()
        calls.clear()
        found = list(as_finished(pool, count, [7, 7, 8]))
        # nor does a second run get the results of the first one
        again = list(as_finished(pool, count, [7]))
    assert sorted(result for _, result in found) == [1, 2, 3]
    assert sorted(job for job, _ in found) == [7, 7, 8]
    assert again == [(7, 4)]


class KilledWorker(Exception):
    """As Dask calls it."""


def test_a_dead_worker_is_said() -> None:
    def killed(job: int) -> None:
        raise KilledWorker(f"task {job} was on three workers that died")

    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(SerendipError, match=r"a worker process died.*repeat the same.*three workers"),
    ):
        list(as_finished(pool, killed, [1]))
    with ProcessPoolExecutor(1) as pool, pytest.raises(SerendipError, match="a worker process died"):
        list(as_finished(pool, os._exit, [1]))


def test_an_error_of_a_job_is_raised() -> None:
    with pytest.raises(ZeroDivisionError), ThreadPoolExecutor(1) as pool:
        list(as_finished(pool, lambda job: 1 / job, [1, 0]))


def test_an_interrupt_while_a_worker_sends_its_result_does_not_hang(tmp_path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED_WHILE_A_WORKER_SENDS)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "end of the script\n"


def test_workers_end_when_their_parent_is_killed():
    code = (
        "import os, sys, time\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from multiprocessing import get_context\n"
        "from serendip.simulate.workers import start_worker\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1, mp_context=get_context('spawn'), initializer=start_worker, initargs=(os.getpid(),))\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "parent.py"
        script.write_text(code)
        parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
        worker = int(parent.stdout.readline())
        assert psutil.pid_exists(worker)
        parent.kill()
        parent.communicate()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)
