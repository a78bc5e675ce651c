"""A guarded process ends with its parent; here by the end of its standard input, the way that works everywhere."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAITING = "import sys, threading; print('ready', flush=True); threading.Event().wait()"


@pytest.fixture
def module(tmp_path: Path) -> dict[str, str]:
    """An environment in which `waiting` is a module that never ends."""
    (tmp_path / "waiting.py").write_text(WAITING)
    return {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"}


def guarded(module: dict[str, str], stdin: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.runtime.guarded", "waiting"],
        cwd=ROOT,
        env=module,
        stdin=stdin,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    return process


def test_the_end_of_a_pipe_ends_the_process(module):
    with guarded(module, subprocess.PIPE) as process:
        process.stdin.close()
        assert process.wait(3) == -signal.SIGKILL


def test_the_end_of_a_socket_ends_the_process(module):
    ours, theirs = socket.socketpair()
    with guarded(module, theirs.fileno()) as process:
        theirs.close()
        ours.send(b"not the end")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        ours.close()
        assert process.wait(3) == -signal.SIGKILL


def test_an_empty_standard_input_that_is_no_pipe_ends_nothing(module):
    with guarded(module, subprocess.DEVNULL) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.kill()


def test_the_module_sees_its_own_arguments(module, tmp_path):
    (tmp_path / "telling.py").write_text("import sys; print(sys.argv[1:], __name__)")
    said = subprocess.run(
        [sys.executable, "-m", "app.runtime.guarded", "telling", "-x", "y"],
        cwd=ROOT, env=module, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == "['-x', 'y'] __main__\n"
