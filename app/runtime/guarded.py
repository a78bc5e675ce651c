"""A process that ends with the one that started it. As a program it runs another module under that guard:

python -m app.runtime.guarded pip download …
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import stat
import sys
import threading

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """From now on a dead parent means SIGKILL for this process: on Linux at once, elsewhere when the pipe or socket on
    standard input is closed (a terminal, a file or /dev/null there is not watched)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    kind = os.fstat(0).st_mode if sys.stdin is not None else 0
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):  # asyncio hands its children a socket for a pipe
        threading.Thread(target=_wait_for_end_of_input, name="parent-watch", daemon=True).start()


def _wait_for_end_of_input() -> None:
    while os.read(0, 4096):
        pass  # nobody writes here; whatever comes is no reason to end
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
