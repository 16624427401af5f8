"""Worker processes that end together with the process that started them."""

from __future__ import annotations

import os
import signal
import threading
import time

__all__ = ["end_with_parent", "start_worker"]


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
