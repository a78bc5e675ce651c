"""Throw-away environments for the ladder of clients, under build/clients: a Python one from a lock, one of npm, and
Ollama's command line from its Go module where there is what builds it.

They are made anew when what they are made from has changed. Nothing of the product depends on them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from tooling import pip_install
from tooling.console import TaskFailed, say
from tooling.locks import CLIENTS_LOCK
from tooling.system_packages import ensure_venv_module

_MADE = "loupe-made"  # a file with the digest of what the environment was made from; written last


def prepare(root: Path) -> None:
    """Make what is not there or out of date.

    Raises:
        TaskFailed: no network, no npm, no space.
    """
    made, scripts = root / "build" / "clients", root / "tests" / "clients"
    _make(made / "python", [root / CLIENTS_LOCK], lambda folder: _python(folder, root / CLIENTS_LOCK))
    _make(made / "npm", sorted((scripts / "npm").iterdir()), lambda folder: _npm(folder, scripts / "npm"))
    if shutil.which("go") and shutil.which("cc"):
        _make(made / "go", [scripts / "go.txt"], lambda folder: _go(folder, (scripts / "go.txt").read_text().strip()))
    else:
        say("No Go and C compiler here: without Ollama's command line")


def _make(folder: Path, sources: list[Path], fill: Callable[[Path], None]) -> None:
    content = b"".join(path.read_bytes() for path in sources) + sys.version.encode()
    digest = hashlib.sha256(content).hexdigest()
    stamp = folder / _MADE
    if stamp.exists() and stamp.read_text() == digest:
        return
    say(f"Making build/clients/{folder.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    fill(folder)
    stamp.write_text(digest)


def _python(folder: Path, lock: Path) -> None:
    ensure_venv_module()
    venv.create(folder, with_pip=True)
    pip_install.install(folder / "bin" / "python", lock)


def _npm(folder: Path, source: Path) -> None:
    for path in source.iterdir():
        shutil.copy(path, folder)
    words = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise TaskFailed("npm is not on PATH: install Node.js 18 or newer with npm, and run this again") from None
    if done.returncode != 0:
        raise TaskFailed(f"npm could not install its client: {' '.join(done.stderr.split())[-400:]}")


def _go(folder: Path, module: str) -> None:
    """Ten minutes or so, once; Go fetches the compiler that the module asks for, if it has to."""
    environment = os.environ | {"GOBIN": str(folder / "bin"), "GOFLAGS": ""}
    words = ["go", "install", module]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise TaskFailed(f"{module} could not be built: {' '.join(done.stderr.split())[-400:]}")
